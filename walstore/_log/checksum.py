"""CRC-32C (Castagnoli), the only checksum of the format.  This is the one place that imports it.

It finds accidents, not forgery: whoever can write the file can also write the checksum.  The reflected polynomial is
0x82F63B78, the initial value and the final xor are all ones; `crc(b"123456789")` is 0xE3069283.
"""

from typing import TypeAlias

import crc32c

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes in memory, as the pure column takes them.  A memoryview must be contiguous and of format "B"."""


def crc(data: Buffer, value: int = 0) -> int:
    """The CRC-32C of `data`, an unsigned 32-bit number.

    `value` is the checksum of what came before, so that `crc(b, crc(a)) == crc(a + b)`.  The interpreter lock is
    released for buffers above 32 KiB.
    """
    return crc32c.crc32c(data, value)
