"""The header page: the first 4096 bytes of a segment, written once, before the file gets its name.

    +---------+---------------+--------------+----------+-----+------+-------------+------------+-----+
    | version | whose segment | how it is    | where it | its | born | predecessor | zeros      | crc |
    | 0..47   | 48..87        | laid out ..103| starts  | end | when | 136..167    | 168..4091  |     |
    +---------+---------------+--------------+----------+-----+------+-------------+------------+-----+

     off  field              type  meaning
    ----  -----------------  ----  ------------------------------------------------------------------------------
       0  version            48 B  magic, version, feature masks: see `version`
      48  node_id            u64   the node that owns the store
      56  store_uuid         16 B  the store; the same in every file of it
      72  segment_sequence   u64   the number of this segment, from 1; never used twice
      80  salt               u64   random: a file of the same name from another life has other tags
      88  segment_size       u64   bytes that the file was made for
      96  commit_align       u32   where barrier groups end: a power of two in [64, 1 MiB]
     100  flags              u32   1: the file was filled with zeros up to segment_size
     104  first_index        u64   index of the next entry when the segment began
     112  start_sequence     u64   sequence of its first frame, which uses up no number: at least that of the last frame
                                  before it; 0 in the first segment
     120  born_end           u64   offset of the end of the frames that were synced before the file got its name
     128  created_ns         u64   nanoseconds since the epoch; for the record only
     136  present            u32   1: there is a predecessor; 0: the rest of its record is zero
     140  last_link          u32   header_crc of its last frame
     144  segment_sequence   u64   its number, lower than this one's
     152  end                u64   its valid end: bytes from there on are outside the log, whatever they say
     160  last_sequence      u64   sequence of its last frame before that end
     168  reserved                 zeros
    4092  crc                u32   CRC-32C of bytes 0..4091

A page is *valid* if and only if
    1. all of its 4096 bytes are there,
    2. the magic is right,
    3. the crc agrees,
    4. this version may read it (`version.Version.check`),
    5. reserved bytes are zero, unless a newer minor version or a feature unknown here may have used them,
    6. segment_sequence is at least 1,
    7. commit_align is a power of two in [64, 1 MiB],
    8. segment_size and born_end are multiples of 64, and 4096 <= born_end <= segment_size <= 256 GiB,
    9. flags has no bit but 1, and present is 0 or 1,
    10. without a predecessor its record is zero; with one, its number is at least 1 and below segment_sequence, its end
        is a multiple of 64 and in [4096, 256 GiB], and its last_sequence is at most start_sequence.
A damaged page is a `FormatError`; what only rule 4 refuses is an `UnsupportedFormatError`.
"""

import struct

import attrs

from .._types import check_u64
from .checksum import Buffer, crc
from .frame import segment_tag
from .limits import ALIGN, HEADER_PAGE, MAX_COMMIT_ALIGN, MIN_COMMIT_ALIGN, U32_MAX
from .version import CURRENT, MAGIC_PREFIX, FormatError, Version

__all__ = ["PAGE_MAGIC", "FormatError", "Page", "Predecessor"]

PAGE_MAGIC = MAGIC_PREFIX + b"\0\0\0"
PAGE_STRUCT = struct.Struct("<16sHHIQQQQ16sQQQIIQQQQIIQQQ")
ZERO_FILLED = 1

_CRC_STRUCT = struct.Struct("<I")
_CRC_AT = HEADER_PAGE - _CRC_STRUCT.size
_RESERVED = bytes(_CRC_AT - PAGE_STRUCT.size)
_FILE_MAX = (U32_MAX + 1) * ALIGN  # beyond it no frame could name its own offset


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise FormatError(f"header page: {message}")


@attrs.frozen
class Predecessor:
    """Where the log was when a segment began: what of the segment before is valid, and the link to its last frame."""

    segment_sequence: int
    end: int
    """Its valid end in bytes; nothing at or beyond it is ever judged (PROTOCOL A5)."""
    last_sequence: int
    last_link: int

    def __attrs_post_init__(self) -> None:
        for name in ("segment_sequence", "end", "last_sequence"):
            check_u64(f"predecessor.{name}", getattr(self, name))
        _require(0 <= self.last_link <= U32_MAX, f"last_link is {self.last_link}")
        _require(self.segment_sequence >= 1, "the predecessor's segment_sequence is 0")
        _require(
            HEADER_PAGE <= self.end <= _FILE_MAX and self.end % ALIGN == 0,
            f"the predecessor's end is {self.end}",
        )


