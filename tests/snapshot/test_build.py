"""Making a snapshot file: what a view holds becomes a file that was read back before anyone relies on it."""

import errno
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.snapshot.helpers import CHUNK, HEADER, PAYLOAD, chunks, container, get, put, record_of
from walstore._disk.seam import Directory
from walstore._log.container import MAX_CHUNK, pack
from walstore._log.limits import MAX_ENGINE_BYTES
from walstore._snapshot_files import SYNC_EVERY, SnapshotBuild, payload_of, verify_file
from walstore._types import MembershipConfig, SnapshotHeader
from walstore.errors import UsageError
from walstore.testing.faults import Call, FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem


def build(directory: Directory, *pieces: bytes, number: int = 0) -> SnapshotBuild:
    """A build of small chunks, to be stepped."""
    return SnapshotBuild(directory, number, HEADER, chunks(*pieces), chunk_size=CHUNK)


@pytest.mark.parametrize(
    "pieces",
    [[], [b""], [PAYLOAD], [PAYLOAD[:1], b"", PAYLOAD[1:]], [b"x"] * 2000],
    ids=["none", "empty", "one", "uneven", "tiny"],
)
def test_a_view_becomes_a_file(directory: Directory, pieces: list[bytes]) -> None:
    """The file holds the container of the view's pieces, and the record says what the file is."""
    work = build(directory, *pieces, number=3)

    record = work.run()

    data = get(directory, "snap-3.tmp")
    assert data == container(payload=b"".join(pieces))
    assert record == work.record == record_of(data) == verify_file(directory, "snap-3.tmp", record)
    assert b"".join(payload_of(directory, "snap-3.tmp", record)) == b"".join(pieces)
    assert (work.name, directory.names()) == ("snap-3.tmp", ["snap-3.tmp"])


def test_large_pieces_are_cut(directory: Directory) -> None:
    """A view that gives everything in one piece is written in chunks, and in more than one step."""
    payload = bytes(5 * MAX_CHUNK + 1)
    work = SnapshotBuild(directory, 0, HEADER, chunks(payload))
    steps = 1
    while not work.step(max_bytes=1):
        steps += 1

    assert get(directory, "snap-0.tmp") == b"".join(pack(HEADER, [payload]))
    assert steps > 6


def test_the_file_is_durable_when_it_is_done() -> None:
    """What `run` returned of survives a power cut, once the roof has made the name durable."""
    disk = SimulatedFileSystem()
    directory = disk.open_directory("/store", create=True)
    record = build(directory, PAYLOAD).run()
    directory.sync()

    after = disk.crash_keeping_nothing().open_directory("/store", create=False)

    assert verify_file(after, "snap-0.tmp", record) == record


def test_read_back_after_the_barrier(disk: FaultyFileSystem, directory: Directory) -> None:
    """All of the file is read again after it was synced and dropped from the cache, and nothing before (A13)."""
    record = build(directory, PAYLOAD).run()

    kinds = [call.operation for call in disk.calls]
    barrier = kinds.index("datasync")
    assert set(kinds[1:barrier]) == {"pwritev"}
    assert kinds[barrier + 1] == "drop_cache"
    assert sum(call.length for call in disk.calls[barrier:] if call.operation == "pread") >= record.size


def test_other_bytes_read_back_fail_it(disk: FaultyFileSystem, directory: Directory) -> None:
    """A device that gives back other bytes than were written fails the build with EIO."""

    def rot(call: Call) -> None:
        if call.operation == "drop_cache":
            disk.hook = None
            file = directory.open("snap-0.tmp", write=True)
            file.pwritev(5000, [b"rotten"])
            file.close()

    disk.hook = rot
    with pytest.raises(OSError, match="what was read back is not the snapshot that was written") as caught:
        build(directory, PAYLOAD).run()

    assert caught.value.errno == errno.EIO


def test_another_file_read_back_fails_it(disk: FaultyFileSystem, directory: Directory) -> None:
    """A whole and valid snapshot is not enough: it must be the one that was written."""
    other = container(payload=b"other")

    def swap(call: Call) -> None:
        if call.operation == "drop_cache":
            disk.hook = None
            file = directory.open("snap-0.tmp", write=True)
            file.truncate(0)
            file.pwritev(0, [other])
            file.close()

    disk.hook = swap
    with pytest.raises(OSError, match="this is another snapshot"):
        build(directory, PAYLOAD).run()


