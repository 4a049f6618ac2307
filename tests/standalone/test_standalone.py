"""The standalone store on the simulated disk: what was answered is there again, after a close and after a power cut."""

import random

import pytest
import trio
import trio.testing

from tests.standalone.helpers import POISON, MendedJournal, lines_of, open_journal, open_key_value
from walstore import (
    ApplyError,
    ConfigChange,
    Entry,
    HardState,
    MembershipConfig,
    NodeIdMismatchError,
    Normal,
    Standalone,
    StorageConfig,
    StorageFailedError,
    StorageFullError,
    UsageError,
    open_standalone,
    open_storage,
)
from walstore.kv import CompareAndSet, Delete, KeyValue, KeyValueCodec, Put, Swapped
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem


async def test_what_was_executed_is_there_again() -> None:
    """Each command answers with its type's answer, and a reopened store has the state."""
    disk = SimulatedFileSystem()
    async with open_key_value(disk) as db:
        put: bytes | None = await db.execute(Put(b"k", b"1"))
        swapped: Swapped = await db.execute(CompareAndSet(b"k", b"1", b"2"))
        deleted: bytes | None = await db.execute(Delete(b"absent"))
        assert (put, swapped, deleted) == (None, Swapped(True, b"1"), None)
        assert db.recovery.created

    async with open_key_value(disk) as db:
        machine: KeyValue = db.machine
        assert machine == {b"k": b"2"}
        assert not db.recovery.created


async def test_the_default_machine_may_be_named() -> None:
    """As in the documentation's first example, and a subclass of it works as well."""

    class Mine(KeyValue):
        __slots__ = ()

    disk = SimulatedFileSystem()
    async with open_standalone("/store", machine=KeyValue, codec=KeyValueCodec(), filesystem=disk) as db:
        await db.execute(Put(b"k", b"1"))
    async with open_standalone("/store", Mine, filesystem=disk) as db:
        assert isinstance(db.machine, Mine)
        assert db.machine[b"k"] == b"1"


async def test_every_public_call_is_a_checkpoint() -> None:
    """As trio wants it, the ends of the block included."""
    disk = SimulatedFileSystem()
    opening = open_key_value(disk)
    with trio.testing.assert_checkpoints():
        db = await opening.__aenter__()
    with trio.testing.assert_checkpoints():
        await db.execute(Put(b"k", b"1"))
    with trio.testing.assert_checkpoints():
        await db.compact()
    with trio.testing.assert_checkpoints():
        await db.backup("/copy")
    with trio.testing.assert_checkpoints():
        await opening.__aexit__(None, None, None)


async def test_an_exception_of_the_body_leaves_as_itself() -> None:
    """No nursery wraps it in a group, and the store is closed properly."""
    disk = SimulatedFileSystem()
    error = LookupError("of the body")

    async def body() -> None:
        async with open_key_value(disk) as db:
            await db.execute(Put(b"k", b"1"))
            raise error

    with pytest.raises(LookupError) as caught:
        await body()

    assert caught.value is error
    async with open_key_value(disk) as db:
        assert db.recovery.closed
        assert db.machine == {b"k": b"1"}


async def test_after_the_block_nothing_is_executed() -> None:
    """The closed store says so."""
    async with open_key_value(SimulatedFileSystem()) as db:
        pass

    with pytest.raises(trio.ClosedResourceError):
        await db.execute(Put(b"k", b"1"))


async def test_a_power_cut_forgets_no_answered_command() -> None:
    """Cut after every operation of a life with compactions and rotations: what was answered is there, in order.

    What was on its way may be there too, wholly; the marks of applied entries, which no barrier waits for, do not
    matter (PROTOCOL A10).
    """
    disk = SimulatedFileSystem()
    answered: list[tuple[int, int]] = []  # operations done, commands answered
    async with open_journal(disk) as db:
        for number in range(24):
            await db.execute(f"{number:0600}")
            answered.append((len(disk.operations), number + 1))
            if number % 9 == 8:
                await db.compact()
    total = len(disk.operations)
    rng = random.Random(5)
    states = 0

    for count, image in disk.prefixes():
        least = max((commands for operations, commands in answered if operations <= count), default=0)
        for after in (image.crash_keeping_nothing(), image.crash_keeping_everything(), image.crash(rng)):
            async with open_journal(after) as db:
                lines = lines_of(db)
                assert lines == [f"{number:0600}" for number in range(len(lines))]
                assert least <= len(lines) <= least + 1
                assert await db.execute("alive") == len(lines)
            states += 1

    assert states == 3 * (total + 1)


async def test_many_callers_through_power_cuts() -> None:
    """Concurrent callers, cut at random: each answered command is there again, with no other between its neighbours."""
    rng = random.Random(11)
    disk = SimulatedFileSystem()
    answered: set[str] = set()
    for life in range(12):
        disk.stop_after(rng.randrange(10, 150))

        async def call(db: Standalone[str, int], name: str) -> None:
            for number in range(40):
                await db.execute(f"{name}.{number}")
                answered.add(f"{name}.{number}")

        try:
            async with open_journal(disk) as db, trio.open_nursery() as nursery:
                assert answered <= set(lines_of(db))
                assert len(set(lines_of(db))) == len(lines_of(db))
                for task in range(8):
                    nursery.start_soon(call, db, f"{life}.{task}")
        except* (StorageFailedError, StorageFullError):
            pass
        disk = disk.crash(rng)

    assert len(answered) > 100


# --- a machine that raises


