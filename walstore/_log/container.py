"""The snapshot container: one self-describing stream of bytes, the same on every node.

    +-------------+---------+---------+-- ... --+---------+--------+
    |   header    | chunk 0 | chunk 1 |         | chunk n | footer |      (payload empty: no chunk at all)
    | k * 4096 B  |         |         |         |         |  40 B  |
    +-------------+---------+---------+-- ... --+---------+--------+

Little endian throughout; every CRC is CRC-32C.

Header: a fixed part of 64 bytes, what the snapshot says of itself, then zeros to a multiple of 4096.

    off  field      type  meaning
    ---  ---------  ----  ---------------------------------------------------------------------------------------
      0  version    48 B  magic (it ends in "SN" 00), version, feature masks: see `version`
     48  crc        u32   of the header, all but these four bytes
     52  size       u32   bytes of the header, the zeros included
     56  length     u32   bytes of the body
     60  reserved   u32   0
     64  body             id, term, index, membership index, engine bytes, membership: see `control`, "header"
         zeros

Chunk: 16 bytes, then 1 to 256 KiB of payload.

    +-----------+-----------+--------------+-----------+---------- ... --+
    | length u4 |  crc  u4  | sequence u4  |  tag  u4  | payload         |   crc of everything but the crc;
    +-----------+-----------+--------------+-----------+---------- ... --+   tag = the crc in the header

Footer: 40 bytes.  Its magic is above the longest length, so that it is never taken for a chunk.

    +-----------+-----------+-----------+--------------+----------+---------------+----------------+
    | magic u4  |  crc  u4  |  tag  u4  |  whole  u4   |  size u8 |  payload  u8  |  chunks   u8   |
    +-----------+-----------+-----------+--------------+----------+---------------+----------------+
      crc of everything but the crc; whole = crc of all bytes before the footer; size counts the footer too

A container is valid if and only if
 1. its header, each chunk and its footer have the right crc, and the lengths in them are within their limits;
 2. this version may read it (`version.Version.check`), and the header is the very one that this version would write
    for its body, unless a newer minor version or a feature unknown here may have used what is zero now;
 3. the tag in each chunk and in the footer is the header's: no chunk comes from another snapshot;
 4. the sequences of the chunks are 0, 1, 2, ...: none is missing, repeated or moved;
 5. size, payload, chunks and whole in the footer are what was read.

Each crc stands *before* the bytes that it covers.  Behind them it would bring any later crc over the whole to a
constant (the residue): the checksum of a file would then say nothing about its header.

The container carries no store identity and no time: equal headers and payloads give equal bytes, on every node.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NoReturn

from .._types import SnapshotHeader
from ..errors import UnsupportedFormatError
from .checksum import Buffer, crc
from .control import BodyError, decode_snapshot_header, encode_snapshot_header
from .limits import align_up
from .version import CURRENT, MAGIC_PREFIX, FormatError, Version

MAGIC = MAGIC_PREFIX + b"SN\0"

PAGE = 4096
"""The header is a multiple of this."""
MAX_HEADER = 256 * 1024
"""The longest header that is read.  The longest id, engine bytes and membership (`limits`) together take less."""
MAX_CHUNK = 256 * 1024
"""The most payload bytes in one chunk, and what a packer puts into each chunk but the last."""

_HEADER = struct.Struct("<16sHHIQQQIIII")
_CHUNK = struct.Struct("<IIII")
_FOOTER = struct.Struct("<IIIIQQQ")
_FOOTER_MAGIC = int.from_bytes(b"\x89END", "little")
_U32 = struct.Struct("<I")
_HEADER_CRC_AT = 48
_CRC_AT = 4
"""Where the crc of a chunk and of the footer stands."""

FOOTER_SIZE = _FOOTER.size


class ContainerError(ValueError):
    """Bytes that are not a valid container.  `offset` is that of the header, chunk or footer which is not."""

    def __init__(self, reason: str, offset: int) -> None:
        self.reason = reason
        self.offset = offset
        super().__init__(reason, offset)

    def __str__(self) -> str:
        return f"{self.reason} (at byte {self.offset} of the snapshot)"


class UnsupportedContainerError(ContainerError):
    """A whole header of a version, or with a feature, that this code does not know."""


def encode_header(header: SnapshotHeader) -> bytes:
    """The header, with its padding.  Raises UsageError as `control.encode_snapshot_header` does."""
    body = encode_snapshot_header(header)
    size = align_up(_HEADER.size + len(body), PAGE)
    version = (CURRENT.major, CURRENT.minor, 0, CURRENT.compat, CURRENT.ro_compat, CURRENT.incompat)
    page = bytearray(size)
    _HEADER.pack_into(page, 0, MAGIC, *version, 0, size, len(body), 0)
    page[_HEADER.size : _HEADER.size + len(body)] = body
    _U32.pack_into(page, _HEADER_CRC_AT, _crc_around(page, _HEADER_CRC_AT))
    return bytes(page)


def tag_of(encoded_header: bytes | memoryview) -> int:
    """What marks the chunks that belong to this header: its crc."""
    return int(_U32.unpack_from(encoded_header, _HEADER_CRC_AT)[0])


def encode_chunk(tag: int, sequence: int, payload: bytes) -> bytes:
    """The 16 bytes that go before the payload of the chunk."""
    head = bytearray(_CHUNK.pack(len(payload), 0, sequence, tag))
    _U32.pack_into(head, _CRC_AT, crc(payload, _crc_around(head, _CRC_AT)))
    return bytes(head)


def encode_footer(tag: int, whole: int, size: int, payload: int, chunks: int) -> bytes:
    """The footer; `whole` is the crc of all bytes before it, and `size` counts its own bytes too."""
    footer = bytearray(_FOOTER.pack(_FOOTER_MAGIC, 0, tag, whole, size, payload, chunks))
    _U32.pack_into(footer, _CRC_AT, _crc_around(footer, _CRC_AT))
    return bytes(footer)


def _crc_around(unit: Buffer, at: int) -> int:
    """The crc of all bytes but the four at `at`, where it stands itself."""
    view = memoryview(unit)
    return crc(view[at + _U32.size :], crc(view[:at]))


class Packer:
    """Makes a container of pieces of payload of any size; holds at most one chunk of them.

    `begin`, any number of `add`, then `end`; what they return, one after another, is the container.
    `size` and `checksum` (the crc of all bytes) count what was returned so far.
    """

    def __init__(self, header: SnapshotHeader, *, chunk_size: int = MAX_CHUNK) -> None:
        if not 1 <= chunk_size <= MAX_CHUNK:
            msg = f"chunk_size must be in [1, {MAX_CHUNK}], not {chunk_size}"
            raise ValueError(msg)
        self.size = 0
        self.checksum = 0
        self._header = encode_header(header)
        self._tag = tag_of(self._header)
        self._chunk_size = chunk_size
        self._pending = bytearray()
        self._payload = 0
        self._chunks = 0

    def begin(self) -> bytes:
        """The header."""
        return self._out(self._header)

    def add(self, piece: Buffer) -> list[bytes]:
        """The chunks that `piece` filled up, in order: none, one or many."""
        out: list[bytes] = []
        rest = memoryview(piece).cast("B")
        while len(self._pending) + len(rest) >= self._chunk_size:
            taken = self._chunk_size - len(self._pending)
            self._pending += rest[:taken]
            rest = rest[taken:]
            out += self._flush()
        self._pending += rest
        return out

    def end(self) -> list[bytes]:
        """The last chunk, if one is begun, and the footer."""
        out = self._flush() if self._pending else []
        footer = encode_footer(self._tag, self.checksum, self.size + FOOTER_SIZE, self._payload, self._chunks)
        return [*out, self._out(footer)]

    def _flush(self) -> list[bytes]:
        payload = bytes(self._pending)
        self._pending.clear()
        head = encode_chunk(self._tag, self._chunks, payload)
        self._payload += len(payload)
        self._chunks += 1
        return [self._out(head), self._out(payload)]

    def _out(self, data: bytes) -> bytes:
        self.size += len(data)
        self.checksum = crc(data, self.checksum)
        return data


def pack(header: SnapshotHeader, pieces: Iterable[bytes], *, chunk_size: int = MAX_CHUNK) -> Iterator[bytes]:
    """The container of the pieces, a buffer at a time."""
    packer = Packer(header, chunk_size=chunk_size)
    yield packer.begin()
    for piece in pieces:
        yield from packer.add(piece)
    yield from packer.end()


class Verifier:
    """Reads a container from slices of any size, and believes nothing before it is proven.

    Holds at most one header (256 KiB) or one chunk, whatever the bytes announce.  After the first ContainerError every
    further call raises it again.  Bytes after the footer are no error here: they are counted in `trailing`, and
    `size` says where the container ends, so that the caller can cut them off (SEMANTICS 10.3).
    """

    def __init__(self) -> None:
        self.header: SnapshotHeader | None = None
        """What the container says of itself, as soon as that is proven."""
        self.size = 0
        """The number of bytes proven so far; the length of the container once it is complete."""
        self.checksum = 0
        """The crc of those bytes."""
        self.payload_size = 0
        """The number of payload bytes in them."""
        self.complete = False
        """Whether the footer was read: the container is whole and valid."""
        self.trailing = 0
        """How many bytes came after it."""
        self._tag = 0
        self._chunks = 0
        self._unit = bytearray()
        self._failure: ContainerError | None = None

    def feed(self, data: Buffer) -> list[bytes]:
        """Takes the next bytes; gives the payload of the chunks that they completed, each one proven.

        Raises ContainerError as soon as the bytes so far can not be the beginning of a container.
        """
        if self._failure is not None:
            raise self._failure
        payloads: list[bytes] = []
        view = memoryview(data).cast("B")
        position = 0
        while position < len(view) and not self.complete:
            unit, position = self._gather(view, position)
            if unit is not None:
                payloads += self._read(unit)
        self.trailing += len(view) - position
        return payloads

    def finish(self) -> None:
        """Says that no more bytes will come.  Raises ContainerError if the container is not complete."""
        if self._failure is not None:
            raise self._failure
        if not self.complete:
            self._fail("the snapshot is empty" if not self.size + len(self._unit) else "the snapshot ends too early")

    def _gather(self, view: memoryview, position: int) -> tuple[bytes | memoryview | None, int]:
        """The next whole header, chunk or footer, and where it ends in `view`; None if more bytes are needed.

        A unit that lies in one slice is looked at in place; only one that is cut is put together in `_unit`.
        """
        if not self._unit:
            wanted = self._wanted(view[position:])
            if wanted <= len(view) - position:
                return view[position : position + wanted], position + wanted
        while position < len(view):
            more = view[position : position + self._wanted(self._unit) - len(self._unit)]
            self._unit += more
            position += len(more)
            if self._wanted(self._unit) == len(self._unit):
                unit = bytes(self._unit)
                self._unit.clear()
                return unit, position
        return None, position

    def _wanted(self, begin: bytearray | memoryview) -> int:
        """The length of the unit that begins so; that of its fixed part, as long as this is not there."""
        if self.header is None:
            if len(begin) < _HEADER.size:
                return _HEADER.size
            magic, *_, size, _, _ = _HEADER.unpack_from(begin)
            if magic != MAGIC:
                self._fail("the bytes do not begin like a snapshot")
            if not PAGE <= size <= MAX_HEADER or size % PAGE:
                self._fail(f"the header can not have {size} bytes")
            return int(size)
        if len(begin) < _CHUNK.size:
            return _CHUNK.size
        length: int = _U32.unpack_from(begin)[0]
        if length == _FOOTER_MAGIC:
            return FOOTER_SIZE
        if not 1 <= length <= MAX_CHUNK:
            self._fail(f"a chunk can not have {length} bytes")
        return _CHUNK.size + length

    def _read(self, unit: bytes | memoryview) -> list[bytes]:
        """Proves one unit, counts it, and gives its payload."""
        payloads: list[bytes] = []
        if self.header is None:
            self.header = self._read_header(unit)
            self._tag = tag_of(unit)
        elif _U32.unpack_from(unit)[0] == _FOOTER_MAGIC:
            self._read_footer(unit)
            self.complete = True
        else:
            payloads = [self._read_chunk(unit)]
        self.size += len(unit)
        self.checksum = crc(unit, self.checksum)
        return payloads

    def _read_header(self, page: bytes | memoryview) -> SnapshotHeader:
        _, major, minor, _, compat, ro_compat, incompat, check, _, length, _ = _HEADER.unpack_from(page)
        version = Version(major, minor, compat, ro_compat, incompat)
        if _crc_around(page, _HEADER_CRC_AT) != check:
            self._fail("the header is damaged")
        try:
            version.check("snapshot")
            header = decode_snapshot_header(page[_HEADER.size : _HEADER.size + length])
        except UnsupportedFormatError as error:
            self._fail(error.message, UnsupportedContainerError)
        except (FormatError, BodyError) as error:
            self._fail(f"the header does not parse: {error}")
        if not version.is_newer and encode_header(header) != page:
            self._fail("the header is not the one that its own fields call for")
        return header

    def _read_chunk(self, chunk: bytes | memoryview) -> bytes:
        _, check, sequence, tag = _CHUNK.unpack_from(chunk)
        if tag != self._tag:
            self._fail("a chunk of another snapshot")
        if sequence != self._chunks:
            self._fail(f"chunk {sequence} stands where chunk {self._chunks} belongs")
        if _crc_around(chunk, _CRC_AT) != check:
            self._fail("a chunk is damaged")
        self._chunks += 1
        payload = bytes(chunk[_CHUNK.size :])
        self.payload_size += len(payload)
        return payload

    def _read_footer(self, footer: bytes | memoryview) -> None:
        _, check, tag, *sums = _FOOTER.unpack(footer)
        if _crc_around(footer, _CRC_AT) != check:
            self._fail("the footer is damaged")
        if tag != self._tag:
            self._fail("the footer of another snapshot")
        if sums != [self.checksum, self.size + FOOTER_SIZE, self.payload_size, self._chunks]:
            self._fail("the footer does not match what came before it")

    def _fail(self, reason: str, kind: type[ContainerError] = ContainerError) -> NoReturn:
        self._failure = kind(reason, self.size)
        raise self._failure
