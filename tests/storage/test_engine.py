"""What an engine needs beyond the 13 methods: indexes and terms, strict reads, the split append, attest, bootstrap."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from walstore import (
    Blank,
    CompactedError,
    ConfigChange,
    Entry,
    HardState,
    LogGapError,
    MembershipConfig,
    SnapshotPointer,
    UnavailableError,
    UsageError,
)
from walstore._log.frame import Kind
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate, changes, frames
from .stores import Store, apply, compact, identities, install, names, opened, put, puts

ROOMY: dict[str, Any] = {"first_segment_size": 1 << 19, "segment_size": 1 << 19}


def indexes(store: Store) -> tuple[int, int, int, int]:
    """First, last, durable and last applied index."""
    return store.first_index, store.last_index, store.durable_index, store.last_applied


def snapshot(store: Store) -> tuple[int, int] | None:
    """Term and index of the current snapshot."""
    header = store.current_snapshot
    return None if header is None else (header.term, header.index)


async def test_the_indexes_in_every_state() -> None:
    """First, last, durable and applied index as log, truncation, compaction, deletion and install leave them."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        assert indexes(store) == (0, 0, 0, 0)
        assert snapshot(store) is None
        await store.replicate_to_log(puts(1, 1, 11))
        assert indexes(store) == (1, 10, 10, 0)
        await store.append([put(1, 11)])
        assert indexes(store) == (1, 11, 10, 0)
        await store.delete_logs_from(9)
        assert indexes(store) == (1, 8, 8, 0)
        await store.delete_logs_from(1, 3)
        assert indexes(store) == (3, 8, 8, 0)
        await store.replicate_to_log(puts(2, 7, 11))
        await apply(store, 3, 6)
        assert indexes(store) == (3, 10, 10, 5)
        await compact(store)
        assert indexes(store) == (5, 10, 10, 5)
        assert snapshot(store) == (1, 5)
        await store.delete_logs_from(5, 6)
        assert indexes(store) == (6, 10, 10, 5)
        await store.delete_logs_from(6)
        assert indexes(store) == (0, 5, 5, 5)
        await install(store, 3, 20, None)
        assert indexes(store) == (20, 20, 20, 20)
        assert snapshot(store) == (3, 20)
        await store.replicate_to_log(puts(3, 21, 23))
        expected = indexes(store)
    async with opened(disk) as store:
        assert indexes(store) == expected == (20, 22, 22, 20)


async def test_the_term_of_every_index() -> None:
    """Terms within the log, at the boundary of the snapshot, and an error below and above."""
    async with opened(SimulatedFileSystem()) as store:
        assert store.term_of(0) == 0
        with pytest.raises(UnavailableError, match="above the last index 0"):
            store.term_of(1)
        await store.replicate_to_log([*puts(1, 1, 4), *puts(2, 4, 6), *puts(5, 6, 9)])
        assert [store.term_of(index) for index in range(9)] == [0, 1, 1, 1, 2, 2, 5, 5, 5]
        with pytest.raises(UnavailableError):
            store.term_of(9)
        await apply(store, 1, 6)
        await compact(store)
        assert [store.term_of(index) for index in range(5, 9)] == [2, 5, 5, 5]
        for index in (0, 4):
            with pytest.raises(CompactedError, match="below the first index 5"):
                store.term_of(index)
        await store.delete_logs_from(1)
        assert store.term_of(5) == 2
        for wrong in (-1, 2**64, "1", None):
            with pytest.raises((TypeError, ValueError)):
                store.term_of(wrong)  # type: ignore[arg-type]  # that is the point


async def test_strict_entries_are_all_there_or_an_error() -> None:
    """[low, high) as it is asked for, or CompactedError or UnavailableError; the pointer counts as an entry."""
    async with opened(SimulatedFileSystem()) as store:
        assert await store.entries(1, 1) == []
        with pytest.raises(UnavailableError):
            await store.entries(1, 2)
        await store.replicate_to_log(puts(1, 1, 21))
        assert [entry.index for entry in await store.entries(1, 21)] == list(range(1, 21))
        assert [entry.index for entry in await store.entries(7, 9)] == [7, 8]
        assert await store.entries(21, 21) == await store.entries(9, 7) == []
        for low, high in ((20, 22), (21, 22), (30, 40)):
            with pytest.raises(UnavailableError):
                await store.entries(low, high)
        with pytest.raises(CompactedError):
            await store.entries(0, 3)
        await apply(store, 1, 11)
        await compact(store)
        found = await store.entries(10, 13)
        assert [type(entry.payload).__name__ for entry in found] == ["SnapshotPointer", "Normal", "Normal"]
        with pytest.raises(CompactedError, match="send the snapshot"):
            await store.entries(9, 13)
        assert [entry.index for entry in await store.get_log_entries(0, 13)] == [10, 11, 12]


