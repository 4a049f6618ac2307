"""A full disk (PROTOCOL B3) is met before a frame is half written; votes, and what makes room, work all the same."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from walstore import Entry, HardState, Normal, StorageFullError
from walstore.kv import Command, Put
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate, named
from .stores import Store, apply, compact, identities, names, opened, put, puts, read, snapshot_bytes


def fat(term: int, index: int) -> Entry[Command]:
    """An entry of which a segment holds a few; all of them set the same key, so that a snapshot stays small."""
    return Entry(term, index, Normal(Put(b"k", b"%d" % index * 350)))


@attrs.define
class Full:
    """A store whose disk has no room for another segment, and whose newest segment takes no more entries."""

    disk: SimulatedFileSystem
    faulty: FaultyFileSystem
    store: Store

    @property
    def emergency(self) -> int:
        """The size of the held emergency segment; 0 if there is none."""
        return len(read(self.disk, "EMERGENCY")) if "EMERGENCY" in names(self.disk) else 0

    async def refused(self) -> None:
        """An append is refused, and leaves no trace: in memory, in the log's files, or as a temporary file."""
        store = self.store
        before = (await store.get_initial_state(), await identities(store), store.durable_index)
        start = len(self.disk.operations)
        with pytest.raises(StorageFullError, match="nothing of the call was written") as caught:
            await store.append_entry_to_log(fat(9, store.last_index + 1))
        assert caught.value.errno == errno.ENOSPC
        assert not any(name.startswith("wal-") for _, name in named(self.disk.operations)[start:])
        assert (await store.get_initial_state(), await identities(store), store.durable_index) == before
        assert not store.statistics().failed
        assert [name for name in names(self.disk) if name.endswith(".tmp")] == []

    async def fill(self) -> None:
        """Appends until the disk is full."""
        for index in range(self.store.last_index + 1, 1000):
            try:
                await self.store.append_entry_to_log(fat(1, index))
            except StorageFullError:
                return
        pytest.fail("the disk was never full")


