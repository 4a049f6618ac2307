"""Online backup: a copy of what was durable, made while writing goes on, that opens elsewhere as a store of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
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
    UsageError,
    open_storage,
)
from walstore.abc import FileSystem
from walstore.kv import KeyValue, KeyValueCodec
from walstore.testing.crashes import enumerate_crashes
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate
from .stores import SMALL, Store, apply, compact, identities, install, opened, put, puts, snapshot_bytes

COPY = "/copy"


@asynccontextmanager
async def copy_of(filesystem: FileSystem, path: str = COPY, node_id: int = 1) -> AsyncIterator[Store]:
    """The copy, opened."""
    async with open_storage(
        path,
        node_id=node_id,
        machine=KeyValue,
        codec=KeyValueCodec(),
        config=StorageConfig(**SMALL),
        filesystem=filesystem,
    ) as store:
        yield store


async def content(store: Store) -> dict[str, Any]:
    """All that a store holds."""
    state = await store.get_initial_state()
    current = await store.get_current_snapshot()
    snapshot = None
    if current is not None:
        async with current.snapshot as reader:
            snapshot = (current.term, current.index, await reader.receive_some(1 << 20))
    assert isinstance(store.machine, KeyValue)
    return {
        "state": state,
        "log": await store.get_log_entries(0, 2**64 - 1),
        "first": store.first_index,
        "snapshot": snapshot,
        "machine": dict(store.machine),
    }


async def nothing(store: Store) -> None:
    """An empty store."""


async def plain(store: Store) -> None:
    """A member with a log, of which most is applied."""
    await store.bootstrap(MembershipConfig({1, 2, 3}))
    await store.save_hard_state(HardState(4, 2))
    await store.replicate_to_log(puts(2, 2, 12, size=300))
    await store.append_entry_to_log(put(4, 12))
    await apply(store, 1, 10)


async def hand_deleted_prefix(store: Store) -> None:
    """A log that begins above 1, without a snapshot."""
    await store.replicate_to_log(puts(1, 1, 11))
    await store.delete_logs_from(1, 5)


async def compacted(store: Store) -> None:
    """A snapshot, its pointer, and entries behind it."""
    await plain(store)
    await compact(store)


async def compacted_to_the_end(store: Store) -> None:
    """A snapshot and its pointer, and no entry."""
    await store.replicate_to_log(puts(1, 1, 11))
    await apply(store, 1, 11)
    await compact(store)


async def pointer_deleted(store: Store) -> None:
    """Entries directly behind a snapshot whose pointer is gone."""
    await compacted(store)
    await store.delete_logs_from(store.first_index, store.first_index + 1)


async def hole_behind_the_snapshot(store: Store) -> None:
    """Entries that do not follow the snapshot, since those between were deleted."""
    await store.replicate_to_log(puts(1, 1, 11))
    await apply(store, 1, 6)
    await compact(store)
    await store.delete_logs_from(1, 9)


async def only_a_snapshot(store: Store) -> None:
    """A snapshot without pointer and without log."""
    await compacted_to_the_end(store)
    await store.delete_logs_from(1)


async def installed(store: Store) -> None:
    """A peer's snapshot, and what came after it."""
    await install(store, 2, 20, None)
    await store.replicate_to_log(puts(3, 21, 25))
    await apply(store, 21, 24)


KINDS: list[Callable[[Store], Awaitable[None]]] = [
    nothing,
    plain,
    hand_deleted_prefix,
    compacted,
    compacted_to_the_end,
    pointer_deleted,
    hole_behind_the_snapshot,
    only_a_snapshot,
    installed,
]


@pytest.mark.parametrize("fill", KINDS, ids=lambda kind: kind.__name__)
async def test_the_copy_holds_the_same(fill: Callable[[Store], Awaitable[None]]) -> None:
    """Whatever the original holds, the copy holds it, also after a power cut, and goes on from there."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await fill(store)
        expected = await content(store)
        await store.backup(COPY)
        after = disk.crash_keeping_nothing()
        assert await content(store) == expected

    for _ in range(2):
        async with copy_of(after) as copy:
            assert await content(copy) == expected
    async with copy_of(after) as copy:
        await copy.replicate_to_log(puts(9, copy.last_index + 1, copy.last_index + 4))
        await apply(copy, copy.last_applied + 1, copy.last_index + 1)
        expected = await content(copy)
    async with copy_of(after) as copy:
        assert await content(copy) == expected


async def test_the_copy_has_an_identity_of_its_own() -> None:
    """Files of the copy are not taken for the original's, and the copy may be given to another node."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await plain(store)
        await store.backup(COPY, node_id=7)
    with pytest.raises(NodeIdMismatchError):
        async with copy_of(disk, node_id=1):
            pass
    async with copy_of(disk, node_id=7) as copy:
        assert copy.last_index == 12

    original, directory = (disk.open_directory(path, create=False) for path in ("/store", COPY))
    source = original.open(max(name for name in original.names() if name.startswith("wal-")))
    mixed = max(name for name in directory.names() if name.startswith("wal-"))
    directory.unlink(mixed)
    directory.create(mixed).pwritev(0, [source.pread(0, source.size())])
    original.close()
    directory.close()
    with pytest.raises(CorruptionError, match="files of two stores were mixed"):
        async with copy_of(disk, node_id=7):
            pass


