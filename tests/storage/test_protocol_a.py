"""PROTOCOL A1 to A13: each correction with the losing sequence that it closes, played on the simulated disk."""

from itertools import combinations

import pytest

from walstore import (
    ApplyError,
    CorruptionError,
    DurablePoint,
    HardState,
    LostAcknowledgementError,
    StorageFailedError,
    StorageFullError,
)
from walstore.errors import WalstoreError
from walstore.kv import Command, KeyValue, Swapped
from walstore.testing.crashes import enumerate_crashes
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.operations import lint
from walstore.testing.simulated import SimulatedFileSystem

from .stores import Store, apply, compact, identities, install, names, opened, put, puts, read, remove, write


async def test_a1_replay_takes_no_decision() -> None:
    """A suffix that an install kept is kept by replay, although the segment of the entry that decided it is gone."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        for index in range(1, 13):
            await store.append_entry_to_log(put(2, index, size=700))
        first = names(disk, "wal-")[0]
        await install(store, 2, 8, 8)
        before = await identities(store)
        assert first not in names(disk)
        after_crash = disk.crash_keeping_nothing()

    assert before == [(2, 8), (2, 9), (2, 10), (2, 11), (2, 12)]
    async with opened(after_crash) as store:
        assert await identities(store) == before


@pytest.mark.parametrize("call", ["append", "vote", "truncate"])
async def test_a2_copy_forward_is_by_proof(call: str) -> None:
    """A frame that was read back from the page cache after its sync had failed is durable once an open has returned."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.replicate_to_log(puts(1, 1, 4))
        disk.fail_sync("spare-*")  # a file goes by the name that it was created with
        with pytest.raises(StorageFailedError):
            await {
                "append": lambda: store.append_entry_to_log(put(1, 4)),
                "vote": lambda: store.save_hard_state(HardState(7, 3)),
                "truncate": lambda: store.delete_logs_from(3),
            }[call]()

    async with opened(disk) as store:
        assert store.recovery.copied_forward >= 1
        seen = (await store.get_initial_state(), await identities(store))
        after_crash = disk.crash_keeping_nothing()

    async with opened(after_crash) as store:
        assert (await store.get_initial_state(), await identities(store)) == seen
    expected = {"append": 4, "vote": 7, "truncate": 2}
    found = {"append": seen[0].last_log_index, "vote": seen[0].hard_state.current_term, "truncate": len(seen[1])}
    assert found[call] == expected[call]


@pytest.mark.parametrize("clean", [True, False])
async def test_a3_every_open_starts_a_new_segment(clean: bool) -> None:
    """An open writes into no old file, after a clean close neither; what is appended goes into a segment of its own."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.replicate_to_log(puts(1, 1, 4))
        if not clean:
            disk_then = disk.crash_keeping_everything()
    disk = disk if clean else disk_then
    old = names(disk, "wal-")
    start = len(disk.operations)

    async with opened(disk) as store:
        await store.append_entry_to_log(put(1, 4))
        findings = [finding for finding in lint(disk.operations[start:]) if "old-file" in finding]

        assert all("LOCK" in finding for finding in findings)
        assert names(disk, "wal-")[-1] not in old


async def test_a4_the_successor_has_its_name_before_the_old_segment_is_sealed() -> None:
    """A rotation writes nothing more into the old segment before the new one's name is durable."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        while store.statistics().rotations == 0:
            await store.append_entry_to_log(put(1, store.last_index + 1, size=700))
        operations = disk.operations
    first, second = (
        number
        for number, operation in enumerate(operations)
        if operation.kind == "rename" and operation.target.startswith("wal-")
    )
    old = operations[first].file
    sealing = [
        number for number, operation in enumerate(operations) if operation.file == old and operation.kind == "truncate"
    ]
    between = [operation.kind for operation in operations[second + 1 : sealing[0]] if operation.kind != "write"]

    assert sealing[0] > second
    assert between[0] == "sync"
    assert all(operation.file != old for operation in operations[second - 2 : second + 2])


async def test_a4_a_newest_segment_that_is_gone_is_corruption() -> None:
    """A segment that a rotation sealed says that there was a newer one; without it the log is refused, not shorter."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        while store.statistics().rotations == 0:
            await store.append_entry_to_log(put(1, store.last_index + 1, size=700))
        left = disk.crash_keeping_everything()
    remove(left, names(left, "wal-")[-1])

    with pytest.raises(CorruptionError, match="sealed by a rotation") as error:
        async with opened(left):
            pass
    assert error.value.evidence == "E4"


async def test_a4_only_a_witness_sees_a_file_that_vanished_after_a_clean_close() -> None:
    """Without its newest segment a closed store opens as it was before it, and `expect_durable` shows the loss."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.replicate_to_log(puts(1, 1, 4))
    async with opened(disk) as store:
        await store.append_entry_to_log(put(1, 4))
        point = store.durable_point
    remove(disk, names(disk, "wal-")[-1])

    for expected in (4, point):
        with pytest.raises(LostAcknowledgementError):
            async with opened(disk.crash_keeping_everything(), expect_durable=expected):
                pass
    async with opened(disk, expect_durable=DurablePoint(1, 3)) as store:
        assert store.last_index == 3


