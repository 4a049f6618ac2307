"""The scan: which frames are taken, where it stops and why, what it hands out, and how much it reads."""

import pytest

from tests.log.building import (
    OPENING,
    Building,
    Frame,
    control,
    entries,
    flipped,
    reader,
    replaced,
    scan,
)
from walstore._log.frame import IGNORABLE, Flags, Header, Kind
from walstore._log.limits import ALIGN, FRAME_HEADER, HEADER_PAGE
from walstore._log.page import Page
from walstore._log.scan import Fault, Reason, Scanner
from walstore.errors import UnsupportedFormatError


def fault_of(file: bytes, page: Page, *, stop: int | None = None) -> Fault:
    """The fault of a file that has one."""
    scanner, _ = scan(file, page, stop=stop)
    assert scanner.fault is not None
    return scanner.fault


# ---------------------------------------------------------------------------------------------------------------------
# what is taken


@pytest.mark.parametrize("commit_align", [64, 128, 4096])
def test_frames_follow_each_other_at_once_or_behind_zeros_up_to_commit_align(commit_align: int) -> None:
    """All frames of all barriers are found in order, and the scan ends behind the last one, without a fault."""
    building = Building(commit_align=commit_align)
    building.barrier(entries(1), entries(2, b"x" * 64), control(Kind.STATE, body=b""))
    building.barrier(entries(3, b"y" * 5000))
    building.barrier(control(Kind.SYNC))

    scanner, headers = scan(building.file(), building.page)

    assert headers == building.headers
    assert (scanner.end, scanner.last, scanner.frames) == (headers[-1].next_offset, headers[-1], 6)
    assert scanner.fault is None


@pytest.mark.parametrize("size", [HEADER_PAGE, HEADER_PAGE + 10, HEADER_PAGE + FRAME_HEADER])
def test_a_segment_without_its_opening_frame_holds_nothing(size: int) -> None:
    """Zeros behind the header page are no fault, but there is no last frame; the verdict makes something of that."""
    building = Building()

    scanner, headers = scan(building.file()[:HEADER_PAGE].ljust(size, b"\0"), building.page)

    assert (headers, scanner.end, scanner.last, scanner.recent) == ([], HEADER_PAGE, None, ())
    assert scanner.fault is None
    assert scanner.proven_end == HEADER_PAGE


def test_spans_hold_whole_frames_and_cover_them_all() -> None:
    """Each span begins with a frame; its bodies are those of the file; a small window changes nothing else."""
    building = Building(commit_align=128)
    for index in range(1, 30):
        building.barrier(entries(index, bytes([index]) * (index * 37 % 400)), entries(index, b""))
    file = building.file()

    for span_size in (1, 64, 200, 1024, 1 << 20):
        spans = list(Scanner(reader(file), len(file), building.page, span_size=span_size))
        assert [header for span in spans for header in span.headers] == building.headers
        for span in spans:
            assert span.offset == span.headers[0].offset
            assert span.data == file[span.offset : span.offset + len(span.data)]
            assert all(bytes(span.body(header)) == file[header.body_offset : header.end] for header in span.headers)
            assert len(span.data) <= max(span_size, 640) * 17 // 16


def test_a_span_carries_little_that_is_not_frames() -> None:
    """What a window holds behind its last frame is cut off, so that memory is not held by zeros."""
    building = Building(commit_align=64)
    building.barrier(entries(1, b"x" * 5000))
    file = building.file()

    (span,) = Scanner(reader(file), len(file), building.page)

    assert len(span.data) == building.headers[-1].next_offset - HEADER_PAGE


def test_iterating_again_goes_on_where_it_was() -> None:
    """A scan is one pass; `finish` takes what is left of it."""
    building = Building(commit_align=64)
    building.barrier(entries(1, b"x" * 500))
    file = building.file()
    scanner = Scanner(reader(file), len(file), building.page, span_size=128)

    next(iter(scanner))

    assert scanner.frames == 1
    assert scanner.finish() is scanner
    assert (scanner.frames, list(scanner)) == (2, [])


@pytest.mark.parametrize("missing", [1, 20, 59])
def test_a_file_that_ends_in_the_padding_of_a_frame_ends_with_that_frame(missing: int) -> None:
    """In a file that grows, a length that covers the body covers the frame."""
    building = Building(commit_align=64, zero_filled=False)
    building.barrier(entries(1, b""))
    file = building.file()[:-missing]

    scanner, headers = scan(file, building.page)

    assert headers == building.headers
    assert (scanner.end, scanner.fault) == (len(file) + missing, None)


# ---------------------------------------------------------------------------------------------------------------------
# where it stops


def three_frames(**changes: object) -> Building:
    """One frame, and one that is changed, in barriers of their own."""
    building = Building(zero_filled=True)
    building.barrier(entries(1))
    building.barrier(entries(2, b"y" * 100, **changes))
    return building


