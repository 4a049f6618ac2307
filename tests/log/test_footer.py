"""The footer of a sealed segment: the same headers come out that went in, and a hostile footer does no harm."""

import struct
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise

import attrs
import pytest
from hypothesis import given, strategies as st

from tests.log.reference import bit_flips, put, with_crc
from walstore._log.checksum import Buffer
from walstore._log.control import BodyError
from walstore._log.footer import (
    TRAILER_MAGIC,
    Columns,
    SealBody,
    Trailer,
    decode_seal,
    encode_seal,
    parse_trailer,
    seal_body_len,
    seal_room,
)
from walstore._log.frame import IGNORABLE, Flags, Header, Kind, make_header, parse_header
from walstore._log.limits import (
    ALIGN,
    FRAME_HEADER,
    HEADER_PAGE,
    MAX_FRAME_BODY,
    MAX_FRAMES_PER_SEGMENT,
    MAX_GROUP,
    TRAILER,
)

TAG, PAGE_CRC, WHOLE = 0x61626364, 0x71727374, 0x81828384

u8s, u32s, u64s = st.integers(0, 2**8 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@st.composite
def chains(draw: st.DrawFn) -> list[Header]:
    """The headers of a segment: any fields, each frame somewhere behind the one before it."""
    count = draw(st.integers(1, 12))
    sequence, offset, link = draw(st.integers(0, 2**64 - count)), HEADER_PAGE, draw(u32s)
    tag, headers = draw(u32s), []
    for _ in range(count):
        header = make_header(
            kind=draw(u8s.filter(lambda kind: kind & ~IGNORABLE)),
            sequence=sequence,
            tag=tag,
            offset=offset,
            body_len=draw(st.integers(0, 10**6)),
            body_crc=draw(u32s),
            prev_link=link,
            sync_lag=draw(u8s),
            group=draw(st.integers(0, MAX_GROUP)),
            first_index=draw(u64s),
            term=draw(u64s),
            count=draw(u32s),
            flags=draw(u8s),
            table_width=draw(st.none() | u8s),
        )
        headers.append(header)
        sequence, link = sequence + 1, header.crc
        offset = header.next_offset + ALIGN * draw(st.integers(0, 3))
    return headers


def chain(count: int) -> list[Header]:
    """A plain chain: a STATE frame and batches of two entries."""
    headers: list[Header] = []
    offset, link = HEADER_PAGE, PAGE_CRC
    for at in range(count):
        header = make_header(
            kind=Kind.ENTRIES if at else Kind.STATE,
            sequence=0x0102030405060708 + at,
            tag=TAG,
            offset=offset,
            body_len=100 + at,
            body_crc=0x11121314 + at,
            prev_link=link,
            sync_lag=1 + at,
            first_index=0x2122232425262728 + at,
            term=0x3132333435363738 + at,
            count=2 * at,
            flags=Flags.MARK if at else Flags.OPENING,
        )
        headers.append(header)
        offset, link = header.next_offset, header.crc
    return headers


def sealed(headers: Sequence[Header]) -> bytes:
    """The footer right behind the last frame."""
    return encode_seal(headers, WHOLE, by_close=True, offset=headers[-1].next_offset)


BODY = sealed(chain(2))
COLUMNS_AT = 24
TRAILER_AT = len(BODY) - TRAILER
GOLDEN = bytes.fromhex(
    "0807060504030201 02000000 84838281 01000000 00000000"
    "2827262524232221 2927262524232221 3837363534333231 3937363534333231"
    "40000000 43000000  64000000 65000000  14131211 15131211"
    "1e4ece4b 99818490  01000000 02000000  00000000 02000000"
    "02 01  02 01  00 04" + "00" * 18
)
GOLDEN_TRAILER = bytes.fromhex("f757414c5345414c 8011000000000000 c0000000" + "00" * 40 + "78b8fe9e")


# -- the bytes -----------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_footer_never_change() -> None:
    """Head, columns, zeros and trailer, each field at its place: this is the format."""
    assert BODY == GOLDEN + GOLDEN_TRAILER
    assert with_crc(GOLDEN_TRAILER) == GOLDEN_TRAILER


@given(chains(), u32s, st.booleans(), st.integers(0, 100), st.sampled_from([bytes, bytearray, memoryview]))
def test_the_headers_come_back_as_they_were(
    headers: list[Header], whole: int, by_close: bool, gap: int, kind: Callable[[bytes], Buffer]
) -> None:
    """All fields of all rows, those included that have no column."""
    offset = headers[-1].next_offset + ALIGN * gap
    body = encode_seal(headers, whole, by_close, offset=offset)
    seal = decode_seal(kind(body))

    assert seal.headers(tag=headers[0].tag, first=headers[0].prev_link) == headers
    assert (seal.whole, seal.by_close, seal.offset) == (whole, by_close, offset)
    assert (seal.rows, seal.start_sequence) == (len(headers), headers[0].sequence)
    assert seal.last_link == headers[-1].crc
    assert parse_trailer(kind(body[-TRAILER:])) == Trailer(offset, len(body))


def test_rebuilt_headers_are_headers() -> None:
    """Of the class, with its properties, and the same bytes as those in the file."""
    headers = chain(5)
    rebuilt = decode_seal(sealed(headers)).headers(tag=TAG, first=PAGE_CRC)

    assert all(type(header) is Header for header in rebuilt)
    assert [parse_header(header.pack(), tag=TAG, offset=header.offset) for header in rebuilt] == headers
    assert all(later.prev_link == header.crc for header, later in pairwise(rebuilt))


@pytest.mark.parametrize("rows", [1, 2, 3, 62, 63, 64, 1000])
def test_a_file_cut_at_the_end_of_the_seal_ends_with_the_trailer(rows: int) -> None:
    """The frame's end is a multiple of 64, and the room that is kept for it is exact."""
    body = sealed(chain(rows))

    assert len(body) == seal_body_len(rows)
    assert (FRAME_HEADER + len(body)) % ALIGN == 0
    assert seal_room(rows) == FRAME_HEADER + len(body)
    assert body[-TRAILER:].startswith(TRAILER_MAGIC)


def test_the_largest_segment_can_be_sealed() -> None:
    """As many rows as a segment may have frames, far within a frame's body."""
    headers = chain(MAX_FRAMES_PER_SEGMENT)
    body = sealed(headers)

    assert decode_seal(body).headers(tag=TAG, first=PAGE_CRC) == headers
    assert len(body) < MAX_FRAME_BODY // 100


# -- what is not written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"magic": 1}, {"tag": 1}, {"reserved": 1}, {"sequence": 1}, {"prev_link": 1}],
    ids=lambda change: next(iter(change)),
)
def test_headers_of_two_chains_are_not_sealed(change: dict[str, int]) -> None:
    """What has no column has to follow from the rest."""
    headers = chain(3)
    headers[1] = headers[1]._replace(**change)

    with pytest.raises(ValueError, match="not one chain"):
        sealed(headers)


