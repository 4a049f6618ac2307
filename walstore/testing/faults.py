"""File systems that fail on purpose, wrapped around any other: real, simulated, or wrapped already.

    disk = FaultyFileSystem(SimulatedFileSystem())
    disk.fail("datasync", nth=3, name="wal-*")                  # the third one fails with EIO, once
    disk.fail("pwritev", error=OSError(errno.EROFS, "..."), once=False)     # every one, for ever
    disk.skip("sync")                                           # says it is done, and does nothing: a lost barrier
    disk.shorten(nth=2, keep=100)                               # the second write stops after 100 bytes
    disk.space_left = 64 * 1024                                 # ENOSPC once files have grown by so much
    disk.hook = lambda call: gate.wait() if call.operation == "datasync" else None      # a slow disk, or a stuck one

`calls` lists every call; for "operation n fails", loop n over its length.  SQLite's double loop is `once=True` for
every n, then `once=False` for every n.
"""

import copy
import errno
import os
import threading
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeVar

from walstore._disk.refusals import short_write
from walstore._disk.seam import Buffer, Directory, File, FileSystem
from walstore.testing._wrapped import WrappedDirectory, WrappedFile, WrappedFileSystem

T = TypeVar("T")

OPERATIONS = frozenset(
    {
        *("open_directory", "names", "open", "create", "rename", "unlink", "sync", "lock"),
        *("size", "pread", "pwritev", "datasync", "truncate", "allocate", "drop_cache"),
    }
)
"""What can fail.  `close` cannot, nor can random bytes and the time."""

CHANGES = frozenset({"create", "rename", "unlink", "sync", "pwritev", "datasync", "truncate", "allocate"})
"""Those that change something."""


class Call(NamedTuple):
    """One call of the seam."""

    operation: str
    name: str
    """The file's name now, the directory's path for `sync`, `names`, `lock` and `open_directory`."""
    offset: int = 0
    length: int = 0
    """Bytes read or written, or the size for `truncate` and `allocate`."""
    target: str = ""
    """The new name of a rename."""


class Fault:
    """One thing that will go wrong."""

    def __init__(
        self,
        operation: str,
        name: str,
        nth: int,
        *,
        once: bool,
        error: OSError | None,
        done: bool = False,
        keep: int | None = None,
    ) -> None:
        known = OPERATIONS | {"*", "change"}
        if operation not in known:
            msg = f"no such operation: {operation!r}; there are {', '.join(sorted(known))}"
            raise ValueError(msg)
        self.operation = operation
        self.name = name
        self.nth = nth
        self.once = once
        self.error = error
        """What is raised; None for a call that is left out in silence."""
        self.done = done
        """Whether the call is done before it fails."""
        self.keep = keep
        """How many bytes of a write are done before it fails."""
        self.seen = 0
        """Matching calls so far."""
        self.fired = 0
        """How many of them went wrong."""

    def strikes(self, call: Call) -> bool:
        """Counts the call, if it matches, and says whether it is to go wrong."""
        wanted = self.operation in {"*", call.operation} or (self.operation == "change" and call.operation in CHANGES)
        if not wanted or not (fnmatchcase(call.name, self.name) or fnmatchcase(call.target, self.name)):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.once and self.seen > self.nth):
            return False
        self.fired += 1
        return True

    def copied_error(self) -> OSError | None:
        """The error, fresh for each call that meets it."""
        return copy.copy(self.error)


