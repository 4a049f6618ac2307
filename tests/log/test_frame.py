"""The frame header, byte for byte: what is valid, what is refused, and by which rule; with the checksum under it."""

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from tests.log.reference import bit_flips, slow_crc
from walstore._log import frame
from walstore._log.checksum import Buffer, crc
from walstore._log.frame import (
    FRAME_STRUCT,
    IGNORABLE,
    KINDS,
    MAGIC,
    Flags,
    Header,
    Kind,
    body_matches,
    contradiction,
    entries_table_len,
    header_fault,
    make_header,
    pack_header,
    parse_header,
    segment_tag,
    unsupported,
)
from walstore._log.limits import (
    ALIGN,
    FRAME_HEADER,
    LAG_UNKNOWN,
    MAX_ENTRIES_PER_FRAME,
    MAX_FRAME_BODY,
    MAX_GROUP,
    align_up,
)

TAG = 0x0A0B0C0D
FIELDS: dict[str, int] = {
    "kind": Kind.ENTRIES,
    "sequence": 0x0102030405060708,
    "tag": TAG,
    "offset": 4096,
    "body_len": 300,
    "body_crc": 0x11121314,
    "prev_link": 0x21222324,
    "sync_lag": 1,
    "group": 2,
    "first_index": 0x3132333435363738,
    "term": 0x4142434445464748,
    "count": 3,
    "flags": Flags.MARK,
}
GOLDEN = bytes.fromhex(
    "f757414c e7fc3109 0807060504030201 0d0c0b0a 40000000 2c010000 14131211"
    "24232221 01020000 3837363534333231 4847464544434241 03000000 01 01 04 00"
)

