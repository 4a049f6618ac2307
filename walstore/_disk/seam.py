"""The seam: everything that walstore asks of a file system, in three small classes.

Synchronous and ignorant: names and bytes.  `_disk.os_fs` is the real one; `walstore.testing` has one that loses what
was not synced, one that rolls it back, and wrappers that fail or forget on purpose.  A store lives in one flat
directory, so a `Directory` is the whole world: names carry no slash.

To be durable, bytes need `File.datasync` after the last write, and a name needs `Directory.sync` after the change.
Every method may raise OSError.  Methods are called from worker threads, never from two at once on one `File` for
writing; reads may overlap.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


class File(ABC):
    """One open file."""

    __slots__ = ()

    @abstractmethod
    def size(self) -> int:
        """The file's length in bytes now."""

    @abstractmethod
    def pread(self, offset: int, length: int) -> bytes:
        """The bytes at [offset, offset + length); shorter only where the file ends.  Never a short read inside it."""

    @abstractmethod
    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Writes the buffers one after another at `offset`, all of them or OSError (a short write is an error)."""

    @abstractmethod
    def datasync(self) -> None:
        """Returns when the file's bytes and its length survive power loss.  Never called again after it failed."""

    @abstractmethod
    def truncate(self, size: int) -> None:
        """Sets the length; a longer file is padded with zeros."""

    @abstractmethod
    def allocate(self, size: int) -> None:
        """Reserves blocks for [0, size) without writing them, where the platform can; extends the length."""

    @abstractmethod
    def drop_cache(self) -> None:
        """Asks that the next read come from the device.  A hint; call it after `datasync`."""

    @abstractmethod
    def close(self) -> None:
        """Releases the descriptor.  Silent twice."""


class Directory(ABC):
    """One open directory, and what is needed to keep a store in it."""

    __slots__ = ()

    path: str
    """Where it is, for messages only."""

    @abstractmethod
    def names(self) -> list[str]:
        """All names in it now, sorted."""

    @abstractmethod
    def open(self, name: str, *, write: bool = False) -> File:
        """An existing regular file, for reading or for reading and writing.  A symlink, FIFO or directory: OSError."""

    @abstractmethod
    def create(self, name: str) -> File:
        """A new empty file (mode 0600), for reading and writing.  FileExistsError if the name is taken."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Atomically gives the file its new name, replacing what had it."""

    @abstractmethod
    def unlink(self, name: str) -> None:
        """Removes a name.  Open files keep their bytes."""

    @abstractmethod
    def sync(self) -> None:
        """Returns when all changes of names so far survive power loss."""

    @abstractmethod
    def lock(self) -> bool:
        """Takes the exclusive lock of this directory until `close`; False if another handle has it."""

    @abstractmethod
    def close(self) -> None:
        """Releases descriptor and lock.  Silent twice."""


class FileSystem(ABC):
    """Opens directories, and is the source of what a deterministic test must control: random bytes and the time."""

    __slots__ = ()

    @abstractmethod
    def open_directory(self, path: str, *, create: bool) -> Directory:
        """The directory (mode 0700).  With `create`, it and its missing parents are made, and made durable."""

    @abstractmethod
    def random_bytes(self, count: int) -> bytes:
        """For identities and salts."""

    @abstractmethod
    def time_ns(self) -> int:
        """Nanoseconds since the epoch, for the record only: nothing is decided by it."""
