"""Cancelled means that it did not happen (ECOSYSTEM 2.4): each call, cancelled at each of its checkpoints."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from walstore import HardState, MembershipConfig, Normal
from walstore._commit import Barrier
from walstore.kv import KeyValue, Put
from walstore.testing.conformance._cancel import attempt
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate
from .stores import Store, apply, compact, identities, names, opened, put, puts, snapshot_bytes

ROOMY: dict[str, Any] = {"first_segment_size": 1 << 19, "segment_size": 1 << 19}
Call = Callable[[], Awaitable[object]]


@attrs.define
class Bench:
    """A store with a log of forty entries, of which ten are applied, and its disk."""

    disk: SimulatedFileSystem
    faulty: FaultyFileSystem
    store: Store
    readers: list[Any] = attrs.field(factory=list)
    received: tuple[str, Any] = ("", None)

    async def observe(self) -> tuple[object, ...]:
        """All that can be seen of it, the files of snapshots included."""
        store = self.store
        assert isinstance(store.machine, KeyValue)
        state = await store.get_initial_state()
        return state, await identities(store), store.current_snapshot, dict(store.machine), names(self.disk, "snap-")

    # One round of each call: the call, which has something to do

    async def vote(self) -> Call:
        term = (await self.store.get_initial_state()).hard_state.current_term + 1
        return lambda: self.store.save_hard_state(HardState(term, 0))

    async def append(self) -> Call:
        entry = put(2, self.store.last_index + 1)
        return lambda: self.store.append_entry_to_log(entry)

    async def overwrite(self) -> Call:
        last = self.store.last_index
        entries = puts(self.store.term_of(last) + 1, last - 1, last + 2)
        return lambda: self.store.replicate_to_log(entries)

    async def split_append(self) -> Call:
        entry = put(2, self.store.last_index + 1)
        return lambda: self.store.append([entry])

    async def delete_suffix(self) -> Call:
        last = self.store.last_index
        return lambda: self.store.delete_logs_from(last)

    async def delete_prefix(self) -> Call:
        first = self.store.first_index
        return lambda: self.store.delete_logs_from(first, first + 1)

    async def apply_one(self) -> Call:
        index = self.store.last_applied + 1
        return lambda: self.store.apply_entry_to_state_machine(index, Put(b"k%d" % index, b"1" * 8))

    async def apply_two(self) -> Call:
        index = self.store.last_applied + 1
        pairs = [(at, Put(b"k%d" % at, b"1" * 8)) for at in (index, index + 1)]
        return lambda: self.store.replicate_to_state_machine(pairs)

    async def compaction(self) -> Call:
        await apply(self.store, self.store.last_applied + 1, self.store.last_applied + 2)

        async def call() -> None:
            self.readers.append((await self.store.do_log_compaction()).snapshot)

        return call

    async def receive(self) -> Call:
        async def call() -> None:
            _, writer = await self.store.create_snapshot()
            await writer.discard()

        return call

    async def install(self) -> Call:
        index = self.store.last_index + 10
        id, writer = await self.store.create_snapshot()
        await writer.send_all(snapshot_bytes(1, index))
        await writer.aclose()
        return lambda: self.store.finalize_snapshot_installation(index, 1, None, id, writer)

    async def read(self) -> Call:
        return lambda: self.store.get_log_entries(1, 30)

    async def attest(self) -> Call:
        return self.store.attest


@asynccontextmanager
async def bench(**config: Any) -> AsyncIterator[Bench]:
    """A fresh one."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, **{**ROOMY, **config}) as store:
        await store.replicate_to_log(puts(1, 1, 41))
        await apply(store, 1, 11)
        yield Bench(disk, faulty, store)


async def behind(at: Bench, call: Call, steps: int) -> tuple[bool, bool]:
    """`attempt`, begun while another call holds the disk, which is let go when nothing moves any more."""

    async def let_go() -> None:
        await wait_all_tasks_blocked()
        gate.open()

    async with trio.open_nursery() as nursery:
        with Gate(at.faulty) as gate:
            nursery.start_soon(at.store.attest)
            await gate.arrival()
            nursery.start_soon(let_go)
            return await attempt(call, steps)


CALLS: dict[str, Callable[[Bench], Awaitable[Call]]] = {
    name: getattr(Bench, name)
    for name in (
        *("vote", "append", "overwrite", "split_append", "delete_suffix", "apply_one", "apply_two"),
        *("compaction", "receive", "install", "read", "attest"),
    )
}
UNSEEN = {"receive", "read", "attest"}