async def test_a5_judgement_stops_at_the_recorded_end() -> None:
    """Garbage behind the end that the successor recorded is not looked at."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.replicate_to_log(puts(1, 1, 4))
        left = disk.crash_keeping_everything()
    name = names(left, "wal-")[0]
    whole = read(left, name)
    used = len(whole.rstrip(b"\0")) + 512
    write(left, name, whole[:used] + b"\xaa" * 100 + whole[used + 100 :])
    async with opened(left) as store:
        torn = store.recovery
        old_state = await identities(store)
        await store.append_entry_to_log(put(1, 4))

    async with opened(left) as store:
        assert await identities(store) == [*old_state, (1, 4)]
    assert torn.torn


async def test_a6_purge_survives_any_subset() -> None:
    """Whatever subset of the purged segments a disk kept, the log opens the same, and the leftovers are swept."""
    disk = SimulatedFileSystem()
    kept: dict[str, bytes] = {}
    async with opened(disk) as store:
        for index in range(1, 31):
            await store.append_entry_to_log(put(1, index, size=700))
            kept |= {name: read(disk, name) for name in names(disk, "wal-")}
        await apply(store, 1, 28)
        await compact(store)
        before = await identities(store)
        left = disk.crash_keeping_everything()
    purged = sorted(set(kept) - set(names(left)))

    assert len(purged) >= 3
    for count in range(len(purged) + 1):
        for subset in combinations(purged, count):
            again = left.crash_keeping_everything()
            for name in subset:
                write(again, name, kept[name])
            async with opened(again) as store:
                assert await identities(store) == before
                assert not set(subset) & set(names(again))


async def test_a7_the_mark_follows_the_log_down() -> None:
    """A mark that a deletion has undercut does not apply the entries that came in the place of the old ones."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.replicate_to_log(puts(1, 1, 9))
        await apply(store, 1, 9)
        await store.save_hard_state(HardState(2, 1))
        await store.delete_logs_from(5)
        await store.replicate_to_log(puts(2, 5, 9))
        left = disk.crash_keeping_nothing()

    async with opened(left) as store:
        assert store.last_applied == 4
        assert isinstance(store.machine, KeyValue)
        assert set(store.machine) == {b"k1", b"k2", b"k3", b"k4"}


async def test_a7_the_mark_follows_an_overwrite_down() -> None:
    """The same where a suffix was replaced in one frame."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.replicate_to_log(puts(1, 1, 9))
        await apply(store, 1, 9)
        await store.replicate_to_log(puts(2, 5, 9))
        left = disk.crash_keeping_nothing()

    async with opened(left) as store:
        assert store.last_applied == 4


async def test_a8_last_applied_is_unchanged_by_deletion_while_live_and_truthful_after() -> None:
    """Live, a deletion leaves `last_applied`; after an open it is what was rebuilt."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.replicate_to_log(puts(1, 1, 9))
        await apply(store, 1, 9)
        await store.delete_logs_from(5)
        assert store.last_applied == 8

    async with opened(disk) as store:
        assert store.last_applied == 4


async def test_a9_a_crash_may_lower_the_mark_and_never_parts_it_from_the_state() -> None:
    """The mark travels with the next frame, and with CLOSE; `sync_apply` makes it durable at once."""
    found = {}
    for kind in ("crash", "close", "next frame", "sync_apply"):
        disk = SimulatedFileSystem()
        async with opened(disk, sync_apply=kind == "sync_apply") as store:
            await store.replicate_to_log(puts(1, 1, 5))
            await apply(store, 1, 4)
            if kind == "next frame":
                await store.append_entry_to_log(put(1, 5))
            left = disk.crash_keeping_nothing()
        async with opened(disk if kind == "close" else left) as store:
            assert isinstance(store.machine, KeyValue)
            assert len(store.machine) == store.last_applied
            found[kind] = store.last_applied

    assert found == {"crash": 0, "close": 3, "next frame": 3, "sync_apply": 3}


class Refusing(KeyValue):
    """A machine that has a bug at one index."""

    def apply(self, index: int, data: Command) -> "bytes | Swapped | None":
        """Raises at index 3."""
        if index == 3:
            raise RuntimeError("a bug of the application")
        return super().apply(index, data)