def test_a_row_cannot_be_left_out() -> None:
    """The chain has to be whole."""
    first, _, last = chain(3)

    with pytest.raises(ValueError, match="not one chain"):
        sealed([first, last])


def test_an_empty_segment_is_not_sealed() -> None:
    """Each segment begins with a STATE frame."""
    with pytest.raises(ValueError, match="without a frame"):
        encode_seal([], 0, by_close=False, offset=HEADER_PAGE)


def test_a_segment_is_sealed_from_its_first_frame_on() -> None:
    """And only behind its last."""
    headers = chain(3)

    with pytest.raises(ValueError, match="one behind the other"):
        sealed(headers[1:])
    with pytest.raises(ValueError, match="one behind the other"):
        encode_seal(headers, 0, by_close=False, offset=headers[-1].offset)
    with pytest.raises(ValueError, match="no SEAL frame starts at 4481"):
        encode_seal(headers[:2], 0, by_close=False, offset=4481)


# -- what is refused -----------------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_trailer_is_seen() -> None:
    """No bit of the 512 can change unnoticed."""
    for bit, damaged in bit_flips(BODY[-TRAILER:]):
        assert parse_trailer(damaged) is None, bit
        with pytest.raises(BodyError):
            decode_seal(BODY[:-TRAILER] + damaged)


def trailer(offset: int = 0x1180, body_len: int = 192, magic: bytes = TRAILER_MAGIC, reserved: int = 0) -> bytes:
    """A trailer with a right CRC, whatever it says."""
    return with_crc(magic + struct.pack("<QI", offset, body_len) + reserved.to_bytes(40, "big") + bytes(4))


