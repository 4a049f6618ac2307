"""What a child says to its parent, through a pipe: a kind, a length, a body, one after another.

The last message of a killed child may be cut short; what is not whole was not said.
"""

import json
import struct
from array import array
from collections.abc import Iterator
from typing import TypeAlias

import attrs

_HEAD = struct.Struct("<BI")  # kind, length of the body
_READY, _PRESENT, _ACKNOWLEDGED, _SNAPSHOTS, _DONE, _FAULT = range(1, 7)


@attrs.frozen
class Ready:
    """The store is open and was verified."""

    seconds: float
    """What the open took, recovery included."""
    torn: bool
    """Whether the log ended in a torn tail, as it may after a crash."""
    copied_forward: int
    """Frames that nothing proved durable, made so by the open."""
    replayed: int
    """Commands that were applied again, beside those in the snapshot."""


@attrs.frozen
class Present:
    """Which lines the store holds, byte for byte: one byte a line, 0 or 1."""

    flags: bytes


@attrs.frozen
class Acknowledged:
    """Numbers of lines whose `execute` has returned."""

    numbers: "array[int]"


@attrs.frozen
class Snapshots:
    """How many snapshots this life has made so far."""

    count: int


@attrs.frozen
class Done:
    """The child was told to stop, and has closed its store."""


@attrs.frozen
class Fault:
    """Something is wrong, in words.  The child ends."""

    text: str
    damage: bool
    """Whether the store is not to be believed; if not, it was the device, or the child, that failed."""


Report: TypeAlias = Ready | Present | Acknowledged | Snapshots | Done | Fault


def encode(report: Report) -> bytes:
    """The bytes of one report."""
    match report:
        case Ready():
            kind, body = _READY, json.dumps(attrs.asdict(report)).encode()
        case Present(flags):
            kind, body = _PRESENT, flags
        case Acknowledged(numbers):
            kind, body = _ACKNOWLEDGED, numbers.tobytes()
        case Snapshots(count):
            kind, body = _SNAPSHOTS, count.to_bytes(4, "little")
        case Done():
            kind, body = _DONE, b""
        case Fault():
            kind, body = _FAULT, json.dumps(attrs.asdict(report)).encode()
    return _HEAD.pack(kind, len(body)) + body


def _decode(kind: int, body: bytes) -> Report:
    match kind:
        case 1:
            return Ready(**json.loads(body))
        case 2:
            return Present(body)
        case 3:
            return Acknowledged(array("I", body))
        case 4:
            return Snapshots(int.from_bytes(body, "little"))
        case 5:
            return Done()
    return Fault(**json.loads(body))


class Parser:
    """Takes the bytes of the pipe as they come, and gives the reports that are whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Report]:
        """Every report that `data` completes."""
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._buffer)
            end = _HEAD.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_HEAD.size : end])
            del self._buffer[:end]
            yield _decode(kind, body)