u8s, u32s, u64s = st.integers(0, 2**8 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
headers = st.builds(
    make_header,
    kind=u8s.filter(lambda kind: kind & ~IGNORABLE),
    sequence=u64s,
    tag=u32s,
    offset=u32s.map(lambda units: units * ALIGN),
    body_len=st.integers(0, MAX_FRAME_BODY),
    body_crc=u32s,
    prev_link=u32s,
    sync_lag=u8s,
    group=st.integers(0, MAX_GROUP),
    first_index=u64s,
    term=u64s,
    count=u32s,
    flags=u8s,
    table_width=st.none() | u8s,
)


def golden() -> Header:
    """A header with a value of its own in each field."""
    return make_header(**FIELDS)


def resealed(header: Header) -> bytes:
    """The header's bytes under a right CRC, whatever its fields say."""
    return header._replace(header_crc=slow_crc(header.pack()[8:])).pack()


# -- the checksum and the sizes under it ---------------------------------------------------------------------------


def test_the_checksum_is_crc_32c() -> None:
    """The published check value, and the definition bit by bit."""
    assert crc(b"123456789") == slow_crc(b"123456789") == 0xE3069283
    assert crc(b"") == 0


@given(st.binary(max_size=200), st.integers(0, 200), st.sampled_from([bytes, bytearray, memoryview]))
def test_a_checksum_goes_on_from_what_came_before(data: bytes, cut: int, kind: Callable[[bytes], Buffer]) -> None:
    """Two pieces one after another have the checksum of the whole, in any kind of buffer."""
    assert crc(kind(data[cut:]), crc(kind(data[:cut]))) == slow_crc(data)


@given(st.integers(0, 2**64), st.sampled_from([1, 64, 512, 4096]))
def test_align_up_is_the_next_multiple(n: int, to: int) -> None:
    """Never below, always a multiple, never a whole step too far."""
    assert n <= align_up(n, to) < n + to
    assert align_up(n, to) % to == 0


# -- the bytes -----------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_header_never_change() -> None:
    """Each field at its place, little endian, and the CRC of bytes 8..63 in front: this is the format."""
    assert pack_header(**FIELDS) == GOLDEN
    assert parse_header(GOLDEN, 0) == golden()
    assert slow_crc(GOLDEN[8:]).to_bytes(4, "little") == GOLDEN[4:8]


def test_the_numbers_of_kinds_and_flags_never_change() -> None:
    """They are stored, so they are for ever."""
    assert {kind.name: kind.value for kind in Kind} == {
        "ENTRIES": 1,
        "STATE": 2,
        "TRUNCATE": 3,
        "SNAPSHOT": 4,
        "SYNC": 5,
        "SEAL": 6,
        "CLOSE": 7,
    }
    flags = (Flags.MARK, Flags.OPENING, Flags.OVERWRITE, Flags.TERMS, Flags.KINDS)
    assert flags == (0x01, 0x02, 0x04, 0x08, 0x10)
    assert {kind: (row.name, row.flags, row.table_width) for kind, row in KINDS.items()} == {
        1: ("ENTRIES", 0x1D, 4),
        2: ("STATE", 0x02, 0),
        3: ("TRUNCATE", 0, 0),
        4: ("SNAPSHOT", 0, 0),
        5: ("SYNC", 0, 0),
        6: ("SEAL", 0, 0),
        7: ("CLOSE", 0, 0),
    }


@given(headers, st.binary(max_size=80), st.sampled_from([bytes, bytearray, memoryview]))
def test_a_header_comes_back_as_it_was(header: Header, before: bytes, kind: Callable[[bytes], Buffer]) -> None:
    """Whatever the fields hold, anywhere in any kind of buffer; and the right tag and place do not disturb."""
    buffer = kind(before + header.pack() + before)

    assert parse_header(buffer, len(before)) == header
    assert parse_header(buffer, len(before), tag=header.tag, offset=header.offset) == header
    assert header_fault(buffer, len(before), tag=header.tag, offset=header.offset) is None


def test_a_header_says_where_its_frame_is() -> None:
    """Bytes, from the units of 64 and the length of the body."""
    header = golden()

    assert (header.offset, header.body_offset, header.end, header.next_offset) == (4096, 4160, 4460, 4480)
    assert make_header(**FIELDS | {"body_len": 64}).next_offset == 4096 + 128
    assert (header.sync_lag, header.group, header.lag) == (1, 2, 0x201)
    assert header.crc == header.header_crc == crc(header.pack()[8:])


@pytest.mark.parametrize(
    ("sequence", "lag", "proven"),
    [(10, 1, 9), (10, 10, 0), (10, 0, 10), (1000, 254, 746), (1000, LAG_UNKNOWN, 0), (3, 4, 0), (0, 0, 0)],
)
def test_a_frame_proves_what_was_durable_before_it(sequence: int, lag: int, proven: int) -> None:
    """Sequence less lag; nothing where the lag is unknown, or reaches in front of the first frame."""
    header = make_header(**FIELDS | {"sequence": sequence, "sync_lag": lag, "group": 7})

    assert header.durable_sequence == proven


def test_what_is_not_said_is_zero() -> None:
    """No group, no entries, no flags; the lag is unknown, so that nothing is proven by omission."""
    bare = {"kind": Kind.SYNC, "sequence": 1, "tag": TAG, "offset": 0, "body_len": 0, "body_crc": 0, "prev_link": 0}
    header = make_header(**bare)

    assert header[8:] == (LAG_UNKNOWN, 0, 0, 0, Kind.SYNC, 0, 0, 0)
    assert parse_header(pack_header(**bare)) == header


def test_the_largest_numbers_pass() -> None:
    """At each limit a header is made and read."""
    header = make_header(**FIELDS | {"body_len": MAX_FRAME_BODY, "group": MAX_GROUP, "offset": 64 * (2**32 - 1)})

    assert parse_header(header.pack()) == header
    assert header_fault(header.pack()) is None
    assert (header.body_len, header.group, header.offset) == (MAX_FRAME_BODY, MAX_GROUP, 64 * (2**32 - 1))


def test_a_large_lag_is_stored_as_unknown() -> None:
    """One byte holds it; what does not fit proves nothing rather than something else."""
    assert make_header(**FIELDS | {"sync_lag": 256}).sync_lag == LAG_UNKNOWN


def test_the_tag_names_store_segment_and_life() -> None:
    """The CRC-32C of uuid, segment sequence and salt; another of any of them is another tag."""
    uuid = bytes(range(16))
    tag = segment_tag(uuid, 2, 3)

    assert tag == slow_crc(uuid + (2).to_bytes(8, "little") + (3).to_bytes(8, "little")) == 0x991253AB
    assert len({tag, segment_tag(uuid[::-1], 2, 3), segment_tag(uuid, 3, 3), segment_tag(uuid, 2, 4)}) == 4


# -- what is refused -----------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_seen() -> None:
    """No bit of the 512 can change unnoticed."""
    for bit, damaged in bit_flips(golden().pack()):
        assert parse_header(damaged, 0) is None, bit
        assert header_fault(damaged, 0), bit


@pytest.mark.parametrize("at", [-64, -1, 1, 63, 64, 10**9])
def test_a_header_must_be_there_whole(at: int) -> None:
    """No byte in front of the buffer and none behind it is made up."""
    packed = golden().pack()

    assert parse_header(packed, at) is None
    assert "of the 64 bytes" in str(header_fault(packed, at))


def test_zeros_are_never_a_frame() -> None:
    """Not even where the CRC of zeros would be right: kind 0 is none, ignorable or not."""
    assert parse_header(bytes(64), 0) is None
    assert header_fault(bytes(64), 0) == "the magic is 0x00000000, not 0x4c4157f7"
    for kind in (0, IGNORABLE):
        assert parse_header(resealed(golden()._replace(kind=kind)), 0) is None
        assert "not a kind" in str(header_fault(resealed(golden()._replace(kind=kind)), 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"magic": MAGIC ^ 1}, "the magic is 0x4c4157f6, not 0x4c4157f7"),
        ({"reserved": 1}, "the reserved byte is 1, not 0"),
        ({"body_len": MAX_FRAME_BODY + 1}, "the body length 268435457 is above the limit 268435456"),
        ({"tag": TAG + 1}, "the tag is 0x0a0b0c0e: bytes of another segment or store"),
        ({"offset_units": 65}, "the frame was written for offset 4160, not 4096"),
    ],
)
def test_a_right_checksum_is_not_enough(change: dict[str, int], message: str) -> None:
    """Each rule refuses on its own, and says so."""
    packed = resealed(golden()._replace(**change))

    assert parse_header(packed, 0, tag=TAG, offset=4096) is None
    assert header_fault(packed, 0, tag=TAG, offset=4096) == message


