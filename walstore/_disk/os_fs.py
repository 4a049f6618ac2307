"""The real file system: descriptors, `*at` calls beneath one directory, and the barriers of this platform.

Rules of the file:
1. Everything is opened relative to the directory's descriptor and without following a symlink, so a store that is
   moved, or whose path is replaced, while it is open goes on in the directory that it locked.
2. Only regular files are opened.  The kind is looked at before the open (opening a device may act on it) and again
   after (it may have been swapped); O_NONBLOCK keeps a FIFO from blocking the thread in between.
3. A barrier is what reaches the medium: fdatasync on Linux, F_FULLFSYNC on macOS, where fsync does not flush the
   drive's own cache.
4. Python repeats calls that a signal interrupted (PEP 475), so EINTR is not seen here.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence

from walstore._disk.refusals import check_name, closed, not_regular, short_write
from walstore._disk.seam import Buffer, Directory, File, FileSystem

IOV_MAX = max(16, os.sysconf("SC_IOV_MAX"))
"""Buffers in one writev; POSIX promises 16 at least."""

FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)

_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOTSUP})
_ANY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700


class OsFile(File):
    """A descriptor of a regular file."""

    __slots__ = ("_descriptor",)

    max_transfer = 1 << 30
    """Bytes in one call.  Linux moves at most 2**31 - 4096 at once and calls the rest a short write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def size(self) -> int:
        """See `File.size`."""
        return os.fstat(_checked(self._descriptor)).st_size

    def pread(self, offset: int, length: int) -> bytes:
        """See `File.pread`."""
        data = os.pread(self._descriptor, min(length, self.max_transfer), offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        got = len(data)
        while got < length:
            data = os.pread(self._descriptor, min(length - got, self.max_transfer), offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """See `File.pwritev`."""
        for piece in pieces(buffers, IOV_MAX, self.max_transfer):
            wanted = sum(map(len, piece))
            written = os.pwritev(self._descriptor, piece, offset)
            if written != wanted:
                self._explain_short_write(offset, b"".join(piece), written)
            offset += wanted

    def _explain_short_write(self, offset: int, data: bytes, written: int) -> None:
        """Raises, whatever happens: asking for the rest once more makes the kernel say why (ENOSPC, EFBIG, EDQUOT)."""
        os.pwrite(self._descriptor, data[written:], offset + written)
        raise short_write(written, len(data))

    def datasync(self) -> None:
        """See `File.datasync`."""
        barrier(_checked(self._descriptor), os.fdatasync if hasattr(os, "fdatasync") else os.fsync)

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        os.ftruncate(_checked(self._descriptor), size)

    def allocate(self, size: int) -> None:
        """See `File.allocate`.  Where the file system has no such call, the length alone is extended."""
        if size <= self.size():
            return
        reserve(self._descriptor, size, getattr(os, "posix_fallocate", None))

    def drop_cache(self) -> None:
        """See `File.drop_cache`.  A no-op where the platform has no posix_fadvise."""
        forget_pages(_checked(self._descriptor), getattr(os, "posix_fadvise", None))

    def close(self) -> None:
        """See `File.close`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class OsDirectory(Directory):
    """A descriptor of a directory, and perhaps its flock."""

    __slots__ = ("_descriptor", "_locked_by", "path")

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._locked_by = 0
        self.path = path

    def names(self) -> list[str]:
        """See `Directory.names`."""
        # Not listdir(self._descriptor): two threads would share one read position.
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=_checked(self._descriptor))
        try:
            return sorted(os.listdir(descriptor))
        finally:
            os.close(descriptor)

    def open(self, name: str, *, write: bool = False) -> File:
        """See `Directory.open`."""
        directory = _checked(self._descriptor)
        if not stat.S_ISREG(os.stat(check_name(name), dir_fd=directory, follow_symlinks=False).st_mode):
            raise not_regular(name)
        return _regular(name, os.open(name, (os.O_RDWR if write else os.O_RDONLY) | _ANY, dir_fd=directory))

    def create(self, name: str) -> File:
        """See `Directory.create`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _ANY
        return OsFile(os.open(check_name(name), flags, _FILE_MODE, dir_fd=_checked(self._descriptor)))

    def rename(self, old: str, new: str) -> None:
        """See `Directory.rename`."""
        directory = _checked(self._descriptor)
        os.rename(check_name(old), check_name(new), src_dir_fd=directory, dst_dir_fd=directory)

    def unlink(self, name: str) -> None:
        """See `Directory.unlink`."""
        os.unlink(check_name(name), dir_fd=_checked(self._descriptor))

    def sync(self) -> None:
        """See `Directory.sync`."""
        barrier(_checked(self._descriptor), os.fsync)

    def lock(self) -> bool:
        """See `Directory.lock`.  A flock of the directory itself: it leaves no file, and it dies with the process."""
        try:
            fcntl.flock(_checked(self._descriptor), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._locked_by = os.getpid()
        return True

    def close(self) -> None:
        """See `Directory.close`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            # A forked child shares the lock: the parent's close must free it all the same, and the child's must not.
            if self._locked_by == os.getpid():
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


class OsFileSystem(FileSystem):
    """The operating system's files, random bytes and clock."""

    __slots__ = ()

    def open_directory(self, path: str, *, create: bool) -> Directory:
        """See `FileSystem.open_directory`.

        A directory is made only after the name of its parent is durable.  So only the deepest one that is already
        there can be the remains of a call that was killed before it could sync: its name is synced again.
        """
        where = os.path.abspath(path)
        if create:
            self._make(where)
        return OsDirectory(os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)

    def _make(self, path: str) -> None:
        if os.path.isdir(path):
            self._sync_name_of(path, made=False)
            return
        self._make(os.path.dirname(path))
        try:
            os.mkdir(path, _DIRECTORY_MODE)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
        self._sync_name_of(path, made=True)

    def _sync_name_of(self, path: str, *, made: bool) -> None:
        """Makes the directory's own name durable.  One that was not made here may lie where nobody may look."""
        try:
            parent = self._open_to_sync(os.path.dirname(path))
        except PermissionError:
            if made:
                raise
            return
        try:
            barrier(parent, os.fsync)
        finally:
            os.close(parent)

    def _open_to_sync(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def random_bytes(self, count: int) -> bytes:
        """See `FileSystem.random_bytes`."""
        return os.urandom(count)

    def time_ns(self) -> int:
        """See `FileSystem.time_ns`."""
        return time.time_ns()


def pieces(buffers: Sequence[Buffer], most: int, limit: int) -> Iterator[list[Buffer]]:
    """`buffers` in groups of at most `most` buffers and `limit` bytes, cutting a buffer where it must be cut."""
    group: list[Buffer] = []
    room = limit
    for buffer in buffers:
        rest: Buffer = buffer
        while len(group) == most or len(rest) > room:
            if room and len(group) < most:
                view = memoryview(rest)
                group.append(view[:room])
                rest = view[room:]
            yield group
            group, room = [], limit
        group.append(rest)
        room -= len(rest)
    if group:
        yield group


def barrier(descriptor: int, plain: Callable[[int], None], full: int | None = FULL_FSYNC) -> None:
    """Returns when the file is on the medium: by `full` where the platform has it and the file system knows it."""
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
        else:
            return
    plain(descriptor)


def forget_pages(descriptor: int, advise: Callable[[int, int, int, int], None] | None) -> None:
    """Drops the file's clean pages from the cache by `advise`, where there is such a call."""
    if advise is not None:
        advise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def reserve(descriptor: int, size: int, allocate: Callable[[int, int, int], None] | None) -> None:
    """Blocks for [0, size) by `allocate`; where there is none, or the file system has none, the length alone."""
    if allocate is not None:
        try:
            allocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
        else:
            return
    os.ftruncate(descriptor, size)


def _checked(descriptor: int) -> int:
    """The descriptor, or EBADF: Python's own answer to -1 is in places a ValueError."""
    if descriptor < 0:
        raise closed()
    return descriptor


def _regular(name: str, descriptor: int) -> OsFile:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_regular(name)
    return OsFile(descriptor)
