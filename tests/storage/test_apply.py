"""Applying (SEMANTICS 9.2, PROTOCOL A9, B12, B14): each index once, what was logged, without holding up the loop."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from walstore import ApplyError, Blank, ConfigChange, Entry, MembershipConfig, Normal, UsageError
from walstore.kv import Command, KeyValue, Put
from walstore.testing.conformance._cancel import attempt
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate
from .stores import Store, apply, compact, opened, put, puts

ROOMY: dict[str, Any] = {"first_segment_size": 1 << 22, "segment_size": 1 << 22}
MANY = 30_000
"""Entries that take far longer than a millisecond to read, to compare or to apply."""


def data(index: int, term: int = 1) -> Command:
    """What `put(term, index)` logs."""
    return Put(b"k%d" % index, b"%d" % term * 8)


class Diary(KeyValue):
    """A machine that notes what it was given, and raises where it is told to."""

    history: list[int]
    bad: frozenset[int] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.history = []

    def apply(self, index: int, data: Command) -> Any:
        """Notes the index."""
        if index in self.bad:
            raise RuntimeError(f"no {index}")
        self.history.append(index)
        return super().apply(index, data)


class Picky(Diary):
    """Raises at index 4."""

    bad = frozenset({4})


def history(store: Store) -> list[int]:
    """What the machine was given."""
    assert isinstance(store.machine, Diary)
    return store.machine.history


async def test_an_index_is_applied_once_and_its_answer_remembered() -> None:
    """A repeated index is skipped: with the machine's answer if it was the last one, else with none."""
    async with opened(SimulatedFileSystem(), machine=Diary) as store:
        await store.replicate_to_log([put(1, 1), Entry(1, 2, Normal(Put(b"k1", b"new"))), put(1, 3)])
        assert await store.apply_entry_to_state_machine(1, data(1)) is None
        assert await store.apply_entry_to_state_machine(2, Put(b"k1", b"new")) == b"1" * 8
        assert await store.apply_entry_to_state_machine(2, Put(b"k1", b"new")) == b"1" * 8
        assert await store.apply_entry_to_state_machine(1, data(1)) is None
        await store.replicate_to_state_machine([(1, data(1)), (2, Put(b"k1", b"new")), (3, data(3)), (3, data(3))])
        assert history(store) == [1, 2, 3]
        assert store.last_applied == 3


async def test_gaps_are_normal() -> None:
    """Entries that are no commands are passed over; a snapshot afterwards holds all the same."""
    disk = SimulatedFileSystem()
    async with opened(disk, machine=Diary) as store:
        blank: Entry[Command] = Entry(1, 2, Blank())
        config: Entry[Command] = Entry(1, 3, ConfigChange(MembershipConfig({1, 2})))
        await store.replicate_to_log([put(1, 1), blank, config, put(1, 4)])
        await store.replicate_to_state_machine([(1, data(1)), (4, data(4))])
        assert history(store) == [1, 4]
        await compact(store)
    async with opened(disk, machine=Diary) as store:
        assert store.last_applied == 4
        assert await store.get_membership_config() == MembershipConfig({1, 2})


@pytest.mark.parametrize("one", [True, False])
async def test_other_bytes_than_those_logged_are_refused(one: bool) -> None:
    """Nothing of a batch is applied if one of its entries is not what the log holds at its index."""
    async with opened(SimulatedFileSystem(), machine=Diary) as store:
        await store.replicate_to_log(puts(1, 1, 5))
        other = [(1, data(1)), (2, data(2)), (3, data(3, term=2))]
        with pytest.raises(UsageError, match="other bytes at index 3"):
            await (store.apply_entry_to_state_machine(*other[2]) if one else store.replicate_to_state_machine(other))
        assert history(store) == []
        assert store.last_applied == 0
        for wrong in (0, -1, 2**64):
            with pytest.raises(ValueError):
                await store.replicate_to_state_machine([(1, data(1)), (wrong, data(1))])
        assert history(store) == []
        await apply(store, 1, 5)


async def test_what_the_log_does_not_hold_is_applied_and_forgotten() -> None:
    """An index that has no command in the log is applied in memory, and an open knows nothing of it."""
    disk = SimulatedFileSystem()
    async with opened(disk, machine=Diary) as store:
        blank: Entry[Command] = Entry(1, 2, Blank())
        await store.replicate_to_log([put(1, 1), blank])
        await apply(store, 1, 2)
        await store.apply_entry_to_state_machine(2, data(2))
        await store.apply_entry_to_state_machine(9, data(9))
        assert history(store) == [1, 2, 9]
        assert store.last_applied == 9
    async with opened(disk, machine=Diary) as store:
        assert history(store) == [1]
        assert store.last_applied <= 2


