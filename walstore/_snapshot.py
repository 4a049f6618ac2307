"""The snapshot streams: a reader that keeps its bytes, and a writer for what a peer sends.

Both hold one open file, and reach it only by a hop to a worker thread (PROTOCOL P12).  A hop that began is never
abandoned, so that `trio.Cancelled` means what it says: nothing was read, and the position is where it was; or nothing
was written (ECOSYSTEM 2.4).  One task at a time: a second one gets `trio.BusyResourceError` at once.

Neither looks into the bytes.  Whoever must not send or take rotten ones verifies: see `_snapshot_files`.
"""

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import TypeVar, TypeVarTuple

import trio

from ._disk.seam import Buffer, Directory, File
from ._interrupts import interrupted_at_checkpoints
from ._log.control import SnapshotRecord
from ._snapshot_files import create_temporary, open_current
from ._types import SnapshotHeader, check_u64
from .abc import SnapshotReader, SnapshotWriter
from .errors import StorageFullError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DEFAULT_RECEIVE = 64 * 1024
"""What `receive_some()` without an argument gives at most, in bytes."""

MAX_RECEIVE = 8 << 20
"""What one call gives at most, whatever it asks for, in bytes: a reader of any snapshot takes bounded memory."""

READ_AHEAD = 256 * 1024
"""What a reader fetches at least, in bytes, so that small calls do not hop one by one."""

_MAX_OFFSET = 2**63 - 1
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class _OpenFile:
    """An open file that one task at a time may use, and any task may close."""

    def __init__(self, file: File, limiter: trio.CapacityLimiter) -> None:
        self.file = file
        self.closed = False
        self._limiter = limiter
        self._use: trio.CancelScope | None = None
        self._idle = trio.Event()

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Within it, no other task may use the file.  Left with ClosedResourceError if it was closed meanwhile."""
        self.check()
        self._idle = trio.Event()
        try:
            with trio.CancelScope() as self._use:
                yield
        finally:
            self._use = None
            self._idle.set()
        if self.closed:
            raise trio.ClosedResourceError

    def check(self) -> None:
        """Raises what a use would raise now."""
        if self.closed:
            raise trio.ClosedResourceError
        if self._use is not None:
            msg = "another task is using this snapshot stream"
            raise trio.BusyResourceError(msg)

    async def hop(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Calls it in a worker thread."""
        return await trio.to_thread.run_sync(function, *args, limiter=self._limiter)

    async def close(self) -> None:
        """Closes it, even when cancelled; a use that did not begin its hop yet is broken off, one that did ends first.

        Not a checkpoint if it was closed before.
        """
        if self.closed:
            return
        self.closed = True
        with trio.CancelScope(shield=True):
            if self._use is not None:
                self._use.cancel()
                await self._idle.wait()
            await self.hop(self.file.close)


