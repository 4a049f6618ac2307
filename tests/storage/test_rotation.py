"""Rotation: what the appender pays for a new segment, what a thread does beside it, and what never fits."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from walstore import (
    CorruptionError,
    Entry,
    EntryTooLargeError,
    HardState,
    Normal,
    SnapshotView,
    StateMachine,
    StorageConfig,
    open_storage,
)
from walstore._log.frame import Kind
from walstore._log.limits import MAX_ENTRY_BYTES, MAX_FRAME_BODY
from walstore.testing.faults import Call, FaultyFileSystem
from walstore.testing.operations import lint
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate, frames, named
from .stores import Store, apply, compact, identities, install, names, opened, put, puts, read

HOUSEKEEPING = "walstore-housekeeping"


@attrs.define
class Watched:
    """A disk that notes which thread asked what of it."""

    disk: SimulatedFileSystem = attrs.field(factory=SimulatedFileSystem)
    calls: list[tuple[str, str, str]] = attrs.field(factory=list)

    @property
    def faulty(self) -> FaultyFileSystem:
        """The disk, watched."""
        faulty = FaultyFileSystem(self.disk)
        faulty.hook = self._note
        return faulty

    def _note(self, call: Call) -> None:
        thread = "housekeeping" if threading.current_thread().name == HOUSEKEEPING else "appender"
        self.calls.append((thread, call.operation, call.target or call.name))

    def by(self, thread: str) -> list[tuple[str, str]]:
        """What a thread asked for that changes something."""
        kinds = {"create", "pwritev", "datasync", "rename", "sync", "unlink", "truncate", "allocate"}
        return [(operation, name) for who, operation, name in self.calls if who == thread and operation in kinds]


async def settle(store: Store) -> None:
    """Returns when the housekeeping has done what it was asked for."""
    done = threading.Event()
    store._opened.worker.submit(done.set)
    await trio.to_thread.run_sync(done.wait)


async def until_rotation(store: Store, count: int = 1) -> None:
    """Appends until the store has rotated so often."""
    while store.statistics().rotations < count:
        await store.append_entry_to_log(put(1, store.last_index + 1, size=900))


async def test_a_rotation_stalls_the_appender_for_one_barrier_one_name_and_one_directory_sync() -> None:
    """The spare is there, filled with zeros by the thread: the appender writes a header, names it and goes on."""
    watched = Watched()
    async with opened(watched.faulty, prepare_ahead=True) as store:
        rotations = 0
        for _ in range(40):
            await settle(store)
            watched.calls.clear()
            await store.append_entry_to_log(put(1, store.last_index + 1, size=900))
            appender = watched.by("appender")
            if store.statistics().rotations == rotations:
                assert [operation for operation, _ in appender] == ["pwritev", "datasync"]
                continue
            rotations += 1
            newest = names(watched.disk, "wal-")[-1]
            spare = appender[0][1]
            assert spare.startswith("spare-")
            assert appender == [
                ("pwritev", spare),
                ("datasync", spare),
                ("rename", newest),
                ("sync", "/store"),
                ("pwritev", newest),
                ("datasync", newest),
            ]
        assert rotations >= 4
        assert store.statistics().spare_misses == 0
    assert names(watched.disk, "spare-") == []


async def test_the_thread_seals_and_makes_the_next_spare() -> None:
    """After a rotation the old segment gets its footer and is cut, and another spare is filled, by the thread alone."""
    watched = Watched()
    async with opened(watched.faulty, prepare_ahead=True) as store:
        await settle(store)
        first = names(watched.disk, "wal-")[0]
        watched.calls.clear()
        await until_rotation(store)
        await settle(store)
        done = watched.by("housekeeping")
        assert [operation for operation, name in done if name == first] == [
            "pwritev",
            "datasync",
            "truncate",
            "datasync",
        ]
        assert [operation for operation, name in done if name.startswith("spare-")] == ["create", "pwritev", "datasync"]
        assert "truncate" not in {operation for operation, _ in watched.by("appender")}
        kinds = [header.kind for header in frames(watched.disk, first)]
        assert kinds[-1] == Kind.SEAL
        assert set(kinds[:-1]) == {Kind.ENTRIES}


async def test_the_old_segment_is_sealed_after_the_new_one_has_its_name() -> None:
    """Name first, seal after (PROTOCOL A4), with the thread as without it."""
    for prepare_ahead in (False, True):
        disk = SimulatedFileSystem()
        async with opened(disk, prepare_ahead=prepare_ahead) as store:
            await until_rotation(store, 3)
            await settle(store)
            operations = named(disk.operations)
            kinds = [kind for kind, _ in operations]
            for old, new in zip(names(disk, "wal-"), names(disk, "wal-")[1:], strict=False):
                named_at = operations.index(("rename", new))
                durable_at = kinds.index("sync", named_at)
                sealed_at = operations.index(("truncate", old))
                assert max(at for at, row in enumerate(operations) if row == ("write", old)) > durable_at
                assert named_at < durable_at < sealed_at
            assert lint(disk.operations, align=512) == []


async def test_segments_grow_by_doubling() -> None:
    """From a small one at each open up to `segment_size`, and not beyond."""
    disk = SimulatedFileSystem()
    async with opened(disk, first_segment_size=1 << 15, segment_size=1 << 18) as store:
        sizes = [len(read(disk, names(disk, "wal-")[-1]))]
        for count in range(1, 6):
            await until_rotation(store, count)
            sizes.append(len(read(disk, names(disk, "wal-")[-1])))
    assert sizes == [1 << 15, 1 << 17, 1 << 18, 1 << 18, 1 << 18, 1 << 18]


async def test_a_call_larger_than_a_segment_gets_one_of_its_own() -> None:
    """A frame is never split: the segment is made for it, with a spare that is too small thrown away."""
    disk = SimulatedFileSystem()
    async with opened(disk, prepare_ahead=True) as store:
        await store.append_entry_to_log(put(1, 1))
        await settle(store)
        await store.append_entry_to_log(put(1, 2, size=200_000))
        await store.append_entry_to_log(put(1, 3))
        await settle(store)
        large = names(disk, "wal-")[1]
        assert [(header.kind, header.count) for header in frames(disk, large)][:1] == [(Kind.ENTRIES, 1)]
        assert len(names(disk, "spare-")) == 1
        expected = await store.get_log_entries(0, 9)
        left = disk.crash_keeping_nothing()
    for again in (disk, left):
        async with opened(again) as store:
            assert await store.get_log_entries(0, 9) == expected


async def test_a_segment_that_takes_no_more_entries_takes_votes() -> None:
    """Room for sixteen control frames and the footer is kept, so that elections need no new segment (PROTOCOL B3)."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        faulty.fail("create", name="spare-*", once=False)
        with pytest.raises(OSError, match="no next segment"):
            await until_rotation(store)
        for term in range(1, 15):
            await store.save_hard_state(HardState(term, 1))
        await store.delete_logs_from(store.last_index)
        assert len(names(disk, "wal-")) == 1
        faulty.heal()
    async with opened(disk) as store:
        assert store.recovery.closed


