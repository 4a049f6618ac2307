"""The frame: 64 bytes of header in front of every body, and what makes it valid.

A segment is a header page and then frames.  A frame starts at a multiple of 64; zeros fill the room between the end of
its body and the next multiple.  All numbers are little endian.

         0       4       8              16      20      24      28      32
         +-------+-------+---------------+-------+-------+-------+-------+
       0 | magic | header|   sequence    |  tag  | offset| body  | body  |
         |       |  crc  |               |       | units | len   | crc   |
         +-------+-------+---------------+-------+-------+-------+-------+
      32 | prev  |  lag  |  first_index  |     term      | count | k f w r|
         | link  |       |               |               |       |        |
         +-------+-------+---------------+---------------+-------+-------+
      64 | body: body_len bytes, then zeros to the next multiple of 64   |
         +---------------------------------------------------------------+

    off  field         type  meaning
    ---  ------------  ----  -------------------------------------------------------------------------------------
      0  magic         u32   F7 57 41 4C on disk
      4  header_crc    u32   CRC-32C of bytes 8..63; nothing below is used before it agrees, least of all a length
      8  sequence      u64   the frame's number in the store; never resets
     16  tag           u32   CRC-32C of store uuid, segment sequence u64, salt u64: the segment it was written for
     20  offset_units  u32   its own place in the file, in units of 64 bytes: a misdirected write shows itself
     24  body_len      u32   bytes of body, at most 256 MiB
     28  body_crc      u32   CRC-32C of the body
     32  prev_link     u32   header_crc of the frame before (the header page's CRC for the first): a chain over all
     36  lag           u32   sync_lag in the low 8 bits, Raft group in the high 24 (0 in this version)
     40  first_index   u64   index of the first entry; known even if the body is rotten
     48  term          u64   term of all entries, 0 if the body has a column of terms
     56  count         u32   entries in the body
     60  kind          u8    see `KINDS`; bit 0x80: a reader that does not know the kind may pass over the frame
     61  flags         u8    see `KINDS`
     62  table_width   u8    4 in ENTRIES (bytes of a cell of the table of ends), else 0
     63  reserved      u8    0

`sync_lag` is the sequence minus that of the newest frame known to be durable when this one was submitted: a valid
frame proves that everything up to `durable_sequence` had been acknowledged by the disk.  255 proves nothing.

A header is *valid* if and only if
    1. all of its 64 bytes are there,
    2. the magic is right,
    3. header_crc is the CRC-32C of bytes 8..63,
    4. the kind without its ignorable bit is not 0 (so that zeros are never a frame),
    5. reserved is 0,
    6. body_len is at most 256 MiB,
    7. the tag is that of the segment, where the segment is known,
    8. offset_units is the place it was found at, where the place is known.
A *frame* is valid if and only if its header is, it continues the chain (sequence and prev_link), and its body has
body_len bytes whose CRC-32C is body_crc.  Whether this version *understands* it is another question: `unsupported`,
`contradiction`.

    ENTRIES body: [mark u64 if MARK] [terms u64 * count if TERMS] ends u32 * count [kinds u8 * count if KINDS] payloads
`ends` is cumulative: entry i is payloads[ends[i - 1]:ends[i]].
"""

import struct
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

from .checksum import Buffer, crc
from .limits import (
    ALIGN,
    FRAME_HEADER,
    LAG_UNKNOWN,
    MAX_ENTRIES_PER_FRAME,
    MAX_FRAME_BODY,
    MAX_GROUP,
    align_up,
)

FRAME_STRUCT = struct.Struct("<IIQIIIIIIQQIBBBB")
MAGIC_BYTES = b"\xf7WAL"
"""Not ASCII and not UTF-8, so that no text holds it."""
MAGIC = int.from_bytes(MAGIC_BYTES, "little")
IGNORABLE = 0x80
"""The bit of a kind that lets older readers pass over the frame."""
U64_END = 2**64

