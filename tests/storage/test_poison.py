"""Fail-stop (PRODUCT P5, PROTOCOL B4): a log that failed acknowledges nothing any more, and says why."""

import contextlib
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from walstore import HardState, MembershipConfig, StorageConfig, StorageFailedError, StorageFullError, open_storage
from walstore._disk.os_fs import OsFileSystem
from walstore.kv import KeyValue, KeyValueCodec, Put
from walstore.testing.crashes import enumerate_crashes
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate, named
from .stores import SMALL, Store, apply, compact, identities, install, names, opened, put, puts

Break = Callable[[FaultyFileSystem, SimulatedFileSystem], object]


def error(code: int) -> OSError:
    """An error as the operating system gives it."""
    return OSError(code, os.strerror(code))


FAILURES: dict[str, Break] = {
    "a write fails": lambda faulty, _: faulty.fail("pwritev", name="wal-*"),
    "a write fails, done": lambda faulty, _: faulty.fail("pwritev", name="wal-*", done=True),
    "a write is short": lambda faulty, _: faulty.shorten(keep=512, name="wal-*"),
    "no byte of a write": lambda faulty, _: faulty.shorten(keep=0, name="wal-*", error=error(errno.ENOSPC)),
    "a barrier fails": lambda faulty, _: faulty.fail("datasync", name="wal-*"),
    "a barrier fails, done": lambda faulty, _: faulty.fail("datasync", name="wal-*", done=True),
    "a barrier loses its pages": lambda _, disk: disk.fail_sync("spare-*"),
    "a full disk in the barrier": lambda faulty, _: faulty.fail("datasync", name="wal-*", error=error(errno.ENOSPC)),
}
OF_A_ROTATION: dict[str, Break] = {
    "the name fails": lambda faulty, _: faulty.fail("rename", name="wal-*"),
    "the name fails, done": lambda faulty, _: faulty.fail("rename", name="wal-*", done=True),
    "the directory's barrier fails": lambda faulty, _: faulty.fail("sync"),
    "the directory's barrier fails, done": lambda faulty, _: faulty.fail("sync", done=True),
}


@attrs.define
class Patient:
    """A store with entries 1 to 8, six of them applied, a snapshot of five, and its disk."""

    disk: SimulatedFileSystem
    faulty: FaultyFileSystem
    store: Store

    async def reads(self) -> tuple[object, ...]:
        """What every kind of read shows."""
        store = self.store
        current = await store.get_current_snapshot()
        assert current is not None
        async with current.snapshot as reader:
            data = await reader.receive_some(1 << 20)
        assert isinstance(store.machine, KeyValue)
        return (
            *(await store.get_initial_state(), await store.get_membership_config(), await identities(store), data),
            *(await store.entries(6, 9), store.term_of(8), store.durable_index, dict(store.machine)),
        )

    async def expect_failure(self, call: Callable[[], Awaitable[object]]) -> None:
        """The call fails with the log."""
        with pytest.raises(StorageFailedError):
            await call()

    async def expect_poisoned(self, cause: BaseException | None) -> None:
        """Each mutation is refused with the first cause, and writes nothing."""
        store = self.store
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.append_entry_to_log(put(3, 9)),
            lambda: store.replicate_to_log([]),
            lambda: store.append([put(3, 9)]),
            lambda: store.save_hard_state(HardState(9, 1)),
            lambda: store.delete_logs_from(7),
            store.attest,
            store.do_log_compaction,
            store.create_snapshot,
            lambda: store.bootstrap(MembershipConfig({1})),
        ]
        start = len(self.disk.operations)
        for call in calls:
            with pytest.raises(StorageFailedError) as caught:
                await call()
            assert caught.value.__cause__ is cause
        assert self.disk.operations[start:] == []
        assert store.statistics().failed


