"""Which single bit is wrong: a CRC is linear, so the difference of two of them says where the bytes differ.

With the all-ones start and the final xor cancelled, the difference of the checksums of two messages of one length is
that of their difference.  One wrong bit, t bits before the end of the message, leaves x**t (mod the polynomial) there,
so finding it is a discrete logarithm.  Baby steps and giant steps find t in the square root of the message's length:
some 40 milliseconds and 5 MB for the longest body, and well under one for the shortest.
"""

from math import isqrt

POLYNOMIAL = 0x82F63B78
"""CRC-32C, reflected: bit 31 is the coefficient of x**0."""
_ONE = 1 << 31
_LAST_BIT = 1  # what remains of a wrong bit 0 of a byte that is still to be shifted through: x**31


def _times_x(value: int) -> int:
    return value >> 1 ^ (POLYNOMIAL if value & 1 else 0)


def _tables(factor: int) -> list[list[int]]:
    """For each of the four bytes of a remainder, the products of its 256 values with `factor`."""
    tables = [[0] * 256 for _ in range(4)]
    for bit in reversed(range(32)):  # from x**0 on, so that each product is x times the one before
        tables[bit // 8][1 << bit % 8] = factor
        factor = _times_x(factor)
    for table in tables:
        for value in range(256):
            table[value] = table[value & (value - 1)] ^ table[value & -value]
    return tables


def single_bit(expected: int, found: int, length: int) -> int | None:
    """The number of the bit that is wrong, if exactly one is; else None.

    Of a message of `length` bytes whose CRC-32C is `found` and should be `expected`.  Bit n is bit n % 8 (of value
    1 << n % 8) of byte n // 8.  Two checksums that agree have no wrong bit to show.
    """
    difference = expected ^ found
    bits = 8 * length
    if not difference or not bits:
        return None
    # difference = x**t times what one bit leaves, t in [1, bits]; t = giant * step - baby
    step = isqrt(bits) + 1
    babies = {}
    value = difference
    for baby in range(step):
        babies[value] = baby
        value = _times_x(value)
    leap = _ONE
    for _ in range(step):
        leap = _times_x(leap)
    t0, t1, t2, t3 = _tables(leap)
    value = _LAST_BIT
    for giant in range(1, step + 1):
        value = t0[value & 255] ^ t1[value >> 8 & 255] ^ t2[value >> 16 & 255] ^ t3[value >> 24]
        if value in babies:
            behind = giant * step - babies[value]  # shifts from the wrong bit to the end: 8 * bytes - bit of its byte
            return bits - behind if behind <= bits else None
    return None