@pytest.mark.parametrize("sync_apply", [False, True])
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("name", CALLS)
async def test_a_cancelled_call_is_wholly_undone_or_wholly_done(name: str, alone: bool, sync_apply: bool) -> None:
    """Whichever checkpoint a call is cancelled at, it raises and has changed nothing, or it returns and is durable."""
    async with bench(sync_apply=sync_apply) as at:
        undone = 0
        for steps in range(200):
            call = await CALLS[name](at)
            before = await at.observe()
            returned, cancelled = await (attempt(call, steps) if alone else behind(at, call, steps))
            after = await at.observe()
            if not returned:
                undone += 1
                assert after[:4] == before[:4]
                if name != "install":  # what was received may be installed once more, or is gone
                    assert after == before
                    await call()
            elif name not in UNSEEN:
                assert after != before
            if not cancelled:
                break
        else:
            pytest.fail("it did not return after 200 checkpoints")
        assert undone >= 1
        for reader in at.readers:
            await reader.aclose()
        await (await at.store.append([])).wait()
        found = await at.observe()
        left = at.disk if not sync_apply else at.disk.crash_keeping_nothing()
    async with opened(left) as store:
        assert (await Bench(left, at.faulty, store).observe())[:4] == found[:4]


async def test_a_prefix_deletion_is_withdrawn_whole() -> None:
    """The same for the deletion of a prefix that nothing needs."""
    async with opened(FaultyFileSystem(disk := SimulatedFileSystem()), **ROOMY) as store:
        await store.replicate_to_log(puts(1, 1, 41))
        at = Bench(disk, FaultyFileSystem(disk), store)
        for steps in range(20):
            call = await at.delete_prefix()
            before = await at.observe()
            returned, cancelled = await attempt(call, steps)
            assert (await at.observe() == before) != returned
            if not cancelled:
                return
    pytest.fail("it did not return after 20 checkpoints")


async def test_bootstrap_is_not_left_halfway() -> None:
    """Cancelled at any checkpoint, the store is pristine, or its member is there."""
    for steps in range(50):
        async with opened(SimulatedFileSystem()) as store:
            call = lambda store=store: store.bootstrap(MembershipConfig({1, 2}))  # noqa: E731  # the call of this round
            returned, cancelled = await attempt(call, steps)
            state = await store.get_initial_state()
            assert (state.last_log_index, state.hard_state) == ((1, HardState(1)) if returned else (0, HardState()))
            if not cancelled:
                return
    pytest.fail("it did not return after 50 checkpoints")


@asynccontextmanager
async def queued(at: Bench, call: Call, leader: Call | None = None) -> AsyncIterator[tuple[trio.CancelScope, Gate]]:
    """Within it, `call` waits in the queue, in a task of its own, behind `leader` (`attest`), whose barrier is held."""
    scope = trio.CancelScope()

    async def task() -> None:
        with scope:
            await call()

    async with trio.open_nursery() as nursery:
        with Gate(at.faulty) as gate:
            nursery.start_soon(leader or at.store.attest)
            await gate.arrival()
            nursery.start_soon(task)
            await wait_all_tasks_blocked()
            yield scope, gate


async def test_what_was_applied_meanwhile_stays_noted() -> None:
    """A call that is withdrawn takes no mark with it: what was applied since is applied after a clean close."""
    async with bench() as at:
        async with queued(at, lambda: at.store.append_entry_to_log(put(1, 41))) as (scope, _):
            await apply(at.store, 11, 21)
            scope.cancel()
            await wait_all_tasks_blocked()
            assert scope.cancelled_caught
        assert at.store.last_applied == 20
    async with opened(at.disk) as store:
        assert store.last_applied == 20


async def test_the_mark_travels_with_the_next_frame_if_one_was_withdrawn() -> None:
    """The frame that was to carry the mark is withdrawn; the next append carries it (PROTOCOL A9)."""
    async with opened(faulty := FaultyFileSystem(disk := SimulatedFileSystem()), **ROOMY) as store:
        await store.replicate_to_log(puts(1, 1, 41))
        at = Bench(disk, faulty, store)

        async def apply_and_append() -> None:
            await apply(store, 1, 11)
            await store.append_entry_to_log(put(1, 42))

        async with queued(at, apply_and_append, lambda: store.append_entry_to_log(put(1, 41))) as (scope, _):
            scope.cancel()
            await wait_all_tasks_blocked()
            assert store.last_index == 41
        before = disk.crash_keeping_nothing()
        await store.append_entry_to_log(put(1, 42))
        after = disk.crash_keeping_nothing()
    for left, applied in ((before, 0), (after, 10)):
        async with opened(left) as store:
            assert store.last_applied == applied