def test_large_files_are_synced_on_the_way(disk: FaultyFileSystem, directory: Directory) -> None:
    """No single barrier covers more than 32 MiB and a chunk, so the log's own barriers do not wait for long."""
    piece = bytes(MAX_CHUNK)
    SnapshotBuild(directory, 0, HEADER, chunks(*[piece] * (SYNC_EVERY // MAX_CHUNK + 2))).run()

    assert [call.operation for call in disk.calls].count("datasync") == 2


# -- steps ---------------------------------------------------------------------------------------------------------


def test_a_step_does_about_what_it_may(directory: Directory) -> None:
    """A step ends with the unit of work that reaches its bytes or its time; the last one says that all is done."""
    by_bytes, by_time = build(directory, *[PAYLOAD] * 4), build(directory, *[PAYLOAD] * 4)

    assert not by_bytes.step(max_bytes=4096 + 3 * len(PAYLOAD))
    assert by_bytes._packer.size == 4096 + 3 * (len(PAYLOAD) + 4 * 16)
    assert not by_time.step(max_seconds=0)
    assert by_time._packer.size == 4096
    assert by_time.run() == by_bytes.run()
    assert by_bytes.step()


def test_nothing_is_touched_before_the_first_step(disk: FaultyFileSystem, directory: Directory) -> None:
    """Making a build asks neither the disk nor the view for anything."""
    asked: list[str] = []

    def view() -> Iterator[bytes]:
        asked.append("chunks")
        yield b"state"

    work = SnapshotBuild(directory, 0, HEADER, view)

    assert (disk.calls, asked, work.name) == ([], [], None)
    work.run()
    assert asked == ["chunks"]


def test_a_header_above_a_limit_is_refused(directory: Directory) -> None:
    """A header that can not be written is a UsageError, and no file is made."""
    header = SnapshotHeader("i", 1, 1, MembershipConfig({1}), 0, bytes(MAX_ENGINE_BYTES + 1))
    with pytest.raises(UsageError):
        SnapshotBuild(directory, 0, header, chunks())

    assert directory.names() == []


def test_record_comes_last(directory: Directory) -> None:
    """There is no record before the file was read back."""
    work = build(directory, PAYLOAD)
    while not work.step(max_bytes=1):
        with pytest.raises(RuntimeError):
            _ = work.record

    assert work.record.size == len(container())


def test_a_worker_lets_the_event_loop_run(directory: Directory) -> None:
    """A step over many empty pieces gives the interpreter away, though the interpreter would not take it (B14)."""
    begun, seen = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def view() -> Iterator[bytes]:
        deadline = time.perf_counter() + 5
        while not seen.is_set() and time.perf_counter() < deadline:
            begun.set()
            yield b""
        in_time.append(seen.is_set())

    work = SnapshotBuild(directory, 0, HEADER, view)
    worker = threading.Thread(target=lambda: work.step(max_seconds=60))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        worker.start()
        begun.wait()
        seen.set()
        worker.join()
    finally:
        sys.setswitchinterval(interval)
        work.discard()

    assert in_time == [True]


# -- names ---------------------------------------------------------------------------------------------------------


def test_leftovers_never_block(directory: Directory) -> None:
    """A temporary name that is taken is passed over, and what has it is left alone."""
    for number in (5, 6, 8):
        put(directory, f"snap-{number}.tmp", b"leftover")

    first, second = build(directory, number=5), build(directory, number=5)
    first.run()
    second.run()

    assert (first.name, second.name) == ("snap-7.tmp", "snap-9.tmp")
    assert get(directory, "snap-5.tmp") == b"leftover"


def test_a_disk_that_knows_every_name_does_not_hang(disk: FaultyFileSystem, directory: Directory) -> None:
    """If every name is said to be taken, the build fails in the end."""
    disk.fail("create", once=False, error=FileExistsError(errno.EEXIST, "taken"))
    with pytest.raises(FileExistsError, match="the last of 65536 names"):
        build(directory).run()


# -- failures ------------------------------------------------------------------------------------------------------


def test_every_failure_fails_the_build_alone(disk: FaultyFileSystem, directory: Directory) -> None:
    """Whichever call fails, once or from then on: OSError, no record, and nothing left where it can be removed."""
    build(directory, PAYLOAD).run()
    directory.unlink("snap-0.tmp")
    calls = len(disk.calls) - 1
    for nth in range(1, calls + 1):
        for once in (True, False):
            work = build(directory, PAYLOAD)
            disk.fail("*", nth=nth, once=once)
            with pytest.raises(OSError, match="Input/output error"):
                work.run()
            with pytest.raises(RuntimeError):
                work.step()
            work.discard()
            disk.heal()

            assert directory.names() == [] or not once
            for name in directory.names():
                directory.unlink(name)


def test_a_full_disk_leaves_nothing(disk: FaultyFileSystem, directory: Directory) -> None:
    """Without room for the file the build fails with ENOSPC, and discarding it gives the room back."""
    disk.space_left = 5000
    work = build(directory, PAYLOAD)
    with pytest.raises(OSError, match="No space left") as caught:
        work.run()
    work.discard()

    assert caught.value.errno == errno.ENOSPC
    assert (directory.names(), disk.space_left) == ([], 5000)


def test_a_view_that_raises_fails_it(directory: Directory) -> None:
    """An exception from the view comes out of the step as it is."""

    def view() -> Iterator[bytes]:
        yield PAYLOAD
        raise LookupError("the view is broken")

    work = SnapshotBuild(directory, 0, HEADER, view)
    with pytest.raises(LookupError):
        work.run()
    work.discard()

    assert directory.names() == []


@pytest.mark.parametrize("steps", range(12))
def test_discard_at_any_point(directory: Directory, steps: int) -> None:
    """However far a build came, discarding it closes and removes its file; twice is silent."""
    work = build(directory, PAYLOAD)
    for _ in range(steps):
        work.step(max_bytes=1)
    work.discard()
    work.discard()

    assert (work.name, directory.names()) == (None, [])


def test_discard_never_started(disk: FaultyFileSystem, directory: Directory) -> None:
    """Discarding a build that made no step touches nothing."""
    build(directory).discard()

    assert disk.calls == []