def test_a_bad_header_is_a_fault_where_a_frame_was_due() -> None:
    """Its offset, the sequence and the link that were due, and no header."""
    building = three_frames()
    last = building.headers[-1]

    fault = fault_of(flipped(building.file(), 8 * last.offset + 70), building.page)

    assert (fault.reason, fault.offset, fault.header) == (Reason.HEADER, last.offset, None)
    assert (fault.sequence, fault.link) == (last.sequence, building.headers[1].crc)
    assert (fault.later.count, fault.later.zeros) == (0, False)


def test_a_bad_body_is_a_fault_with_a_header() -> None:
    """The header is known, though the body is not."""
    building = three_frames()
    last = building.headers[-1]

    fault = fault_of(flipped(building.file(), 8 * last.body_offset), building.page)

    assert (fault.reason, fault.offset, fault.header) == (Reason.BODY, last.offset, last)


@pytest.mark.parametrize("changes", [{"tag": 1}, {"offset": 4096}])
def test_a_frame_of_another_segment_or_place_is_no_frame(changes: dict[str, int]) -> None:
    """Though its number and its link are those that were due, and all its checksums hold."""
    building = three_frames(**changes)

    fault = fault_of(building.file(), building.page)

    assert (fault.reason, fault.header, fault.later.count) == (Reason.HEADER, None, 0)


@pytest.mark.parametrize("bad", [b"\1", b"\0" * 23 + b"\1"])
def test_padding_that_is_not_zero_is_a_fault(bad: bytes) -> None:
    """The zeros behind a body are part of the frame."""
    building = three_frames()
    last = building.headers[-1]

    fault = fault_of(replaced(building.file(), last.end, bad), building.page)

    assert (fault.reason, fault.header) == (Reason.PADDING, last)


def test_padding_that_is_not_zero_is_a_fault_at_the_end_of_a_file_too() -> None:
    """Also where the length cuts the padding short."""
    building = Building(commit_align=64, zero_filled=False)
    building.barrier(entries(1, b""))
    file = building.file()

    fault = fault_of(file[: building.headers[-1].end] + b"\0\1", building.page)

    assert fault.reason is Reason.PADDING


def test_zeros_between_barriers_end_where_something_else_is() -> None:
    """Rule 2: what is neither zero nor a frame, right behind a frame, is a fault at its end, not at the next page."""
    building = three_frames()
    first = building.headers[1]

    fault = fault_of(replaced(building.file(), first.next_offset + 130, b"\1"), building.page)

    assert (fault.reason, fault.offset) == (Reason.HEADER, first.next_offset)
    assert fault.later.first == building.headers[2]


def test_a_body_that_reaches_beyond_the_file_is_not_read() -> None:
    """Neither is anything else of its length allocated."""
    building = Building(zero_filled=False)
    building.barrier(entries(1, b"z" * 5000))
    last = building.headers[-1]

    fault = fault_of(building.file()[: last.end - 1], building.page)

    assert (fault.reason, fault.header) == (Reason.LENGTH, last)


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 41},
        {"sequence": 43},
        {"sequence": 2**64 - 1},
        {"link": 0},
        {"kind": Kind.STATE, "flags": Flags.OPENING},
    ],
)
def test_a_frame_out_of_order_is_a_fault(changes: dict[str, int]) -> None:
    """A number too low or too high, another link, or a second frame that opens the segment."""
    building = three_frames(**changes)

    fault = fault_of(building.file(), building.page)

    assert (fault.reason, fault.header, fault.sequence) == (Reason.ORDER, building.headers[-1], 42)
    assert fault.later.first == building.headers[-1]


@pytest.mark.parametrize(
    "first",
    [
        Frame(Kind.STATE, b"not marked as opening"),
        Frame(Kind.ENTRIES, b"not a state", flags=Flags.OPENING),
        Frame(Kind.STATE, b"not this segment's number", flags=Flags.OPENING, sequence=41),
        Frame(Kind.STATE, b"not this segment's page", flags=Flags.OPENING, link=1),
    ],
)
def test_the_first_frame_must_open_the_segment(first: Frame) -> None:
    """It is a STATE with the flag, repeats the predecessor's last sequence, and is linked to its page."""
    building = Building()
    del building.data[HEADER_PAGE:], building.headers[:]
    other = Building()
    other.data, other.headers, other._sequence = building.data, building.headers, 39
    other._link = building.page.crc
    other.barrier(first)

    scanner, headers = scan(other.file(), building.page)

    assert headers == []
    assert scanner.fault is not None
    assert (scanner.fault.reason, scanner.fault.offset) == (Reason.ORDER, HEADER_PAGE)