@attrs.frozen(kw_only=True)
class Page:
    """A valid header page.  Making one that breaks a rule raises ValueError (FormatError where it is a rule above)."""

    node_id: int
    store_uuid: bytes = attrs.field(repr=bytes.hex)
    segment_sequence: int
    salt: int
    segment_size: int
    commit_align: int
    zero_filled: bool
    first_index: int
    start_sequence: int
    born_end: int
    created_ns: int
    predecessor: Predecessor | None
    version: Version = CURRENT
    _stored_crc: int | None = attrs.field(default=None, eq=False, repr=False, alias="stored_crc")

    def __attrs_post_init__(self) -> None:
        for name in ("node_id", "salt", "first_index", "start_sequence", "created_ns"):
            check_u64(name, getattr(self, name))
        align = self.commit_align
        _require(len(self.store_uuid) == 16, f"store_uuid has {len(self.store_uuid)} bytes")
        check_u64("segment_sequence", self.segment_sequence)
        _require(self.segment_sequence >= 1, "segment_sequence is 0")
        _require(
            MIN_COMMIT_ALIGN <= align <= MAX_COMMIT_ALIGN and align & (align - 1) == 0,
            f"commit_align is {align}",
        )
        _require(
            HEADER_PAGE <= self.born_end <= self.segment_size <= _FILE_MAX
            and self.born_end % ALIGN == self.segment_size % ALIGN == 0,
            f"born_end is {self.born_end} and segment_size is {self.segment_size}",
        )
        before = self.predecessor
        if before is not None:
            _require(
                before.segment_sequence < self.segment_sequence,
                f"segment {self.segment_sequence} names {before.segment_sequence} as its predecessor",
            )
            _require(
                before.last_sequence <= self.start_sequence,
                f"start_sequence is {self.start_sequence}, below the predecessor's last one, {before.last_sequence}",
            )

    @property
    def tag(self) -> int:
        """The tag of every frame of this segment."""
        return segment_tag(self.store_uuid, self.segment_sequence, self.salt)

    @property
    def crc(self) -> int:
        """The CRC of the page as it was stored (as it will be, if it was not read): the first frame's prev_link."""
        return self._stored_crc if self._stored_crc is not None else crc(self._pack())

    @property
    def may_append(self) -> bool:
        """Whether this version may write to a store with such a segment; False: reading only."""
        return self.version.may_append

    def encode(self) -> bytes:
        """The 4096 bytes.  Those of a page that was read are the same again, unless a newer version wrote it."""
        packed = self._pack()
        return packed + _CRC_STRUCT.pack(crc(packed))

    @classmethod
    def decode(cls, buffer: Buffer) -> "Page":
        """The page in the first 4096 bytes of `buffer`.

        Raises FormatError if it is damaged or not ours, UnsupportedFormatError if only a newer version can read it.
        """
        page = bytes(buffer[:HEADER_PAGE])
        _require(len(page) == HEADER_PAGE, f"only {len(page)} of 4096 bytes are there")
        _require(page.startswith(PAGE_MAGIC), f"it begins with {page[:16].hex(' ')}")
        (stored,) = _CRC_STRUCT.unpack_from(page, _CRC_AT)
        found = crc(page[:_CRC_AT])
        _require(stored == found, f"its CRC says {stored:#010x}, its bytes have {found:#010x}")
        return cls._parse(page, stored)

    @classmethod
    def _parse(cls, page: bytes, stored: int) -> "Page":
        fields = PAGE_STRUCT.unpack_from(page)
        _, major, minor, reserved, compat, ro_compat, incompat, node_id, store_uuid, *rest = fields
        version = Version(major, minor, compat, ro_compat, incompat)
        version.check("header page")
        sequence, salt, size, align, flags, first_index, start, born_end, created, *record = rest
        present, last_link, before_sequence, end, last_sequence = record
        _require(
            version.is_newer or (reserved == 0 and page[PAGE_STRUCT.size : _CRC_AT] == _RESERVED),
            "reserved bytes are not zero",
        )
        _require(flags in (0, ZERO_FILLED), f"unknown flags {flags:#x}")
        _require(present in (0, 1), f"present is {present}")
        predecessor = None
        if present:
            predecessor = Predecessor(before_sequence, end, last_sequence, last_link)
        else:
            _require(not any(record), "there is no predecessor, and its record is not zero")
        return cls(
            node_id=node_id,
            store_uuid=store_uuid,
            segment_sequence=sequence,
            salt=salt,
            segment_size=size,
            commit_align=align,
            zero_filled=flags == ZERO_FILLED,
            first_index=first_index,
            start_sequence=start,
            born_end=born_end,
            created_ns=created,
            predecessor=predecessor,
            version=version,
            stored_crc=stored,
        )

    def _pack(self) -> bytes:
        version, before = self.version, self.predecessor
        record = (0, 0, 0, 0, 0)
        if before is not None:
            record = (1, before.last_link, before.segment_sequence, before.end, before.last_sequence)
        packed = PAGE_STRUCT.pack(
            PAGE_MAGIC,
            version.major,
            version.minor,
            0,
            version.compat,
            version.ro_compat,
            version.incompat,
            self.node_id,
            self.store_uuid,
            self.segment_sequence,
            self.salt,
            self.segment_size,
            self.commit_align,
            ZERO_FILLED if self.zero_filled else 0,
            self.first_index,
            self.start_sequence,
            self.born_end,
            self.created_ns,
            *record,
        )
        return packed + _RESERVED
