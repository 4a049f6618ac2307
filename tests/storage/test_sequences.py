"""Sequences that once went wrong: each is the shortest that showed a mistake of the roof, and now holds."""

import os
import signal
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from walstore import (
    HardState,
    MembershipConfig,
    SnapshotHeader,
    SnapshotInvalidError,
    StorageConfig,
    StorageFailedError,
    StorageFullError,
    UsageError,
    open_standalone,
)
from walstore._log.container import pack
from walstore.kv import KeyValue, KeyValueCodec, Put
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .stores import Store, apply, compact, identities, install, names, opened, put, puts, snapshot_bytes


async def emptied_by_compaction(store: Store) -> None:
    """Three entries go into a snapshot."""
    await store.replicate_to_log(puts(1, 1, 4))
    await apply(store, 1, 4)
    await compact(store)


async def emptied_by_deletion(store: Store) -> None:
    """Three entries go, and nothing stays."""
    await store.replicate_to_log(puts(1, 1, 4))
    await store.delete_logs_from(1)


@pytest.mark.parametrize("emptied", [emptied_by_compaction, emptied_by_deletion])
async def test_what_is_needed_never_falls(emptied: Callable[[Store], Awaitable[None]]) -> None:
    """An entry that was planned in one segment and written in the next does not make the first one needed again."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await emptied(store)
        for _ in range(2):  # each larger than what a segment has left
            await store.append_entry_to_log(put(1, store.last_index + 1, size=9000))
        before = await identities(store)
    async with opened(disk) as store:
        assert await identities(store) == before


async def test_a_prefix_deletion_that_was_planned_on_an_unwritten_append() -> None:
    """A deletion queued behind an append that will go into the next segment does not call the purged one needed."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await emptied_by_compaction(store)
        await store.append(puts(1, 4, 6, size=5000))
        await store.delete_logs_from(0, 5)
        before = await identities(store)
    async with opened(disk) as store:
        assert await identities(store) == before


async def test_a_call_that_a_woken_task_relies_on_is_not_withdrawn() -> None:
    """When the lead is handed to a task whose answer rests on another's call, that call can no longer be cancelled."""
    disk = SimulatedFileSystem()
    async with opened(disk, max_group_bytes=256) as store:
        await store.append_entry_to_log(put(1, 1))
        first = await store.append(puts(1, 2, 3))
        gate = threading.Event()
        commit = store._opened.writer.commit
        held = [True]

        def slow(calls: object) -> None:
            if held.pop() if held else False:
                gate.wait()
            commit(calls)  # type: ignore[arg-type]  # passed on as it came

        store._opened.writer.commit = slow  # type: ignore[method-assign]  # a disk that is slow once
        scope = trio.CancelScope()
        outcomes: dict[str, str] = {}

        async def owner() -> None:
            with scope:
                await store.save_hard_state(HardState(5, 1))
            outcomes["owner"] = "cancelled" if scope.cancelled_caught else "returned"

        async def follower() -> None:
            await store.save_hard_state(HardState(5, 1))
            outcomes["follower"] = "returned"

        async def leader() -> None:
            await first.wait()
            await second.wait()
            scope.cancel()

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leader)
                await trio.testing.wait_all_tasks_blocked()
                second = await store.append(puts(1, 3, 4, size=100))
                nursery.start_soon(owner)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(follower)
                await trio.testing.wait_all_tasks_blocked()
                gate.set()
        state = await store.get_initial_state()

    assert outcomes["follower"] == "returned"
    assert state.hard_state == HardState(5, 1)


@pytest.mark.parametrize("clean", [True, False])
async def test_a_full_disk_opens_again_and_again(clean: bool) -> None:
    """A full store can always be opened, life after life, closed or killed in between (B3)."""
    disk = SimulatedFileSystem()
    async with opened(disk, first_segment_size=1 << 17) as store:
        await store.replicate_to_log(puts(1, 1, 4))
        await apply(store, 1, 4)
    for _ in range(6):
        faulty = FaultyFileSystem(disk)
        faulty.space_left = 0
        async with opened(faulty, first_segment_size=1 << 17) as store:
            assert store.last_index == 3
            if not clean:
                disk = disk.crash_keeping_everything()


async def test_a_retried_apply_is_durable_with_sync_apply() -> None:
    """With `sync_apply`, an apply whose frame was refused is made durable by the call that repeats it."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, sync_apply=True) as store:
        await store.replicate_to_log(puts(1, 1, 3))
        data = Put(b"k1", b"1" * 8)
        faulty.space_left = 0
        refused: list[str] = []

        async def too_large() -> None:
            try:
                await store.replicate_to_log(puts(1, 3, 4, size=50000))
            except StorageFullError:
                refused.append("append")

        async def applying() -> None:
            try:
                await store.apply_entry_to_state_machine(1, data)
            except StorageFullError:
                refused.append("apply")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(too_large)
            nursery.start_soon(applying)
        await store.apply_entry_to_state_machine(1, data)
        left = disk.crash_keeping_nothing()

    assert "append" in refused
    async with opened(left) as store:
        assert store.last_applied == 1


async def test_a_poisoned_handle_writes_nothing_for_an_apply() -> None:
    """After a failed barrier an apply with `sync_apply` is refused too, and writes nothing behind the failed frame."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, sync_apply=True) as store:
        await store.replicate_to_log(puts(1, 1, 3))
        faulty.fail("datasync", name="wal-*")
        with pytest.raises(StorageFailedError):
            await store.append_entry_to_log(put(1, 3))
        count = len(disk.operations)
        with pytest.raises(StorageFailedError):
            await store.apply_entry_to_state_machine(1, Put(b"k1", b"1" * 8))
        assert len(disk.operations) == count