async def test_a_seal_that_fails_is_the_housekeepings_alone() -> None:
    """The segment stays as valid as it was, and the appender hears nothing of it."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        faulty.fail("truncate", name="wal-*")
        await until_rotation(store)
        assert store.statistics().housekeeping_failures == 1
        assert not store.statistics().failed
        await until_rotation(store, 3)
        expected = await identities(store)
        left = disk.crash_keeping_nothing()
    for again in (disk, left):
        async with opened(again) as store:
            assert await identities(store) == expected


async def test_a_spare_that_fails_ahead_is_tried_again() -> None:
    """The thread survives its own errors; where no spare was ready the appender makes the segment itself."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty, prepare_ahead=True) as store:
        await settle(store)
        faulty.fail("create", name="spare-*.tmp")
        for count, (failures, misses) in enumerate([(1, 0), (1, 1), (1, 1)], 1):
            await until_rotation(store, count)
            await settle(store)
            found = store.statistics()
            assert (found.housekeeping_failures, found.spare_misses) == (failures, misses)
        assert len(names(disk, "spare-")) == 1
    assert names(disk, "spare-") == []


async def test_a_footer_vouches_for_nothing_that_has_rotted() -> None:
    """What is read back before the seal is judged: a damaged segment stays unsealed, and the next open says so."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        first = names(disk, "wal-")[0]

        def rot(call: Call) -> None:
            if call.operation == "rename":
                inode = disk.folders["/store"].entries[first]
                data = bytearray(inode.data)
                data[6000] ^= 1
                inode.data = data

        faulty.hook = rot
        await until_rotation(store)
        faulty.hook = None
        assert Kind.SEAL not in [header.kind for header in frames(disk, first)]
        assert not any(kind == "truncate" and name == first for kind, name in named(disk.operations))
    with pytest.raises(CorruptionError, match=first):
        async with opened(disk):
            pass


class Bytes(StateMachine[bytes, None]):
    """A machine for bytes as they are."""

    def apply(self, index: int, data: bytes) -> None:
        """Nothing."""

    def capture(self) -> SnapshotView:
        """Nothing to capture."""
        raise NotImplementedError

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Nothing to restore."""


