"""The snapshot container: what goes in comes out, from slices of any size, and nothing else is believed."""

import struct
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from walstore._log.checksum import crc
from walstore._log.container import (
    FOOTER_SIZE,
    MAGIC,
    MAX_CHUNK,
    MAX_HEADER,
    PAGE,
    ContainerError,
    Packer,
    UnsupportedContainerError,
    Verifier,
    encode_chunk,
    encode_footer,
    encode_header,
    pack,
    tag_of,
)
from walstore._log.limits import MAX_ENGINE_BYTES, MAX_MEMBERS, MAX_SNAPSHOT_ID
from walstore._types import MembershipConfig, SnapshotHeader
from walstore.errors import UsageError

HEADER = SnapshotHeader("made-by-1", 7, 1042, MembershipConfig({1, 2, 3}, {2, 3, 4}), 1000, b"\0engine\xff")
EMPTY = SnapshotHeader("", 0, 0, MembershipConfig(set()))
LARGEST = SnapshotHeader(
    "i" * MAX_SNAPSHOT_ID,
    2**64 - 1,
    2**64 - 1,
    MembershipConfig(range(MAX_MEMBERS), range(2**64 - MAX_MEMBERS, 2**64)),
    2**64 - 1,
    bytes(MAX_ENGINE_BYTES),
)
PAYLOAD = bytes(range(256)) * 3
CHUNK = 256
HEADER_LENGTH_AT = 56
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


def make(header: SnapshotHeader = HEADER, payload: bytes = PAYLOAD, chunk_size: int = CHUNK) -> bytes:
    """A whole container; of three chunks by default."""
    return b"".join(pack(header, [payload], chunk_size=chunk_size))


def read(container: bytes, *cuts: int) -> tuple[Verifier, bytes]:
    """The verifier after all of the container, cut at the offsets, and the payload that it gave."""
    verifier = Verifier()
    edges = [0, *sorted(cuts), len(container)]
    payload = b"".join(piece for start, stop in pairwise(edges) for piece in verifier.feed(container[start:stop]))
    return verifier, payload


def fault(container: bytes, step: int | None = None) -> ContainerError:
    """The error for these bytes, fed in slices of `step`; fails if there is none."""
    with pytest.raises(ContainerError) as caught:
        read(container, *range(step or len(container), len(container), step or 1))[0].finish()
    return caught.value


def with_header(header: bytes) -> bytes:
    """A container without payload behind any header."""
    return header + encode_footer(tag_of(header), crc(header), len(header) + FOOTER_SIZE, 0, 0)


def resealed(offset: int, value: bytes, header: bytes | None = None) -> bytes:
    """A header in which the bytes at `offset` are `value`, and the crc is right again."""
    page = bytearray(header or encode_header(HEADER))
    page[offset : offset + len(value)] = value
    struct.pack_into("<I", page, 48, crc(page[52:], crc(page[:48])))
    return bytes(page)


def chunks_of(container: bytes) -> Iterator[bytes]:
    """The chunks of a container whose header has one page."""
    offset = PAGE
    while offset < len(container) - FOOTER_SIZE:
        length = 16 + int.from_bytes(container[offset : offset + 4], "little")
        yield container[offset : offset + length]
        offset += length


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


# -- damage --------------------------------------------------------------------------------------------------------


