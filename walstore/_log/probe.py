"""Looking closer: at everything behind a fault, and at one bad frame.  Facts only; `evidence` says what they mean.

A header proves by itself that the frame was written for this very place of this very segment: magic, its own CRC, tag,
offset.  So what looks like a frame inside a payload, in stale bytes or in another store's file is refused at once, and
no body need be read to hear what a later header says of the durable point.  (A body that was torn by the crash makes
the statement of its header no less true.)

All of it is linear in the bytes that are there, whatever they say: each byte is looked at once, frames found are
stepped over as a whole, and lengths only ever shorten what is read.
"""

from collections.abc import Callable
from operator import eq
from typing import TypeAlias

import attrs

from .checksum import crc
from .frame import FRAME_STRUCT, MAGIC, MAGIC_BYTES, Header, parse_header
from .limits import ALIGN, FRAME_HEADER, align_up
from .syndrome import single_bit

Read: TypeAlias = Callable[[int, int], bytes]
"""`read(offset, length)`: the bytes of the file there, fewer only where it ends.  May raise OSError."""

WINDOW = 1 << 20
"""Bytes read at a time.  A multiple of `ALIGN`, so no header straddles two windows."""

_ZEROS = bytes(1 << 16)


def read_exactly(read: Read, offset: int, length: int) -> bytes:
    """The bytes at [offset, offset + length), all of which lie below the file's size.  OSError if some are missing."""
    data = read(offset, length) if length else b""
    if len(data) != length:
        msg = f"{len(data)} bytes instead of {length} at offset {offset}, inside the file"
        raise OSError(msg)
    return data


def is_zero(data: bytes, start: int, stop: int) -> bool:
    """Whether data[start:stop] is all zero.  `stop` is at most the length."""
    while stop - start > len(_ZEROS):
        if not data.startswith(_ZEROS, start):
            return False
        start += len(_ZEROS)
    return data.startswith(_ZEROS[: stop - start], start)


@attrs.frozen
class Later:
    """The valid headers behind a fault."""

    zeros: bool = False
    """There is nothing but zeros, or nothing at all."""
    count: int = 0
    first: Header | None = None
    proof: Header | None = None
    """The first that says that the frame due at the fault was durable when it was submitted itself."""
    misplaced: Header | None = None
    """The first that no crash can have left here: its number has been passed or was due, or there is no room for the
    frames that must lie between."""


NOTHING = Later()


def survey(read: Read, start: int, stop: int, *, tag: int, sequence: int, room: tuple[int, int]) -> Later:
    """Looks at [start, stop), which begins at a multiple of 64, for headers of this segment.

    `sequence` is the one that was due at the fault.  `room` is an offset, and the sequence of the frame that would
    begin there at the earliest: behind the bad frame if its own header is valid, else behind the last good one.
    """
    zeros, count = True, 0
    first = proof = misplaced = None
    free, following = room
    while start < stop:
        data = read_exactly(read, start, min(WINDOW, stop - start))
        size = len(data)
        at = size if zeros and is_zero(data, 0, size) else 0
        zeros = zeros and at == size
        while at < size and (found := data.find(MAGIC_BYTES, at)) >= 0:
            header = parse_header(data, found, tag=tag, offset=start + found)
            if header is None:
                at = align_up(found + 1, ALIGN)
                continue
            at = header.next_offset - start
            count += 1
            first = first or header
            if sequence <= header.durable_sequence < header.sequence:
                proof = proof or header
            if header.sequence <= sequence or header.offset < free + ALIGN * (header.sequence - following):
                misplaced = misplaced or header
        start += max(size, at)
    return Later(zeros, count, first, proof, misplaced)


@attrs.frozen
class BodyFacts:
    """A frame with a valid header whose body does not have its checksum."""

    zero_sector: bool | None
    """A sector that meets [header, end of body) is all zero: it may never have been written.  None: sectors do not
    begin at multiples of 64, so nobody can tell."""
    wrong_bit: int | None
    """The offset in the file of the byte with the one wrong bit, if one bit is all that is wrong and its sector, not
    all zero, was written; else None."""


def examine_body(read: Read, header: Header, size: int, sector: int) -> BodyFacts:
    """Looks at a bad body that lies within the file of `size` bytes; `sector` as in `tail.tail_facts`."""
    start = header.offset - header.offset % sector
    stop = min(align_to(header.end, sector), size)
    window = align_to(WINDOW, sector)
    zero_sector, found = None if sector % ALIGN else False, 0
    while start < stop:
        data = read_exactly(read, start, min(window, stop - start))
        found = crc(memoryview(data)[max(header.body_offset - start, 0) : max(header.end - start, 0)], found)
        if zero_sector is False:
            edge = len(data)
            zero_sector = any(is_zero(data, at, min(at + sector, edge)) for at in range(0, edge, sector))
        start += len(data)
    bit = single_bit(header.body_crc, found, header.body_len)
    return BodyFacts(
        zero_sector, None if bit is None else _if_written(read, header.body_offset + bit // 8, size, sector)
    )


def _if_written(read: Read, offset: int, size: int, sector: int) -> int | None:
    """`offset`, unless its sector is all zero: then it was perhaps never written, and its true content had one bit."""
    start = offset - offset % sector
    data = read_exactly(read, start, min(sector, size - start))
    return None if is_zero(data, 0, len(data)) else offset


def align_to(n: int, unit: int) -> int:
    """The smallest multiple of `unit`, which need not be a power of two, that is not below `n`."""
    return -(-n // unit) * unit


def looks_like(data: bytes, *, offset: int, tag: int, sequence: int, link: int) -> bool:
    """Whether these 64 bytes are what is left of the very header that was due at `offset`.

    At least three of the five fields that are known beforehand agree (magic, tag, place, sequence, link), and the bytes
    are not a whole header of something else, which a payload might hold.
    """
    if len(data) < FRAME_HEADER or parse_header(data) is not None:
        return False
    magic, _, its_sequence, its_tag, units, _, _, its_link, *_ = FRAME_STRUCT.unpack_from(data)
    expected = (MAGIC, sequence, tag, offset, link)
    agreeing: int = sum(map(eq, (magic, its_sequence, its_tag, units * ALIGN, its_link), expected))
    return agreeing >= 3
