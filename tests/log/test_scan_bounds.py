"""The scan: what it knows to be proven, and how much it reads for that."""

from hypothesis import given, strategies as st

from tests.log.building import Building, control, entries, reader, scan
from walstore._log.frame import Kind, make_header
from walstore._log.limits import LAG_UNKNOWN
from walstore._log.page import Page
from walstore._log.scan import Scanner, durable_point, proven_end


def test_a_later_frame_proves_what_was_durable_when_it_was_submitted() -> None:
    """The last barrier is proven by nothing, be it of one frame or of many; the birth is proven by the name."""
    building = Building(entries(1), commit_align=64)
    born = building.headers[-1]
    assert scan(building.file(), building.page)[0].proven_end == born.next_offset

    building.barrier(entries(2), entries(3), entries(4))
    assert scan(building.file(), building.page)[0].proven_end == born.next_offset

    building.barrier(control(Kind.SYNC))
    assert scan(building.file(), building.page)[0].proven_end == building.headers[-2].next_offset


def test_unknown_and_impossible_durable_points_prove_nothing() -> None:
    """255 is unknown; a frame that calls itself durable is not believed; the one before them still counts."""
    building = Building(commit_align=64)
    building.barrier(entries(1))
    building.barrier(entries(2))
    proven = building.headers[-2].next_offset
    building.barrier(entries(3, lag=LAG_UNKNOWN))
    building.barrier(entries(4, lag=0))

    assert scan(building.file(), building.page)[0].proven_end == proven
    assert [durable_point(header) for header in building.headers] == [0, 40, 41, 0, 0]


def test_a_proof_may_lie_in_an_earlier_span() -> None:
    """A barrier of many frames, read in small windows, is proven as a whole; but not beyond 254 frames."""
    building = Building(commit_align=64, size=1 << 17)
    building.barrier(*(entries(index) for index in range(1, 300)))
    building.barrier(*(entries(index) for index in range(300, 554)))

    scanner, _ = scan(building.file(), building.page, span_size=1000)

    assert scanner.proven_end == building.headers[299].next_offset
    assert len(scanner.recent) == 512


def test_proven_end_of_a_piece_that_does_not_hold_the_frame() -> None:
    """Nothing is claimed about a frame that is not there."""
    header = make_header(
        kind=Kind.SYNC, sequence=9, tag=1, offset=8192, body_len=0, body_crc=0, prev_link=0, sync_lag=1
    )

    assert proven_end([header]) == 0
    assert proven_end([header._replace(lag=LAG_UNKNOWN)]) == 0


# ---------------------------------------------------------------------------------------------------------------------
# how much is read


def counted(file: bytes, page: Page, span_size: int) -> tuple[Scanner, list[tuple[int, int]]]:
    """A finished scan, and all its reads."""
    reads = []
    inside = reader(file)

    def read(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return inside(offset, length)

    return Scanner(read, len(file), page, span_size=span_size).finish(), reads


def test_windows_are_bounded_except_for_one_long_frame() -> None:
    """Only a frame whose header has proven itself is read beyond the window, and only once."""
    building = Building(size=1 << 18)
    building.barrier(entries(1))
    building.barrier(entries(2, b"x" * 100_000))
    building.barrier(entries(3))

    scanner, reads = counted(building.file(), building.page, 8192)

    frame = building.headers[2]
    assert scanner.frames == 4
    behind = building.barriers[-1].stop
    assert [read for read in reads if read[1] > 8192] == [
        (frame.offset, frame.next_offset - frame.offset),
        (behind, (1 << 18) - behind),  # zeros, compared in windows of a mebibyte
    ]


@given(st.lists(st.integers(0, 3000), max_size=12), st.sampled_from([64, 512, 4096]), st.integers(1, 9000))
def test_the_window_changes_nothing_but_the_spans(lengths: list[int], commit_align: int, span_size: int) -> None:
    """Any bodies, any alignment, any window: the same headers, the same end; each byte is read a few times at most."""
    building = Building(commit_align=commit_align, size=1 << 17)
    for index, length in enumerate(lengths):
        frames = [entries(index + 1, bytes([index + 1]) * length)] * (1 + length % 3)
        building.barrier(*frames)
    file = building.file()

    scanner, reads = counted(file, building.page, span_size)

    assert scanner.frames == len(building.headers)
    assert scanner.fault is None
    assert sum(length for _, length in reads) <= 3 * len(file)


def test_a_body_that_cannot_be_there_is_not_read_for() -> None:
    """A length beyond the end of the file is refused by its header alone; the rest is read as zeros are, in windows."""
    building = Building(commit_align=64, zero_filled=False)
    building.barrier(entries(1, b"x" * 100_000))
    header = building.headers[-1]

    scanner, reads = counted(building.file()[: header.end - 1], building.page, 256)

    assert scanner.fault is not None
    assert max(length for _, length in reads) == 256