class _Name:
    """The name of a file, shared by its open handles, so that a rename is seen by all."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value


class FaultyFile(WrappedFile):
    """An open file of a `FaultyFileSystem`."""

    __slots__ = ("_name", "_system")

    def __init__(self, inner: File, system: "FaultyFileSystem", name: _Name) -> None:
        super().__init__(inner)
        self._system = system
        self._name = name

    def _call(self, operation: str, offset: int = 0, length: int = 0) -> Call:
        return Call(operation, self._name.value, offset, length)

    def size(self) -> int:
        """See `File.size`."""
        return self._system.ask(self._call("size"), self.inner.size)

    def pread(self, offset: int, length: int) -> bytes:
        """See `File.pread`."""
        return self._system.ask(self._call("pread", offset, length), lambda: self.inner.pread(offset, length))

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """See `File.pwritev`."""
        length = sum(map(len, buffers))
        fault = self._system.change(
            self._call("pwritev", offset, length), lambda: self._write_what_fits(offset, buffers, length)
        )
        if fault is not None:
            keep = min(fault.keep or 0, max(0, length - 1))
            self._write_what_fits(offset, [b"".join(buffers)[:keep]], keep)
            raise fault.copied_error() or short_write(keep, length)

    def _write_what_fits(self, offset: int, buffers: Sequence[Buffer], length: int) -> None:
        lacking = self._system.take_space(offset + length - self.inner.size())
        if not lacking:
            self.inner.pwritev(offset, buffers)
            return
        self.inner.pwritev(offset, [b"".join(buffers)[: max(0, length - lacking)]])
        raise _no_space()

    def datasync(self) -> None:
        """See `File.datasync`."""
        self._system.change(self._call("datasync"), self.inner.datasync)

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""

        def truncate() -> None:
            freed = self.inner.size() - size
            self.inner.truncate(size)
            self._system.give_space(freed)

        self._system.change(self._call("truncate", length=size), truncate)

    def allocate(self, size: int) -> None:
        """See `File.allocate`."""

        def allocate() -> None:
            growth = size - self.inner.size()
            lacking = self._system.take_space(growth)
            if lacking:
                self._system.give_space(growth - lacking)
                raise _no_space()
            self.inner.allocate(size)

        self._system.change(self._call("allocate", length=size), allocate)

    def drop_cache(self) -> None:
        """See `File.drop_cache`."""
        self._system.change(self._call("drop_cache"), self.inner.drop_cache)


class FaultyDirectory(WrappedDirectory):
    """An open directory of a `FaultyFileSystem`."""

    __slots__ = ("_system",)

    def __init__(self, inner: Directory, system: "FaultyFileSystem") -> None:
        super().__init__(inner)
        self._system = system

    def names(self) -> list[str]:
        """See `Directory.names`."""
        return self._system.ask(Call("names", self.path), self.inner.names)

    def open(self, name: str, *, write: bool = False) -> File:
        """See `Directory.open`."""
        inner = self._system.ask(Call("open", name), lambda: self.inner.open(name, write=write))
        return FaultyFile(inner, self._system, self._system.named(self.path, name))

    def create(self, name: str) -> File:
        """See `Directory.create`."""
        inner = self._system.ask(Call("create", name), lambda: self.inner.create(name))
        return FaultyFile(inner, self._system, self._system.named(self.path, name))

    def rename(self, old: str, new: str) -> None:
        """See `Directory.rename`."""

        def rename() -> None:
            replaced = self._length(new)
            self.inner.rename(old, new)
            self._system.give_space(replaced)
            self._system.renamed(self.path, old, new)

        self._system.change(Call("rename", old, target=new), rename)

    def unlink(self, name: str) -> None:
        """See `Directory.unlink`."""

        def unlink() -> None:
            length = self._length(name)
            self.inner.unlink(name)
            self._system.give_space(length)
            self._system.forget(self.path, name)

        self._system.change(Call("unlink", name), unlink)

    def sync(self) -> None:
        """See `Directory.sync`."""
        self._system.change(Call("sync", self.path), self.inner.sync)

    def lock(self) -> bool:
        """See `Directory.lock`."""
        return self._system.ask(Call("lock", self.path), self.inner.lock)

    def _length(self, name: str) -> int:
        """What a name holds, if it matters."""
        if self._system.space_left is None or name not in self.inner.names():
            return 0
        file = self.inner.open(name)
        try:
            return file.size()
        finally:
            file.close()


class FaultyFileSystem(WrappedFileSystem):
    """Any file system, and what is to go wrong with it; see the module."""

    def __init__(self, inner: FileSystem) -> None:
        super().__init__(inner)
        self.calls: list[Call] = []
        """Every call so far, those that failed too."""
        self.hook: Callable[[Call], object] | None = None
        """Called before each operation, in its thread and without a lock: may block, and may raise."""
        self.space_left: int | None = None
        """By how many bytes files may still grow; None: no limit.  Space of removed files comes back at once."""
        self._faults: list[Fault] = []
        self._names: dict[tuple[str, str], _Name] = {}
        self._mutex = threading.Lock()

    def fail(
        self,
        operation: str,
        *,
        nth: int = 1,
        error: OSError | None = None,
        once: bool = True,
        name: str = "*",
        done: bool = False,
    ) -> Fault:
        """Makes the `nth` matching call from now on raise `error` (EIO), and if not `once`, each one after it too.

        `operation` is one of `OPERATIONS`, "change" for any that changes something, or "*".  `name` is a glob for the
        file (either name of a rename), or for the directory's path.  Nothing is done by a call that fails, or all of it
        if `done`: whoever gets an error from a disk does not know.
        """
        return self._add(Fault(operation, name, nth, once=once, error=error or _io_error(), done=done))

    def skip(self, operation: str, *, nth: int = 1, once: bool = False, name: str = "*") -> Fault:
        """Makes matching calls return as if done, with nothing done; not for those that answer something."""
        if operation not in (CHANGES | {"drop_cache"}) - {"create"}:
            msg = f"{operation!r} cannot be left out"
            raise ValueError(msg)
        return self._add(Fault(operation, name, nth, once=once, error=None))

    def shorten(
        self, *, nth: int = 1, keep: int = 0, error: OSError | None = None, once: bool = True, name: str = "*"
    ) -> Fault:
        """Makes the `nth` write put only its first `keep` bytes, and raise: a short write, or `error`."""
        return self._add(Fault("pwritev", name, nth, once=once, error=error, keep=keep))

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        with self._mutex:
            self._faults.clear()
            self.space_left = None

    def open_directory(self, path: str, *, create: bool) -> Directory:
        """See `FileSystem.open_directory`."""
        inner = self.ask(Call("open_directory", path), lambda: self.inner.open_directory(path, create=create))
        return FaultyDirectory(inner, self)

    # -- what the handles use

    def ask(self, call: Call, do: Callable[[], T]) -> T:
        """Does a call that answers something, unless it is to fail."""
        fault = self._struck(call)
        if fault is None:
            return do()
        if fault.done:
            answer = do()
            if isinstance(answer, File | Directory):
                answer.close()
        raise fault.copied_error() or _io_error()

    def change(self, call: Call, do: Callable[[], None]) -> Fault | None:
        """Does a call that changes something, unless it is to fail or to be left out; the fault, if a write is cut."""
        fault = self._struck(call)
        if fault is not None and fault.keep is not None:
            return fault
        if fault is None or fault.done:
            do()
        error = None if fault is None else fault.copied_error()
        if error is not None:
            raise error
        return None

    def _struck(self, call: Call) -> Fault | None:
        if self.hook is not None:
            self.hook(call)
        with self._mutex:
            self.calls.append(call)
            struck = [fault for fault in self._faults if fault.strikes(call)]
        return struck[0] if struck else None

    def take_space(self, growth: int) -> int:
        """Takes the space that a file grows by; how much of it there was not."""
        with self._mutex:
            if self.space_left is None or growth <= 0:
                return 0
            taken = min(growth, self.space_left)
            self.space_left -= taken
            return growth - taken

    def give_space(self, length: int) -> None:
        """Gives back what a file no longer takes."""
        with self._mutex:
            if self.space_left is not None and length > 0:
                self.space_left += length

    def named(self, path: str, name: str) -> _Name:
        """The shared name of a file."""
        with self._mutex:
            return self._names.setdefault((path, name), _Name(name))

    def renamed(self, path: str, old: str, new: str) -> None:
        """Makes open handles know their file's new name."""
        with self._mutex:
            name = self._names.pop((path, old), None) or _Name(new)
            name.value = new
            self._names[path, new] = name

    def forget(self, path: str, name: str) -> None:
        """Lets the next file of this name be another one."""
        with self._mutex:
            self._names.pop((path, name), None)

    def _add(self, fault: Fault) -> Fault:
        with self._mutex:
            self._faults.append(fault)
        return fault


class _NoBarrierFile(WrappedFile):
    __slots__ = ()

    def datasync(self) -> None:
        """Says that it is done, if the file is open."""
        self.inner.size()


class _NoBarrierDirectory(WrappedDirectory):
    __slots__ = ()

    def open(self, name: str, *, write: bool = False) -> File:
        """See `Directory.open`."""
        return _NoBarrierFile(self.inner.open(name, write=write))

    def create(self, name: str) -> File:
        """See `Directory.create`."""
        return _NoBarrierFile(self.inner.create(name))

    def sync(self) -> None:
        """Says that it is done."""


class NoBarriers(WrappedFileSystem):
    """A disk that says of everything that it is durable, and makes nothing so: the control that must lose data."""

    def open_directory(self, path: str, *, create: bool) -> Directory:
        """See `FileSystem.open_directory`."""
        return _NoBarrierDirectory(self.inner.open_directory(path, create=create))


def _no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _io_error() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))
