"""Following the log: each entry once it is durable, whatever happens to the log meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from walstore import CompactedError, StorageFailedError
from walstore.testing.conformance._cancel import attempt
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate
from .stores import Store, apply, compact, install, opened, put, puts


@attrs.define
class Reader:
    """A task that follows, and what it was given."""

    store: Store
    start: int
    given: list[tuple[int, int]] = attrs.field(factory=list)
    ended: list[BaseException] = attrs.field(factory=list)

    async def run(self) -> None:
        """Follows until an error ends it."""
        try:
            async for entry in self.store.follow(self.start):
                self.given.append((entry.term, entry.index))
        except (CompactedError, StorageFailedError, trio.ClosedResourceError) as error:
            self.ended.append(error)


@asynccontextmanager
async def reading(store: Store, start: int = 1) -> AsyncIterator[Reader]:
    """A follower in a task of its own, that has come to rest."""
    reader = Reader(store, start)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        await wait_all_tasks_blocked()
        yield reader
        nursery.cancel_scope.cancel()


async def test_it_gives_what_is_there_and_waits_for_more() -> None:
    """Entries before and after its start, in order and once; it rests where the log ends."""
    async with opened(SimulatedFileSystem()) as store:
        await store.replicate_to_log(puts(1, 1, 4))
        async with reading(store, 2) as reader:
            assert reader.given == [(1, 2), (1, 3)]
            await store.append_entry_to_log(put(2, 4))
            await wait_all_tasks_blocked()
            assert reader.given == [(1, 2), (1, 3), (2, 4)]


async def test_it_starts_where_nothing_is_yet() -> None:
    """A start above the last index waits until the log has come there."""
    async with opened(SimulatedFileSystem()) as store, reading(store, 5) as reader:
        for index in range(1, 8):
            await store.append_entry_to_log(put(1, index))
        await wait_all_tasks_blocked()
        assert reader.given == [(1, 5), (1, 6), (1, 7)]


async def test_it_gives_nothing_that_is_not_durable() -> None:
    """An entry is given when its barrier is done, and not while it can still vanish."""
    faulty = FaultyFileSystem(SimulatedFileSystem())
    async with opened(faulty) as store, reading(store) as reader:
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.append_entry_to_log, put(1, 1))
                await gate.arrival()
                await wait_all_tasks_blocked()
                assert store.last_index == 1
                assert reader.given == []
                returned, _ = await attempt(lambda: anext(store.follow(1)), 2)
                assert not returned
        await wait_all_tasks_blocked()
        assert reader.given == [(1, 1)]


async def test_it_goes_on_across_segments() -> None:
    """Rotations are not seen."""
    async with opened(SimulatedFileSystem()) as store, reading(store) as reader:
        while store.statistics().rotations < 4:
            await store.append_entry_to_log(put(1, store.last_index + 1, size=900))
        await wait_all_tasks_blocked()
        assert reader.given == [(1, index) for index in range(1, store.last_index + 1)]


@pytest.mark.parametrize("count", [3, 100])
async def test_what_was_given_and_is_replaced_is_given_again(count: int) -> None:
    """A later leader replaces a suffix of any length: the follower steps back to the first that is another now."""
    async with opened(SimulatedFileSystem(), segment_size=1 << 18, first_segment_size=1 << 18) as store:
        await store.replicate_to_log(puts(1, 1, count + 6))
        async with reading(store, 2) as reader:
            before = [(1, index) for index in range(2, count + 6)]
            assert reader.given == before
            await store.replicate_to_log(puts(2, 6, 8))
            await wait_all_tasks_blocked()
            assert reader.given == [*before, (2, 6), (2, 7)]
            await store.replicate_to_log(puts(2, 8, 10))
            await wait_all_tasks_blocked()
            assert reader.given == [*before, (2, 6), (2, 7), (2, 8), (2, 9)]


async def test_several_replacements_at_once_are_seen_as_one() -> None:
    """What came and went while the follower did not look is not given."""
    faulty = FaultyFileSystem(SimulatedFileSystem())
    async with opened(faulty) as store:
        await store.replicate_to_log([*puts(1, 1, 4), *puts(2, 4, 7)])
        async with reading(store) as reader:
            given = len(reader.given)
            async with trio.open_nursery() as nursery:
                with Gate(faulty) as gate:
                    nursery.start_soon(store.attest)
                    await gate.arrival()
                    await store.append(puts(3, 6, 7))
                    await store.append(puts(4, 3, 5))
                    nursery.start_soon(store.append_entry_to_log, put(5, 5))
            await wait_all_tasks_blocked()
            assert reader.given[given:] == [(4, 3), (4, 4), (5, 5)]


async def test_a_truncation_alone_gives_nothing() -> None:
    """What was given and deleted is not given again unless it comes back, with whatever term."""
    async with opened(SimulatedFileSystem()) as store:
        await store.replicate_to_log(puts(1, 1, 9))
        async with reading(store, 4) as reader:
            await store.delete_logs_from(6)
            await wait_all_tasks_blocked()
            assert [index for _, index in reader.given] == [4, 5, 6, 7, 8]
            await store.append_entry_to_log(put(1, 6))
            await wait_all_tasks_blocked()
            assert [index for _, index in reader.given] == [4, 5, 6, 7, 8, 6]


async def test_a_truncation_below_its_start_is_not_given() -> None:
    """A follower never goes back below its start."""
    async with opened(SimulatedFileSystem()) as store:
        await store.replicate_to_log(puts(1, 1, 9))
        async with reading(store, 5) as reader:
            await store.delete_logs_from(2)
            await store.replicate_to_log(puts(3, 2, 8))
            await wait_all_tasks_blocked()
            assert reader.given == [(1, 5), (1, 6), (1, 7), (1, 8), (3, 5), (3, 6), (3, 7)]


async def test_a_compaction_behind_it_is_not_seen_and_one_before_it_is_an_error() -> None:
    """Who has read far enough goes on; who has not is told to read the snapshot."""
    async with opened(SimulatedFileSystem()) as store:
        await store.replicate_to_log(puts(1, 1, 9))
        late = store.follow(1)
        assert (await anext(late)).index == 1
        async with reading(store) as reader:
            await apply(store, 1, 6)
            await compact(store)
            await store.append_entry_to_log(put(1, 9))
            await wait_all_tasks_blocked()
            assert [index for _, index in reader.given] == list(range(1, 10))
        for _ in range(2):
            with pytest.raises(CompactedError, match="index 2 is below the first index 5: read the snapshot"):
                await anext(late)
        assert (await anext(store.follow(5))).payload != (await anext(store.follow(6))).payload


async def test_an_install_ends_it_where_entries_are_skipped() -> None:
    """The log jumps ahead: what lies between is only in the snapshot."""
    async with opened(SimulatedFileSystem()) as store:
        await store.replicate_to_log(puts(1, 1, 4))
        async with reading(store) as reader:
            await install(store, 2, 20, None)
            await wait_all_tasks_blocked()
            assert isinstance(reader.ended[0], CompactedError)
            assert reader.given == [(1, 1), (1, 2), (1, 3)]
        async with reading(store, 21) as reader:
            await store.append_entry_to_log(put(2, 21))
            await wait_all_tasks_blocked()
            assert reader.given == [(2, 21)]


async def test_an_install_below_the_end_is_no_error_while_it_is_on_its_way() -> None:
    """A snapshot drops a suffix that had been given: the follower waits for what comes instead."""
    faulty = FaultyFileSystem(SimulatedFileSystem())
    async with opened(faulty) as store:
        await store.replicate_to_log(puts(1, 1, 13))
        slow = store.follow(10)
        assert (await anext(slow)).index == 10
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(install, store, 2, 9, None)
                await gate.arrival()
                assert store.durable_index <= store.last_index == 9
                returned, _ = await attempt(lambda: anext(slow), 2)
                assert not returned
        await store.append_entry_to_log(put(2, 10))
        found = await anext(slow)
        assert (found.term, found.index) == (2, 10)


async def test_close_and_failure_end_it() -> None:
    """A follower that waits is woken, and told why."""
    faulty = FaultyFileSystem(SimulatedFileSystem())
    async with opened(faulty) as store, reading(store) as reader:
        await store.aclose()
        await wait_all_tasks_blocked()
        assert isinstance(reader.ended[0], trio.ClosedResourceError)

    faulty = FaultyFileSystem(SimulatedFileSystem())
    async with opened(faulty) as store:
        await store.append_entry_to_log(put(1, 1))
        async with reading(store) as reader:
            faulty.fail("datasync", name="wal-*")
            with pytest.raises(StorageFailedError):
                await store.append_entry_to_log(put(1, 2))
            await wait_all_tasks_blocked()
            assert isinstance(reader.ended[0], StorageFailedError)
            assert reader.given == [(1, 1)]
        late = store.follow(1)
        assert (await anext(late)).index == 1  # what is durable can still be read
        with pytest.raises(StorageFailedError):
            await anext(late)


async def test_cancelled_it_skips_nothing() -> None:
    """A wait that is cancelled gives the entry the next time."""
    async with opened(SimulatedFileSystem()) as store:
        follower = store.follow(1)
        for _ in range(3):
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(follower)
            assert scope.cancelled_caught
        await store.replicate_to_log(puts(1, 1, 3))
        assert [(await anext(follower)).index, (await anext(follower)).index] == [1, 2]