@asynccontextmanager
async def patient(**config: Any) -> AsyncIterator[Patient]:
    """A healthy one."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, **config) as store:
        await store.replicate_to_log(puts(1, 1, 9))
        await apply(store, 1, 6)
        await compact(store)
        await apply(store, 6, 7)
        await store.save_hard_state(HardState(1, 1))
        yield Patient(disk, faulty, store)


@pytest.mark.parametrize("what", [*FAILURES, *OF_A_ROTATION])
async def test_a_failed_log(what: str) -> None:
    """The batch is not seen, later mutations raise with the first cause, reads go on, and a new open holds it all."""
    async with patient() as at:
        before = await at.reads()
        (FAILURES | OF_A_ROTATION)[what](at.faulty, at.disk)
        with pytest.raises(StorageFailedError, match="open again") as caught:
            await at.store.append_entry_to_log(put(2, 9, size=6000 if what in OF_A_ROTATION else 900))
        assert isinstance(caught.value.__cause__, OSError)

        assert await at.reads() == before
        await at.expect_poisoned(caught.value.__cause__)
        at.faulty.heal()
        await at.expect_poisoned(caught.value.__cause__)
        await apply(at.store, 7, 9)
        assert at.store.last_applied == 8
        closing = len(at.disk.operations)
    assert {kind for kind, name in named(at.disk.operations)[closing:] if name.startswith("wal-")} <= {"unlink"}

    for left in (at.disk, *enumerate_crashes(at.disk, 64)):
        async with opened(left) as store:
            found = await identities(store)
            assert found[:4] == [(1, index) for index in (5, 6, 7, 8)]
            assert found[4:] in ([], [(2, 9)])
            assert (await store.get_initial_state()).hard_state == HardState(1, 1)
            await store.append_entry_to_log(put(3, store.last_index + 1))


async def test_a_file_whose_barrier_failed_is_never_synced_again() -> None:
    """Trying again would succeed, and would say nothing (fsyncgate): not by a later call, not by close."""
    async with patient() as at:
        at.disk.fail_sync("spare-*")
        start = len(at.disk.operations)
        with pytest.raises(StorageFailedError):
            await at.store.append_entry_to_log(put(2, 9))
        with pytest.raises(StorageFailedError):
            await at.store.append_entry_to_log(put(2, 9))
    after = [kind for kind, name in named(at.disk.operations)[start:] if name.startswith("wal-")]
    assert after == ["write", "lose"]


async def test_the_first_cause_is_kept() -> None:
    """A snapshot's name fails while a barrier is under way; that this fails too does not take the place of it."""
    async with patient() as at:
        await apply(at.store, 7, 9)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                with Gate(at.faulty) as gate:
                    barrier = await at.store.append([put(2, 9)])
                    nursery.start_soon(at.expect_failure, barrier.wait)
                    await gate.arrival()
                    at.faulty.fail("rename", error=error(errno.EROFS))
                    at.faulty.fail("datasync", name="wal-*", error=error(errno.EIO))
                    await at.expect_failure(lambda: compact(at.store))
        with pytest.raises(StorageFailedError) as caught:
            await at.store.attest()
        assert caught.value.errno == errno.EROFS
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EROFS


async def test_a_group_before_the_failure_is_acknowledged() -> None:
    """Of a batch that needs two groups the first is durable, and acknowledged, though the second fails."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    outcome: dict[int, str] = {}
    async with opened(faulty) as store:

        async def call(index: int, size: int) -> None:
            try:
                await store.append_entry_to_log(put(1, index, size=size))
                outcome[index] = "durable"
            except StorageFailedError:
                outcome[index] = "failed"

        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                for index, size in ((1, 100), (2, 100), (3, 8000), (4, 100)):
                    nursery.start_soon(call, index, size)
                    await wait_all_tasks_blocked()
                faulty.fail("rename", name="wal-*")
        assert outcome == {1: "durable", 2: "durable", 3: "failed", 4: "failed"}
        assert store.last_index == store.durable_index == 2
        left = disk.crash_keeping_nothing()
    async with opened(left) as store:
        assert await identities(store) == [(1, 1), (1, 2)]


async def test_all_who_wait_hear_of_a_failure() -> None:
    """Callers in flight, in the queue and without room, waiters of barriers and followers: nobody hangs."""
    async with patient(max_pending_bytes=2000) as at:
        store, heard = at.store, []

        async def call(name: str, function: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(StorageFailedError):
                await function()
            heard.append(name)

        async def follow() -> None:
            async for _ in store.follow(9):
                pass

        at.faulty.fail("datasync", name="wal-*")
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                with Gate(at.faulty) as gate:
                    nursery.start_soon(call, "flying", store.attest)
                    await gate.arrival()
                    barrier = await store.append([put(1, 9, size=900)])
                    nursery.start_soon(call, "barrier", barrier.wait)
                    nursery.start_soon(call, "follower", follow)
                    nursery.start_soon(call, "queued", lambda: store.append_entry_to_log(put(1, 10, size=900)))
                    await wait_all_tasks_blocked()
                    nursery.start_soon(call, "nothing new", lambda: store.replicate_to_log([]))
                    nursery.start_soon(call, "full queue", lambda: store.append_entry_to_log(put(1, 11, size=900)))
                    await wait_all_tasks_blocked()
                    nursery.start_soon(call, "no room", store.attest)
                    nursery.start_soon(call, "compaction", lambda: compact(store))
                    await wait_all_tasks_blocked()
        assert len(heard) == 8
        assert store.last_index == 8
        assert store.statistics().pending_bytes == store.statistics().pending_calls == 0


@pytest.mark.parametrize("what", ["rename", "sync"])
async def test_the_name_of_a_snapshot_poisons(what: str) -> None:
    """Whether a snapshot got its name is unknown after an error, so the handle stops; a new open knows."""
    async with patient() as at:
        await apply(at.store, 7, 9)
        before = await identities(at.store)
        at.faulty.fail(what, name="snap-*" if what == "rename" else "*")
        with pytest.raises(StorageFailedError):
            await compact(at.store)
        assert await identities(at.store) == before
        with pytest.raises(StorageFailedError):
            await at.store.attest()
    async with opened(at.disk) as store:
        assert await identities(store) == before
        assert names(at.disk, "snap-") == ["snap-1-5"]


@pytest.mark.parametrize("operation", ["create", "pwritev", "datasync", "drop_cache", "pread"])
async def test_a_failed_snapshot_file_fails_its_compaction_alone(operation: str) -> None:
    """What fails under a snapshot's temporary name is no part of the log: the next call, and compaction, succeed."""
    async with patient() as at:
        await apply(at.store, 7, 9)
        at.faulty.fail(operation, name="snap-*.tmp")
        with pytest.raises(OSError) as caught:
            await compact(at.store)
        assert not isinstance(caught.value, StorageFailedError)
        await at.store.append_entry_to_log(put(2, 9))
        assert names(at.disk, "snap-") == ["snap-1-5"]
        await compact(at.store)
        assert names(at.disk, "snap-") == ["snap-1-8"]


