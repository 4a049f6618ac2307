"""Group commit (PROTOCOL B2 and B5): who shares a barrier with whom, in which order, and how much may wait."""

from random import Random
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from walstore import Entry, HardState, Normal, StorageFailedError
from walstore._log.frame import Kind
from walstore.kv import Command, Put
from walstore.testing.crashes import enumerate_crashes
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.operations import lint
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate, changes, frames
from .stores import Store, identities, opened, put, puts

ROOMY: dict[str, Any] = {"first_segment_size": 1 << 19, "segment_size": 1 << 19}


def word(store: Store, key: bytes, size: int = 8) -> Entry[Command]:
    """An entry for the end of the log as it is now."""
    return Entry(1, store.last_index + 1, Normal(Put(key, b"x" * size)))


async def append(store: Store, key: bytes, size: int = 8) -> None:
    """One acknowledged entry at the end of the log."""
    await store.append_entry_to_log(word(store, key, size))


async def test_concurrent_callers_share_one_write_and_one_barrier() -> None:
    """Of 64 callers the first goes to the disk at once, and the other 63 share the next write and its barrier."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, **ROOMY) as store:
        start = len(disk.operations)
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                for number in range(64):
                    nursery.start_soon(append, store, b"%d" % number)
                await gate.arrival()
                await wait_all_tasks_blocked()
                assert store.statistics().pending_calls == 64
                assert store.last_index == 64
                assert store.durable_index == 0

        assert changes(disk, start) == ["write", "datasync", "write", "datasync"]
        assert store.statistics().barriers == 2
        assert store.durable_index == 64


async def test_a_lone_appender_waits_for_nobody() -> None:
    """Each of ten calls in a row, with nobody beside, is one write and one barrier of its own, and nothing else."""
    disk = SimulatedFileSystem()
    async with opened(disk, **ROOMY) as store:
        for index in range(1, 11):
            start = len(disk.operations)
            await store.append_entry_to_log(put(1, index))
            assert changes(disk, start) == ["write", "datasync"]
            assert store.durable_index == index


async def test_the_order_of_frames_is_the_order_of_calls() -> None:
    """Calls of every kind that share a barrier become frames in the order in which they were made, numbered through."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, **ROOMY) as store:
        calls = [
            store.attest,
            lambda: store.replicate_to_log(puts(1, 1, 4)),
            lambda: store.save_hard_state(HardState(2, 1)),
            lambda: store.delete_logs_from(3),
            lambda: store.append_entry_to_log(put(2, 3)),
            store.attest,
            lambda: store.append_entry_to_log(put(2, 4)),
        ]
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                for call in calls:
                    nursery.start_soon(call)
                    await wait_all_tasks_blocked()
                await gate.arrival()
        found = frames(disk)

        expected = [Kind.SYNC, Kind.ENTRIES, Kind.STATE, Kind.TRUNCATE, Kind.ENTRIES, Kind.SYNC, Kind.ENTRIES]
        assert [header.kind for header in found] == expected
        assert [header.sequence for header in found] == list(range(1, 8))
        assert await identities(store) == [(1, 1), (1, 2), (2, 3), (2, 4)]