_TAG_STRUCT = struct.Struct("<16sQQ")
_unpack_from = FRAME_STRUCT.unpack_from
_new_tuple = tuple.__new__  # `Header._make` without its second check of the length: a fifth of the time of a parse


class Kind(IntEnum):
    """What a frame is.  0 is never a kind."""

    ENTRIES = 1
    STATE = 2
    TRUNCATE = 3
    SNAPSHOT = 4
    SYNC = 5
    SEAL = 6
    CLOSE = 7


class Flags:
    """Bits of `Header.flags`.  A bit that `KINDS` does not list for the kind is unsupported."""

    MARK = 0x01
    """ENTRIES: the body begins with the applied mark, u64."""
    OPENING = 0x02
    """STATE: the frame that opens a segment.  It takes its predecessor's sequence and uses up no number."""
    OVERWRITE = 0x04
    """ENTRIES: first_index is at or below the last index, and the frame replaces the suffix from there."""
    TERMS = 0x08
    """ENTRIES: a column of terms, u64 each; the header's term is 0."""
    KINDS = 0x10
    """ENTRIES: a column of entry kinds, u8 each; without it all are Normal."""


class KindRow(NamedTuple):
    """What this version knows of one kind of frame."""

    name: str
    flags: int
    """The flag bits that may be set."""
    table_width: int
    """Bytes of a cell of the table of ends; 0: the frame holds no entries and its count is 0."""


KINDS: Mapping[int, KindRow] = MappingProxyType(
    {
        Kind.ENTRIES: KindRow("ENTRIES", Flags.MARK | Flags.OVERWRITE | Flags.TERMS | Flags.KINDS, 4),
        Kind.STATE: KindRow("STATE", Flags.OPENING, 0),
        Kind.TRUNCATE: KindRow("TRUNCATE", 0, 0),
        Kind.SNAPSHOT: KindRow("SNAPSHOT", 0, 0),
        Kind.SYNC: KindRow("SYNC", 0, 0),
        Kind.SEAL: KindRow("SEAL", 0, 0),
        Kind.CLOSE: KindRow("CLOSE", 0, 0),
    }
)


class Header(NamedTuple):
    """A frame's header: the fields of the struct in its order.  `kind` is the raw byte and may be unknown."""

    magic: int
    header_crc: int
    sequence: int
    tag: int
    offset_units: int
    body_len: int
    body_crc: int
    prev_link: int
    lag: int
    first_index: int
    term: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls on a header
    kind: int
    flags: int
    table_width: int
    reserved: int

    @property
    def crc(self) -> int:
        """The header's own CRC: the next frame's `prev_link`."""
        return self.header_crc

    @property
    def offset(self) -> int:
        """Where the frame starts in its file, in bytes."""
        return self.offset_units * ALIGN

    @property
    def body_offset(self) -> int:
        """Where the body starts in the file, in bytes."""
        return self.offset_units * ALIGN + FRAME_HEADER

    @property
    def end(self) -> int:
        """The offset after the last byte of the body, before any padding."""
        return self.offset_units * ALIGN + FRAME_HEADER + self.body_len

    @property
    def next_offset(self) -> int:
        """`end` rounded up to where a frame may start."""
        return align_up(self.end, ALIGN)

    @property
    def sync_lag(self) -> int:
        """How far back the newest frame known to be durable was; 255 (`LAG_UNKNOWN`) proves nothing."""
        return self.lag & 0xFF

    @property
    def group(self) -> int:
        """The Raft group; 0 in this version."""
        return self.lag >> 8

    @property
    def durable_sequence(self) -> int:
        """Every frame up to this sequence was durable when this frame was submitted; 0 if nothing is known."""
        lag = self.lag & 0xFF
        return 0 if lag == LAG_UNKNOWN or lag > self.sequence else self.sequence - lag

    @property
    def ignorable(self) -> bool:
        """Whether a reader that does not know the kind may pass over the frame."""
        return self.kind & IGNORABLE != 0

    @property
    def kind_name(self) -> str:
        """The kind for messages: its name, or its number if this version does not know it."""
        row = KINDS.get(self.kind)
        return row.name if row else f"kind {self.kind:#04x}"

    def pack(self) -> bytes:
        """The 64 bytes on disk, header_crc as it is."""
        return FRAME_STRUCT.pack(*self)