async def test_a_failed_received_file_fails_its_installation_alone() -> None:
    """The same for what a peer sent."""
    async with patient() as at:
        at.faulty.fail("datasync", name="snap-*.tmp")
        with pytest.raises(OSError) as caught:
            await install(at.store, 2, 30, None)
        assert not isinstance(caught.value, StorageFailedError)
        await at.store.append_entry_to_log(put(2, 9))
        await install(at.store, 2, 30, None)
        assert at.store.last_applied == 30


@pytest.mark.parametrize(
    ("operation", "nth"), [("create", 1), ("pwritev", 1), ("datasync", 1), ("pwritev", 2), ("datasync", 2)]
)
async def test_a_failed_spare_fails_its_append_alone(operation: str, nth: int) -> None:
    """A segment that cannot be prepared is no part of the log: refused as if the disk were full, then tried again."""
    async with patient() as at:
        at.faulty.fail(operation, nth=nth, name="spare-*")
        with pytest.raises(StorageFullError):
            await at.store.append_entry_to_log(put(2, 9, size=9000))
        assert at.store.last_index == 8
        assert not at.store.statistics().failed
        assert names(at.disk, "spare-") == []
        await at.store.append_entry_to_log(put(2, 9, size=9000))
    async with opened(at.disk) as store:
        assert store.last_index == 9


async def test_sync_apply_is_refused_by_a_failed_handle() -> None:
    """Where an apply has to be durable, it is refused before the machine moves; else it goes on in memory."""
    async with patient(sync_apply=True) as at:
        at.faulty.fail("datasync", name="wal-*")
        with pytest.raises(StorageFailedError):
            await at.store.attest()
        with pytest.raises(StorageFailedError):
            await at.store.apply_entry_to_state_machine(7, Put(b"k7", b"1" * 8))
        with pytest.raises(StorageFailedError):
            await apply(at.store, 7, 9)
        assert at.store.last_applied == 6


class NoThread:
    """In the place of a limiter: the operating system gives no thread."""

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Never returns."""
        raise RuntimeError("can't start new thread")


async def test_a_leader_without_a_thread_acknowledges_nothing() -> None:
    """If the writer never ran, what it wrote for the batch before says nothing of this one."""
    async with patient() as at:
        at.store._core.commit._limiter = cast("trio.CapacityLimiter", NoThread())
        with pytest.raises(StorageFailedError):
            await at.store.append_entry_to_log(put(2, 9))
        assert at.store.last_index == at.store.durable_index == 8


def open_files(path: Path) -> list[str]:
    """What this process has open below a directory."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in found if name.startswith(str(path))]


async def test_a_failed_handle_leaves_no_file_open(tmp_path: Path) -> None:
    """Closing what failed closes all of it, the segment that got no name included, and frees the lock."""
    for operation in ("rename", "sync", "datasync", "pwritev"):
        faulty = FaultyFileSystem(OsFileSystem())
        config = StorageConfig(**SMALL)
        path = tmp_path / operation
        async with open_storage(
            path, node_id=1, machine=KeyValue, codec=KeyValueCodec(), config=config, filesystem=faulty
        ) as store:
            await store.replicate_to_log(puts(1, 1, 9))
            faulty.fail(operation)
            with pytest.raises((StorageFailedError, StorageFullError)):
                await store.append_entry_to_log(put(2, 9, size=9000))
        assert open_files(path) == []
        async with open_storage(path, node_id=1, machine=KeyValue, codec=KeyValueCodec(), config=config) as store:
            assert store.last_index >= 8