async def test_writing_goes_on_meanwhile() -> None:
    """While the copy is on its way the store appends, applies, compacts and votes; the copy is as of its beginning."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        await compacted(store)
        expected = await content(store)
        async with trio.open_nursery() as nursery:
            with Gate(faulty, "pwritev", "snap-0.tmp") as gate:
                nursery.start_soon(store.backup, COPY)
                await gate.arrival()
                await store.replicate_to_log(puts(5, 13, 30, size=300))
                await apply(store, 10, 25)
                await compact(store)
                await store.save_hard_state(HardState(8, 1))
        assert store.first_index == 24

    async with copy_of(disk) as copy:
        assert await content(copy) == expected


async def test_nothing_is_copied_that_is_not_durable() -> None:
    """A call that is on its way when the backup begins is in the copy, and then it is durable, or the backup fails."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        await plain(store)
        faulty.fail("datasync", name="wal-*")
        barrier = await store.append([put(4, 13)])
        with pytest.raises(StorageFailedError):
            await store.backup(COPY)
        with pytest.raises(StorageFailedError):
            await barrier.wait()
        assert store.last_index == 12
        expected = await content(store)
        await store.backup(COPY)  # of a handle that failed: what it still shows

    async with copy_of(disk) as copy:
        assert await content(copy) == expected


async def test_a_call_that_is_copied_cannot_be_withdrawn() -> None:
    """Cancelling the last call in the queue does not take back what a backup has begun to copy."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    cancelled = trio.CancelScope()
    async with opened(faulty) as store:

        async def append() -> None:
            with cancelled:
                await store.append_entry_to_log(put(1, 1))

        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                nursery.start_soon(append)
                await wait_all_tasks_blocked()
                nursery.start_soon(store.backup, COPY)
                await wait_all_tasks_blocked()
                cancelled.cancel()
        assert not cancelled.cancelled_caught
        assert store.last_index == 1
    async with copy_of(disk) as copy:
        assert await identities(copy) == [(1, 1)]


async def test_what_comes_after_the_beginning_is_not_in_the_copy() -> None:
    """While the backup waits for what it has captured, later calls are queued; they are not copied, durable or not."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                nursery.start_soon(store.append_entry_to_log, put(1, 1))
                await wait_all_tasks_blocked()
                async with trio.open_nursery() as copying:
                    copying.start_soon(store.backup, COPY)
                    await wait_all_tasks_blocked()
                    gate.let_one()
                    await gate.arrival()
                    nursery.start_soon(store.append_entry_to_log, put(1, 2))
                    await wait_all_tasks_blocked()
                    gate.let_one()
        assert store.last_index == 2
    async with copy_of(disk) as copy:
        assert await identities(copy) == [(1, 1)]