@asynccontextmanager
async def full(room: int = 0, **config: Any) -> AsyncIterator[Full]:
    """Such a store, with `room` bytes on the disk: some segments long, the first eight entries applied."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, **config) as store:
        at = Full(disk, faulty, store)
        for index in range(1, 25):
            await store.append_entry_to_log(fat(1, index))
        await apply(store, 1, 9)
        faulty.space_left = room
        await at.fill()
        yield at


async def test_an_append_is_refused_before_anything_is_written() -> None:
    """No byte of a refused call reaches a segment, and it can be tried as often as one likes."""
    async with full() as at:
        last = at.store.last_index
        for _ in range(3):
            await at.refused()
        left = at.disk.crash_keeping_nothing()
    for disk in (at.disk, left):
        async with opened(disk) as store:
            assert store.last_index == last


async def test_it_is_not_sticky() -> None:
    """As soon as there is room for a segment, the same append succeeds."""
    async with full() as at:
        await at.refused()
        at.faulty.space_left = 1 << 20
        await at.store.append_entry_to_log(fat(9, at.store.last_index + 1))
        assert at.store.durable_index == at.store.last_index


async def test_votes_are_saved_on_a_full_disk() -> None:
    """Far more elections than a segment keeps room for are survived, each of them durable."""
    async with full() as at:
        for term in range(2, 40):
            await at.store.save_hard_state(HardState(term, term % 3))
        await at.refused()
        left = at.disk.crash_keeping_nothing()
    async with opened(left) as store:
        assert (await store.get_initial_state()).hard_state == HardState(39, 0)


@pytest.mark.parametrize("batch", [1, 20])
async def test_a_truncation_makes_room(batch: int) -> None:
    """After a truncation that lets segments go appends work again, and the emergency segment is whole again."""
    async with full() as at:
        held = at.emergency
        last = at.store.last_index
        for term in range(2, 2 + batch):
            await at.store.save_hard_state(HardState(term, 1))
        assert (at.emergency < held) == (batch > 16)
        await at.store.delete_logs_from(10)
        assert at.store.statistics().purged_segments == 0
        if batch == 1:  # else the votes went on in a segment that has room
            await at.refused()
        await at.store.delete_logs_from(1)
        await at.store.replicate_to_log([fat(2, index) for index in range(1, last - 6)])
        assert at.store.statistics().purged_segments > 0
        assert at.emergency == held
    async with opened(at.disk) as store:
        assert store.last_index == last - 7


async def test_when_all_that_was_held_is_used_up_votes_are_refused_too() -> None:
    """The reserve is finite; the error is still that of a full disk, and what was acknowledged is kept."""
    term = 1
    async with full() as at:

        async def vote_on() -> None:
            nonlocal term
            while term < 1000:
                await at.store.save_hard_state(HardState(term + 1, 1))
                term += 1

        with pytest.raises(StorageFullError) as caught:
            await vote_on()
        assert caught.value.errno == errno.ENOSPC
        assert 40 < term < 1000
        assert (await at.store.get_initial_state()).hard_state == HardState(term, 1)
    async with opened(at.disk) as store:
        assert (await store.get_initial_state()).hard_state == HardState(term, 1)


async def test_a_compaction_makes_room() -> None:
    """With room for the snapshot alone a compaction lets segments go, and appends work again."""
    async with full(room=5000) as at:
        held = at.emergency
        await apply(at.store, 9, 21)
        await compact(at.store)
        assert at.store.first_index == 20
        assert at.store.statistics().purged_segments > 0
        await at.store.append_entry_to_log(fat(1, at.store.last_index + 1))
        await at.fill()
        await apply(at.store, 21, at.store.last_index + 1)
        await compact(at.store)
        assert at.emergency == held
        await at.store.append_entry_to_log(fat(1, at.store.last_index + 1))
        expected = await identities(at.store)
    async with opened(at.disk) as store:
        assert await identities(store) == expected


async def test_a_compaction_without_room_for_its_file_fails_alone() -> None:
    """Not even the snapshot fits: StorageFullError, no temporary file, and the log goes on."""
    async with full() as at:
        with pytest.raises(StorageFullError):
            await compact(at.store)
        assert names(at.disk, "snap-") == []
        await at.store.save_hard_state(HardState(5, 1))
        at.faulty.space_left = 1 << 20
        await compact(at.store)


async def test_a_received_snapshot_without_room_can_be_sent_again() -> None:
    """The writer's position stays where it was, and the same bytes go through when there is room."""
    async with full() as at:
        data = snapshot_bytes(3, 99)
        id, writer = await at.store.create_snapshot()
        with pytest.raises(StorageFullError):
            await writer.send_all(data)
        assert writer.tell() == 0
        at.faulty.space_left = 1 << 20
        await writer.send_all(data)
        await writer.aclose()
        await at.store.finalize_snapshot_installation(99, 3, None, id, writer)
        await at.store.append_entry_to_log(put(3, 100))


async def test_closing_and_opening_work_again_and_again() -> None:
    """Ten opens and clean closes in a row, with a vote each, on a disk without a byte of room."""
    async with full() as at:
        last, faulty = at.store.last_index, at.faulty
    for term in range(2, 12):
        async with opened(faulty) as store:
            assert store.recovery.closed
            assert store.last_index == last
            await store.save_hard_state(HardState(term, 1))
    async with opened(at.disk) as store:
        assert (await store.get_initial_state()).hard_state == HardState(11, 1)


