"""Closing: what is queued is flushed, who is under way finishes or hears of it, and nothing is left behind."""

import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from walstore import (
    CorruptionError,
    HardState,
    MembershipConfig,
    NodeIdMismatchError,
    StorageConfig,
    StorageFailedError,
    StorageLockedError,
    UsageError,
    open_storage,
)
from walstore._log.frame import Kind
from walstore.kv import KeyValue, KeyValueCodec, Put
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate, frames
from .stores import SMALL, Store, apply, compact, identities, install, names, opened, put, puts, snapshot_bytes

ROOMY: dict[str, Any] = {"first_segment_size": 1 << 19, "segment_size": 1 << 19}
Call = Callable[[], Awaitable[object]]


async def test_what_is_queued_is_flushed() -> None:
    """An append that nobody waited for is durable when the store is closed, and its barrier says so afterwards."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.replicate_to_log(puts(1, 1, 4))
        await apply(store, 1, 3)
        barrier = await store.append(puts(1, 4, 6))
    assert barrier.durable
    await barrier.wait()
    async with opened(disk.crash_keeping_nothing()) as store:
        assert store.last_index == 5
        assert store.last_applied == 2
        assert store.recovery.closed
        assert not store.recovery.torn


async def test_five_at_once_close_once() -> None:
    """Whoever closes, also at the same time, returns when the store is closed: one CLOSE, one SEAL, the lock free."""
    disk = SimulatedFileSystem()
    manager = opened(disk)
    store = await manager.__aenter__()
    await store.append_entry_to_log(put(1, 1))

    async def close() -> None:
        await store.aclose()
        directory = disk.open_directory("/store", create=False)
        assert directory.lock()
        directory.close()

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(close)
    end = len(disk.operations)
    await store.aclose()
    await manager.__aexit__(None, None, None)

    assert len(disk.operations) == end
    assert [header.kind for header in frames(disk)] == [Kind.ENTRIES, Kind.CLOSE, Kind.SEAL]


class Closing:
    """A store that is closed while one call is under way."""

    def __init__(self) -> None:
        self.disk = SimulatedFileSystem()
        self.faulty = FaultyFileSystem(self.disk)

    async def calls(self, store: Store) -> dict[str, Call]:
        """One call of each kind on a store with thirty entries, of which twenty are applied."""
        id, writer = await store.create_snapshot()
        await writer.send_all(snapshot_bytes(1, 50))
        barrier = await store.append([put(1, 31)])
        current = await store.get_current_snapshot()
        assert current is not None
        follower = store.follow(35)
        return {
            "append": lambda: store.append_entry_to_log(put(1, 32)),
            "split append": lambda: store.append([put(1, 32)]),
            "vote": lambda: store.save_hard_state(HardState(4, 1)),
            "delete": lambda: store.delete_logs_from(28),
            "nothing new": lambda: store.replicate_to_log([]),
            "attest": store.attest,
            "barrier": barrier.wait,
            "apply one": lambda: store.apply_entry_to_state_machine(21, Put(b"k21", b"1" * 8)),
            "apply many": lambda: apply(store, 21, 31),
            "compact": lambda: compact(store),
            "create": store.create_snapshot,
            "send": lambda: writer.send_all(b"more"),
            "finalize": lambda: store.finalize_snapshot_installation(50, 1, None, id, writer),
            "current": lambda: self.read(store),
            "receive": lambda: current.snapshot.receive_some(10),
            "log": lambda: store.get_log_entries(0, 99),
            "entries": lambda: store.entries(20, 30),
            "follow": lambda: anext(follower),
            "backup": lambda: store.backup("/copy"),
            "bootstrap": lambda: store.bootstrap(MembershipConfig({1})),
        }

    async def read(self, store: Store) -> None:
        """Reads the current snapshot."""
        current = await store.get_current_snapshot()
        assert current is not None
        await current.snapshot.aclose()

    async def call(self, function: Call) -> None:
        """The call: it finishes, or finds the store closed."""
        try:
            await function()
        except trio.ClosedResourceError:
            pass
        except UsageError:  # bootstrap of a store that is not pristine
            pass

    async def go(self, name: str, steps: int, *, hold: bool) -> tuple[object, ...]:
        """Closes after so many steps of the loop; gives what the store showed then."""
        async with opened(self.faulty, **ROOMY) as store:
            await store.replicate_to_log(puts(1, 1, 31))
            await apply(store, 1, 11)
            await compact(store)
            await apply(store, 11, 21)
            function = (await self.calls(store))[name]
            with trio.fail_after(20), Gate(self.faulty) as gate:
                async with trio.open_nursery() as nursery:
                    if hold:
                        nursery.start_soon(self.call, store.attest)
                        await gate.arrival()
                    else:
                        gate.open()
                    nursery.start_soon(self.call, function)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    nursery.start_soon(store.aclose)
                    await wait_all_tasks_blocked()
                    gate.open()
            state = store._core.state
            return state.last_index, state.facts.hard_state, store.last_applied, state.snapshot_index

    async def check(self, shown: tuple[object, ...]) -> None:
        """A new open shows the same, without a trace of what was under way."""
        async with opened(self.disk) as store:
            assert store.recovery.closed
            hard_state = (await store.get_initial_state()).hard_state
            found = store.current_snapshot
            assert found is not None
            assert (store.last_index, hard_state, store.last_applied, found.index) == shown
            assert names(self.disk, "snap-") == [f"snap-1-{found.index}"]


CALLS = (
    *("append", "split append", "vote", "delete", "nothing new", "attest", "barrier", "apply one", "apply many"),
    *("compact", "create", "send", "finalize", "current", "receive", "log", "entries", "follow", "backup", "bootstrap"),
)


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_is_under_way_finishes_or_finds_the_store_closed(name: str, hold: bool) -> None:
    """Whenever the store is closed, each call returns and is kept, or raises ClosedResourceError; nobody hangs."""
    for steps in (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30):
        closing = Closing()
        shown = await closing.go(name, steps, hold=hold)
        await closing.check(shown)


async def test_a_compaction_is_broken_off() -> None:
    """A close does not wait for a snapshot of any size: the compaction stops at its next step and leaves no file."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, **ROOMY) as store:
        await store.replicate_to_log(puts(1, 1, 7, size=5 << 20))
        await apply(store, 1, 7)

        async def run() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await compact(store)

        async with trio.open_nursery() as nursery:
            with Gate(faulty, "pwritev", "snap-*.tmp") as gate:
                nursery.start_soon(run)
                await gate.arrival()
                nursery.start_soon(store.aclose)
                await wait_all_tasks_blocked()
        written = sum(call.length for call in faulty.calls if call.name.startswith("snap-"))
        assert 0 < written < 20 << 20
        assert names(disk, "snap-") == []
    async with opened(disk) as store:
        assert store.last_applied == 6
        assert store.recovery.closed