async def test_what_is_above_the_limits_is_refused_before_a_byte_is_written() -> None:
    """An entry above MAX_ENTRY_BYTES, a call above MAX_FRAME_BODY: EntryTooLargeError, and the log goes on."""
    disk = SimulatedFileSystem()
    largest = bytes(MAX_ENTRY_BYTES)
    config = StorageConfig(prepare_ahead=False)
    async with open_storage("/store", node_id=1, machine=Bytes, config=config, filesystem=disk) as store:
        start = len(disk.operations)
        with pytest.raises(EntryTooLargeError, match="MAX_ENTRY_BYTES"):
            await store.append_entry_to_log(Entry(1, 1, Normal(largest + b"x")))
        with pytest.raises(EntryTooLargeError, match="MAX_FRAME_BODY"):
            await store.replicate_to_log([Entry(1, index, Normal(largest)) for index in range(1, 5)])
        with pytest.raises(EntryTooLargeError):
            await store.append([Entry(1, 1, Normal(largest + b"x"))])
        assert len(disk.operations) == start
        assert (store.last_index, store.statistics().pending_bytes) == (0, 0)
        assert 4 * MAX_ENTRY_BYTES == MAX_FRAME_BODY
        await store.append_entry_to_log(Entry(1, 1, Normal(b"small")))


CUTS: dict[str, Callable[[Store], Any]] = {
    "truncate": lambda store: store.delete_logs_from(16),
    "overwrite": lambda store: store.replicate_to_log(puts(2, 16, 18)),
    "delete a prefix": lambda store: store.delete_logs_from(1, 14),
    "delete a short prefix": lambda store: store.delete_logs_from(1, 4),
    "compact": compact,
    "install": lambda store: install(store, 1, 13, 13),
}


@pytest.mark.parametrize("what", CUTS)
async def test_a_run_that_is_cut_before_it_is_written_knows_its_segment(what: str) -> None:
    """A later purge keeps the segment of entries that were cut while they were still in the queue."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                await store.append(puts(1, 1, 21))
                if what == "compact":
                    await apply(store, 1, 13)
                nursery.start_soon(CUTS[what], store)
                await wait_all_tasks_blocked()
        await until_later(store)
        expected = await store.get_log_entries(0, 10**6)
        left = disk.crash_keeping_everything()
    for again in (disk, left):
        async with opened(again) as store:
            assert await store.get_log_entries(0, 10**6) == expected


async def until_later(store: Store) -> None:
    """Three segments later the last entry is deleted, which purges what is not needed."""
    term = max(2, store.term_of(store.last_index))
    while store.statistics().rotations < 3:
        await store.append_entry_to_log(put(term, store.last_index + 1, size=900))
    await store.delete_logs_from(store.last_index)


async def test_a_rotation_in_the_batch_of_the_first_entry_asks_for_no_older_segment() -> None:
    """A log that begins anew, over a rotation within one barrier's calls, after its old segments have gone."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        await until_rotation(store, 3)
        await apply(store, 1, store.last_index + 1)
        await compact(store)
        assert len(names(disk, "wal-")) == 1
        last = store.last_index
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.attest)
                await gate.arrival()
                await store.append([put(1, last + 1)])
                nursery.start_soon(store.append_entry_to_log, put(1, last + 2, size=30_000))
                await wait_all_tasks_blocked()
        expected = await identities(store)
        left = disk.crash_keeping_nothing()
    for again in (disk, left):
        async with opened(again) as store:
            assert await identities(store) == expected


def kinds_of(disk: SimulatedFileSystem) -> Iterator[int]:
    """The kinds of all frames of all segments."""
    for name in names(disk, "wal-"):
        yield from (header.kind for header in frames(disk, name))


async def test_a_purge_waits_for_the_frame_that_allows_it() -> None:
    """No segment goes before the TRUNCATE or SNAPSHOT that lets it go is durable."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        await until_rotation(store, 3)
        before = names(disk, "wal-")
        async with trio.open_nursery() as nursery:
            with Gate(faulty) as gate:
                nursery.start_soon(store.delete_logs_from, 1)
                await gate.arrival()
                await wait_all_tasks_blocked()
                assert names(disk, "wal-") == before
        assert len(names(disk, "wal-")) == 1
        assert Kind.TRUNCATE in set(kinds_of(disk))