async def test_a10_a_store_of_its_own_replays_all_that_is_durable() -> None:
    """With replay="all" every durable entry is applied at open, whatever the mark says; an error has its index."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.replicate_to_log(puts(1, 1, 6))
        left = disk.crash_keeping_nothing()

    async with opened(left.crash_keeping_everything(), replay="all") as store:
        assert store.last_applied == 5
    before = {name: read(left, name) for name in names(left)}
    with pytest.raises(ApplyError) as error:
        async with opened(left, replay="all", machine=Refusing):
            pass
    assert error.value.index == 3
    assert {name: read(left, name) for name in names(left)} == before
    async with opened(left, replay="all", machine=Refusing, on_apply_error="skip") as store:
        assert store.last_applied == 5
        assert isinstance(store.machine, KeyValue)
        assert set(store.machine) == {b"k1", b"k2", b"k4", b"k5"}


async def test_a11_creation_is_all_or_nothing() -> None:
    """Cut at any operation, a creation is either not begun, begun anew, or done; never a corrupt store."""
    disk = SimulatedFileSystem()
    async with opened(disk):
        created = len(disk.operations)
    states = 0
    for count, partial in disk.prefixes():
        if count > created:
            break
        for left in enumerate_crashes(partial, 32, seed=count):
            states += 1
            async with opened(left) as store:
                assert (await store.get_initial_state()).last_log_index == 0
    assert states > created


async def test_a11_an_identity_without_segments_and_segments_without_identity_are_corruption() -> None:
    """What no creation leaves is refused, and left as it is."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.append_entry_to_log(put(1, 1))
    for gone in (names(disk, "wal-"), ["IDENTITY"]):
        left = disk.crash_keeping_everything()
        for name in gone:
            remove(left, name)
        before = names(left)
        with pytest.raises(CorruptionError):
            async with opened(left):
                pass
        assert names(left) == before


async def test_a12_a_growing_file_that_ends_early_is_a_tear() -> None:
    """Evidence E9 is not asked of files that grow: a crash may leave them at any length."""
    disk = SimulatedFileSystem()
    async with opened(disk, preallocate="none") as store:
        await store.append_entry_to_log(put(1, 1))
        await store.append_entry_to_log(put(1, 2, size=900))
        left = disk.crash_keeping_everything()
    name = names(left, "wal-")[0]
    write(left, name, read(left, name)[:-600])

    async with opened(left, preallocate="none") as store:
        assert store.last_index == 1
        assert store.recovery.torn


async def test_a12_a_short_zero_filled_file_is_corruption() -> None:
    """A file that was made with its full length and is shorter was cut: E9."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.append_entry_to_log(put(1, 1))
        left = disk.crash_keeping_everything()
    name = names(left, "wal-")[0]
    write(left, name, read(left, name)[:-512])

    with pytest.raises(CorruptionError) as error:
        async with opened(left):
            pass
    assert error.value.evidence == "E9"


async def test_a13_a_snapshot_is_read_back_before_the_log_is_let_go() -> None:
    """A device that lost the snapshot's bytes makes the compaction fail; the log and the old state stay."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        await store.replicate_to_log(puts(1, 1, 6))
        await apply(store, 1, 6)
        faulty.skip("pwritev", name="snap-*")
        with pytest.raises((OSError, WalstoreError)):
            await store.do_log_compaction()
        assert await store.get_current_snapshot() is None
        assert len(await identities(store)) == 5
        faulty.heal()
        await compact(store)
        assert await identities(store) == [(1, 5)]
    assert names(disk, "snap-") == ["snap-1-5"]


async def test_a13_name_and_frame_are_one_critical_section() -> None:
    """The SNAPSHOT frame is written after the snapshot's name is durable, and nothing refers to it before."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        await store.replicate_to_log(puts(1, 1, 6))
        await apply(store, 1, 6)
        start = len(disk.operations)
        await compact(store)
        operations = disk.operations[start:]
    kinds = [operation.kind for operation in operations]
    renamed = kinds.index("rename")

    assert "datasync" in kinds[:renamed]
    assert kinds[renamed + 1] == "sync"
    assert (operations[renamed + 2].kind, operations[renamed + 2].name) == ("write", "spare-0.tmp")


async def fill(store: Store) -> None:
    """Appends until the disk is full."""
    for index in range(store.last_index + 1, 100):
        try:
            await store.append_entry_to_log(put(1, index, size=700))
        except StorageFullError:
            return
    pytest.fail("the disk was never full")


async def test_a_full_disk_does_not_keep_a_store_from_opening() -> None:
    """B3: with no room at all, the emergency segment opens the store, and appends are refused until there is room."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    async with opened(faulty) as store:
        await store.replicate_to_log(puts(1, 1, 9, size=100))
        await apply(store, 1, 9)
    faulty.space_left = 0
    async with opened(faulty) as store:
        assert store.recovery.emergency_used
        assert store.last_index == 8
        await fill(store)
        full_at = store.last_index
        await store.save_hard_state(HardState(5, 1))
        await store.delete_logs_from(full_at)
    async with opened(disk) as store:
        assert store.last_index == full_at - 1
        assert (await store.get_initial_state()).hard_state == HardState(5, 1)