def test_every_bit_counts() -> None:
    """Each single flipped bit of a container is refused, at the header, chunk or footer that holds it."""
    container = bytearray(make(payload=b"two chunks", chunk_size=7))
    starts = [0, PAGE, PAGE + 23, len(container) - FOOTER_SIZE]
    for bit in range(len(container) * 8):
        container[bit // 8] ^= 1 << bit % 8
        start = max(start for start in starts if start <= bit // 8)

        assert fault(bytes(container)).offset == start
        container[bit // 8] ^= 1 << bit % 8


def test_every_truncation_is_refused() -> None:
    """Each proper beginning of a container is incomplete, and the error names the unit that is cut."""
    container = make(payload=b"two chunks", chunk_size=7)
    starts = [0, PAGE, PAGE + 23, PAGE + 42]
    for length in range(len(container)):
        error = fault(container[:length], 1000)

        assert error.reason == ("the snapshot ends too early" if length else "the snapshot is empty")
        assert error.offset == max(start for start in starts if start <= length)


def test_nothing_is_empty() -> None:
    """No bytes at all are told apart from a cut: a leader sends them when a slow install is repeated."""
    assert fault(b"").reason == "the snapshot is empty"


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    """Any bytes give a ContainerError and no other exception; behind a true beginning too."""
    fault(data)
    fault(make()[: PAGE + 16 + CHUNK] + data)
    fault(MAGIC + data)


@pytest.mark.parametrize("hole", [PAGE, PAGE + 16, PAGE + 300, PAGE + 2 * (16 + CHUNK)])
def test_a_hole_is_refused(hole: int) -> None:
    """Zeros up to any offset, as when a peer began in the middle, are no container."""
    error = fault(bytes(hole) + make()[hole:])

    assert (error.reason, error.offset) == ("the bytes do not begin like a snapshot", 0)


def test_zeros_behind_the_header_are_refused() -> None:
    """A hole where a chunk should begin is seen with its first bytes: no chunk is empty."""
    error = fault(make()[:PAGE] + bytes(100))

    assert (error.reason, error.offset) == ("a chunk can not have 0 bytes", PAGE)


def test_lengths_are_not_believed() -> None:
    """A length above its limit is refused when it is read, before the bytes that it announces are waited for."""
    verifier = Verifier()
    with pytest.raises(ContainerError, match="a chunk can not have 262145 bytes"):
        verifier.feed(make()[:PAGE] + struct.pack("<IIII", MAX_CHUNK + 1, 0, 0, 0))
    for size in (0, PAGE - 1, PAGE + 1, MAX_HEADER + PAGE, 2**32 - 1):
        with pytest.raises(ContainerError, match="the header can not have"):
            Verifier().feed(resealed(52, struct.pack("<I", size))[:64])


def test_mixed_chunks_are_refused() -> None:
    """A chunk or a footer of another snapshot, a chunk left out, repeated or moved: each is named as what it is."""
    container = make()
    stranger = make(SnapshotHeader("made-by-2", 7, 1042, HEADER.membership))
    head, footer = container[:PAGE], container[FOOTER_AT:]
    first, second, third = chunks_of(container)
    foreign = list(chunks_of(stranger))
    cases = {
        "a chunk of another snapshot": head + first + foreign[1] + third + footer,
        "the footer of another snapshot": container[:FOOTER_AT] + stranger[FOOTER_AT:],
        "chunk 2 stands where chunk 1 belongs": head + first + third + footer,
        "chunk 0 stands where chunk 1 belongs": head + first + first + second + third + footer,
        "chunk 1 stands where chunk 0 belongs": head + second + first + third + footer,
        "the footer does not match what came before it": head + first + second + footer,
    }
    for reason, mixed in cases.items():
        assert fault(mixed).reason == reason
        assert fault(mixed, 100).reason == reason


def test_same_header_with_other_payload_is_refused() -> None:
    """Chunks of two containers whose headers are equal do not pass as one: the footer covers all of them."""
    other = make(payload=bytes(len(PAYLOAD)))
    mixed = make()[:PAGE] + next(chunks_of(other)) + make()[PAGE + 16 + CHUNK :]

    assert fault(mixed).reason == "the footer does not match what came before it"


@pytest.mark.parametrize("field", range(4), ids=["whole", "size", "payload", "chunks"])
def test_footer_counts(field: int) -> None:
    """A footer with a right crc and one wrong sum is refused."""
    head = encode_header(HEADER)
    tag = tag_of(head)
    body = head + encode_chunk(tag, 0, b"payload") + b"payload"
    sums = [crc(body), len(body) + FOOTER_SIZE, 7, 1]
    assert read(body + encode_footer(tag, *sums))[0].complete
    sums[field] += 1

    assert fault(body + encode_footer(tag, *sums)).reason == "the footer does not match what came before it"


def test_body_of_the_header_must_parse() -> None:
    """A header with a right crc whose body does not parse is refused: cut short, or not UTF-8."""
    short = resealed(HEADER_LENGTH_AT, struct.pack("<I", 10))
    no_text = resealed(66, b"\xff")

    assert fault(with_header(short)).reason.startswith("the header does not parse: ")
    assert fault(with_header(no_text)).reason.startswith("the header does not parse: ")
    assert fault(with_header(resealed(16, b"\0\0"))).reason.startswith("the header does not parse: ")


@pytest.mark.parametrize("offset", [20, 60, PAGE - 1], ids=["version", "fixed part", "padding"])
def test_reserved_bytes_are_zero(offset: int) -> None:
    """A byte that this version leaves zero is refused if it is set, though the crc is right."""
    error = fault(with_header(resealed(offset, b"\1")))

    assert error.reason == "the header is not the one that its own fields call for"


def test_a_needless_page_is_refused() -> None:
    """A header longer than it must be is not the one that this version writes."""
    longer = resealed(52, struct.pack("<I", 2 * PAGE), encode_header(HEADER) + bytes(PAGE))

    assert fault(with_header(longer)).reason == "the header is not the one that its own fields call for"


@pytest.mark.parametrize("value", [(16, b"\2\0"), (40, b"\1")], ids=["major", "incompat"])
def test_newer_formats_are_unsupported(value: tuple[int, bytes]) -> None:
    """A whole header of a newer major version, or with an unknown incompatible feature, is told apart from damage."""
    error = fault(with_header(resealed(*value)))

    assert isinstance(error, UnsupportedContainerError)


@pytest.mark.parametrize("value", [(18, b"\1"), (24, b"\1"), (32, b"\1")], ids=["minor", "compat", "ro_compat"])
def test_newer_minors_are_read(value: tuple[int, bytes]) -> None:
    """What a newer minor version or a compatible feature put into the zeros is passed over."""
    verifier, _ = read(with_header(resealed(PAGE - 1, b"\1", resealed(*value))))

    assert (verifier.header, verifier.complete) == (HEADER, True)


def test_a_fault_is_final() -> None:
    """After a fault the verifier takes nothing more, and goes on saying why."""
    verifier = Verifier()
    with pytest.raises(ContainerError) as first:
        verifier.feed(bytes(100))
    with pytest.raises(ContainerError) as second:
        verifier.feed(make())
    with pytest.raises(ContainerError) as third:
        verifier.finish()

    assert first.value is second.value is third.value
    assert not verifier.complete


def test_memory_is_bounded() -> None:
    """A verifier holds one unit at most, however many small slices there are."""
    verifier = Verifier()
    container = make(payload=bytes(3 * MAX_CHUNK), chunk_size=MAX_CHUNK)
    most = 0
    for start in range(0, len(container), 1000):
        verifier.feed(container[start : start + 1000])
        most = max(most, len(verifier._unit))

    assert verifier.complete
    assert most <= MAX_CHUNK + 16


def test_error_says_what_and_where() -> None:
    """The text of an error names the reason and the offset."""
    assert str(ContainerError("a chunk is damaged", 4096)) == "a chunk is damaged (at byte 4096 of the snapshot)"
