"""IDENTITY: whose store this is.  Written once, last of all when a store is made (PROTOCOL A11).

    +--------------------------+-------------+--------------------------+-----------------+---------+-------+
    | version (0..47):         | node_id     | store_uuid               | created_ns      | zeros   | crc   |
    | magic, version, features | u64         | 16 B                     | u64             |         | u32   |
    +--------------------------+-------------+--------------------------+-----------------+---------+-------+
    0                          48            56                         72                80        124   128

    off  field       type  meaning
    ---  ----------  ----  ---------------------------------------------------------------------------------------
      0  version     48 B  magic, version, feature masks: see `version`
     48  node_id     u64   the node that owns the store
     56  store_uuid  16 B  random; the same in every file of the store
     72  created_ns  u64   nanoseconds since the epoch; for the record only
     80  reserved    44 B  zeros
    124  crc         u32   CRC-32C of bytes 0..123

An identity is *valid* if and only if
    1. the file has exactly these 128 bytes,
    2. the magic is right,
    3. the crc agrees,
    4. this version may read it (`version.Version.check`),
    5. reserved bytes are zero, unless a newer minor version or a feature unknown here may have used them.
A damaged identity is a `FormatError`; what only rule 4 refuses is an `UnsupportedFormatError`.
"""

import struct

import attrs

from .._types import check_u64
from .checksum import Buffer, crc
from .limits import IDENTITY_SIZE
from .version import CURRENT, MAGIC_PREFIX, FormatError, Version

IDENTITY_MAGIC = MAGIC_PREFIX + b"ID\0"
IDENTITY_STRUCT = struct.Struct("<16sHHIQQQQ16sQ44sI")

_RESERVED = bytes(44)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise FormatError(f"identity: {message}")


@attrs.frozen(kw_only=True)
class Identity:
    """A valid identity.  Making one with a number out of range raises ValueError."""

    node_id: int
    store_uuid: bytes = attrs.field(repr=bytes.hex)
    created_ns: int
    version: Version = CURRENT

    def __attrs_post_init__(self) -> None:
        check_u64("node_id", self.node_id)
        check_u64("created_ns", self.created_ns)
        _require(len(self.store_uuid) == 16, f"store_uuid has {len(self.store_uuid)} bytes")

    @property
    def may_append(self) -> bool:
        """Whether this version may write to the store; False: reading only."""
        return self.version.may_append

    def encode(self) -> bytes:
        """The 128 bytes."""
        version = self.version
        packed = IDENTITY_STRUCT.pack(
            IDENTITY_MAGIC,
            version.major,
            version.minor,
            0,
            version.compat,
            version.ro_compat,
            version.incompat,
            self.node_id,
            self.store_uuid,
            self.created_ns,
            _RESERVED,
            0,
        )[:-4]
        return packed + crc(packed).to_bytes(4, "little")

    @classmethod
    def decode(cls, buffer: Buffer) -> "Identity":
        """The identity in a whole file's bytes.

        Raises FormatError if it is damaged or not ours, UnsupportedFormatError if only a newer version can read it.
        """
        _require(len(buffer) == IDENTITY_SIZE, f"it has {len(buffer)} bytes, not {IDENTITY_SIZE}")
        magic, major, minor, zero, *masks, node_id, store_uuid, created_ns, reserved, stored = IDENTITY_STRUCT.unpack(
            buffer
        )
        _require(magic == IDENTITY_MAGIC, f"it begins with {magic.hex(' ')}")
        found = crc(buffer[:-4])
        _require(stored == found, f"its CRC says {stored:#010x}, its bytes have {found:#010x}")
        version = Version(major, minor, *masks)
        version.check("identity")
        _require(version.is_newer or (zero == 0 and reserved == _RESERVED), "reserved bytes are not zero")
        return cls(node_id=node_id, store_uuid=store_uuid, created_ns=created_ns, version=version)
