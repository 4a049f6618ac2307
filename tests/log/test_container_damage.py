"""Damaged containers: every bit counts, and each way in which bytes can be wrong is told by its name."""

import struct

import pytest
from hypothesis import given, strategies as st

from tests.log.containers import CHUNK, HEADER, PAYLOAD, chunks_of, make, read
from walstore._log.checksum import crc
from walstore._log.container import (
    FOOTER_SIZE,
    MAGIC,
    MAX_CHUNK,
    MAX_HEADER,
    PAGE,
    ContainerError,
    UnsupportedContainerError,
    Verifier,
    encode_chunk,
    encode_footer,
    encode_header,
    tag_of,
)
from walstore._types import SnapshotHeader

HEADER_LENGTH_AT = 56
FOOTER_AT = -FOOTER_SIZE


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
