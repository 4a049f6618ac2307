"""The snapshot container: what goes in comes out, from slices of any size, and nothing else is believed."""

import pytest
from hypothesis import given, strategies as st

from tests.log.containers import CHUNK, HEADER, PAYLOAD, chunks_of, make, read
from walstore._log.checksum import crc
from walstore._log.container import (
    FOOTER_SIZE,
    MAX_CHUNK,
    MAX_HEADER,
    PAGE,
    ContainerError,
    Packer,
    Verifier,
    encode_header,
    pack,
)
from walstore._log.limits import MAX_ENGINE_BYTES, MAX_MEMBERS, MAX_SNAPSHOT_ID
from walstore._types import MembershipConfig, SnapshotHeader
from walstore.errors import UsageError

EMPTY = SnapshotHeader("", 0, 0, MembershipConfig(set()))
LARGEST = SnapshotHeader(
    "i" * MAX_SNAPSHOT_ID,
    2**64 - 1,
    2**64 - 1,
    MembershipConfig(range(MAX_MEMBERS), range(2**64 - MAX_MEMBERS, 2**64)),
    2**64 - 1,
    bytes(MAX_ENGINE_BYTES),
)
FOOTER_AT = -FOOTER_SIZE

node_ids = st.frozensets(st.integers(0, 2**64 - 1), max_size=5)
u64s = st.integers(0, 2**64 - 1)
headers = st.builds(
    SnapshotHeader,
    st.text(st.characters(codec="utf-8"), max_size=30),
    u64s,
    u64s,
    st.builds(MembershipConfig, node_ids, st.none() | node_ids),
    u64s,
    st.binary(max_size=6000),
)


# -- round trips ---------------------------------------------------------------------------------------------------


@given(header=headers, pieces=st.lists(st.binary(max_size=700), max_size=8), chunk_size=st.integers(1, 300))
def test_round_trip(header: SnapshotHeader, pieces: list[bytes], chunk_size: int) -> None:
    """What is packed is read back: header, payload, size and checksum."""
    packer = Packer(header, chunk_size=chunk_size)
    container = packer.begin() + b"".join(b for piece in pieces for b in packer.add(piece)) + b"".join(packer.end())

    verifier, payload = read(container)
    verifier.finish()

    assert (header, b"".join(pieces)) == (verifier.header, payload)
    assert (len(container), crc(container)) == (verifier.size, verifier.checksum) == (packer.size, packer.checksum)
    assert (True, 0, len(payload)) == (verifier.complete, verifier.trailing, verifier.payload_size)


@pytest.mark.parametrize("header", [EMPTY, HEADER, LARGEST], ids=["empty", "usual", "largest"])
@pytest.mark.parametrize("payload", [b"", b"x", bytes(MAX_CHUNK), bytes(2 * MAX_CHUNK + 1)], ids=len)
def test_extremes_round_trip(header: SnapshotHeader, payload: bytes) -> None:
    """The smallest and the largest header, and payloads around the edge of a chunk, are read back."""
    container = make(header, payload, MAX_CHUNK)

    verifier, found = read(container)
    verifier.finish()

    assert (header, payload) == (verifier.header, found)


def test_largest_header_is_within_the_limit() -> None:
    """No header that can be encoded is longer than one that is read."""
    assert len(encode_header(LARGEST)) <= MAX_HEADER


def test_layout_is_fixed() -> None:
    """The bytes of format version 1, pinned: magic, sizes and the checksum of a whole container."""
    container = make()

    assert container.startswith(b"\x89WALSTORE\r\n\x1a\nSN\0\x01\0\0\0")
    assert len(container) == PAGE + 3 * (16 + CHUNK) + FOOTER_SIZE
    assert [len(chunk) - 16 for chunk in chunks_of(container)] == [CHUNK] * 3
    assert container[FOOTER_AT:].startswith(b"\x89END")
    assert crc(container) == 0xAE17_4452


