"""A journal of what is not durable yet: appended before each change, trimmed when a sync succeeds.

It must survive SIGKILL and nothing else, so it is written with plain writes and never synced.  A record is whole or
ends the journal: a kill may cut the write of one, and then the change that it announces was not begun.

    header   last trimmed sequence u64, offset of the first record u64      (one write of 16 bytes inside a page)
    record   crc32 u32 of all that follows, payload length u32, sequence u64, payload

Trimming everything moves the first record back to the start of the file; what lies behind it from before has lower
sequence numbers, so it is not taken for a continuation.
"""

import os
import struct
import zlib
from collections import deque

_HEADER = struct.Struct("<QQ")
_RECORD = struct.Struct("<IIQ")
_SHRINK = 1 << 20
"""A journal that has grown beyond this is cut when it is empty."""


class Journal:
    """An open journal.  Not for two threads at once."""

    __slots__ = ("_descriptor", "_last", "_pending", "_position")

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._pending: deque[tuple[int, int, int]] = deque()
        """(sequence, offset, end) of each record."""
        trimmed, start = _header(self._descriptor)
        self._last = trimmed
        self._position = start
        for payload in _payloads(self._descriptor, trimmed, start):
            self._note(len(payload))

    def _note(self, length: int) -> None:
        end = self._position + _RECORD.size + length
        self._last += 1
        self._pending.append((self._last, self._position, end))
        self._position = end

    @property
    def last(self) -> int:
        """The sequence of the newest record ever."""
        return self._last

    @property
    def empty(self) -> bool:
        """Whether everything was trimmed."""
        return not self._pending

    def append(self, payload: bytes) -> int:
        """Adds a record; its sequence."""
        body = struct.pack("<IQ", len(payload), self._last + 1) + payload
        os.pwrite(self._descriptor, zlib.crc32(body).to_bytes(4, "little") + body, self._position)
        self._note(len(payload))
        return self._last

    def trim(self, through: int) -> None:
        """Forgets the records up to this sequence."""
        if not self._pending or self._pending[0][0] > through:
            return
        while self._pending and self._pending[0][0] <= through:
            self._pending.popleft()
        if self._pending:
            sequence, start, _ = self._pending[0]
            os.pwrite(self._descriptor, _HEADER.pack(sequence - 1, start), 0)
            return
        os.pwrite(self._descriptor, _HEADER.pack(self._last, _HEADER.size), 0)
        if self._position > _SHRINK:
            os.ftruncate(self._descriptor, _HEADER.size)
        self._position = _HEADER.size

    def records(self) -> list[tuple[int, bytes]]:
        """(sequence, payload) of each record that was not trimmed, the oldest first."""
        return [
            (sequence, os.pread(self._descriptor, end - offset - _RECORD.size, offset + _RECORD.size))
            for sequence, offset, end in self._pending
        ]

    def close(self) -> None:
        """Closes it; the file stays."""
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


def _header(descriptor: int) -> tuple[int, int]:
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size:
        return 0, _HEADER.size
    trimmed, start = _HEADER.unpack(header)
    return trimmed, start or _HEADER.size


def _payloads(descriptor: int, trimmed: int, start: int) -> list[bytes]:
    data = os.pread(descriptor, max(0, os.fstat(descriptor).st_size - start), start)
    payloads: list[bytes] = []
    position = 0
    while position + _RECORD.size <= len(data):
        crc, length, sequence = _RECORD.unpack_from(data, position)
        end = position + _RECORD.size + length
        if sequence != trimmed + len(payloads) + 1 or end > len(data) or zlib.crc32(data[position + 4 : end]) != crc:
            break
        payloads.append(data[position + _RECORD.size : end])
        position = end
    return payloads
