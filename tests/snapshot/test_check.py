"""Reading snapshot files: the current one is proven; what a peer sent is proven, cut and made durable."""

from collections.abc import Callable

import attrs
import pytest

from tests.snapshot.helpers import HEADER, OTHER, PAYLOAD, container, get, put, record_of
from walstore._disk.seam import Directory
from walstore._log.checksum import crc
from walstore._log.container import ContainerError, UnsupportedContainerError
from walstore._log.control import SnapshotRecord
from walstore._snapshot_files import (
    SPAN,
    ReceivedCheck,
    SnapshotCheck,
    as_corruption,
    open_current,
    payload_of,
    verify_file,
)
from walstore.errors import CorruptionError, UnsupportedFormatError
from walstore.testing.faults import Call, FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

NAME = "snap-7-1042"
DATA = container()
RECORD = record_of(DATA)
LARGE = container(payload=bytes(3 * SPAN))
MIXED = DATA[:5000] + container(OTHER)[5000:]
Open = Callable[[Directory, str, SnapshotRecord | None], object]


def verified(directory: Directory, name: str, expected: SnapshotRecord | None) -> SnapshotRecord:
    """`verify_file`, under the name that the tests show."""
    return verify_file(directory, name, expected)


def restored(directory: Directory, name: str, expected: SnapshotRecord | None) -> bytes:
    """What a machine would be filled with."""
    return b"".join(payload_of(directory, name, expected))


both = pytest.mark.parametrize("read", [verified, restored])
bad = pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the snapshot is empty"),
        (DATA[:-1], "the snapshot ends too early"),
        (DATA[:2000], "the snapshot ends too early"),
        (bytes(5000) + DATA[5000:], "the bytes do not begin like a snapshot"),
        (DATA[:4096] + bytes(1000), "a chunk can not have 0 bytes"),
        (MIXED, "a chunk of another snapshot"),
        (b"\xff" * 5000, "the bytes do not begin like a snapshot"),
    ],
    ids=["empty", "cut", "cut header", "hole", "hole behind header", "mixed", "noise"],
)


# -- the current snapshot ------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("expected", [None, RECORD], ids=["unknown", "expected"])
def test_a_whole_file_is_believed(directory: Directory, read: Open, expected: SnapshotRecord | None) -> None:
    """A valid file is read, with and without a record to compare it with."""
    put(directory, NAME, DATA)

    assert read(directory, NAME, expected) == (RECORD if read is verified else PAYLOAD)


@both
@bad
def test_what_is_no_snapshot_is_refused(directory: Directory, read: Open, data: bytes, reason: str) -> None:
    """Bytes that are not a whole container are a ContainerError that says why."""
    put(directory, NAME, data)
    with pytest.raises(ContainerError, match=reason):
        read(directory, NAME, None)


@both
def test_bytes_behind_the_end_are_refused(directory: Directory, read: Open) -> None:
    """A current snapshot has exactly its bytes: one more is damage, and the error says where it begins."""
    put(directory, NAME, DATA + b"\0")
    with pytest.raises(ContainerError, match="1 bytes stand behind the end") as caught:
        read(directory, NAME, None)

    assert caught.value.offset == len(DATA)


@both
@pytest.mark.parametrize(
    "expected",
    [
        attrs.evolve(RECORD, header=attrs.evolve(HEADER, term=8)),
        attrs.evolve(RECORD, header=attrs.evolve(HEADER, id="another")),
        attrs.evolve(RECORD, checksum=RECORD.checksum ^ 1),
        attrs.evolve(RECORD, size=RECORD.size + 1),
    ],
    ids=["term", "id", "checksum", "size"],
)
def test_another_snapshot_is_refused(directory: Directory, read: Open, expected: SnapshotRecord) -> None:
    """A whole and valid file that is not the one that the log names is refused."""
    put(directory, NAME, DATA)
    with pytest.raises(ContainerError, match="this is another snapshot: term 7 index 1042"):
        read(directory, NAME, expected)


def test_every_flipped_byte_is_refused() -> None:
    """No byte of a file can change unseen, nor can the file be cut anywhere."""
    directory = SimulatedFileSystem().open_directory("/store", create=True)
    for offset in range(0, len(DATA), 7):
        for data in (DATA[:offset] + bytes([DATA[offset] ^ 0x10]) + DATA[offset + 1 :], DATA[:offset]):
            put(directory, NAME, data)
            with pytest.raises(ContainerError):
                verify_file(directory, NAME)
            with pytest.raises(ContainerError):
                restored(directory, NAME, None)