@pytest.mark.parametrize(
    ("data", "valid"),
    [
        (trailer(), True),
        (trailer(offset=HEADER_PAGE + FRAME_HEADER), True),
        (trailer(offset=HEADER_PAGE), False),
        (trailer(offset=0), False),
        (trailer(offset=0x1181), False),
        (trailer(body_len=128), False),
        (trailer(body_len=193), False),
        (trailer(body_len=MAX_FRAME_BODY), True),
        (trailer(body_len=MAX_FRAME_BODY + ALIGN), False),
        (trailer(body_len=2**32 - 64), False),
        (trailer(magic=b"\xf7WALSEAM"), False),
        (trailer(reserved=1), False),
        (with_crc(bytes(TRAILER)), False),
        (trailer()[:-1], False),
        (trailer() + b"\0", False),
        (b"", False),
    ],
)
def test_a_right_checksum_does_not_make_a_trailer(data: bytes, valid: bool) -> None:
    """Each rule refuses on its own, right at its border."""
    assert (parse_trailer(data) is not None) == valid


@pytest.mark.parametrize("length", [0, 1, 63, 64, 128, len(BODY) - 1])
def test_a_cut_footer_is_refused(length: int) -> None:
    """From either end."""
    for data in (BODY[:length], BODY[len(BODY) - length :]):
        with pytest.raises(BodyError, match="do not end with a trailer that names their length"):
            decode_seal(data)


@pytest.mark.parametrize(
    ("at", "size", "value", "message"),
    [
        (8, 4, 0, "a footer of 0 rows in 192 bytes"),
        (8, 4, 3, "a footer of 3 rows in 192 bytes"),
        (8, 4, 2**32 - 1, "a footer of 4294967295 rows in"),
        (16, 4, 2, "reserved bytes"),
        (20, 4, 1, "reserved bytes"),
        (TRAILER_AT - 1, 1, 1, "reserved bytes"),
        (TRAILER_AT - 18, 1, 1, "reserved bytes"),
        (0, 8, 2**64 - 1, "run out of sequence numbers"),
        (COLUMNS_AT + 32, 4, 65, "one behind the other"),
        (COLUMNS_AT + 36, 4, 66, "one behind the other"),
        (COLUMNS_AT + 40, 4, 129, "one behind the other"),
        (COLUMNS_AT + 44, 4, 129, "one behind the other"),
        (COLUMNS_AT + 80, 1, 0, "a row of the footer is of kind 0"),
        (COLUMNS_AT + 81, 1, IGNORABLE, "a row of the footer is of kind 0"),
    ],
)
def test_a_hostile_footer_is_refused(at: int, size: int, value: int, message: str) -> None:
    """Its trailer is right; each rule refuses on its own, and says so."""
    with pytest.raises(BodyError, match=message):
        decode_seal(put(BODY, at, value, size))


def test_the_last_sequence_may_be_the_last_number() -> None:
    """64 bits are the end, and not one before it."""
    assert decode_seal(put(BODY, 0, 2**64 - 2, 8)).headers(tag=TAG, first=0)[-1].sequence == 2**64 - 1


def test_a_hostile_number_of_rows_allocates_nothing() -> None:
    """It is compared with the length that is there before anything of its size is made."""
    data = put(BODY, 8, 2**32 - 1, 4)
    tracemalloc.start()
    try:
        with pytest.raises(BodyError):
            decode_seal(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16384


@given(st.binary(max_size=300), st.integers(0, 6), st.booleans())
def test_any_bytes_are_a_footer_or_an_error_of_ours(data: bytes, rows: int, likely: bool) -> None:
    """Hostile bytes, behind a right head and in front of a right trailer too, raise nothing else."""
    if likely:
        body = seal_body_len(rows) - TRAILER
        data = put(data.ljust(body, b"\0")[:body], 8, rows, 4) + trailer(body_len=body + TRAILER)
    try:
        seal = decode_seal(data)
    except BodyError:
        return
    assert encode_like(seal) == data


@given(chains(), st.data())
def test_a_changed_footer_encodes_to_what_was_read(headers: list[Header], data: st.DataObject) -> None:
    """One footer has one encoding: what is accepted, encodes to the very bytes it came from."""
    body = bytearray(sealed(headers))
    body[data.draw(st.integers(0, len(body) - TRAILER - 1))] ^= data.draw(st.integers(1, 255))
    try:
        seal = decode_seal(body)
    except BodyError:
        return
    assert encode_like(seal) == body


def encode_like(seal: SealBody) -> bytes:
    """The footer of the headers that were read from a footer."""
    return encode_seal(seal.headers(tag=TAG, first=PAGE_CRC), seal.whole, seal.by_close, offset=seal.offset)


def test_a_footer_is_short_in_messages() -> None:
    """Thousands of rows do not flood a log."""
    seal = decode_seal(sealed(chain(1000)))

    assert len(repr(seal)) < 200
    assert attrs.evolve(seal, columns=Columns(*seal.columns)) == seal