async def test_a_compaction_waits_until_the_snapshot_is_open() -> None:
    """The snapshot that is to be copied does not lose its file before the backup has it open."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        await compacted(store)
        expected = await content(store)
        await apply(store, 10, 13)
        async with trio.open_nursery() as nursery:
            with Gate(faulty, "open", "snap-2-9") as gate:
                nursery.start_soon(store.backup, COPY)
                await gate.arrival()
                start = len(faulty.calls)
                nursery.start_soon(compact, store)
                while not any(call.operation == "drop_cache" for call in faulty.calls[start:]):
                    await wait_all_tasks_blocked()
        assert store.first_index == 12
    async with copy_of(disk) as copy:
        found = await content(copy)
        assert (found["log"], found["snapshot"]) == (expected["log"], expected["snapshot"])


@pytest.mark.parametrize("what", ["a file", "a store", "an open store"])
async def test_a_directory_with_anything_in_it_is_refused(what: str) -> None:
    """The target must be new or empty, and is left as it was."""
    disk = SimulatedFileSystem()
    directory = disk.open_directory(COPY, create=True)
    if what == "a file":
        directory.create("notes").close()
    async with opened(disk) as store:
        await plain(store)
        if what != "a file":
            directory.close()
            await store.backup(COPY)
            directory = disk.open_directory(COPY, create=False)
        before = directory.names()
        if what == "an open store":
            async with copy_of(disk):
                before = directory.names()
                with pytest.raises(UsageError, match="not empty"):
                    await store.backup(COPY)
        else:
            with pytest.raises(UsageError, match="not empty"):
                await store.backup(COPY)
        assert set(directory.names()) <= set(before)
        with pytest.raises(UsageError, match="not empty"):
            await store.backup("/store")
        await store.append_entry_to_log(put(4, 13))
    directory.close()


async def outcome(disk: SimulatedFileSystem, expected: dict[str, Any]) -> str:
    """What a target is after a power cut; with an IDENTITY it must be whole."""
    directory = disk.open_directory(COPY, create=True)
    identified = "IDENTITY" in directory.names()
    directory.close()
    try:
        async with copy_of(disk) as copy:
            found = await content(copy)
    except (CorruptionError, UsageError) as error:
        no_store = "IDENTITY" in str(error) or "is no store" in str(error)
        return "refused" if not identified and no_store else str(error)
    if found == expected or identified:
        return "whole" if found == expected else "a part"
    return "a part" if found["log"] or found["snapshot"] else "empty"


async def test_a_cut_backup_is_no_store() -> None:
    """Cut at any operation, the target is nothing, an empty store, refused, or the whole copy: never a part of it."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await compacted(store)
        expected = await content(store)
        start = len(disk.operations)
        await store.backup(COPY)
        end = len(disk.operations)
    outcomes: set[str] = set()
    for count, partial in disk.prefixes():
        if not start < count <= end:
            continue
        for left in enumerate_crashes(partial, 16, seed=count):
            outcomes.add(await outcome(left, expected))
    async with copy_of(disk) as copy:
        assert await content(copy) == expected
    assert outcomes == {"whole", "empty", "refused"}


async def test_a_disk_that_fails_leaves_no_store_and_the_original_goes_on() -> None:
    """An error while the copy is written is the backup's alone."""
    for operation in ("create", "pwritev", "datasync", "rename", "sync", "unlink", "drop_cache"):
        disk = SimulatedFileSystem()
        faulty = FaultyFileSystem(disk)
        async with opened(faulty) as store:
            await compacted(store)
            faulty.fail(operation, nth=2 if operation in {"datasync", "pwritev"} else 1)
            failed = False
            try:
                await store.backup(COPY)
            except OSError:
                failed = True
            assert failed
            faulty.heal()
            await store.append_entry_to_log(put(4, 13))
            assert store.durable_index == 13


async def test_cancelled_before_it_writes_nothing_is_there_and_later_it_is_whole(tmp_path: Path) -> None:
    """A backup that is cancelled while it waits leaves no directory and no open file; once it writes, it finishes."""
    async with open_storage(tmp_path / "store", node_id=1, machine=KeyValue, codec=KeyValueCodec()) as store:
        await compacted(store)
        steps = 0
        while True:
            target = tmp_path / f"copy{steps}"
            with trio.CancelScope() as scope:

                async def cancel(scope: trio.CancelScope = scope, steps: int = steps) -> None:
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel)
                    await trio.lowlevel.checkpoint()
                    await store.backup(target)
            assert target.exists() != scope.cancelled_caught or (target / "IDENTITY").exists()
            if not scope.cancelled_caught:
                break
            steps += 1
        expected = await content(store)
    async with open_storage(target, node_id=1, machine=KeyValue, codec=KeyValueCodec()) as copy:
        assert await content(copy) == expected


async def test_a_real_copy_is_private_and_carries_the_peers_bytes(tmp_path: Path) -> None:
    """On a real file system: files 0600 in a directory 0700, and the snapshot byte for byte."""
    async with open_storage(tmp_path / "store", node_id=1, machine=KeyValue, codec=KeyValueCodec()) as store:
        await install(store, 2, 20, None)
        await store.backup(tmp_path / "deep" / "copy")
    copy = tmp_path / "deep" / "copy"

    assert copy.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in copy.iterdir()} == {0o600}
    assert (copy / "snap-2-20").read_bytes() == snapshot_bytes(2, 20)