@given(pieces=st.lists(st.binary(max_size=200), max_size=20))
def test_pieces_do_not_show(pieces: list[bytes]) -> None:
    """However a view cuts its state into pieces, the container is the same."""
    assert make(payload=b"".join(pieces)) == b"".join(pack(HEADER, pieces, chunk_size=CHUNK))


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_buffer_is_packed_and_read(kind: type) -> None:
    """Packer and verifier take bytearray and memoryview, and keep nothing of a buffer that changes later."""
    source = bytearray(PAYLOAD)
    packer = Packer(HEADER, chunk_size=CHUNK)
    container = packer.begin() + b"".join(packer.add(kind(source)))
    source[:] = bytes(len(source))
    container += b"".join(packer.end())

    verifier = Verifier()

    assert b"".join(verifier.feed(kind(container))) == PAYLOAD
    assert verifier.complete


@pytest.mark.parametrize("chunk_size", [0, -1, MAX_CHUNK + 1])
def test_chunk_size_is_limited(chunk_size: int) -> None:
    """A packer makes no chunk that a verifier refuses."""
    with pytest.raises(ValueError):
        Packer(HEADER, chunk_size=chunk_size)


@pytest.mark.parametrize(
    "header",
    [
        SnapshotHeader("i" * (MAX_SNAPSHOT_ID + 1), 1, 1, MembershipConfig({1})),
        SnapshotHeader("i", 1, 1, MembershipConfig({1}), 0, bytes(MAX_ENGINE_BYTES + 1)),
        SnapshotHeader("\ud800", 1, 1, MembershipConfig({1})),
    ],
    ids=["id", "engine", "surrogate"],
)
def test_header_is_limited(header: SnapshotHeader) -> None:
    """A header above a limit is refused before anything is written."""
    with pytest.raises(UsageError):
        Packer(header)


def test_checksum_tells_headers_apart() -> None:
    """The checksum of a whole container depends on its header, even if the payload is empty."""
    sums = {crc(make(SnapshotHeader("i", 1, index, MembershipConfig({1})), b"")) for index in range(100)}

    assert len(sums) == 100


# -- slices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3, 7, 16, 63, 64, 255, 256, 4095, 4096, 4097])
def test_even_slices_are_equal(step: int) -> None:
    """Slices of any one length give what one slice gives."""
    container = make()

    verifier, payload = read(container, *range(step, len(container), step))
    verifier.finish()

    assert (HEADER, PAYLOAD, len(container)) == (verifier.header, payload, verifier.size)
    assert crc(container) == verifier.checksum


def test_every_single_cut_is_equal() -> None:
    """One cut at any offset changes nothing."""
    container = make(payload=b"two chunks", chunk_size=7)
    for cut in range(len(container) + 1):
        verifier, payload = read(container, cut)

        assert (b"two chunks", len(container), True) == (payload, verifier.size, verifier.complete)


@given(cuts=st.lists(st.integers(0, 3 * CHUNK + 48 + FOOTER_SIZE), max_size=12), flip=st.none() | st.integers(0))
def test_random_slices_are_equal(cuts: list[int], flip: int | None) -> None:
    """Any slicing behind the header gives the same payload, or the same error at the same offset."""
    container = bytearray(make())
    if flip is not None:
        container[flip % len(container)] ^= 1 << flip % 8

    def outcome(*edges: int) -> object:
        try:
            verifier, payload = read(bytes(container), *edges)
        except ContainerError as error:
            return type(error), error.reason, error.offset
        return payload, verifier.complete, verifier.size

    assert outcome() == outcome(*(PAGE + cut for cut in cuts))


def test_header_is_there_at_once() -> None:
    """The header is known with its last byte, and not one byte before."""
    container = make()
    verifier = Verifier()

    verifier.feed(container[: PAGE - 1])
    assert verifier.header is None
    verifier.feed(container[PAGE - 1 : PAGE])
    assert verifier.header == HEADER


def test_payload_comes_with_its_chunk() -> None:
    """The payload of a chunk is given with the chunk's last byte, and not before it is proven."""
    container = make()
    verifier = Verifier()

    assert verifier.feed(container[: PAGE + 16 + CHUNK - 1]) == []
    assert verifier.feed(container[PAGE + 16 + CHUNK - 1 :][:1]) == [PAYLOAD[:CHUNK]]


def test_trailing_bytes_are_counted() -> None:
    """Bytes behind the footer, even another container, are counted and change nothing else."""
    container = make()
    verifier, payload = read(container + container, len(container) - 1, len(container) + 5)
    verifier.finish()

    assert (PAYLOAD, len(container), len(container)) == (payload, verifier.size, verifier.trailing)
    assert crc(container) == verifier.checksum