async def test_strict_entries_up_to_a_number_of_bytes() -> None:
    """As many as fit by the bytes of their payloads, at least one; what does not exist is an error all the same."""
    async with opened(SimulatedFileSystem()) as store:
        for index in range(1, 11):
            await store.append_entry_to_log(Entry(1, index, Blank()) if index == 5 else put(1, index, size=96))
        size = store._core.state.log.run_at(1).size

        async def found(low: int, high: int, most: int) -> list[int]:
            return [entry.index for entry in await store.entries(low, high, max_bytes=most)]

        assert await found(1, 11, 0) == await found(1, 11, size) == [1]
        assert await found(1, 11, 2 * size - 1) == [1]
        assert await found(1, 11, 2 * size) == [1, 2]
        assert await found(4, 11, size) == [4, 5]
        assert await found(1, 11, 1 << 30) == list(range(1, 11))
        assert await found(3, 3, 0) == []
        with pytest.raises(UnavailableError):
            await found(1, 12, 0)


async def test_a_split_append_is_readable_at_once_and_durable_later() -> None:
    """Between the append and its barrier the entries are read by everybody, and a power cut takes them."""
    disk = SimulatedFileSystem()
    async with opened(disk, **ROOMY) as store:
        start = len(disk.operations)
        first = await store.append(puts(1, 1, 4))
        second = await store.append([put(1, 4)])
        assert changes(disk, start) == []
        assert (first.index, second.index, first.durable, second.durable) == (3, 4, False, False)
        assert len(await store.entries(1, 5)) == 4
        assert (await store.get_initial_state()).last_log_index == 4
        before = disk.crash_keeping_everything()
        await first.wait()
        await second.wait()
        assert changes(disk, start) == ["write", "datasync"]
        assert (first.durable, second.durable, store.durable_index) == (True, True, 4)
        after = disk.crash_keeping_nothing()
    for left, last in ((before, 0), (after, 4)):
        async with opened(left) as store:
            assert store.last_index == last


async def test_any_number_may_wait_for_a_barrier() -> None:
    """Many tasks, many times, before and after; a later call makes the earlier append durable too."""
    async with opened(SimulatedFileSystem()) as store:
        barrier = await store.append([put(1, 1)])
        await store.save_hard_state(HardState(1, 1))
        assert barrier.durable
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(barrier.wait)
                nursery.start_soon(barrier.wait)


async def test_a_split_append_that_is_refused_leaves_nothing() -> None:
    """The errors are those of `replicate_to_log`, and come before anything is planned."""
    async with opened(SimulatedFileSystem()) as store:
        await store.replicate_to_log(puts(3, 1, 4))
        for wrong in ([put(3, 5)], [put(2, 4)], [put(3, 4), put(3, 6)]):
            with pytest.raises(UsageError):
                await store.append(wrong)
        with pytest.raises(LogGapError):
            await store.append([put(3, 9)])
        assert store.last_index == 3
        assert store.statistics().pending_calls == 0


