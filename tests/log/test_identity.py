"""IDENTITY, byte for byte, and what is refused before a store is believed to be ours."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from tests.log.reference import bit_flips, put, with_crc
from walstore._log.checksum import Buffer
from walstore._log.identity import IDENTITY_MAGIC, IDENTITY_STRUCT, Identity
from walstore._log.limits import IDENTITY_SIZE
from walstore._log.page import PAGE_MAGIC
from walstore._log.version import CURRENT, FormatError
from walstore.errors import UnsupportedFormatError

IDENTITY = Identity(node_id=0x0102030405060708, store_uuid=bytes(range(0x10, 0x20)), created_ns=0x2122232425262728)
GOLDEN = bytes.fromhex(
    "89 57414c53544f5245 0d0a1a0a 494400 0100 0000 00000000"
    "0000000000000000 0000000000000000 0000000000000000"
    "0807060504030201 101112131415161718191a1b1c1d1e1f 2827262524232221" + "00" * 44 + "8fd13cbb"
)

u64s = st.integers(0, 2**64 - 1)
identities = st.builds(Identity, node_id=u64s, store_uuid=st.binary(min_size=16, max_size=16), created_ns=u64s)


def test_the_bytes_of_an_identity_never_change() -> None:
    """Each field at its place, zeros after them, the CRC at the end: this is the format."""
    assert len(GOLDEN) == IDENTITY_STRUCT.size == IDENTITY_SIZE == 128
    assert IDENTITY.encode() == GOLDEN
    assert with_crc(GOLDEN) == GOLDEN
    assert Identity.decode(GOLDEN) == IDENTITY


@given(identities, st.sampled_from([bytes, bytearray, memoryview]))
def test_an_identity_comes_back_as_it_was(identity: Identity, kind: Callable[[bytes], Buffer]) -> None:
    """From any kind of buffer; and it encodes to the same bytes again."""
    data = identity.encode()

    assert Identity.decode(kind(data)) == identity
    assert Identity.decode(data).encode() == data


def test_every_flipped_bit_of_an_identity_is_seen() -> None:
    """No bit of the 1024 can change unnoticed."""
    for bit, data in bit_flips(IDENTITY.encode()):
        try:
            Identity.decode(data)
        except FormatError:
            continue
        pytest.fail(f"bit {bit} changed unnoticed")


@pytest.mark.parametrize("length", [0, 1, 127, 129, 4096])
def test_an_identity_has_its_length(length: int) -> None:
    """A file that is shorter or longer is none."""
    with pytest.raises(FormatError, match=f"it has {length} bytes, not 128"):
        Identity.decode(IDENTITY.encode().ljust(length, b"\0")[:length])


@pytest.mark.parametrize("magic", [bytes(16), PAGE_MAGIC, IDENTITY_MAGIC.replace(b"\r\n", b"\n\n")])
def test_another_magic_is_refused(magic: bytes) -> None:
    """Zeros, a segment's, and one that went through a transfer as text, though the CRC be right."""
    with pytest.raises(FormatError, match="it begins with"):
        Identity.decode(with_crc(magic + IDENTITY.encode()[16:]))


@pytest.mark.parametrize(("at", "size"), [(20, 4), (80, 1), (123, 1)])
def test_reserved_bytes_are_zero(at: int, size: int) -> None:
    """In what this version wrote."""
    with pytest.raises(FormatError, match="reserved bytes"):
        Identity.decode(with_crc(put(IDENTITY.encode(), at, 1, size)))


def test_versions_and_features_are_asked() -> None:
    """Newer major or unknown incompatible feature: unsupported; major 0: never was."""
    data = IDENTITY.encode()
    for at, value in ((16, 2), (40, 1)):
        with pytest.raises(UnsupportedFormatError, match="identity"):
            Identity.decode(with_crc(put(data, at, value, 2)))
    with pytest.raises(FormatError, match="major version 0"):
        Identity.decode(with_crc(put(data, 16, 0, 2)))


@pytest.mark.parametrize(("at", "appending"), [(18, True), (24, True), (32, False)])
def test_newer_identities_that_may_be_read(at: int, appending: bool) -> None:
    """A newer minor version and features that are not incompatible; one of the three forbids to write."""
    identity = Identity.decode(with_crc(put(put(IDENTITY.encode(), at, 1, 2), 80, 9, 1)))

    assert identity.may_append == appending
    assert attrs.evolve(identity, version=CURRENT) == IDENTITY


@given(st.binary(min_size=IDENTITY_SIZE, max_size=IDENTITY_SIZE) | st.binary(max_size=200), st.booleans())
def test_any_bytes_are_an_identity_or_an_error_of_ours(data: bytes, likely: bool) -> None:
    """Hostile bytes, under a right magic and a right CRC too, raise nothing else."""
    if likely and len(data) == IDENTITY_SIZE:
        data = with_crc(IDENTITY_MAGIC + data[16:])
    try:
        identity = Identity.decode(data)
    except (FormatError, UnsupportedFormatError):
        return
    assert identity.version.major == 1


@pytest.mark.parametrize(
    "change",
    [{"node_id": -1}, {"node_id": 2**64}, {"created_ns": -1}, {"store_uuid": bytes(15)}, {"store_uuid": bytes(17)}],
)
def test_an_identity_that_could_not_be_read_is_not_made(change: dict[str, Any]) -> None:
    """The rules hold for the writer too."""
    with pytest.raises(ValueError):
        attrs.evolve(IDENTITY, **change)