def test_a_wrong_checksum_is_named() -> None:
    """With what it says and what the bytes have."""
    packed = golden()._replace(term=9).pack()

    assert header_fault(packed, 0) == f"the header's CRC says 0x0931fce7, its bytes have {crc(packed[8:]):#010x}"


@given(st.binary(max_size=130), st.integers(-70, 140), st.booleans(), st.none() | u32s, st.none() | u32s)
def test_any_bytes_have_an_answer(data: bytes, at: int, likely: bool, tag: int | None, offset: int | None) -> None:
    """Either a header or a reason against it, never both, never neither, never an exception."""
    if likely and len(data) >= FRAME_HEADER:
        data = resealed(Header(MAGIC, *FRAME_STRUCT.unpack(data[:FRAME_HEADER])[1:])) + data[FRAME_HEADER:]
    refused = parse_header(data, at, tag=tag, offset=offset) is None

    assert refused == (header_fault(data, at, tag=tag, offset=offset) is not None)


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 4097},
        {"offset": 64 * 2**32},
        {"offset": -64},
        {"group": MAX_GROUP + 1},
        {"group": -1},
        {"sync_lag": -1},
        {"body_len": MAX_FRAME_BODY + 1},
        {"body_len": -1},
        {"kind": 0},
        {"kind": IGNORABLE},
        {"kind": 256},
        {"sequence": 2**64},
        {"count": 2**32},
        {"flags": 256},
    ],
)
def test_what_could_not_be_read_is_not_made(change: dict[str, int]) -> None:
    """A header that the parser would refuse, or that does not fit, is a ValueError before a byte exists."""
    with pytest.raises(ValueError):
        pack_header(**FIELDS | change)


# -- what it means -------------------------------------------------------------------------------------------------


def test_a_body_is_held_to_its_length_and_checksum() -> None:
    """Both must agree."""
    body = b"x" * 300
    header = make_header(**FIELDS | {"body_crc": crc(body)})

    assert body_matches(header, body)
    assert body_matches(header, memoryview(body))
    assert not body_matches(header, body[:-1])
    assert not body_matches(header, body[:-1] + b"y")
    assert not body_matches(header._replace(body_len=299), body)