async def test_attest_proves_the_last_entry() -> None:
    """After it a crash finds nothing that has to be written again; before it the last frame is not proven."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.append_entry_to_log(put(1, 1))
        before = disk.crash_keeping_nothing()
        await store.attest()
        assert [header.kind for header in frames(disk)] == [Kind.ENTRIES, Kind.SYNC]
        after = disk.crash_keeping_nothing()
    for left, copied in ((before, {Kind.ENTRIES}), (after, {Kind.SYNC})):
        async with opened(left) as store:
            assert store.last_index == 1
            assert store.recovery.copied_forward == 1
            assert {header.kind for header in frames(left)} == copied


async def test_bootstrap_makes_a_member_once() -> None:
    """Hard state (1, none) and the membership at index 1; an interrupted one is repeated, a later one is refused."""
    members = MembershipConfig({1, 2, 3})
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.save_hard_state(HardState(1))  # as if the first attempt had been cut here
        await store.bootstrap(members)
        assert await store.get_log_entries(0, 9) == [Entry(1, 1, ConfigChange(members))]
        state = await store.get_initial_state()
        assert (state.hard_state, state.membership, state.last_log_term) == (HardState(1), members, 1)
        with pytest.raises(UsageError, match="pristine"):
            await store.bootstrap(members)
    async with opened(disk) as store:
        with pytest.raises(UsageError, match="pristine"):
            await store.bootstrap(members)


@pytest.mark.parametrize("what", ["a vote", "a term", "an entry", "a snapshot"])
async def test_bootstrap_is_for_the_pristine(what: str) -> None:
    """Whatever a store has seen, it is no new node any more."""
    async with opened(SimulatedFileSystem()) as store:
        match what:
            case "a vote":
                await store.save_hard_state(HardState(1, 3))
            case "a term":
                await store.save_hard_state(HardState(2))
            case "an entry":
                await store.append_entry_to_log(put(1, 1))
            case _:
                await install(store, 1, 5, None)
                await store.delete_logs_from(1)
        before = await store.get_initial_state()
        with pytest.raises(UsageError, match="pristine"):
            await store.bootstrap(MembershipConfig({1}))
        assert await store.get_initial_state() == before


async def test_statistics_count_what_was_done() -> None:
    """Barriers, frames, bytes, segments, rotations and what is on its way, since the store was opened."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        await store.replicate_to_log(puts(1, 1, 5))
        await store.save_hard_state(HardState(2, 1))
        found = store.statistics()
        assert (found.barriers, found.frames, found.bytes_written, found.rotations) == (2, 2, 1024, 0)
        assert (found.first_index, found.last_index, found.durable_index, found.last_applied) == (1, 4, 4, 0)
        assert (found.pending_calls, found.pending_bytes, found.segments, found.failed) == (0, 0, 1, False)
        assert found.durable_point == store.durable_point
        assert (found.durable_point.sequence, found.durable_point.index) == (2, 4)
        payload = found.payload_bytes_since_snapshot
        assert payload == sum(run.size for run in store._core.state.log.runs)
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                await store.append([put(2, 5)])
                assert store.statistics().pending_calls == 2
                assert store.statistics().pending_bytes == 256
        while store.statistics().rotations < 3:
            await store.append_entry_to_log(put(2, store.last_index + 1, size=900))
        found = store.statistics()
        assert found.segments == 4 == len(names(disk, "wal-"))
        assert found.spare_misses == 3
        await apply(store, 1, store.last_index + 1)
        await compact(store)
        found = store.statistics()
        assert found.purged_segments == 3
        assert found.snapshot_index == store.last_index
        assert found.payload_bytes_since_snapshot == found.housekeeping_failures == 0
    async with opened(disk) as store:
        assert store.statistics().barriers == 0


async def test_the_report_of_an_open() -> None:
    """What was found: created or closed or torn, how much was read, applied, written again and swept."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        assert store.recovery.created
        await store.replicate_to_log(puts(1, 1, 5))
        await apply(store, 1, 4)
    async with opened(disk) as store:
        found = store.recovery
        assert (found.created, found.closed, found.torn, found.entries, found.applied) == (False, True, False, 4, 3)
        assert (found.segments, found.emergency_used, found.swept, found.ambiguous_tail) == (1, False, (), False)
        assert found.frames == 4  # STATE, ENTRIES, CLOSE, SEAL
        assert 0 < found.bytes_read < 1 << 20
        assert found.seconds > 0
        await store.append([put(1, 5, size=900)])
        start = len(disk.operations)
        await store.attest()
        torn = disk.at(start + 1).crash(lambda kind, path, offset, count: 0 if offset > 4608 else count - 1)
    async with opened(torn) as store:
        found = store.recovery
        assert (found.closed, found.torn, found.entries, store.last_index) == (False, True, 4, 4)
        assert found.torn_bytes > 0
        assert found.evidence


async def test_a_pointer_is_never_appended() -> None:
    """Pointers come from snapshots alone."""
    async with opened(SimulatedFileSystem()) as store:
        await store.append_entry_to_log(put(1, 1))
        pointer: Entry[Any] = Entry(1, 2, SnapshotPointer("1-1", MembershipConfig({1})))
        for call in (store.append_entry_to_log(pointer), store.append([pointer])):
            with pytest.raises(UsageError, match="never appended"):
                await call
        await wait_all_tasks_blocked()
        assert await identities(store) == [(1, 1)]