async def test_a_crash_loop_on_a_full_disk() -> None:
    """The same where no handle is ever closed: each open finds a disk as a power cut leaves it."""
    async with full() as at:
        last = at.store.last_index
        disk = at.disk.crash_keeping_nothing()
    room = 0
    for term in range(2, 12):
        faulty = FaultyFileSystem(disk)
        faulty.space_left = room
        async with opened(faulty) as store:
            assert store.last_index == last
            await store.save_hard_state(HardState(term, 1))
            disk, room = disk.crash_keeping_nothing(), faulty.space_left
    async with opened(disk) as store:
        assert (await store.get_initial_state()).hard_state == HardState(11, 1)
        await store.append_entry_to_log(put(12, last + 1))


async def test_what_is_queued_behind_a_refused_append_is_taken_back_in_order() -> None:
    """Calls planned on top of one that the disk refuses are refused with it, and the state is as if none had been."""
    async with full() as at:
        store, outcomes = at.store, []
        last = store.last_index
        before = (await store.get_initial_state(), await identities(store))

        async def call(function: Callable[[], Awaitable[object]]) -> None:
            try:
                await function()
                outcomes.append("done")
            except StorageFullError:
                outcomes.append("full")

        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.append_entry_to_log(fat(2, last + 1)),
            lambda: store.replicate_to_log(puts(3, last - 1, last + 4)),
            lambda: store.save_hard_state(HardState(7, 1)),
            lambda: store.delete_logs_from(last - 3),
            lambda: store.append_entry_to_log(put(8, last - 3)),
        ]
        async with trio.open_nursery() as nursery:
            with Gate(at.faulty) as gate:
                nursery.start_soon(call, store.attest)
                await gate.arrival()
                for function in calls:
                    nursery.start_soon(call, function)
                    await wait_all_tasks_blocked()
                assert store.last_index == last - 3
        assert outcomes == ["done", *["full"] * 5]
        assert (await store.get_initial_state(), await identities(store)) == before
        assert store.durable_index == last
        assert store.statistics().pending_bytes == store.statistics().pending_calls == 0
        await store.save_hard_state(HardState(7, 1))
    async with opened(at.disk) as store:
        assert await identities(store) == before[1]


async def test_room_made_by_a_truncation_whose_batch_was_refused_is_used() -> None:
    """A truncation and a large append share a batch, and the append is refused: the next one finds the room."""
    async with full() as at:
        store = at.store
        with Gate(at.faulty) as gate:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.attest)
                await gate.arrival()
                nursery.start_soon(store.delete_logs_from, 1)
                await wait_all_tasks_blocked()
                barrier = await store.append([put(2, 1, size=10000)])
                gate.open()
        with pytest.raises(StorageFullError):
            await barrier.wait()
        assert store.last_index == 0
        await store.append_entry_to_log(put(2, 1, size=10000))


async def test_a_vote_that_waits_for_room_in_the_queue_is_not_refused_for_others() -> None:
    """Back-pressure lifts when the queue was refused; who waited was not part of it."""
    async with full(max_pending_bytes=1000) as at:
        store = at.store
        async with trio.open_nursery() as nursery:
            with Gate(at.faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                barrier = await store.append([put(2, store.last_index + 1, size=2000)])
                nursery.start_soon(store.save_hard_state, HardState(6, 2))
                await wait_all_tasks_blocked()
        with pytest.raises(StorageFullError):
            await barrier.wait()
        assert (await store.get_initial_state()).hard_state == HardState(6, 2)


async def test_sync_apply_works_on_a_full_disk() -> None:
    """A frame that says how far the machine is counts as control, like a vote."""
    async with full(sync_apply=True) as at:
        await apply(at.store, 9, 20)
        left = at.disk.crash_keeping_nothing()
    async with opened(left) as store:
        assert store.last_applied == 19


async def test_creation_without_room_leaves_nothing_that_hinders_the_next() -> None:
    """A store that could not be made for want of room is made when there is some."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    for room in range(0, 160000, 10000):
        faulty.space_left = room
        try:
            async with opened(faulty) as store:
                await store.append_entry_to_log(put(1, 1))
                return
        except StorageFullError:
            continue
    pytest.fail("160000 bytes are not enough for a small store")