# ---------------------------------------------------------------------------------------------------------------------
# the successor's word


def test_nothing_at_or_beyond_the_recorded_end_is_read() -> None:
    """PROTOCOL A5: the file may hold anything there, or end there."""
    building = three_frames()
    end = building.headers[1].next_offset
    file = building.file()

    scanner, headers = scan(file[:end], building.page, stop=end)
    full, _ = scan(replaced(file, end, b"\xff" * 500), building.page, stop=end)

    assert headers == building.headers[:2]
    assert scanner.fault is full.fault is None
    assert scanner.end == full.end == end


@pytest.mark.parametrize("beyond", [-ALIGN, ALIGN, 2 * 4096])
def test_frames_must_end_exactly_at_the_recorded_end(beyond: int) -> None:
    """Short of it, or with a frame across it, is a fault, though every frame is whole."""
    building = three_frames()
    last = building.headers[-1]

    fault = fault_of(building.file(), building.page, stop=last.next_offset + beyond)

    assert fault.reason is (Reason.SHORT if beyond > 0 else Reason.LENGTH)
    assert fault.offset == (last.next_offset if beyond > 0 else last.offset)


def test_a_file_shorter_than_the_recorded_end_is_a_fault() -> None:
    """What is not there cannot be read, and is missed."""
    building = three_frames()

    fault = fault_of(
        building.file()[: building.headers[-1].offset], building.page, stop=building.headers[-1].next_offset
    )

    assert (fault.reason, fault.offset) == (Reason.SHORT, building.headers[1].next_offset)


# ---------------------------------------------------------------------------------------------------------------------
# devices and the future


def test_a_read_error_ends_the_scan_as_a_fault() -> None:
    """What came before is kept, nothing is raised, and the fault says what the device said."""
    building = three_frames()
    file = building.file()

    def read(offset: int, length: int) -> bytes:
        if offset + length > building.headers[-1].offset:
            raise OSError(5, "Input/output error")
        return file[offset : offset + length]

    scanner = Scanner(read, len(file), building.page, span_size=4096).finish()

    assert scanner.last == building.headers[1]
    assert scanner.fault is not None
    assert (scanner.fault.reason, scanner.fault.error) == (Reason.READ, "[Errno 5] Input/output error")


def test_a_short_read_inside_the_file_is_a_read_error() -> None:
    """A file that got shorter since its size was asked for is not taken for a torn one."""
    building = three_frames()
    file = building.file()

    scanner = Scanner(lambda offset, length: file[offset : offset + length], len(file) + 1, building.page).finish()

    assert scanner.fault is not None
    assert (scanner.fault.reason, "inside the file" in str(scanner.fault.error)) == (Reason.READ, True)


def test_a_read_error_behind_a_fault_counts_as_one_too() -> None:
    """Without all of the bytes behind a fault, nobody can say what it means."""
    building = three_frames()
    file = flipped(building.file(), 8 * building.headers[1].offset)
    unread = list(range(0, len(file), 4096))

    def read(offset: int, length: int) -> bytes:
        if offset in unread:
            unread.remove(offset)
            return file[offset : offset + length]
        raise OSError(5, "only once")

    scanner = Scanner(read, len(file), building.page, span_size=4096).finish()

    assert scanner.last == building.headers[0]
    assert scanner.fault is not None
    assert scanner.fault.reason is Reason.READ


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"kind": 0x42}, "unknown kind 0x42"), ({"flags": 0x80}, "unknown flags 0x80 in a frame of kind ENTRIES")],
)
def test_a_frame_of_the_future_is_refused_behind_those_before_it(changes: dict[str, int], message: str) -> None:
    """Known frames come first; then the error says where the other one is."""
    building = three_frames(**changes)
    file = building.file()
    scanner = Scanner(reader(file), len(file), building.page)

    spans = iter(scanner)
    assert next(spans).headers == building.headers[:2]
    with pytest.raises(UnsupportedFormatError, match=message) as caught:
        next(spans)

    last = building.headers[-1]
    assert (caught.value.offset, caught.value.frame, caught.value.index) == (last.offset, last.sequence, 2)


def test_a_frame_that_may_be_ignored_is_taken() -> None:
    """It is part of the chain; whoever replays passes over it."""
    building = three_frames(kind=0x42 | IGNORABLE)

    assert scan(building.file(), building.page)[1] == building.headers


def test_the_opening_frame_as_it_is_built() -> None:
    """The builder of these tests agrees with the format: the opening frame uses up no number."""
    building = Building(start_sequence=7)
    first: Header = building.headers[0]

    assert (first.kind, first.flags, first.sequence, first.prev_link) == (
        Kind.STATE,
        Flags.OPENING,
        7,
        building.page.crc,
    )
    assert OPENING.body == building.file()[first.body_offset : first.end]
