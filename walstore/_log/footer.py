"""The footer: the body of the SEAL frame, which ends a file that will never grow again.

It repeats what the headers of all frames before it say, column by column, so that a sealed segment is read with one
checksum and a few bulk conversions instead of frame by frame; and it keeps their terms, indexes and checksums apart
from the data, so that a rotten frame is still known by name.  All numbers are little endian.

    +--------+------------------+-------------+-----------------+------------+-------------+---------------+
    | head   | first_index u64  | term u64    | six columns of  | kind u8    | zeros up to | trailer       |
    | 24 B   | x rows           | x rows      | u32 x rows      | flags u8   | a multiple  | 64 B          |
    |        |                  |             |                 | width u8   | of 64       |               |
    +--------+------------------+-------------+-----------------+------------+-------------+---------------+

    head:     0  start_sequence  u64   sequence of the first row; each later row has the next one
              8  rows            u32   one for each frame before this one; at least 1
             12  whole           u32   CRC-32C of the file's bytes from 0 to the start of the SEAL frame
             16  flags           u32   1: written by a clean close, 0: by a rotation
             20  reserved        u32   0
    columns:     first_index u64, term u64; then offset_units, body_len, body_crc, header_crc, lag, count, u32 each;
                 then kind, flags, table_width, u8 each
    trailer:  0  magic           8 B   F7 "WALSEAL"
              8  offset          u64   where the SEAL frame starts in the file
             16  body_len        u32   length of its body, this trailer included
             20  reserved        40 B  0
             60  crc             u32   CRC-32C of bytes 0..59 of the trailer

Magic, tag and reserved byte are the same in every row, and prev_link is the header_crc of the row before, so they have
no column.  The body's length is a multiple of 64: the file, cut at the end of the SEAL frame, ends with the trailer.

A trailer is *valid* if and only if
    1. all of its 64 bytes are there,
    2. magic and crc agree,
    3. reserved is zero,
    4. offset is a multiple of 64 behind a header page and at least one frame, and body_len a multiple of 64 that holds
       at least one row and is at most 256 MiB.
The body of a SEAL is *valid* if and only if
    5. it ends with a valid trailer that names its length,
    6. it has exactly the length that its number of rows asks for, which is at least 1; what is reserved is zero,
    7. the first row is at 4096, each row's frame ends at or before the next row's, the last one's at or before offset,
    8. no row has a kind that is 0 without its ignorable bit, and sequences stay below 2**64.
It is *believed* only if `whole` agrees too, and that is the reader's to check.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import NamedTuple

import attrs

from .checksum import Buffer, crc
from .control import BodyError
from .frame import IGNORABLE, MAGIC, U64_END, Header
from .limits import ALIGN, FRAME_HEADER, HEADER_PAGE, MAX_FRAME_BODY, TRAILER, align_up

TRAILER_MAGIC = b"\xf7WALSEAL"
TRAILER_STRUCT = struct.Struct("<8sQI40sI")
HEAD_STRUCT = struct.Struct("<QIIII")
BY_CLOSE = 1

_COLUMN_CODES = "QQIIIIIIBBB"
_ROW = struct.calcsize("<" + _COLUMN_CODES)
_RESERVED = bytes(40)
_BODY_MIN = align_up(HEAD_STRUCT.size + _ROW, ALIGN) + TRAILER
_header = partial(tuple.__new__, Header)  # as `Header._make`, without going through Python once a row


def seal_body_len(rows: int) -> int:
    """The length in bytes of the body of a SEAL with so many rows."""
    return align_up(HEAD_STRUCT.size + _ROW * rows, ALIGN) + TRAILER


def seal_room(rows: int) -> int:
    """The bytes that the whole SEAL frame takes: what a segment keeps room for."""
    return FRAME_HEADER + seal_body_len(rows)


class Trailer(NamedTuple):
    """Where the SEAL frame starts in its file, and the length of its body, in bytes."""

    offset: int
    body_len: int


class Columns(NamedTuple):
    """The rows of a footer, one sequence a column, in the order of the body."""

    first_index: Sequence[int]
    term: Sequence[int]
    offset_units: Sequence[int]
    body_len: Sequence[int]
    body_crc: Sequence[int]
    header_crc: Sequence[int]
    lag: Sequence[int]
    count: Sequence[int]  # type: ignore[assignment]  # hides tuple.count, which nobody calls on columns
    kind: Sequence[int]
    flags: Sequence[int]
    table_width: Sequence[int]


@attrs.frozen
class SealBody:
    """SEAL: the headers of all frames before it, and the checksum of every byte before it."""

    by_close: bool
    whole: int
    """CRC-32C of the file's bytes from 0 to `offset`."""
    offset: int
    """Where the SEAL frame says that it starts."""
    start_sequence: int
    columns: Columns = attrs.field(repr=False)

    @property
    def rows(self) -> int:
        """How many frames are before the SEAL."""
        return len(self.columns.kind)

    @property
    def last_link(self) -> int:
        """The header_crc of the last row: the prev_link of the SEAL frame itself."""
        return self.columns.header_crc[-1]

    def headers(self, *, tag: int, first: int) -> list[Header]:
        """The headers of all rows.  `tag` is the segment's; `first` is the prev_link of the first row: the page's crc.

        About 0.3 microseconds a row; the rows' own CRCs are those stored, not computed again.
        """
        columns = self.columns
        rows = zip(
            repeat(MAGIC),
            columns.header_crc,
            range(self.start_sequence, self.start_sequence + self.rows),
            repeat(tag),
            columns.offset_units,
            columns.body_len,
            columns.body_crc,
            (first, *columns.header_crc[:-1]),
            columns.lag,
            columns.first_index,
            columns.term,
            columns.count,
            columns.kind,
            columns.flags,
            columns.table_width,
            repeat(0),
            strict=False,  # the constants have no end
        )
        return list(map(_header, rows))


