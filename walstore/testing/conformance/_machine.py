"""The state machine that every case runs: the sample machine of async-raft's memstore, with a history.

A client's request carries a serial number; a request whose serial the client used last is answered from memory, so
that deduplication by client can be told apart from deduplication by index (SEMANTICS 9.2, CONFORMANCE A-17).
"""

import struct
from collections.abc import Iterable, Iterator

import attrs

from ...abc import Codec, SnapshotView, StateMachine

POISON = "poison"
"""A status that the machine refuses with PoisonError, having changed nothing."""

_NUMBERS = struct.Struct("<IIQ")
_LENGTH = struct.Struct("<I")
_SERIAL = struct.Struct("<QB")
_INDEX = struct.Struct("<Q")
_VERSION = b"KIT1"


class PoisonError(Exception):
    """What the kit's machine raises on a request whose status is POISON."""


@attrs.frozen
class ClientRequest:
    """Sets the status of a client."""

    client: str
    serial: int
    status: str


@attrs.frozen
class ClientResponse:
    """The client's status before the request; None if it had none."""

    previous: str | None


class KitCodec(Codec[ClientRequest]):
    """Two lengths, the serial, the two strings: the same bytes for equal requests."""

    __slots__ = ()

    def encode(self, data: ClientRequest) -> bytes:
        client, status = data.client.encode(), data.status.encode()
        return _NUMBERS.pack(len(client), len(status), data.serial) + client + status

    def decode(self, buffer: bytes) -> ClientRequest:
        if len(buffer) < _NUMBERS.size:
            msg = "a request is too short"
            raise ValueError(msg)
        client_length, status_length, serial = _NUMBERS.unpack_from(buffer)
        middle = _NUMBERS.size + client_length
        if len(buffer) != middle + status_length:
            msg = "the lengths of a request do not add up"
            raise ValueError(msg)
        return ClientRequest(bytes(buffer[_NUMBERS.size : middle]).decode(), serial, bytes(buffer[middle:]).decode())


class FrozenBytes(SnapshotView):
    """A view of bytes that were made at the moment of the capture, in pieces of an odd size."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), 1021):
            yield self._data[start : start + 1021]


class KitMachine(StateMachine[ClientRequest, ClientResponse]):
    """`serial[client]` is the last serial and what it was answered, `status[client]` the present status.

    `history` lists the indexes in the order in which they were applied, those inside a restored snapshot included, so
    that a request that was executed twice, out of order or not at all shows.
    """

    __slots__ = ("history", "serial", "status")

    def __init__(self) -> None:
        self.serial: dict[str, tuple[int, str | None]] = {}
        self.status: dict[str, str] = {}
        self.history: list[int] = []

    def apply(self, index: int, data: ClientRequest) -> ClientResponse:
        if data.status == POISON:
            raise PoisonError(index)
        self.history.append(index)
        known = self.serial.get(data.client)
        if known is not None and known[0] == data.serial:
            return ClientResponse(known[1])
        previous = self.status.get(data.client)
        self.serial[data.client] = (data.serial, previous)
        self.status[data.client] = data.status
        return ClientResponse(previous)

    def content(self) -> bytes:
        """Everything the machine holds, as the bytes that a snapshot carries; equal for equal machines."""
        parts = [_VERSION, _LENGTH.pack(len(self.history))]
        parts += [_INDEX.pack(index) for index in self.history]
        parts.append(_LENGTH.pack(len(self.serial)))
        for client in sorted(self.serial):
            serial, previous = self.serial[client]
            parts += [_text(client), _text(self.status[client]), _SERIAL.pack(serial, previous is not None)]
            parts.append(_text(previous or ""))
        return b"".join(parts)

    def capture(self) -> SnapshotView:
        return FrozenBytes(self.content())

    def restore(self, chunks: Iterable[bytes]) -> None:
        data = b"".join(chunks)
        try:
            self._read(data)
        except (struct.error, UnicodeDecodeError) as error:
            msg = f"not the state of a kit machine: {error}"
            raise ValueError(msg) from error

    def _read(self, data: bytes) -> None:
        if data[: len(_VERSION)] != _VERSION:
            msg = "not the state of a kit machine: it begins otherwise"
            raise ValueError(msg)
        (count,) = _LENGTH.unpack_from(data, len(_VERSION))
        position = len(_VERSION) + _LENGTH.size
        self.history = [index for (index,) in _INDEX.iter_unpack(data[position : position + count * _INDEX.size])]
        position += count * _INDEX.size
        (clients,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        for _ in range(clients):
            client, position = _take_text(data, position)
            self.status[client], position = _take_text(data, position)
            serial, answered = _SERIAL.unpack_from(data, position)
            previous, position = _take_text(data, position + _SERIAL.size)
            self.serial[client] = (serial, previous if answered else None)
        if position != len(data):
            msg = "not the state of a kit machine: bytes are left over"
            raise ValueError(msg)


def _text(text: str) -> bytes:
    data = text.encode()
    return _LENGTH.pack(len(data)) + data


def _take_text(data: bytes, position: int) -> tuple[str, int]:
    (length,) = _LENGTH.unpack_from(data, position)
    start = position + _LENGTH.size
    return data[start : start + length].decode(), start + length