async def test_a_snapshot_that_is_being_published_is_published() -> None:
    """Once it has its name a snapshot is committed, and the compaction returns, before the store is closed."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        await store.replicate_to_log(puts(1, 1, 9))
        await apply(store, 1, 9)
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(compact, store)
                await gate.arrival()
                nursery.start_soon(store.aclose)
                await wait_all_tasks_blocked()
    async with opened(disk) as store:
        assert await identities(store) == [(1, 8)]


class Slow(KeyValue):
    """A machine whose restore waits for the test."""

    entered = threading.Event()
    released = threading.Event()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Waits, and restores."""
        data = b"".join(chunks)
        if not Slow.released.is_set():
            Slow.entered.set()
            assert Slow.released.wait(60)
        super().restore([data])


async def test_an_install_that_is_overtaken_by_a_close_changes_nothing() -> None:
    """While a fresh machine is restored the store is closed: the install raises, the old state is what is kept."""
    disk = SimulatedFileSystem()
    Slow.entered.clear()
    Slow.released.clear()
    async with opened(disk, machine=Slow) as store:
        await store.replicate_to_log(puts(1, 1, 9))

        async def run() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await install(store, 1, 50, None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.to_thread.run_sync(Slow.entered.wait)
            nursery.start_soon(store.aclose)
            await wait_all_tasks_blocked()
            Slow.released.set()
    async with opened(disk, machine=Slow) as store:
        assert len(await identities(store)) == 8
        assert names(disk, "snap-") == []


async def test_followers_and_waiters_hear_of_it() -> None:
    """Followers that wait for the next entry, and callers that wait for room, are woken by the close."""
    faulty = FaultyFileSystem(SimulatedFileSystem())
    heard: list[str] = []
    async with opened(faulty, max_pending_bytes=100) as store:

        async def expect_closed(name: str, function: Call) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await function()
            heard.append(name)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                with Gate(faulty) as gate:
                    for _ in range(3):
                        nursery.start_soon(expect_closed, "follower", lambda: anext(store.follow(2)))
                    nursery.start_soon(store.append_entry_to_log, put(1, 1))
                    await gate.arrival()
                    for _ in range(3):
                        nursery.start_soon(expect_closed, "room", lambda: store.save_hard_state(HardState(3, 1)))
                    await wait_all_tasks_blocked()
                    nursery.start_soon(store.aclose)
                    await wait_all_tasks_blocked()
    assert sorted(heard) == ["follower"] * 3 + ["room"] * 3


async def test_a_cancelled_close_closes() -> None:
    """`aclose` in a cancelled scope closes all the same, and then raises Cancelled."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.append([put(1, 1)])
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.aclose()
        assert scope.cancelled_caught
        with pytest.raises(trio.ClosedResourceError):
            await store.attest()
    async with opened(disk) as store:
        assert store.recovery.closed
        assert store.last_index == 1


@pytest.mark.parametrize("error", [ValueError("mine"), KeyError("mine"), ExceptionGroup("mine", [OSError("x")])])
async def test_exceptions_of_the_body_leave_as_themselves(error: Exception) -> None:
    """No group is wrapped around them, since there is no nursery inside; and the store is closed."""
    disk = SimulatedFileSystem()

    async def fail() -> None:
        async with opened(disk) as store:
            await store.append([put(1, 1)])
            raise error

    with pytest.raises(type(error)) as caught:
        await fail()
    assert caught.value is error
    async with opened(disk) as store:
        assert store.recovery.closed
        assert store.last_index == 1


async def test_a_close_that_cannot_write_closes() -> None:
    """If even the CLOSE frame fails, the handle is released and the next open finds everything acknowledged."""
    for operation in ("pwritev", "datasync", "truncate", "unlink"):
        disk = SimulatedFileSystem()
        faulty = FaultyFileSystem(disk)
        async with opened(faulty) as store:
            await store.replicate_to_log(puts(1, 1, 9))
            faulty.fail(operation, once=False)
        async with opened(disk) as store:
            assert store.last_index == 8


async def test_a_call_that_the_full_disk_refuses_does_not_take_the_close_with_it() -> None:
    """What nobody waited for is refused while the store is closed; the log is closed properly all the same."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        await store.replicate_to_log(puts(1, 1, 9))
        faulty.space_left = 0
        barrier = await store.append([put(1, 9, size=50000)])
    assert not barrier.durable
    async with opened(disk) as store:
        assert store.recovery.closed
        assert store.last_index == 8


@asynccontextmanager
async def real(path: Path, node_id: int = 1, **config: Any) -> AsyncIterator[Store]:
    """A store on a real disk."""
    async with open_storage(
        path, node_id=node_id, machine=KeyValue, codec=KeyValueCodec(), config=StorageConfig(**{**SMALL, **config})
    ) as store:
        yield store


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def threads() -> list[str]:
    """The threads that are ours."""
    return [thread.name for thread in threading.enumerate() if "walstore" in thread.name]


@pytest.mark.parametrize("prepare_ahead", [False, True])
async def test_no_descriptor_and_no_thread_is_left(tmp_path: Path, prepare_ahead: bool) -> None:
    """After rotations, snapshots, refused opens and a close as many files are open as before, and no thread of ours."""
    path = tmp_path / "store"
    async with real(path):  # what the first hop opens for good
        pass
    before = descriptors()
    for _ in range(3):
        async with real(path, prepare_ahead=prepare_ahead) as store:
            assert threads() == (["walstore-housekeeping"] if prepare_ahead else [])
            for index in range(store.last_index + 1, store.last_index + 40):
                await store.append_entry_to_log(put(1, index, size=700))
            await apply(store, store.last_applied + 1, store.last_index)
            await compact(store)
            await store.create_snapshot()
            with pytest.raises(StorageLockedError):
                async with real(path):
                    pass
        assert (descriptors(), threads()) == (before, [])
    with pytest.raises(NodeIdMismatchError):
        async with real(path, node_id=2, prepare_ahead=prepare_ahead):
            pass
    segment = max(path.glob("wal-*"))
    segment.write_bytes(segment.read_bytes()[:-1000])
    with pytest.raises(CorruptionError):
        async with real(path, prepare_ahead=prepare_ahead):
            pass
    assert (descriptors(), threads()) == (before, [])


async def test_a_failed_handle_is_closed_as_it_is() -> None:
    """After a failed barrier the close writes nothing, raises nothing, and the rest is released."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        faulty.fail("datasync", name="wal-*")
        with pytest.raises(StorageFailedError):
            await store.append_entry_to_log(put(1, 1))
        start = len(disk.operations)
    assert [operation.kind for operation in disk.operations[start:]] == []
    async with opened(disk) as store:
        assert not store.recovery.closed