def encode_seal(headers: Sequence[Header], whole: int, by_close: bool, *, offset: int) -> bytes:
    """The body of the SEAL frame that starts at `offset`, after frames with these headers.

    `whole` is the CRC-32C of the file's bytes from 0 to `offset`.  Raises ValueError if the headers are not those of
    one segment from its first frame on: what is derived when they are read must be what they say.
    """
    if not headers:
        msg = "a segment without a frame cannot be sealed"
        raise ValueError(msg)
    fields = dict(zip(Header._fields, zip(*headers, strict=True), strict=True))
    start = headers[0].sequence
    derived = (
        set(fields["magic"]) == {MAGIC}
        and set(fields["tag"]) == {headers[0].tag}
        and set(fields["reserved"]) == {0}
        and fields["sequence"] == tuple(range(start, start + len(headers)))
        and fields["prev_link"][1:] == fields["header_crc"][:-1]
    )
    if not derived:
        msg = "these headers are not one chain of one segment"
        raise ValueError(msg)
    columns = Columns(*(fields[name] for name in Columns._fields))
    _check_rows(SealBody(by_close, whole, offset, start, columns))
    body_len = seal_body_len(len(headers))
    trailer = _pack_trailer(offset, body_len)
    if parse_trailer(trailer) is None:
        msg = f"no SEAL frame starts at {offset} with a body of {body_len} bytes"
        raise ValueError(msg)
    head = HEAD_STRUCT.pack(start, len(headers), whole, BY_CLOSE if by_close else 0, 0)
    packed = b"".join(
        struct.pack(f"<{len(column)}{code}", *column) for code, column in zip(_COLUMN_CODES, columns, strict=True)
    )
    padding = bytes(body_len - TRAILER - len(head) - len(packed))
    return b"".join((head, packed, padding, trailer))


def decode_seal(body: Buffer) -> SealBody:
    """The body of a SEAL frame.  Raises BodyError."""
    view = memoryview(body)
    trailer = parse_trailer(view[-TRAILER:])
    if trailer is None or trailer.body_len != len(view):
        msg = f"the {len(view)} bytes of footer do not end with a trailer that names their length"
        raise BodyError(msg)
    start, rows, whole, flags, reserved = HEAD_STRUCT.unpack_from(view)
    if rows < 1 or seal_body_len(rows) != len(view):
        msg = f"a footer of {rows} rows in {len(view)} bytes"
        raise BodyError(msg)
    at = HEAD_STRUCT.size
    columns = []
    for code in _COLUMN_CODES:
        layout = f"<{rows}{code}"
        columns.append(struct.unpack_from(layout, view, at))
        at += struct.calcsize(layout)
    if flags not in (0, BY_CLOSE) or reserved or any(view[at:-TRAILER]):
        msg = "reserved bytes of the footer are not zero"
        raise BodyError(msg)
    seal = SealBody(flags == BY_CLOSE, whole, trailer.offset, start, Columns(*columns))
    _check_rows(seal)
    return seal


def _check_rows(seal: SealBody) -> None:
    """Rules 7 and 8: a row may be hostile, and is used later without being asked again."""
    columns = seal.columns
    starts = [units * ALIGN for units in columns.offset_units]
    if starts[0] != HEADER_PAGE or not _in_order(starts, columns.body_len, seal.offset):
        msg = "the rows of the footer do not lie one behind the other in front of it"
        raise BodyError(msg)
    if not all(kind & ~IGNORABLE for kind in set(columns.kind)):
        msg = "a row of the footer is of kind 0"
        raise BodyError(msg)
    if seal.start_sequence + seal.rows > U64_END:
        msg = "the rows of the footer run out of sequence numbers"
        raise BodyError(msg)


def _in_order(starts: list[int], lengths: Iterable[int], end: int) -> bool:
    following = (*starts[1:], end)
    return all(
        start + FRAME_HEADER + length <= after for start, length, after in zip(starts, lengths, following, strict=True)
    )


def _pack_trailer(offset: int, body_len: int) -> bytes:
    packed = TRAILER_STRUCT.pack(TRAILER_MAGIC, offset, body_len, _RESERVED, 0)[:-4]
    return packed + crc(packed).to_bytes(4, "little")


def parse_trailer(data: Buffer) -> Trailer | None:
    """What a valid trailer says, or None by rules 1 to 4.  `data`: the last 64 bytes of a file or of a SEAL's body."""
    if len(data) != TRAILER:
        return None
    magic, offset, body_len, reserved, stored = TRAILER_STRUCT.unpack(data)
    if (
        magic != TRAILER_MAGIC
        or stored != crc(data[:-4])
        or reserved != _RESERVED
        or offset % ALIGN
        or offset < HEADER_PAGE + FRAME_HEADER
        or body_len % ALIGN
        or not _BODY_MIN <= body_len <= MAX_FRAME_BODY
    ):
        return None
    return Trailer(offset, body_len)