@pytest.mark.parametrize("split", [False, True])
async def test_calls_that_wait_for_room_stay_in_their_order(split: bool) -> None:
    """Back-pressure lets callers in as they came, so that consecutive appends from many tasks fit one another."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, **ROOMY, max_pending_bytes=1000) as store:

        async def call(index: int) -> None:
            if split:
                await (await store.append([put(1, index, size=100)])).wait()
            else:
                await store.append_entry_to_log(put(1, index, size=100))

        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                for index in range(1, 41):
                    nursery.start_soon(call, index)
                    await wait_all_tasks_blocked()
                await gate.arrival()
        assert store.durable_index == 40


async def test_frames_of_a_group_are_packed_and_groups_are_aligned() -> None:
    """Within a barrier a frame begins at the next multiple of 64, and each barrier at a multiple of `commit_align`."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, **ROOMY) as store:
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(append, store, b"first", 100)
                await gate.arrival()
                for number in range(5):
                    nursery.start_soon(append, store, b"%d" % number, 100 * number)
                await wait_all_tasks_blocked()
        await append(store, b"last")
        found = frames(disk)
        rewritten = lint(disk.operations, align=512, ignore=["old-file"])

    first, *group, last = found
    assert len(group) == 5
    assert first.offset % 512 == group[0].offset % 512 == last.offset % 512 == 0
    assert [header.offset for header in group[1:]] == [header.next_offset for header in group[:-1]]
    assert any(header.offset % 512 for header in group)
    assert last.offset == -(-group[-1].next_offset // 512) * 512
    assert rewritten == []


async def test_a_barrier_carries_at_most_max_group_bytes() -> None:
    """What waits is written in groups up to that size; a single call may be larger, and then goes alone."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, **ROOMY, max_group_bytes=4096) as store:
        start = len(disk.operations)
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                for size in [900] * 7 + [9000] + [900] * 2:
                    nursery.start_soon(append, store, b"k", size)
                    await wait_all_tasks_blocked()
        sizes = [operation.length for operation in disk.operations[start:] if operation.kind == "write"]

    assert sizes[0] == 512
    assert len([size for size in sizes if size > 4096]) == 1
    assert len(sizes) == 1 + 2 + 1 + 1
    assert store.statistics().pending_bytes == 0


@pytest.mark.parametrize("split", [False, True])
async def test_no_more_than_max_pending_bytes_wait(split: bool) -> None:
    """Callers wait before they are planned while that much is queued; with or without a barrier of their own."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    done = 0
    async with opened(faulty, **ROOMY, max_pending_bytes=4000) as store:

        async def call(index: int) -> None:
            nonlocal done
            await (store.append if split else store.replicate_to_log)([put(1, index, size=900)])
            assert store.statistics().pending_bytes <= 4000 + 1024
            done += 1

        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                for index in range(1, 31):
                    nursery.start_soon(call, index)
                    await wait_all_tasks_blocked()
                await gate.arrival()
                assert store.last_index == 4
                assert store.statistics().pending_bytes == 4 * 1024
        await (await store.append([])).wait()
        assert done == store.durable_index == 30


async def test_a_call_that_adds_nothing_waits_for_what_makes_it_so() -> None:
    """A repeated append, vote or deletion returns when the one that it repeats is durable, and not before."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    returned: list[str] = []
    async with opened(faulty, **ROOMY) as store:

        async def call(name: str) -> None:
            match name:
                case "append":
                    await store.replicate_to_log(puts(1, 1, 3))
                case "vote":
                    await store.save_hard_state(HardState(4, 1))
                case "delete":
                    await store.delete_logs_from(3)
                case "empty":
                    await store.replicate_to_log([])
                case _:
                    await (await store.append(puts(1, 1, 3))).wait()
            returned.append(name)

        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                nursery.start_soon(store.replicate_to_log, puts(1, 1, 3))
                await wait_all_tasks_blocked()
                nursery.start_soon(store.save_hard_state, HardState(4, 1))
                await wait_all_tasks_blocked()
                for name in ("append", "vote", "delete", "empty", "barrier"):
                    nursery.start_soon(call, name)
                await wait_all_tasks_blocked()
                gate.let_one()
                await gate.arrival()
                await wait_all_tasks_blocked()
                assert returned == []
        assert sorted(returned) == ["append", "barrier", "delete", "empty", "vote"]
        assert store.statistics().frames == 3


async def test_a_call_that_adds_nothing_writes_nothing() -> None:
    """Where nothing is on its way, a call that changes nothing leaves the disk alone."""
    disk = SimulatedFileSystem()
    async with opened(disk, **ROOMY) as store:
        await store.replicate_to_log(puts(1, 1, 5))
        await store.save_hard_state(HardState(3, 2))
        start = len(disk.operations)

        await store.replicate_to_log([])
        await store.replicate_to_log(puts(1, 2, 4))
        await store.append_entry_to_log(put(1, 4))
        await store.save_hard_state(HardState(3, 2))
        await store.delete_logs_from(5)
        await store.delete_logs_from(3, 3)
        barrier = await store.append(puts(1, 1, 5))
        assert barrier.durable
        await barrier.wait()

        assert changes(disk, start) == []


async def test_the_lead_is_handed_on_when_the_leader_is_done() -> None:
    """The first caller returns with its own barrier, although others wait for the next one."""
    faulty = FaultyFileSystem(SimulatedFileSystem())
    returned: list[bytes] = []
    async with opened(faulty, **ROOMY) as store:

        async def call(key: bytes) -> None:
            await append(store, key)
            returned.append(key)

        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(call, b"leader")
                await gate.arrival()
                for key in (b"a", b"b", b"c"):
                    nursery.start_soon(call, key)
                await wait_all_tasks_blocked()
                gate.let_one()
                await gate.arrival()
                await wait_all_tasks_blocked()
                assert returned == [b"leader"]
                assert store.durable_index == 1
        assert len(returned) == 4


async def test_an_append_without_barrier_is_planned_at_once() -> None:
    """Twenty tasks that append at the end as they find it, all in one round of the loop, get twenty indexes."""
    async with opened(SimulatedFileSystem(), **ROOMY) as store:

        async def call(number: int) -> None:
            barrier = await store.append([word(store, b"%d" % number)])
            await barrier.wait()

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(call, number)

        assert sorted(await keys(store)) == sorted(b"%d" % number for number in range(20))


async def test_each_waiter_gets_an_exception_of_its_own() -> None:
    """Ten waiters of one barrier that failed raise ten errors with one cause: no traceback grows into another."""
    faulty = FaultyFileSystem(SimulatedFileSystem())
    errors: list[StorageFailedError] = []
    async with opened(faulty, **ROOMY) as store:
        faulty.fail("datasync", name="wal-*")
        barrier = await store.append(puts(1, 1, 3))

        async def wait() -> None:
            with pytest.raises(StorageFailedError) as caught:
                await barrier.wait()
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(wait)
        await wait()

    assert len(set(map(id, errors))) == 11
    assert len({id(error.__cause__) for error in errors}) == 1
    assert isinstance(errors[0].__cause__, OSError)
    assert not barrier.durable


class Storm:
    """Some hundred tasks that append or wait; their disk lets a barrier pass, and they are cancelled, by chance."""

    def __init__(self, seed: int, tasks: int) -> None:
        self.random = Random(seed)
        self.disk = SimulatedFileSystem(seed)
        self.faulty = FaultyFileSystem(self.disk)
        self.tasks = tasks
        self.running = 0
        self.returned: set[bytes] = set()
        self.cancelled: set[bytes] = set()

    async def run(self) -> list[bytes]:
        """The keys in the log, in order; and all that was acknowledged is held against what a power cut leaves."""
        async with opened(self.faulty, first_segment_size=1 << 16, segment_size=1 << 16) as store:
            async with trio.open_nursery() as nursery:
                with Gate(self.faulty) as gate:
                    await self.blow(store, nursery, gate)
                    while self.running:
                        await wait_all_tasks_blocked()
                        gate.let_one()
            found = await keys(store)
            assert store.statistics().pending_calls == store.statistics().pending_bytes == 0
            left = self.disk.crash_keeping_nothing()
        async with opened(left) as store:
            assert await keys(store) == found
        return found

    async def blow(self, store: Store, nursery: trio.Nursery, gate: Gate) -> None:
        """Starts the tasks one after the other, and cancels some of the latest."""
        scopes: list[trio.CancelScope] = []
        for number in range(self.tasks):
            scopes.append(trio.CancelScope())
            self.running += 1
            nursery.start_soon(self.task, store, b"%d" % number, self.random.randrange(8), scopes[-1])
            if self.random.random() < 0.8:
                await wait_all_tasks_blocked()
            while self.random.random() < 0.4:
                scopes[-self.random.randint(1, min(4, len(scopes)))].cancel()
            if self.random.random() < 0.2:
                gate.let_one()

    async def task(self, store: Store, key: bytes, kind: int, scope: trio.CancelScope) -> None:
        """One call."""
        with scope:
            match kind:
                case 0:
                    await store.attest()
                case 1:
                    await store.replicate_to_log([])
                case _:
                    self.cancelled.add(key)
                    await append(store, key, self.random.randrange(300))
                    self.cancelled.remove(key)
                    self.returned.add(key)
        self.running -= 1


async def keys(store: Store) -> list[bytes]:
    """The keys that the entries of the log set."""
    entries = await store.get_log_entries(0, 10**6)
    return [entry.payload.data.key for entry in entries if isinstance(entry.payload, Normal)]


@pytest.mark.parametrize("seed", range(6))
async def test_a_storm_of_cancellations(seed: int) -> None:
    """Nobody hangs; what returned is in the log and durable, and no cancelled call is in it (ECOSYSTEM 2.4)."""
    storm = Storm(seed, tasks=250)
    with trio.fail_after(60):
        found = await storm.run()

    assert len(found) == len(set(found))
    assert set(found) == storm.returned
    assert not storm.cancelled & set(found)
    assert len(storm.cancelled) > 5
    assert len(storm.returned) > 20


async def test_what_shares_a_barrier_survives_as_a_prefix_of_the_calls() -> None:
    """A power cut in the middle of a shared write leaves the first of its calls or none, never one without another."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, **ROOMY) as store:
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                for index in range(1, 6):
                    nursery.start_soon(store.append_entry_to_log, put(1, index, size=200))
                    await wait_all_tasks_blocked()
                gate.let_one()
                await gate.arrival()
                torn = list(enumerate_crashes(disk, 128))
    lengths = set()
    for left in torn:
        async with opened(left) as store:
            log = await identities(store)
            assert log == [(1, index) for index in range(1, len(log) + 1)]
            lengths.add(len(log))

    assert {0, 5} < lengths