async def test_a_reopened_store_stops_where_the_live_one_stopped() -> None:
    """With "raise" both refuse to go past the command; a mended machine applies it and what was logged after it."""
    disk = SimulatedFileSystem()
    async with open_journal(disk) as db:
        await db.execute("first")
        with pytest.raises(ApplyError, match="at index 3"):
            await db.execute(POISON)
        with pytest.raises(ApplyError, match="at index 3"):
            await db.execute("refused")
        assert lines_of(db) == ["first"]

    with pytest.raises(ApplyError, match="at index 3"):
        async with open_journal(disk):
            pass
    async with open_journal(disk, MendedJournal) as db:
        assert lines_of(db) == ["first", POISON]
        assert await db.execute("later") == 3


async def test_a_reopened_store_passes_over_what_the_live_one_passed_over() -> None:
    """With "skip" both have the same state, whether a snapshot lies between or not."""
    disk = SimulatedFileSystem()
    skip = StorageConfig(prepare_ahead=False, on_apply_error="skip")
    async with open_journal(disk, config=skip) as db:
        for command in ("first", "second"):
            with pytest.raises(ApplyError):
                await db.execute(POISON)
            await db.execute(command)
        with pytest.raises(ApplyError):
            await db.execute(POISON)
        assert lines_of(db) == ["first", "second"]

    async with open_journal(disk, config=skip) as db:
        assert lines_of(db) == ["first", "second"]
        await db.compact()
        await db.execute("third")
        with pytest.raises(ApplyError):
            await db.execute(POISON)
        assert await db.execute("fourth") == 4

    async with open_journal(disk, config=skip) as db:
        assert lines_of(db) == ["first", "second", "third", "fourth"]


# --- the disk


async def test_a_full_disk_logs_nothing_and_passes() -> None:
    """`StorageFullError` to each caller; with room the same handle goes on."""
    disk = FaultyFileSystem(SimulatedFileSystem())
    async with open_journal(disk) as db:
        disk.space_left = 0
        done = 0

        async def fill() -> None:
            nonlocal done
            while True:
                await db.execute(f"{done:01000}")
                done += 1

        with pytest.raises(StorageFullError):
            await fill()
        assert len(lines_of(db)) == done
        disk.heal()
        assert await db.execute("with room") == done + 1

    async with open_journal(disk) as db:
        assert len(lines_of(db)) == done + 1


async def test_a_broken_disk_stops_the_store_for_good() -> None:
    """`StorageFailedError` to every caller from then on, reads go on."""
    disk = FaultyFileSystem(SimulatedFileSystem())
    async with open_journal(disk, config=StorageConfig(prepare_ahead=False)) as db:
        await db.execute("first")
        disk.fail("datasync", name="wal-*")
        for command in ("unknown", "late"):
            with pytest.raises(StorageFailedError):
                await db.execute(command)
        assert lines_of(db) == ["first"]

    async with open_journal(disk) as db:
        assert lines_of(db)[0] == "first"


async def test_a_backup_is_a_store() -> None:
    """Made while writing goes on, opened elsewhere."""
    disk = SimulatedFileSystem()
    async with open_key_value(disk) as db:
        await db.execute(Put(b"before", b"1"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(db.backup, "/copy")
            for number in range(20):
                nursery.start_soon(db.execute, Put(b"%d" % number, b""))

    async with open_standalone("/copy", filesystem=disk) as copy:
        assert copy.machine[b"before"] == b"1"


# --- whose directory it is


async def test_a_new_store_is_a_cluster_of_one() -> None:
    """Term 1 and the membership {node id}, so that it can be opened as a storage later."""
    disk = SimulatedFileSystem()
    async with open_standalone("/store", node_id=7, filesystem=disk) as db:
        await db.execute(Put(b"k", b"1"))

    async with open_storage("/store", node_id=7, machine=KeyValue, codec=KeyValueCodec(), filesystem=disk) as storage:
        state = await storage.get_initial_state()
        assert state.hard_state == HardState(1, None)
        assert state.membership == MembershipConfig({7})
        assert await storage.get_log_entries(0, 9) == [
            Entry(1, 1, ConfigChange(MembershipConfig({7}))),
            Entry(1, 2, Normal(Put(b"k", b"1"))),
        ]


async def test_the_directory_of_a_member_of_a_cluster_is_refused() -> None:
    """Its log may hold what is not committed, so to replay it would be wrong."""
    disk = SimulatedFileSystem()
    async with open_storage("/store", node_id=1, machine=KeyValue, codec=KeyValueCodec(), filesystem=disk) as storage:
        await storage.bootstrap(MembershipConfig({1, 2, 3}))

    with pytest.raises(UsageError, match=r"node 1 is a member of \[1, 2, 3\]"):
        async with open_key_value(disk):
            pass
    with pytest.raises(NodeIdMismatchError):
        async with open_standalone("/store", node_id=2, filesystem=disk):
            pass


async def test_a_cluster_of_one_goes_on_in_its_term() -> None:
    """A store that was a Raft node in term 5 is continued in term 5."""
    disk = SimulatedFileSystem()
    async with open_storage("/store", node_id=1, machine=KeyValue, codec=KeyValueCodec(), filesystem=disk) as storage:
        await storage.bootstrap(MembershipConfig({1}))
        await storage.save_hard_state(HardState(5, 1))

    async with open_key_value(disk) as db:
        await db.execute(Put(b"k", b"1"))
        assert db.storage.term_of(db.storage.last_index) == 5


async def test_statistics_count_what_was_done() -> None:
    """Commands, batches, bytes, and the storage's own."""
    async with open_key_value(SimulatedFileSystem()) as db:
        for _ in range(3):
            await db.execute(Put(b"k", b"1"))
        await db.compact()
        statistics = db.statistics()

    assert (statistics.executed, statistics.batches, statistics.waiting) == (3, 3, 0)
    assert (statistics.compactions, statistics.failed_compactions) == (1, 0)
    assert statistics.storage.last_index == 4