async def test_an_answer_does_not_rest_on_a_call_that_goes() -> None:
    """An append that adds nothing keeps the call that it repeats: this can no longer be withdrawn."""
    async with bench() as at:
        barriers: list[Barrier] = []
        async with queued(at, lambda: at.store.append_entry_to_log(put(1, 41))) as (scope, _):
            barriers.append(await at.store.append([put(1, 41)]))
            scope.cancel()
            await wait_all_tasks_blocked()
            assert at.store.durable_index == 40
        with trio.fail_after(10):
            await barriers[0].wait()
        assert not scope.cancelled_caught
        assert barriers[0].durable
        assert at.store.durable_index == barriers[0].index == 41


async def test_a_call_with_another_on_top_of_it_completes() -> None:
    """Cancelled when a later call is planned already, a call returns normally, and both are durable."""
    async with bench() as at:
        async with queued(at, lambda: at.store.append_entry_to_log(put(1, 41))) as (scope, _):
            later = await at.store.append([put(1, 42)])
            scope.cancel()
            await wait_all_tasks_blocked()
            assert at.store.last_index == 42
        assert not scope.cancelled_caught
        await later.wait()
        assert at.store.durable_index == 42


async def test_the_durable_index_falls_for_a_replacement_and_rises_when_it_is_withdrawn() -> None:
    """A follower that waited because of the replacement goes on when it is withdrawn, without a barrier."""
    async with bench() as at:
        follower = at.store.follow(38)
        found: list[int] = []

        async def follow() -> None:
            async for entry in follower:
                found.append(entry.index)
                if entry.index == 40:
                    return

        async with trio.open_nursery() as nursery:
            async with queued(at, lambda: at.store.replicate_to_log(puts(2, 38, 39))) as (scope, gate):
                assert at.store.durable_index == 37
                nursery.start_soon(follow)
                await wait_all_tasks_blocked()
                assert found == []
                scope.cancel()
                await wait_all_tasks_blocked()
                assert at.store.durable_index == 40
                assert found == [38, 39, 40]
                assert gate.held


async def test_the_durable_index_stands_while_a_prefix_goes() -> None:
    """The deletion of a prefix makes nothing above it less durable; that of a suffix does at once."""
    async with opened(faulty := FaultyFileSystem(disk := SimulatedFileSystem()), **ROOMY) as store:
        await store.replicate_to_log(puts(1, 1, 11))
        at = Bench(disk, faulty, store)
        async with queued(at, lambda: store.delete_logs_from(1, 4)):
            assert store.durable_index == 10
            assert store.first_index == 4
        async with queued(at, lambda: store.delete_logs_from(8)):
            assert store.durable_index == 7


async def test_who_is_cancelled_while_he_waits_for_room_has_planned_nothing() -> None:
    """Back-pressure comes before the plan, so a caller that gives up there leaves no trace."""
    async with bench(max_pending_bytes=1000) as at:
        async with queued(at, lambda: at.store.append_entry_to_log(put(1, 41, size=900))) as (_, gate):
            waiting = trio.CancelScope()

            async def wait_for_room() -> None:
                with waiting:
                    await at.store.append_entry_to_log(put(1, 42))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_room)
                await wait_all_tasks_blocked()
                assert at.store.last_index == 41
                waiting.cancel()
            assert waiting.cancelled_caught
            gate.open()
        await at.store.append_entry_to_log(put(5, 42))
        assert at.store.term_of(42) == 5


async def test_a_cancelled_wait_for_a_barrier_leaves_the_append() -> None:
    """Whoever only waits for durability stops waiting; what was appended stays, and is written with what comes next."""
    async with bench() as at:
        barriers: list[Barrier] = []

        async def append_and_wait() -> None:
            barriers.append(await at.store.append([put(1, 41)]))
            await barriers[0].wait()

        async with queued(at, append_and_wait) as (scope, _):
            scope.cancel()
            await wait_all_tasks_blocked()
            assert scope.cancelled_caught
        assert at.store.durable_index == 40
        await at.store.attest()
        assert barriers[0].durable
        entries = await at.store.get_log_entries(41, 42)
        assert [entry.payload for entry in entries] == [Normal(Put(b"k41", b"1" * 8))]


async def test_a_cancelled_snapshot_leaves_no_temporary_file() -> None:
    """A compaction that is cancelled while its file is written removes it, and the next one is not disturbed."""
    async with bench() as at:
        async with trio.open_nursery() as nursery:
            with Gate(at.faulty, "datasync", "snap-*.tmp") as gate:
                nursery.start_soon(compact, at.store)
                await gate.arrival()
                nursery.cancel_scope.cancel()
        assert names(at.disk, "snap-") == []
        assert await at.store.get_current_snapshot() is None
        await compact(at.store)
        assert names(at.disk, "snap-") == ["snap-1-10"]