async def test_the_last_index_of_all_is_out_of_reach() -> None:
    """A peer's snapshot at index 2**64 - 1 is refused: nothing could follow it."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        with pytest.raises(UsageError):
            await install(store, 1, 2**64 - 1, None)
        await install(store, 1, 2**64 - 2, None)
    async with opened(disk) as store:
        assert store.last_index == 2**64 - 2


async def test_a_whole_snapshot_that_is_no_state_of_the_machine() -> None:
    """A container whose checksums hold and whose payload the machine refuses is an invalid snapshot."""

    data = b"".join(pack(SnapshotHeader("x", 1, 9, MembershipConfig({1})), [b"no state at all"]))
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        with pytest.raises(SnapshotInvalidError):
            await install(store, 1, 9, None, data)
        assert store.last_index == 0
        await install(store, 1, 9, None, snapshot_bytes(1, 9))
        assert store.last_index == 9


async def test_a_segment_that_could_not_be_born_leaves_nothing() -> None:
    """A rotation that fails before the new segment has its name takes its temporary file away again."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, preallocate="none") as store:
        await store.append_entry_to_log(put(1, 1))
        faulty.fail("datasync", nth=2, once=False, name="spare-*")
        for _ in range(3):
            with pytest.raises(StorageFullError):
                await store.append_entry_to_log(put(1, 2, size=50000))
        faulty.heal()
        assert [name for name in names(disk) if name.startswith("spare-")] == []
        await store.append_entry_to_log(put(1, 2, size=50000))


def test_an_interrupt_does_not_part_the_machine_from_the_log() -> None:
    """Ctrl-C while a command is on its way to the disk is raised after the command has been applied, not instead."""
    live, reopened = trio.run(interrupted)  # of its own: trio interrupts the main task, and a test is not it

    assert live == {b"a": b"1", b"b": b"2", b"c": b"3"}
    assert reopened == live


async def interrupted() -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """What the machine holds after an interrupt and one more command, and what a reopen finds."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    config = StorageConfig(prepare_ahead=False)
    armed = [True]

    def interrupt(call: object) -> None:
        if getattr(call, "operation", "") == "datasync" and armed:
            armed.pop()
            os.kill(os.getpid(), signal.SIGINT)

    async with open_standalone(
        "/store", machine=KeyValue, codec=KeyValueCodec(), config=config, filesystem=faulty
    ) as db:
        await db.execute(Put(b"a", b"1"))
        faulty.hook = interrupt
        with pytest.raises(KeyboardInterrupt):
            await db.execute(Put(b"b", b"2"))
        faulty.hook = None
        await db.execute(Put(b"c", b"3"))
        live = dict(db.machine)
        left = disk.crash_keeping_everything()
    async with open_standalone("/store", machine=KeyValue, codec=KeyValueCodec(), filesystem=left) as db:
        return live, dict(db.machine)


@pytest.mark.parametrize(("payload", "kept"), [(96 << 10, True), (60, False)])
async def test_padding_on_disk_is_not_kept_in_memory(payload: int, kept: bool) -> None:
    """What was read lives on as the memory of the entries only where nine tenths of it are payload (P9)."""
    disk = SimulatedFileSystem()
    async with opened(disk, commit_align=4096, first_segment_size=1 << 20) as store:
        for index in (1, 2, 3):
            await store.replicate_to_log([put(1, 2 * index - 1, size=payload), put(1, 2 * index, size=payload)])
    async with opened(disk) as store:
        views = {isinstance(run.payload, memoryview) for run in store._core.state.log.runs}

    assert views == {kept}


async def test_an_open_makes_durable_what_it_believes() -> None:
    """Segments, snapshot and directory are synced before the first file is made: reads may come from the page cache."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await emptied_by_compaction(store)
        await store.append_entry_to_log(put(1, 4))
        left = disk.crash_keeping_everything()
    start = len(left.operations)
    async with opened(left):
        kinds = [(one.kind, one.name) for one in left.operations[start:]]
    made = next(at for at, (kind, _) in enumerate(kinds) if kind == "create")

    assert {name[:4] for kind, name in kinds[:made] if kind == "datasync"} == {"wal-", "snap"}
    assert "sync" in {kind for kind, _ in kinds[:made]}
