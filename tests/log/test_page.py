"""The header page of a segment, byte for byte, and what may be read of pages that a newer version wrote."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from tests.log.reference import bit_flips, put, slow_crc, with_crc
from walstore._log.checksum import Buffer
from walstore._log.frame import segment_tag
from walstore._log.limits import HEADER_PAGE, MAX_COMMIT_ALIGN, MIN_COMMIT_ALIGN
from walstore._log.page import PAGE_MAGIC, PAGE_STRUCT, FormatError, Page, Predecessor
from walstore._log.version import CURRENT, Version
from walstore.errors import UnsupportedFormatError

PAGE = Page(
    node_id=0x0102030405060708,
    store_uuid=bytes(range(0x10, 0x20)),
    segment_sequence=0x2122232425262728,
    salt=0x3132333435363738,
    segment_size=0x40000,
    commit_align=4096,
    zero_filled=True,
    first_index=0x4142434445464748,
    start_sequence=0x5152535455565758,
    born_end=0x2040,
    created_ns=0x6162636465666768,
    predecessor=Predecessor(
        segment_sequence=0x2122232425262727, end=0x3040, last_sequence=0x5152535455565757, last_link=0x71727374
    ),
)
FIRST = attrs.evolve(PAGE, predecessor=None, start_sequence=0, segment_sequence=1, zero_filled=False)
GOLDEN_START = bytes.fromhex(
    "89 57414c53544f5245 0d0a1a0a 000000 0100 0000 00000000"
    "0000000000000000 0000000000000000 0000000000000000"
    "0807060504030201 101112131415161718191a1b1c1d1e1f"
    "2827262524232221 3837363534333231 0000040000000000 00100000 01000000"
    "4847464544434241 5857565554535251 4020000000000000 6867666564636261"
    "01000000 74737271 2727262524232221 4030000000000000 5757565554535251"
)
CRC_AT = 4092
# Where each field stands; the tests below damage them through this table.
AT = {
    "major": (16, 2),
    "minor": (18, 2),
    "reserved": (20, 4),
    "compat": (24, 8),
    "ro_compat": (32, 8),
    "incompat": (40, 8),
    "segment_sequence": (72, 8),
    "segment_size": (88, 8),
    "commit_align": (96, 4),
    "flags": (100, 4),
    "start_sequence": (112, 8),
    "born_end": (120, 8),
    "present": (136, 4),
    "last_link": (140, 4),
    "before_sequence": (144, 8),
    "end": (152, 8),
    "last_sequence": (160, 8),
    "first reserved": (168, 1),
    "last reserved": (4091, 1),
}

u64s = st.integers(0, 2**64 - 1)
units = st.integers(HEADER_PAGE // 64, 2**32)


@st.composite
def pages(draw: st.DrawFn) -> Page:
    """Any valid page of this version."""
    born, size = sorted((draw(units), draw(units)))
    sequence, start = draw(st.integers(1, 2**64 - 1)), draw(u64s)
    predecessor = None
    if sequence > 1 and draw(st.booleans()):
        predecessor = Predecessor(
            draw(st.integers(1, sequence - 1)), 64 * draw(units), draw(st.integers(0, start)), draw(u64s) >> 32
        )
    return Page(
        node_id=draw(u64s),
        store_uuid=draw(st.binary(min_size=16, max_size=16)),
        segment_sequence=sequence,
        salt=draw(u64s),
        segment_size=64 * size,
        commit_align=2 ** draw(st.integers(6, 20)),
        zero_filled=draw(st.booleans()),
        first_index=draw(u64s),
        start_sequence=start,
        born_end=64 * born,
        created_ns=draw(u64s),
        predecessor=predecessor,
    )


def damaged(changes: Mapping[str, int], page: Page = PAGE) -> bytes:
    """The page with other values in some fields, under a right CRC."""
    data = page.encode()
    for name, value in changes.items():
        data = put(data, AT[name][0], value, AT[name][1])
    return with_crc(data)


# -- the bytes -----------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_page_never_change() -> None:
    """Each field at its place, zeros after them, the CRC of everything before it at the end: this is the format."""
    golden = with_crc(GOLDEN_START.ljust(HEADER_PAGE, b"\0"))

    assert len(GOLDEN_START) == PAGE_STRUCT.size == 168
    assert PAGE.encode() == golden
    assert golden[CRC_AT:].hex() == "9655b8bd"
    assert Page.decode(golden) == PAGE


def test_a_first_page_has_an_empty_record() -> None:
    """Without a predecessor and without zero filling, flags and record are zero."""
    data = FIRST.encode()

    assert data[100:104] == bytes(4)
    assert data[136:168] == bytes(32)
    assert Page.decode(data) == FIRST


@given(pages(), st.sampled_from([bytes, bytearray, memoryview]), st.binary(max_size=20))
def test_a_page_comes_back_as_it_was(page: Page, kind: Callable[[bytes], Buffer], behind: bytes) -> None:
    """From any kind of buffer, whatever follows it; and it encodes to the same bytes again."""
    data = page.encode()
    read = Page.decode(kind(data + behind))

    assert read == page
    assert read.encode() == data
    assert read.crc == page.crc == int.from_bytes(data[CRC_AT:], "little")


def test_a_page_names_the_tag_of_its_frames() -> None:
    """From its own uuid, segment sequence and salt."""
    assert PAGE.tag == segment_tag(PAGE.store_uuid, PAGE.segment_sequence, PAGE.salt)


# -- what is refused -----------------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_page_is_seen() -> None:
    """No bit of the 32768 can change unnoticed, those of the zeros included."""
    for bit, data in bit_flips(PAGE.encode()):
        try:
            Page.decode(data)
        except FormatError:
            continue
        pytest.fail(f"bit {bit} changed unnoticed")


@pytest.mark.parametrize("length", [0, 1, 15, 16, 167, 168, 4091, 4095])
def test_a_cut_page_is_refused(length: int) -> None:
    """At any length, with how much of it is there."""
    with pytest.raises(FormatError, match=f"only {length} of 4096 bytes"):
        Page.decode(PAGE.encode()[:length])


def test_zeros_are_never_a_page() -> None:
    """A file that was only filled is none, though the CRC be right."""
    with pytest.raises(FormatError, match="it begins with 00 00"):
        Page.decode(with_crc(bytes(HEADER_PAGE)))


@pytest.mark.parametrize(("before", "after"), [(b"\r\n", b"\n"), (b"\n", b"\r\n"), (b"\x89", b"\x09"), (b"\x1a", b"")])
def test_a_transfer_as_text_shows_itself(before: bytes, after: bytes) -> None:
    """Changed line ends, a lost high bit and a lost end-of-file mark all break the magic."""
    assert before in PAGE_MAGIC
    with pytest.raises(FormatError, match="it begins with"):
        Page.decode(PAGE.encode().replace(before, after).ljust(HEADER_PAGE, b"\0"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reserved": 1}, "reserved bytes are not zero"),
        ({"first reserved": 1}, "reserved bytes are not zero"),
        ({"last reserved": 1}, "reserved bytes are not zero"),
        ({"flags": 2}, "unknown flags 0x2"),
        ({"present": 2}, "present is 2"),
        ({"present": 0}, "there is no predecessor, and its record is not zero"),
        ({"segment_sequence": 0}, "segment_sequence is 0"),
        ({"segment_sequence": 0x2122232425262727}, "names 2387509390608836391 as its predecessor"),
        ({"commit_align": 0}, "commit_align is 0"),
        ({"commit_align": MIN_COMMIT_ALIGN // 2}, "commit_align is 32"),
        ({"commit_align": 96}, "commit_align is 96"),
        ({"commit_align": MAX_COMMIT_ALIGN * 2}, "commit_align is 2097152"),
        ({"born_end": 4032}, "born_end is 4032"),
        ({"born_end": 4097}, "born_end is 4097"),
        ({"born_end": 0x40040}, "born_end is 262208"),
        ({"segment_size": 0x40001}, "segment_size is 262145"),
        ({"segment_size": 2**38 + 64}, "segment_size is 274877907008"),
        ({"start_sequence": 0x5152535455565756}, "below the predecessor's last one"),
        ({"before_sequence": 0}, "the predecessor's segment_sequence is 0"),
        ({"end": 4032}, "the predecessor's end is 4032"),
        ({"end": 4097}, "the predecessor's end is 4097"),
        ({"end": 2**38 + 64}, "the predecessor's end is"),
        ({"major": 0}, "major version 0"),
    ],
)
def test_a_right_checksum_does_not_make_a_page(change: dict[str, int], message: str) -> None:
    """Each rule refuses on its own, and says so."""
    with pytest.raises(FormatError, match=message):
        Page.decode(damaged(change))


@pytest.mark.parametrize("name", ["last_link", "before_sequence", "end", "last_sequence"])
def test_a_record_without_a_predecessor_is_refused(name: str) -> None:
    """Each field of it must be zero."""
    with pytest.raises(FormatError, match="its record is not zero"):
        Page.decode(damaged({name: 64}, FIRST))


@pytest.mark.parametrize(
    "change",
    [
        {"born_end": 4096},
        {"born_end": 0x40000},
        {"born_end": 4096, "segment_size": 4096},
        {"segment_size": 2**38},
        {"commit_align": MIN_COMMIT_ALIGN},
        {"commit_align": MAX_COMMIT_ALIGN},
        {"start_sequence": 0x5152535455565757},
        {"before_sequence": 1},
        {"end": 4096},
        {"end": 2**38},
        {"last_link": 0},
        {"last_link": 2**32 - 1},
    ],
)
def test_each_rule_accepts_its_border(change: dict[str, int]) -> None:
    """The last value that is allowed is allowed."""
    assert Page.decode(damaged(change)).encode() == damaged(change)


@given(st.binary(max_size=HEADER_PAGE), st.booleans(), st.booleans())
def test_any_bytes_are_a_page_or_an_error_of_ours(data: bytes, magic: bool, sealed: bool) -> None:
    """Hostile bytes, under a right magic and a right CRC too, raise nothing else."""
    if magic:
        data = PAGE_MAGIC + data[16:]
    if sealed:
        data = with_crc(data.ljust(HEADER_PAGE, b"\0"))
    try:
        page = Page.decode(data)
    except (FormatError, UnsupportedFormatError):
        return
    assert page.crc == int.from_bytes(data[CRC_AT:], "little")


@pytest.mark.parametrize(
    "change",
    [
        {"node_id": -1},
        {"salt": 2**64},
        {"first_index": -1},
        {"start_sequence": 2**64},
        {"created_ns": -1},
        {"segment_sequence": 2**64},
        {"store_uuid": b"short"},
        {"commit_align": 100},
    ],
)
def test_a_page_that_could_not_be_read_is_not_made(change: dict[str, Any]) -> None:
    """The rules hold for the writer too, before a byte exists."""
    with pytest.raises(ValueError):
        attrs.evolve(PAGE, **change)


@pytest.mark.parametrize(
    "fields",
    [(0, 4096, 0, 0), (2**64, 4096, 0, 0), (1, 4000, 0, 0), (1, 4096, -1, 0), (1, 4096, 0, 2**32), (1, 4096, 0, -1)],
)
def test_a_predecessor_that_could_not_be_read_is_not_made(fields: tuple[int, int, int, int]) -> None:
    """The same for its record."""
    with pytest.raises(ValueError):
        Predecessor(*fields)


# -- newer versions ------------------------------------------------------------------------------------------------


def test_a_newer_major_version_is_refused() -> None:
    """As unsupported, not as damage: the bytes are whole."""
    with pytest.raises(UnsupportedFormatError) as caught:
        Page.decode(damaged({"major": 2, "minor": 3}))
    assert "format 2.3" in str(caught.value)
    assert (caught.value.expected, caught.value.found) == (1, 2)


def test_damage_is_asked_before_the_version() -> None:
    """A flipped bit in the version is damage, and says so."""
    with pytest.raises(FormatError):
        Page.decode(put(PAGE.encode(), 16, 3, 2))


@pytest.mark.parametrize("bit", [0, 63])
def test_an_unknown_incompatible_feature_is_refused(bit: int) -> None:
    """Nothing of such a segment may be believed."""
    with pytest.raises(UnsupportedFormatError, match="features that this version does not have"):
        Page.decode(damaged({"incompat": 1 << bit}))


def test_an_unknown_read_only_feature_allows_reading() -> None:
    """Such a store may be read, and not appended to."""
    page = Page.decode(damaged({"ro_compat": 4}))

    assert not page.may_append
    assert PAGE.may_append
    assert attrs.evolve(page, version=CURRENT) == PAGE


def test_an_unknown_compatible_feature_changes_nothing() -> None:
    """Reading and appending go on."""
    page = Page.decode(damaged({"compat": 4}))

    assert page.may_append
    assert attrs.evolve(page, version=CURRENT) == PAGE


@pytest.mark.parametrize("newer", [{"minor": 1}, {"compat": 1}, {"ro_compat": 1}])
def test_newer_pages_may_use_reserved_bytes(newer: dict[str, int]) -> None:
    """Their frames chain to the CRC that was stored, not to one that this version would compute."""
    data = damaged(newer | {"reserved": 7, "last reserved": 8})
    page = Page.decode(data)

    assert page.crc == slow_crc(data[:CRC_AT])
    assert page.encode() != data
    assert page.version.is_newer
    assert page.version != CURRENT == Version()