async def test_an_error_of_the_machine_ends_a_batch_where_it_happened() -> None:
    """Earlier entries stay applied and noted, the one that failed and later ones are not; the cause is kept."""
    disk = SimulatedFileSystem()
    async with opened(disk, machine=Picky) as store:
        await store.replicate_to_log(puts(1, 1, 8))
        with pytest.raises(ApplyError) as caught:
            await apply(store, 1, 8)
        assert caught.value.index == 4
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert store.last_applied == 3
    async with opened(disk.crash_keeping_nothing(), machine=Picky) as store:
        assert store.last_applied == 3
        with pytest.raises(ApplyError):
            await store.apply_entry_to_state_machine(4, data(4))
        await store.replicate_to_state_machine([(5, data(5))])
        assert history(store) == [1, 2, 3, 5]


async def test_two_tasks_apply_in_turn() -> None:
    """Overlapping batches from several tasks give each index to the machine once, in order."""
    async with opened(SimulatedFileSystem(), machine=Diary, **ROOMY, sync_apply=True) as store:
        await store.replicate_to_log(puts(1, 1, 101))
        async with trio.open_nursery() as nursery:
            for start in (1, 1, 30, 60):
                nursery.start_soon(apply, store, 1, start + 40)
        assert history(store) == list(range(1, 100))


async def test_an_apply_goes_on_while_the_disk_is_busy() -> None:
    """Without `sync_apply` no apply waits for a barrier."""
    faulty = FaultyFileSystem(SimulatedFileSystem())
    async with opened(faulty, **ROOMY) as store:
        await store.replicate_to_log(puts(1, 1, 11))
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                await apply(store, 1, 11)
                assert store.last_applied == 10
                assert gate.held


async def test_sync_apply_returns_when_it_is_durable() -> None:
    """With `sync_apply` one frame says how far the machine is, for a whole batch."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, sync_apply=True, **ROOMY) as store:
        await store.replicate_to_log(puts(1, 1, 11))
        frames = store.statistics().frames
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(apply, store, 1, 11)
                await gate.arrival()
                await wait_all_tasks_blocked()
                assert len(nursery.child_tasks) == 1
        assert store.statistics().frames == frames + 1
        left = disk.crash_keeping_nothing()
    async with opened(left, **ROOMY) as store:
        assert store.last_applied == 10


@attrs.define
class Beside:
    """Counts how often another task runs while a call is under way, and what it sees of the machine."""

    rounds: int = 0
    seen: set[int] = attrs.field(factory=set)

    async def spin(self, store: Store) -> None:
        """Runs for ever."""
        while True:
            self.rounds += 1
            self.seen.add(store.last_applied)
            await trio.lowlevel.checkpoint()

    async def during(self, store: Store, call: Callable[[], Awaitable[object]]) -> int:
        """How many rounds the other task made."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.spin, store)
            await trio.lowlevel.checkpoint()
            before = self.rounds
            await call()
            after = self.rounds
            nursery.cancel_scope.cancel()
        return after - before


async def test_the_loop_runs_beside_long_calls() -> None:
    """Reading, comparing and applying many entries lets other tasks run in between, and leaves nothing out."""
    async with opened(SimulatedFileSystem(), machine=Diary, **ROOMY) as store:
        await store.replicate_to_log(puts(1, 1, MANY + 1))
        pairs = [(index, data(index)) for index in range(1, MANY + 1)]
        assert await Beside().during(store, lambda: store.get_log_entries(1, MANY + 1)) > 8
        assert await Beside().during(store, lambda: store.entries(1, MANY + 1)) > 8
        wrong = [*pairs[:-1], (MANY, data(0))]

        async def refused() -> None:
            with pytest.raises(UsageError):
                await store.replicate_to_state_machine(wrong)

        assert await Beside().during(store, refused) > 4
        assert history(store) == []
        beside = Beside()
        assert await beside.during(store, lambda: store.replicate_to_state_machine(pairs)) > 8
        assert len(beside.seen - {0, MANY}) > 4
        assert history(store) == list(range(1, MANY + 1))


class Impatient(Diary):
    """A machine at whose tenth index the caller is cancelled."""

    scope = trio.CancelScope()

    def apply(self, index: int, data: Command) -> Any:
        """Notes the index."""
        if index == 10:
            Impatient.scope.cancel()
        return super().apply(index, data)


@pytest.mark.parametrize("sync_apply", [False, True])
async def test_a_long_batch_is_not_cut_by_a_cancellation(sync_apply: bool) -> None:
    """Cancelled before its first entry is applied, none is; cancelled later, the batch is finished and returns."""
    async with opened(SimulatedFileSystem(), machine=Impatient, **ROOMY, sync_apply=sync_apply) as store:
        await store.replicate_to_log(puts(1, 1, MANY + 1))
        pairs = [(index, data(index)) for index in range(1, MANY + 1)]
        for steps in (0, 1, 3):
            returned, _ = await attempt(lambda: store.replicate_to_state_machine(pairs), steps)
            assert not returned
            assert history(store) == []
        Impatient.scope = trio.CancelScope()
        with Impatient.scope:
            await store.replicate_to_state_machine(pairs)
            assert store.last_applied == MANY
        assert Impatient.scope.cancel_called
        assert not Impatient.scope.cancelled_caught
        assert history(store) == list(range(1, MANY + 1))
