"""A file system that passes every call on: what wrappers start from."""

from collections.abc import Sequence

from walstore._disk.seam import Buffer, Directory, File, FileSystem


class WrappedFile(File):
    """An open file of another file system."""

    __slots__ = ("inner",)

    def __init__(self, inner: File) -> None:
        self.inner = inner

    def size(self) -> int:
        """See `File.size`."""
        return self.inner.size()

    def pread(self, offset: int, length: int) -> bytes:
        """See `File.pread`."""
        return self.inner.pread(offset, length)

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """See `File.pwritev`."""
        self.inner.pwritev(offset, buffers)

    def datasync(self) -> None:
        """See `File.datasync`."""
        self.inner.datasync()

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        self.inner.truncate(size)

    def allocate(self, size: int) -> None:
        """See `File.allocate`."""
        self.inner.allocate(size)

    def drop_cache(self) -> None:
        """See `File.drop_cache`."""
        self.inner.drop_cache()

    def close(self) -> None:
        """See `File.close`."""
        self.inner.close()


class WrappedDirectory(Directory):
    """An open directory of another file system."""

    __slots__ = ("inner", "path")

    def __init__(self, inner: Directory) -> None:
        self.inner = inner
        self.path = inner.path

    def names(self) -> list[str]:
        """See `Directory.names`."""
        return self.inner.names()

    def open(self, name: str, *, write: bool = False) -> File:
        """See `Directory.open`."""
        return self.inner.open(name, write=write)

    def create(self, name: str) -> File:
        """See `Directory.create`."""
        return self.inner.create(name)

    def rename(self, old: str, new: str) -> None:
        """See `Directory.rename`."""
        self.inner.rename(old, new)

    def unlink(self, name: str) -> None:
        """See `Directory.unlink`."""
        self.inner.unlink(name)

    def sync(self) -> None:
        """See `Directory.sync`."""
        self.inner.sync()

    def lock(self) -> bool:
        """See `Directory.lock`."""
        return self.inner.lock()

    def close(self) -> None:
        """See `Directory.close`."""
        self.inner.close()


class WrappedFileSystem(FileSystem):
    """Another file system."""

    def __init__(self, inner: FileSystem) -> None:
        self.inner = inner

    def open_directory(self, path: str, *, create: bool) -> Directory:
        """See `FileSystem.open_directory`."""
        return self.inner.open_directory(path, create=create)

    def random_bytes(self, count: int) -> bytes:
        """See `FileSystem.random_bytes`."""
        return self.inner.random_bytes(count)

    def time_ns(self) -> int:
        """See `FileSystem.time_ns`."""
        return self.inner.time_ns()
