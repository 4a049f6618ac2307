"""Compaction of a standalone store: when one is made, who makes it, and what its failure costs."""

from pathlib import Path

import pytest
import trio

from tests.standalone.helpers import open_key_value
from walstore import MembershipConfig, NothingToCompact, open_standalone
from walstore.kv import KeyValueCodec, Put
from walstore.testing.faults import Call, FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem


async def test_a_snapshot_is_made_after_so_many_bytes() -> None:
    """The call that crosses the line makes it, and the log is let go; a reopened store counts what it replays."""
    disk = SimulatedFileSystem()
    size = len(KeyValueCodec().encode(Put(b"k0", bytes(100))))
    async with open_key_value(disk, compact_after_bytes=5 * size) as db:
        for number in range(4):
            await db.execute(Put(b"k%d" % number, bytes(100)))
        assert db.statistics().bytes_since_snapshot >= 4 * size

    async with open_key_value(disk, compact_after_bytes=5 * size) as db:
        assert db.statistics().bytes_since_snapshot >= 4 * size
        assert db.statistics().storage.snapshot_index == 0
        await db.execute(Put(b"k4", bytes(100)))
        statistics = db.statistics()
        assert (statistics.compactions, statistics.bytes_since_snapshot) == (1, 0)
        snapshot = db.storage.current_snapshot
        assert snapshot is not None
        assert snapshot.index == db.storage.last_index == db.storage.first_index

    async with open_key_value(disk) as db:
        assert db.recovery.applied == 0
        assert sorted(db.machine) == [b"k%d" % number for number in range(5)]


async def test_one_compaction_at_a_time() -> None:
    """While it is under way, other callers over the line go on and make none."""
    async with open_key_value(SimulatedFileSystem(), compact_after_bytes=1) as db:
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(db.execute, Put(b"%d" % number, b""))
        statistics = db.statistics()

    assert 1 <= statistics.compactions <= statistics.batches


async def test_what_is_logged_during_a_compaction_counts_towards_the_next() -> None:
    """The snapshot does not hold it."""
    disk = FaultyFileSystem(SimulatedFileSystem())
    async with open_key_value(disk) as db:
        await db.execute(Put(b"k", b"1"))

        def write_more(call: Call) -> None:
            if call.operation == "create" and call.name.startswith("snap-"):
                trio.from_thread.run(db.execute, Put(b"k", b"2"))

        disk.hook = write_more
        await db.compact()

        assert db.statistics().bytes_since_snapshot == len(KeyValueCodec().encode(Put(b"k", b"2")))


async def test_a_real_directory_is_left_without_open_files(tmp_path: Path) -> None:
    """A compaction closes the snapshot that it made; the fixture of all tests looks for what is left open."""
    async with open_standalone(tmp_path / "store", compact_after_bytes=10) as db:
        for number in range(10):
            await db.execute(Put(b"%d" % number, b"12345"))
        assert db.statistics().compactions > 1


async def test_compact_says_what_it_made() -> None:
    """The header of the snapshot; nothing to compact is an error of its own."""
    async with open_key_value(SimulatedFileSystem()) as db:
        with pytest.raises(NothingToCompact):
            await db.compact()
        await db.execute(Put(b"k", b"1"))

        header = await db.compact()

        assert header == db.storage.current_snapshot
        assert header.membership == MembershipConfig({1})
        assert db.statistics().compactions == 1


async def test_a_cancel_during_an_automatic_compaction_does_not_hide_the_answer() -> None:
    """The command has been done: the compaction is finished, the answer returned, the next checkpoint raises."""
    disk = FaultyFileSystem(SimulatedFileSystem())
    answers = []
    async with open_key_value(disk, compact_after_bytes=10) as db:
        with trio.CancelScope() as scope:

            def cancel(call: Call) -> None:
                if call.operation == "create" and call.name.startswith("snap-"):
                    trio.from_thread.run_sync(scope.cancel)

            disk.hook = cancel
            answers.append(await db.execute(Put(b"k", b"12345678")))
            assert scope.cancel_called
            await trio.lowlevel.checkpoint()

        assert scope.cancelled_caught
        assert answers == [None]
        assert db.statistics().compactions == 1
        assert db.machine == {b"k": b"12345678"}


async def test_an_automatic_compaction_that_fails_fails_no_command() -> None:
    """The error is in the statistics; the next try comes after as many bytes, and not with each call."""
    disk = FaultyFileSystem(SimulatedFileSystem())
    disk.fail("create", name="snap-*", once=False)
    async with open_key_value(disk, compact_after_bytes=100) as db:
        for number in range(25):
            await db.execute(Put(b"%02d" % number, b"12345"))
        statistics = db.statistics()
        assert statistics.failed_compactions == 2
        assert "Error" in str(statistics.last_compaction_error)
        disk.heal()
        for number in range(25):
            await db.execute(Put(b"%02d" % number, b"12345"))
        statistics = db.statistics()

    assert statistics.compactions >= 1
    assert statistics.failed_compactions == 2
    assert statistics.last_compaction_error is None
    assert statistics.executed == 50


@pytest.mark.parametrize("size", [0, -1])
async def test_a_threshold_is_at_least_one_byte(size: int) -> None:
    """Nothing is opened otherwise."""
    disk = SimulatedFileSystem()

    with pytest.raises(ValueError, match="compact_after_bytes must be at least 1"):
        async with open_key_value(disk, compact_after_bytes=size):
            pass

    assert not disk.operations