def segment_tag(store_uuid: bytes, segment_sequence: int, salt: int) -> int:
    """The tag that all frames of a segment carry.  Bytes of another store, segment or incarnation do not have it."""
    return crc(_TAG_STRUCT.pack(store_uuid, segment_sequence, salt))


def make_header(
    *,
    kind: int,
    sequence: int,
    tag: int,
    offset: int,
    body_len: int,
    body_crc: int,
    prev_link: int,
    sync_lag: int = LAG_UNKNOWN,
    group: int = 0,
    first_index: int = 0,
    term: int = 0,
    count: int = 0,
    flags: int = 0,
    table_width: int | None = None,
) -> Header:
    """A valid header with its CRC: `parse_header` accepts what this makes, or this raises ValueError.

    `offset` in bytes.  `sync_lag` of 255 or more is stored as 255 (`LAG_UNKNOWN`).  `table_width` is by default what
    the kind asks for.  Whether flags and counts suit the kind is for `contradiction` to say.
    """
    if offset % ALIGN or not 0 <= group <= MAX_GROUP or body_len > MAX_FRAME_BODY or sync_lag < 0:
        msg = f"no frame header has offset {offset}, group {group}, body_len {body_len} and sync_lag {sync_lag}"
        raise ValueError(msg)
    if kind & ~IGNORABLE == 0:
        msg = f"{kind:#04x} is not a kind of frame"
        raise ValueError(msg)
    if table_width is None:
        table_width = KINDS[kind].table_width if kind in KINDS else 0
    fields = (
        sequence,
        tag,
        offset // ALIGN,
        body_len,
        body_crc,
        prev_link,
        min(sync_lag, LAG_UNKNOWN) | group << 8,
        first_index,
        term,
        count,
        int(kind),
        flags,
        table_width,
        0,
    )
    try:
        header_crc = crc(FRAME_STRUCT.pack(MAGIC, 0, *fields)[8:])
    except struct.error as error:
        msg = f"a field of the frame header is out of its range: {error}"
        raise ValueError(msg) from error
    return Header(MAGIC, header_crc, *fields)


def pack_header(
    *,
    kind: int,
    sequence: int,
    tag: int,
    offset: int,
    body_len: int,
    body_crc: int,
    prev_link: int,
    sync_lag: int = LAG_UNKNOWN,
    group: int = 0,
    first_index: int = 0,
    term: int = 0,
    count: int = 0,
    flags: int = 0,
    table_width: int | None = None,
) -> bytes:
    """The 64 bytes of `make_header` with the same arguments."""
    return make_header(
        kind=kind,
        sequence=sequence,
        tag=tag,
        offset=offset,
        body_len=body_len,
        body_crc=body_crc,
        prev_link=prev_link,
        sync_lag=sync_lag,
        group=group,
        first_index=first_index,
        term=term,
        count=count,
        flags=flags,
        table_width=table_width,
    ).pack()


def parse_header(buffer: Buffer, at: int = 0, *, tag: int | None = None, offset: int | None = None) -> Header | None:
    """The valid header at `buffer[at:at + 64]`, or None by rules 1 to 8 of this file.

    Rules 7 and 8 are asked where `tag`, and `offset` (of this header in its file, in bytes), are given.
    `header_fault` says which rule was broken.
    """
    if not 0 <= at <= len(buffer) - FRAME_HEADER:
        return None
    fields = _unpack_from(buffer, at)
    if (
        fields[0] != MAGIC
        or fields[1] != crc(buffer[at + 8 : at + FRAME_HEADER])
        or not fields[12] & 0x7F
        or fields[15]
        or fields[5] > MAX_FRAME_BODY
        or (tag is not None and fields[3] != tag)
        or (offset is not None and fields[4] * ALIGN != offset)
    ):
        return None
    return _new_tuple(Header, fields)