@pytest.mark.parametrize("kind", Kind)
def test_flags_that_a_kind_does_not_have_are_unsupported(kind: Kind) -> None:
    """Bit by bit, for each kind: only what the table lists is understood."""
    for bit in range(8):
        header = make_header(**FIELDS | {"kind": kind, "flags": 1 << bit})
        assert (unsupported(header) is None) == bool(KINDS[kind].flags >> bit & 1)
    assert unsupported(make_header(**FIELDS | {"kind": kind, "flags": KINDS[kind].flags})) is None


def test_an_unknown_kind_is_unsupported_unless_it_may_be_ignored() -> None:
    """The bit 0x80 is what the future uses to let this version pass."""
    for kind in range(1, 0x80):
        known = kind in KINDS
        assert (unsupported(make_header(**FIELDS | {"kind": kind, "flags": 0})) is None) == known
        ignorable = make_header(**FIELDS | {"kind": kind | IGNORABLE, "flags": 0xFF})
        assert unsupported(ignorable) is None
        assert ignorable.ignorable
        assert ignorable.table_width == 0
    assert unsupported(make_header(**FIELDS | {"kind": 0x7F})) == "unknown kind 0x7f"
    assert unsupported(make_header(**FIELDS | {"flags": 0xC1})) == "unknown flags 0xc0 in a frame of kind ENTRIES"
    assert [golden().kind_name, golden().ignorable] == ["ENTRIES", False]


@pytest.mark.parametrize(
    ("flags", "table"),
    [
        (0, 3 * 4),
        (Flags.MARK, 8 + 3 * 4),
        (Flags.TERMS, 3 * 12),
        (Flags.KINDS, 3 * 5),
        (Flags.OVERWRITE, 3 * 4),
        (Flags.MARK | Flags.TERMS | Flags.KINDS | Flags.OVERWRITE, 8 + 3 * 13),
    ],
)
def test_the_tables_of_a_body_must_fit_into_it(flags: int, table: int) -> None:
    """The last length that holds them is accepted, one byte less is a contradiction."""
    term = 0 if flags & Flags.TERMS else 5
    fields = FIELDS | {"flags": flags, "term": term}

    assert entries_table_len(make_header(**fields)) == table
    assert contradiction(make_header(**fields | {"body_len": table})) is None
    assert "tables need" in str(contradiction(make_header(**fields | {"body_len": table - 1})))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table_width": 8}, "ENTRIES with table_width 8, not 4"),
        ({"kind": Kind.STATE, "count": 0, "table_width": 4}, "STATE with table_width 4, not 0"),
        ({"kind": Kind.STATE}, "STATE with 3 entries"),
        ({"kind": Kind.CLOSE, "count": 0}, None),
        ({"count": 1}, None),
        ({"count": 0}, "ENTRIES with 0 entries; 1 to 1048576 are allowed"),
        ({"count": MAX_ENTRIES_PER_FRAME, "body_len": MAX_FRAME_BODY}, None),
        ({"count": MAX_ENTRIES_PER_FRAME + 1}, "ENTRIES with 1048577 entries; 1 to 1048576 are allowed"),
        ({"first_index": 0}, "ENTRIES with 3 entries from index 0"),
        ({"first_index": 1}, None),
        ({"first_index": 2**64 - 3}, None),
        ({"first_index": 2**64 - 2}, f"ENTRIES with 3 entries from index {2**64 - 2}"),
        ({"flags": Flags.TERMS}, f"ENTRIES with term {FIELDS['term']} and a column of terms"),
        ({"flags": Flags.TERMS, "term": 0}, None),
    ],
)
def test_fields_that_contradict_each_other_are_found(change: dict[str, int], message: str | None) -> None:
    """Right at each border, before the body is taken apart by them."""
    assert contradiction(make_header(**FIELDS | change)) == message


def test_the_module_shows_the_struct_that_it_uses() -> None:
    """64 bytes, as the picture says."""
    assert FRAME_STRUCT.size == FRAME_HEADER == 64
    assert FRAME_STRUCT.format == "<IIQIIIIIIQQIBBBB"
    assert str(FRAME_STRUCT.size) in str(frame.__doc__)