@both
def test_memory_is_bounded(disk: FaultyFileSystem, directory: Directory, read: Open) -> None:
    """A file of any size is read in spans of 1 MiB."""
    put(directory, NAME, LARGE)
    read(directory, NAME, None)

    spans = [call.length for call in disk.calls if call.operation == "pread"]
    assert max(spans) <= SPAN
    assert len(spans) == -(-len(LARGE) // SPAN)


def test_verifying_goes_in_steps(directory: Directory) -> None:
    """A check stops after each span, if that is all it may do, and then goes on."""
    put(directory, NAME, LARGE)
    work = SnapshotCheck(directory, NAME)
    steps = 1
    while not work.step(max_bytes=1):
        steps += 1

    assert (work.record, steps) == (record_of(LARGE), -(-len(LARGE) // SPAN) + 1)


def test_a_check_can_be_left(directory: Directory) -> None:
    """A check that is closed midway lets go of its file, and has no record."""
    put(directory, NAME, LARGE)
    work = SnapshotCheck(directory, NAME)
    work.step(max_bytes=1)
    work.close()
    work.close()

    with pytest.raises(RuntimeError):
        work.step()
    with pytest.raises(RuntimeError):
        _ = work.record


def test_a_restore_can_be_left(directory: Directory) -> None:
    """A payload that is not read to its end lets go of its file."""
    put(directory, NAME, LARGE)
    pieces = payload_of(directory, NAME)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # an iterator for its users; a generator here


def test_the_end_of_a_payload_is_the_proof(directory: Directory) -> None:
    """Damage behind the first pieces is raised when it is reached: only the exhausted iterator proves the whole."""
    put(directory, NAME, DATA[:-1])
    pieces = payload_of(directory, NAME)

    assert next(pieces) == PAYLOAD[:512]
    with pytest.raises(ContainerError):
        list(pieces)


@both
@pytest.mark.parametrize("operation", ["open", "pread", "size"])
def test_a_failing_disk_is_an_os_error(
    disk: FaultyFileSystem, directory: Directory, read: Open, operation: str
) -> None:
    """A file that can not be read is not called damaged."""
    put(directory, NAME, DATA)
    disk.fail(operation)
    with pytest.raises(OSError, match="Input/output error"):
        read(directory, NAME, None)


# -- as corruption -------------------------------------------------------------------------------------------------


def test_damage_becomes_corruption(directory: Directory) -> None:
    """Damage of the current snapshot is a CorruptionError with path, offset and evidence."""
    put(directory, NAME, DATA + b"x")
    with (
        pytest.raises(CorruptionError, match="the current snapshot is damaged") as caught,
        as_corruption(directory, NAME),
    ):
        verify_file(directory, NAME)

    assert (caught.value.path, caught.value.offset) == (f"{directory.path}/{NAME}", len(DATA))
    assert caught.value.evidence == "snapshot"


def test_a_missing_file_becomes_corruption(directory: Directory) -> None:
    """The log below a current snapshot is gone, so a missing file is a CorruptionError."""
    with pytest.raises(CorruptionError, match="the current snapshot is missing"), as_corruption(directory, NAME):
        verify_file(directory, NAME)


def test_a_newer_format_becomes_unsupported(directory: Directory) -> None:
    """A snapshot of a newer format is told apart from damage."""
    with pytest.raises(UnsupportedFormatError, match="newer") as caught, as_corruption(directory, NAME):
        raise UnsupportedContainerError("newer", 0)

    assert caught.value.offset == 0


# -- opening for a reader ------------------------------------------------------------------------------------------


def test_open_current(directory: Directory) -> None:
    """The file of the record is opened, and of a large one only the beginning is read."""
    put(directory, NAME, LARGE)
    file = open_current(directory, NAME, record_of(LARGE))

    assert file.pread(0, len(LARGE)) == LARGE
    file.close()


@pytest.mark.parametrize(
    ("data", "record"),
    [
        (DATA, attrs.evolve(RECORD, header=OTHER)),
        (DATA, attrs.evolve(RECORD, size=len(DATA) + 1)),
        (DATA[:-1], RECORD),
        (DATA + b"x", RECORD),
        (DATA[:1000], RECORD),
        (b"", RECORD),
        (b"x" + DATA[1:], RECORD),
    ],
    ids=["header", "size", "cut", "longer", "cut header", "empty", "damaged"],
)
def test_open_current_refuses_another(directory: Directory, data: bytes, record: SnapshotRecord) -> None:
    """A file whose header or size is not the record's is not opened, and none stays open."""
    put(directory, NAME, data)
    with pytest.raises(ContainerError):
        open_current(directory, NAME, record)


# -- what a peer sent ----------------------------------------------------------------------------------------------


def test_received_bytes_are_made_durable(disk: FaultyFileSystem, directory: Directory) -> None:
    """What was received is synced, dropped from the cache, read again and proven, in this order (A13)."""
    put(directory, "snap-1.tmp", DATA)
    disk.calls.clear()
    work = ReceivedCheck(directory, "snap-1.tmp")

    assert work.run() == RECORD
    assert work.cut == 0
    assert [call.operation for call in disk.calls] == ["open", "datasync", "drop_cache", "pread", "size"]


@pytest.mark.parametrize("tail", [b"\0", bytes(5000), DATA, LARGE], ids=["byte", "zeros", "another", "large"])
def test_an_older_longer_stream_is_cut_off(disk: FaultyFileSystem, directory: Directory, tail: bytes) -> None:
    """Bytes behind a valid container are cut off, durably, and not read (SEMANTICS 10.3)."""
    put(directory, "snap-1.tmp", DATA + tail)
    disk.calls.clear()
    work = ReceivedCheck(directory, "snap-1.tmp")

    assert (work.run(), work.cut) == (RECORD, len(tail))
    assert get(directory, "snap-1.tmp") == DATA
    kinds = [call.operation for call in disk.calls]
    assert kinds[:7] == ["open", "datasync", "drop_cache", "pread", "size", "truncate", "datasync"]


def test_received_bytes_survive_a_power_cut() -> None:
    """After the check, bytes and length survive; only the name is still to be made durable."""
    disk = SimulatedFileSystem()
    directory = disk.open_directory("/store", create=True)
    put(directory, "snap-1.tmp", DATA + b"tail")
    ReceivedCheck(directory, "snap-1.tmp").run()
    directory.sync()

    after = disk.crash_keeping_nothing().open_directory("/store", create=False)

    assert get(after, "snap-1.tmp") == DATA


@bad
def test_received_bytes_that_prove_nothing_are_refused(directory: Directory, data: bytes, reason: str) -> None:
    """Empty, cut, mixed, with a hole: a ContainerError, and the file is as it was."""
    put(directory, "snap-1.tmp", data)
    with pytest.raises(ContainerError, match=reason):
        ReceivedCheck(directory, "snap-1.tmp").run()

    assert get(directory, "snap-1.tmp") == data


def test_what_the_device_forgot_is_seen(disk: FaultyFileSystem, directory: Directory) -> None:
    """Bytes that are on the device other than they were written are refused, since they are read from there."""
    put(directory, "snap-1.tmp", DATA)

    def rot(call: Call) -> None:
        if call.operation == "drop_cache":
            disk.hook = None
            file = directory.open("snap-1.tmp", write=True)
            file.pwritev(5000, [bytes([DATA[5000] ^ 1])])
            file.close()

    disk.hook = rot
    with pytest.raises(ContainerError, match="a chunk is damaged"):
        ReceivedCheck(directory, "snap-1.tmp").run()


def test_every_failure_of_a_received_check(disk: FaultyFileSystem, directory: Directory) -> None:
    """Whichever call fails: OSError, no record, and the file is closed."""
    put(directory, "snap-1.tmp", DATA + b"tail")
    for nth in range(1, 8):
        put(directory, "snap-1.tmp", DATA + b"tail")
        work = ReceivedCheck(directory, "snap-1.tmp")
        disk.fail("*", nth=nth)
        with pytest.raises(OSError, match="Input/output error"):
            work.run()
        with pytest.raises(RuntimeError):
            _ = work.record
        disk.heal()


def test_checksum_is_that_of_the_file(directory: Directory) -> None:
    """The record's checksum is the CRC-32C of all bytes of the file, and its size their number."""
    put(directory, NAME, LARGE)
    record = verify_file(directory, NAME)

    assert (record.checksum, record.size, record.header) == (crc(LARGE), len(LARGE), HEADER)
