"""What the tests of the format judge by: CRC-32C from its definition, and damage bit by bit."""

from collections.abc import Iterator


def slow_crc(data: bytes) -> int:
    """CRC-32C bit by bit, from its definition: the library is not asked."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def with_crc(data: bytes) -> bytes:
    """The data with a right CRC in its last four bytes."""
    return data[:-4] + slow_crc(data[:-4]).to_bytes(4, "little")


def put(data: bytes, at: int, value: int, size: int) -> bytes:
    """The data with a little-endian number of `size` bytes written over what is at `at`."""
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def bit_flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each bit's number and the data with this one bit the other way."""
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(damaged)