@interrupted_at_checkpoints
class FileSnapshotReader(SnapshotReader):
    """Reads a snapshot file; its bytes stay, also after the file has lost its name to a newer snapshot.

    Every method that is no coroutine may be called at any time from the event loop's thread.
    """

    def __init__(
        self,
        file: File,
        record: SnapshotRecord,
        *,
        limiter: trio.CapacityLimiter,
        on_close: Callable[["FileSnapshotReader"], object] | None = None,
    ) -> None:
        """Takes the open file over.  `on_close` is called once, when it is closed."""
        self._open_file = _OpenFile(file, limiter)
        self._record = record
        self._on_close = on_close
        self._position = 0
        self._ahead = b""
        self._ahead_from = 0

    @property
    def header(self) -> SnapshotHeader:
        """What the snapshot says of itself."""
        return self._record.header

    @property
    def size(self) -> int:
        """The number of bytes in all, the container included."""
        return self._record.size

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._open_file.closed

    def seek(self, offset: int) -> None:
        """The next `receive_some` reads from `offset`, in bytes; at or beyond the end: nothing."""
        offset = check_u64("offset", offset)
        self._open_file.check()
        self._position = offset

    def tell(self) -> int:
        """The offset of the next byte; after `aclose` too."""
        return self._position

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next `max_bytes` bytes; fewer only at the end, or above 8 MiB.  b"" at the end, as often as one asks.

        None is 64 KiB.  Raises `trio.BrokenResourceError` if the file can not be read or is not as long as it was:
        the position stays, so that one may try again.  Cancelled: the position stays.
        """
        wanted = DEFAULT_RECEIVE if max_bytes is None else check_u64("max_bytes", max_bytes, 1)
        with self._open_file.claim():
            wanted = min(wanted, MAX_RECEIVE, max(self._record.size - self._position, 0))
            data = self._held(wanted)
            if data is None:
                data = await self._fetch(wanted)
            else:
                await trio.lowlevel.checkpoint()
            self._position += len(data)
        return data

    def _held(self, wanted: int) -> bytes | None:
        """The next bytes, if all of them were read ahead."""
        start = self._position - self._ahead_from
        if wanted and not 0 <= start <= start + wanted <= len(self._ahead):
            return None
        return self._ahead[start : start + wanted] if wanted else b""

    async def _fetch(self, wanted: int) -> bytes:
        """Reads the next bytes, and more if they are few; keeps only what was read beyond them."""
        position = self._position
        length = min(max(wanted, READ_AHEAD), self._record.size - position)
        try:
            data = await self._open_file.hop(self._open_file.file.pread, position, length)
        except OSError as error:
            msg = f"the snapshot can not be read at byte {position}: {error}"
            raise trio.BrokenResourceError(msg) from error
        if len(data) != length:
            msg = f"the snapshot ends at byte {position + len(data)}; it had {self._record.size}"
            raise trio.BrokenResourceError(msg)
        self._ahead, self._ahead_from = data[wanted:], position + wanted
        return data[:wanted]

    async def aclose(self) -> None:
        """Closes the reader, even when cancelled.  Silent twice."""
        first = not self._open_file.closed
        try:
            await self._open_file.close()
        finally:
            self._ahead = b""
            if first and self._on_close is not None:
                self._on_close(self)
        await trio.lowlevel.checkpoint()


@interrupted_at_checkpoints
class FileSnapshotWriter(SnapshotWriter):
    """Takes the bytes of a peer's snapshot into a temporary file.

    Nothing is durable or believed before `finalize_snapshot_installation` has read it all (PROTOCOL B7), so writes may
    come in any order and repeat.  `closed`: takes no more bytes.  `removed`: there is no file any more.
    """

    def __init__(
        self,
        id: str,
        directory: Directory,
        name: str,
        file: File,
        *,
        limiter: trio.CapacityLimiter,
        on_removed: Callable[["FileSnapshotWriter"], object] | None = None,
    ) -> None:
        """Takes the open, empty file over.  `on_removed` is called once, when `removed` becomes true."""
        self.removed = False
        self._id = id
        self._directory = directory
        self._name = name
        self._open_file = _OpenFile(file, limiter)
        self._on_removed = on_removed
        self._held = False
        self._position = 0
        self._size = 0

    @property
    def id(self) -> str:
        """The id that `create_snapshot` gave."""
        return self._id

    @property
    def name(self) -> str:
        """The temporary name of the file."""
        return self._name

    @property
    def size(self) -> int:
        """The end of what was written, in bytes."""
        return self._size

    @property
    def closed(self) -> bool:
        """Whether `aclose` or `discard` was called: nothing can be written any more."""
        return self._open_file.closed

    def seek(self, offset: int) -> None:
        """The next `send_all` writes at `offset`, in bytes; beyond the end it leaves a hole of zeros."""
        if check_u64("offset", offset) > _MAX_OFFSET:
            msg = f"offset must be below 2**63, not {offset}"
            raise ValueError(msg)
        self._open_file.check()
        self._position = offset

    def tell(self) -> int:
        """The offset of the next byte; after `aclose` too."""
        return self._position

    async def send_all(self, data: Buffer) -> None:
        """Writes all of it at the position, and moves this to its end.  Durable only after finalize.

        Raises StorageFullError if there is no room, `trio.BrokenResourceError` if the disk fails otherwise; the
        position stays, so that the same bytes may be sent again.  Cancelled: nothing was written.
        """
        with self._open_file.claim(), memoryview(data) as view, view.cast("B") as flat:
            if flat:
                await self._write(flat)
            else:
                await trio.lowlevel.checkpoint()

    async def _write(self, data: memoryview) -> None:
        try:
            await self._open_file.hop(self._open_file.file.pwritev, self._position, [data])
        except OSError as error:
            msg = f"{len(data)} bytes of a snapshot could not be written at byte {self._position}: {error}"
            if error.errno in _NO_ROOM:
                raise StorageFullError(error.errno, msg, self._name) from error
            raise trio.BrokenResourceError(msg) from error
        self._position += len(data)
        self._size = max(self._size, self._position)

    async def wait_send_all_might_not_block(self) -> None:
        """Returns at once: a file takes what it is given."""
        with self._open_file.claim():
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Takes no more bytes, and keeps what was written, for finalize.  Closes even when cancelled.  Silent twice."""
        await self._open_file.close()
        await trio.lowlevel.checkpoint()

    async def discard(self) -> None:
        """Closes the writer and removes what was written, even when cancelled.  Silent twice.

        Raises `trio.BusyResourceError` while a finalize is at work on it.  OSError if the file can not be removed: it
        stays behind, and the next open of the store sweeps it.
        """
        if self._held:
            msg = "this snapshot is being finalized"
            raise trio.BusyResourceError(msg)
        await self._open_file.close()
        if not self.removed:
            self.removed = True
            try:
                with trio.CancelScope(shield=True):
                    await self._open_file.hop(self._unlink)
            finally:
                self._tell()
        await trio.lowlevel.checkpoint()

    @contextlib.contextmanager
    def hold(self) -> Iterator[str]:
        """For finalize, of a closed writer: within it nobody else may hold or discard it.  Gives the file's name.

        Raises `trio.ClosedResourceError` if there is no file any more, `trio.BusyResourceError` if it is held.
        """
        if self.removed:
            raise trio.ClosedResourceError
        if self._held or not self.closed:
            msg = "this snapshot is being finalized, or still written"
            raise trio.BusyResourceError(msg)
        self._held = True
        try:
            yield self._name
        finally:
            self._held = False

    def forget(self) -> None:
        """For finalize: the file has got its lasting name, or was removed.  `discard` has nothing to do any more."""
        if not self.removed:
            self.removed = True
            self._tell()

    def _tell(self) -> None:
        if self._on_removed is not None:
            self._on_removed(self)

    def _unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._directory.unlink(self._name)


async def open_reader(
    directory: Directory,
    name: str,
    record: SnapshotRecord,
    *,
    limiter: trio.CapacityLimiter,
    on_close: Callable[[FileSnapshotReader], object] | None = None,
) -> FileSnapshotReader:
    """A reader of the snapshot file of that record, at offset 0.

    Raises ContainerError if header or size are not the record's, OSError if the file can not be opened (it may have
    been superseded since the name was looked up).  Cancelled: nothing was opened.
    """
    file = await trio.to_thread.run_sync(open_current, directory, name, record, limiter=limiter)
    return FileSnapshotReader(file, record, limiter=limiter, on_close=on_close)


async def create_writer(
    directory: Directory,
    number: int,
    id: str,
    *,
    limiter: trio.CapacityLimiter,
    on_removed: Callable[[FileSnapshotWriter], object] | None = None,
) -> FileSnapshotWriter:
    """A writer to a new temporary file, whose name has this number or a later one that is free.

    Raises OSError if it can not be created.  Cancelled: nothing was.
    """
    name, file = await trio.to_thread.run_sync(create_temporary, directory, number, limiter=limiter)
    return FileSnapshotWriter(id, directory, name, file, limiter=limiter, on_removed=on_removed)
