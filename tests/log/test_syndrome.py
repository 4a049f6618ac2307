"""Finding the one bit that is wrong, from two checksums and a length."""

import random

import pytest
from hypothesis import given, strategies as st

from walstore._log.checksum import crc
from walstore._log.syndrome import single_bit


def flip(data: bytes, *bits: int) -> bytes:
    """The bytes with some bits changed."""
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 129])
def test_every_bit_of_a_message_is_found(length: int) -> None:
    """One flip anywhere gives its own number."""
    data = random.Random(length).randbytes(length)

    for bit in range(8 * length):
        assert single_bit(crc(data), crc(flip(data, bit)), length) == bit


@pytest.mark.parametrize("bit", [0, 1, 12_345_671, 8 * (3 << 20) - 9, 8 * (3 << 20) - 1])
def test_bits_far_from_the_end_are_found(bit: int) -> None:
    """In three mebibytes, from the first bit to the last."""
    data = bytes(3 << 20)

    assert single_bit(crc(data), crc(flip(data, bit)), len(data)) == bit


@given(st.binary(min_size=1, max_size=300), st.sets(st.integers(0, 2399), min_size=2, max_size=5))
def test_several_wrong_bits_are_not_taken_for_one(data: bytes, bits: set[int]) -> None:
    """Two to five flips in a short message are never within one bit of it: the code's distance is six."""
    wrong = {bit % (8 * len(data)) for bit in bits}
    expected = None if len(wrong) > 1 else wrong.pop()

    assert single_bit(crc(data), crc(flip(data, *(wrong or {expected or 0}))), len(data)) == expected


def test_a_bit_before_the_message_is_not_in_it() -> None:
    """The difference that a bit of a longer message would leave has no place in a shorter one."""
    data = bytes(40)

    for length in range(40):
        assert single_bit(crc(data), crc(flip(data, 3)), length) is None


def test_checksums_that_agree_show_nothing() -> None:
    """There is no wrong bit, and none in a message without bits."""
    assert single_bit(5, 5, 100) is None
    assert single_bit(5, 6, 0) is None