def header_fault(buffer: Buffer, at: int = 0, *, tag: int | None = None, offset: int | None = None) -> str | None:
    """Which rule the bytes at `buffer[at:at + 64]` break first, for a message; None if `parse_header` accepts them."""
    there = min(len(buffer) - at, FRAME_HEADER)
    if at < 0 or there < FRAME_HEADER:
        return f"{max(there, 0)} of the 64 bytes of a frame header are there"
    header = Header._make(_unpack_from(buffer, at))
    found = crc(buffer[at + 8 : at + FRAME_HEADER])
    rules = (
        (header.magic == MAGIC, f"the magic is {header.magic:#010x}, not {MAGIC:#010x}"),
        (header.header_crc == found, f"the header's CRC says {header.header_crc:#010x}, its bytes have {found:#010x}"),
        (header.kind & ~IGNORABLE != 0, f"{header.kind:#04x} is not a kind of frame"),
        (header.reserved == 0, f"the reserved byte is {header.reserved}, not 0"),
        (header.body_len <= MAX_FRAME_BODY, f"the body length {header.body_len} is above the limit {MAX_FRAME_BODY}"),
        (tag in (None, header.tag), f"the tag is {header.tag:#010x}: bytes of another segment or store"),
        (offset in (None, header.offset), f"the frame was written for offset {header.offset}, not {offset}"),
    )
    return next((message for holds, message in rules if not holds), None)


def body_matches(header: Header, body: Buffer) -> bool:
    """Whether `body` has the length and the CRC-32C that the header promises."""
    return len(body) == header.body_len and crc(body) == header.body_crc


def unsupported(header: Header) -> str | None:
    """Why only a newer version can read this valid frame; None if it is known, or may be passed over."""
    row = KINDS.get(header.kind)
    if row is None:
        return None if header.ignorable else f"unknown {header.kind_name}"
    unknown = header.flags & ~row.flags
    return f"unknown flags {unknown:#04x} in a frame of kind {row.name}" if unknown else None


def entries_table_len(header: Header) -> int:
    """Bytes of an ENTRIES body in front of its payloads: mark, terms, ends and kinds, as flags and count say."""
    flags = header.flags
    cell = 4 + (8 if flags & Flags.TERMS else 0) + (1 if flags & Flags.KINDS else 0)
    return (8 if flags & Flags.MARK else 0) + cell * header.count


def contradiction(header: Header) -> str | None:
    """Which fields of a valid header of a known kind contradict each other; None if none do.

    Asked before the body is taken apart, so that counts can be used as they are afterwards.
    """
    row = KINDS[header.kind]
    if header.table_width != row.table_width:
        return f"{row.name} with table_width {header.table_width}, not {row.table_width}"
    if header.kind != Kind.ENTRIES:
        return f"{row.name} with {header.count} entries" if header.count else None
    if not 1 <= header.count <= MAX_ENTRIES_PER_FRAME:
        return f"ENTRIES with {header.count} entries; 1 to {MAX_ENTRIES_PER_FRAME} are allowed"
    if not 1 <= header.first_index <= U64_END - header.count:
        return f"ENTRIES with {header.count} entries from index {header.first_index}"
    if header.flags & Flags.TERMS and header.term:
        return f"ENTRIES with term {header.term} and a column of terms"
    if entries_table_len(header) > header.body_len:
        return f"ENTRIES whose tables need {entries_table_len(header)} of {header.body_len} bytes of body"
    return None
