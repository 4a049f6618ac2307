"""The snapshot streams of `MemoryStorage`: bytes and a position."""

import trio

from .._types import SnapshotHeader, check_u64
from ..abc import Buffer, SnapshotReader, SnapshotWriter

DEFAULT_RECEIVE = 65536
"""What `receive_some()` without an argument gives at most, in bytes."""


class MemorySnapshotReader(SnapshotReader):
    """Reads bytes that nobody can change."""

    def __init__(self, header: SnapshotHeader, data: bytes) -> None:
        self._header = header
        self._data = data
        self._position = 0
        self._closed = False

    @property
    def header(self) -> SnapshotHeader:
        return self._header

    @property
    def size(self) -> int:
        return len(self._data)

    def seek(self, offset: int) -> None:
        self._position = check_u64("offset", offset)

    def tell(self) -> int:
        return self._position

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and max_bytes < 1:
            msg = f"max_bytes must be at least 1, not {max_bytes}"
            raise ValueError(msg)
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError
        piece = self._data[self._position : self._position + (max_bytes or DEFAULT_RECEIVE)]
        self._position += len(piece)
        return piece

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()


class MemorySnapshotWriter(SnapshotWriter):
    """Collects what is written.  `data` is None once it was discarded, or installed."""

    def __init__(self, id: str) -> None:
        self._id = id
        self._position = 0
        self._closed = False
        self.data: bytearray | None = bytearray()

    @property
    def id(self) -> str:
        return self._id

    def seek(self, offset: int) -> None:
        self._position = check_u64("offset", offset)

    def tell(self) -> int:
        return self._position

    def _open_data(self) -> bytearray:
        if self._closed or self.data is None:
            raise trio.ClosedResourceError
        return self.data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        self._open_data()

    async def send_all(self, data: Buffer) -> None:
        await trio.lowlevel.checkpoint()
        held = self._open_data()
        if not data:
            return  # a write of nothing beyond the end makes no hole, as with a file
        held.extend(bytes(max(self._position - len(held), 0)))
        held[self._position : self._position + len(data)] = data
        self._position += len(data)

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()

    async def discard(self) -> None:
        self.drop()
        await trio.lowlevel.checkpoint()

    def drop(self) -> None:
        """Closes it and forgets the bytes."""
        self._closed = True
        self.data = None
