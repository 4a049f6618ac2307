"""Containers for the tests of the container, and the reading of them in any slices."""

from collections.abc import Iterator
from itertools import pairwise

from walstore._log.container import FOOTER_SIZE, PAGE, Verifier, pack
from walstore._types import MembershipConfig, SnapshotHeader

HEADER = SnapshotHeader("made-by-1", 7, 1042, MembershipConfig({1, 2, 3}, {2, 3, 4}), 1000, b"\0engine\xff")
PAYLOAD = bytes(range(256)) * 3
CHUNK = 256


def make(header: SnapshotHeader = HEADER, payload: bytes = PAYLOAD, chunk_size: int = CHUNK) -> bytes:
    """A whole container; of three chunks by default."""
    return b"".join(pack(header, [payload], chunk_size=chunk_size))


def read(container: bytes, *cuts: int) -> tuple[Verifier, bytes]:
    """The verifier after all of the container, cut at the offsets, and the payload that it gave."""
    verifier = Verifier()
    edges = [0, *sorted(cuts), len(container)]
    payload = b"".join(piece for start, stop in pairwise(edges) for piece in verifier.feed(container[start:stop]))
    return verifier, payload


def chunks_of(container: bytes) -> Iterator[bytes]:
    """The chunks of a container whose header has one page."""
    offset = PAGE
    while offset < len(container) - FOOTER_SIZE:
        length = 16 + int.from_bytes(container[offset : offset + 4], "little")
        yield container[offset : offset + length]
        offset += length
