"""A file system in memory that forgets what was not synced: crash tests without a disk, many thousands a second.

    disk = SimulatedFileSystem(seed=1)
    ...                                        # run a store on it
    after = disk.crash(random.Random(7))       # as a power cut now may leave it; `disk` itself lives on

`operations` is all that was changed, in order, with the data: `disk.at(n)` is the disk after the first n of them, with
what was pending then still pending, and `stop_after(n)` makes a store meet the power cut there.  What a crash may keep
is written in `_simulated_file` and `_simulated_names`; `walstore.testing.crashes` goes through all of it.

Everything is deterministic: the same seed and the same calls give the same bytes.  Calls from several threads are
safe; then their order is the only thing that may differ.
"""

import errno
import hashlib
import os
import posixpath
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from random import Random

from walstore._disk.refusals import check_name, closed
from walstore._disk.seam import Buffer, Directory, File, FileSystem
from walstore.testing._simulated_crash import Choose, Contents, chosen, sampled
from walstore.testing._simulated_file import SimulatedInode
from walstore.testing._simulated_names import SimulatedFolder
from walstore.testing.operations import Operation

_EPOCH_NS = 1_600_000_000_000_000_000


class SimulatedPowerCut(OSError):
    """The disk has no power any more: nothing was done."""


class SimulatedFile(File):
    """An open file of a `SimulatedFileSystem`."""

    __slots__ = ("_folder", "_inode", "_name", "_open", "_system", "_write")

    def __init__(
        self, system: "SimulatedFileSystem", folder: str, name: str, inode: SimulatedInode, *, write: bool
    ) -> None:
        self._system = system
        self._folder = folder
        self._name = name
        self._inode = inode
        self._write = write
        self._open = True

    def size(self) -> int:
        """See `File.size`."""
        self._check()
        return len(self._inode.data)

    def pread(self, offset: int, length: int) -> bytes:
        """See `File.pread`."""
        self._check()
        with self._system.mutex:
            data = self._inode.read(offset, length)
            self._system.bytes_read += len(data)
            return data

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """See `File.pwritev`."""
        self._change("write", offset=offset, data=b"".join(buffers))

    def datasync(self) -> None:
        """See `File.datasync`."""
        self._check()
        with self._system.mutex:
            error = self._system.sync_error(self._name)
            kind = "datasync" if error is None else "lose"
            self._system.perform(Operation(kind, self._folder, self._name, self._inode.number), self._inode)
        if error is not None:
            raise error

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        self._change("truncate", size=size)

    def allocate(self, size: int) -> None:
        """See `File.allocate`."""
        self._change("allocate", size=size)

    def drop_cache(self) -> None:
        """See `File.drop_cache`."""
        self._check()
        with self._system.mutex:
            self._inode.drop_cache()

    def close(self) -> None:
        """See `File.close`."""
        self._open = False

    def _check(self) -> None:
        if not self._open:
            raise closed()

    def _change(self, kind: str, *, offset: int = 0, data: bytes = b"", size: int = 0) -> None:
        if not self._open or not self._write:
            raise closed()
        with self._system.mutex:
            inode = self._inode
            self._system.perform(Operation(kind, self._folder, self._name, inode.number, offset, data, size), inode)


class SimulatedDirectory(Directory):
    """An open directory of a `SimulatedFileSystem`."""

    __slots__ = ("_folder", "_open", "_system", "path")

    def __init__(self, system: "SimulatedFileSystem", folder: SimulatedFolder, path: str) -> None:
        self._system = system
        self._folder = folder
        self._open = True
        self.path = path

    def names(self) -> list[str]:
        """See `Directory.names`.  Files only: directories in directories are not shown."""
        self._check()
        with self._system.mutex:
            return sorted(self._folder.entries)

    def open(self, name: str, *, write: bool = False) -> File:
        """See `Directory.open`."""
        self._check()
        with self._system.mutex:
            return SimulatedFile(self._system, self._folder.path, name, self._existing(name), write=write)

    def create(self, name: str) -> File:
        """See `Directory.create`."""
        self._check()
        with self._system.mutex:
            if check_name(name) in self._folder.entries:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            inode = self._system.new_inode()
            self._perform("create", name, inode)
            return SimulatedFile(self._system, self._folder.path, name, inode, write=True)

    def rename(self, old: str, new: str) -> None:
        """See `Directory.rename`."""
        self._check()
        with self._system.mutex:
            self._perform("rename", old, self._existing(old), check_name(new))

    def unlink(self, name: str) -> None:
        """See `Directory.unlink`."""
        self._check()
        with self._system.mutex:
            self._perform("unlink", name, self._existing(name))

    def sync(self) -> None:
        """See `Directory.sync`."""
        self._check()
        with self._system.mutex:
            self._system.perform(Operation("sync", self._folder.path), None)

    def lock(self) -> bool:
        """See `Directory.lock`."""
        self._check()
        with self._system.mutex:
            return self._system.lockers.setdefault(self._folder.path, self) is self

    def close(self) -> None:
        """See `Directory.close`."""
        self._open = False
        with self._system.mutex:
            if self._system.lockers.get(self._folder.path) is self:
                del self._system.lockers[self._folder.path]

    def _check(self) -> None:
        if not self._open:
            raise closed()

    def _existing(self, name: str) -> SimulatedInode:
        inode = self._folder.entries.get(check_name(name))
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return inode

    def _perform(self, kind: str, name: str, inode: SimulatedInode, target: str = "") -> None:
        self._system.perform(Operation(kind, self._folder.path, name, inode.number, target=target), inode)


class SimulatedFileSystem(FileSystem):
    """A disk in memory; see the module."""

    def __init__(self, seed: int = 0, *, contents: Contents | None = None) -> None:
        """An empty disk, or one with `contents`, all of it durable."""
        self.operations: list[Operation] = []
        """What was changed since the start, in order."""
        self.bytes_read = 0
        self.birth = f"seed {seed}"
        """Where this disk comes from, for messages."""
        self.mutex = threading.RLock()
        self.lockers: dict[str, Directory] = {}
        self.folders: dict[str, SimulatedFolder] = {}
        self._start: Contents = contents or {}
        self._key = f"{seed}".encode()
        self._draws = 0
        self._clock = _EPOCH_NS
        self._stop: int | None = None
        self._sync_errors: list[tuple[str, OSError]] = []
        self._last_number = 0
        files: dict[int, SimulatedInode] = {}
        for path, entries in self._start.items():
            inodes = {}
            for name, (number, data) in entries.items():
                inode = files.get(number)
                if inode is None:
                    inode = files[number] = SimulatedInode(number, data)
                inodes[name] = inode
            self.folders[path] = SimulatedFolder(path, inodes)
        if files:
            self._last_number = max(files)

    # -- the seam

    def open_directory(self, path: str, *, create: bool) -> Directory:
        """See `FileSystem.open_directory`.  Making one is a single operation, durable at once, parents first."""
        where = _normal(path)
        with self.mutex:
            if where not in self.folders:
                self._make(where, path, create=create)
            return SimulatedDirectory(self, self.folders[where], path)

    def _make(self, where: str, path: str, *, create: bool) -> None:
        parent, name = posixpath.split(where)
        if name in (self.folders[parent].entries if parent in self.folders else ()):
            code = errno.EEXIST if create else errno.ENOTDIR
            raise OSError(code, os.strerror(code), path)
        if not create and where != "/":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if parent != "/" and parent not in self.folders:
            self._make(parent, path, create=True)
        self.perform(Operation("mkdir", where), None)

    def random_bytes(self, count: int) -> bytes:
        """See `FileSystem.random_bytes`.  A disk after a crash never repeats what was drawn before it."""
        with self.mutex:
            self._draws += 1
            return hashlib.shake_128(self._key + b"/%d" % self._draws).digest(count)

    def time_ns(self) -> int:
        """See `FileSystem.time_ns`.  A microsecond passes with each look."""
        with self.mutex:
            self._clock += 1000
            return self._clock

    # -- what tests do to it

    @property
    def trace(self) -> list[str]:
        """The operations as lines to read."""
        return [str(operation) for operation in self.operations]

    def stop_after(self, count: int | None) -> None:
        """Lets `count` operations be done, counted from the start; each later one is a `SimulatedPowerCut`."""
        self._stop = count

    def fail_sync(self, name: str = "*", error: OSError | None = None) -> None:
        """Makes the next datasync of a file that matches `name` fail, and leaves its pages clean but not on the disk.

        That is what ext4 and XFS do: readers still see the bytes, the next datasync succeeds, and a power cut (or
        `drop_cache`) shows that they were never written.
        """
        self._sync_errors.append((name, error or OSError(errno.EIO, os.strerror(errno.EIO))))

    def crash(self, choice: Random | Choose) -> "SimulatedFileSystem":
        """A new disk, as a power cut now may leave this one: by chance, or as a function chooses."""
        with self.mutex:
            if isinstance(choice, Random):
                return self.born(sampled(self.folders.values(), choice), "crash by chance")
            return self.born(chosen(self.folders.values(), choice), "crash by choice")

    def crash_keeping_nothing(self) -> "SimulatedFileSystem":
        """The disk with only what was synced."""
        return self.crash(lambda _kind, _path, _offset, _count: 0)

    def crash_keeping_everything(self) -> "SimulatedFileSystem":
        """The disk with all that was written, as after a kill of the process alone."""
        return self.crash(lambda _kind, _path, _offset, count: count - 1)

    def files(self, path: str) -> dict[str, bytes]:
        """Every file of a directory as readers see it."""
        with self.mutex:
            return {name: bytes(inode.data) for name, inode in sorted(self.folders[_normal(path)].entries.items())}

    def altered(self, changes: Mapping[str, bytes | None]) -> "SimulatedFileSystem":
        """A new disk with what readers see, all of it durable, but each path in `changes` with other bytes, or without.

        That is rot, a lost file, a foreign one: what no crash does.
        """
        with self.mutex:
            contents = {
                path: {name: (inode.number, inode.share()) for name, inode in folder.entries.items()}
                for path, folder in self.folders.items()
            }
            for number, (where, data) in enumerate(changes.items(), self._last_number + 1):
                path, name = posixpath.split(_normal(where))
                contents[path].pop(name, None)
                if data is not None:
                    contents[path][name] = (number, data)
            return self.born(contents, "altered")

    def at(self, count: int) -> "SimulatedFileSystem":
        """A new disk in the state of this one after its first `count` operations, what was pending still pending."""
        return SimulatedFileSystem._replayed(self._start, self.operations[:count], self._key)

    def prefixes(self) -> Iterator[tuple[int, "SimulatedFileSystem"]]:
        """(n, the disk after n operations) for every n from 0: always the same disk, moving on.  Do not write to it."""
        yield from SimulatedFileSystem._walk(self._start, list(self.operations), self._key)

    @classmethod
    def replay(cls, operations: Iterable[Operation], *, seed: int = 0) -> "SimulatedFileSystem":
        """An empty disk with these operations done, what they left pending still pending."""
        return cls._replayed({}, operations, f"{seed}".encode())

    # -- the insides that handles and crashes use

    def new_inode(self) -> SimulatedInode:
        """A file without a name; its number is used up only when it is created."""
        return SimulatedInode(self._last_number + 1)

    def sync_error(self, name: str) -> OSError | None:
        """The error that the next datasync of this file meets, if one was asked for."""
        for position, (pattern, error) in enumerate(self._sync_errors):
            if fnmatchcase(name, pattern):
                del self._sync_errors[position]
                return error
        return None

    def perform(self, operation: Operation, inode: SimulatedInode | None) -> None:
        """Notes an operation and does it; called with the mutex held."""
        if self._stop is not None and len(self.operations) >= self._stop:
            raise SimulatedPowerCut(errno.EIO, f"the power was cut after {self._stop} operations")
        self.operations.append(operation)
        if inode is None:
            if operation.kind == "sync":
                self.folders[operation.directory].sync()
            else:
                self.folders[operation.directory] = SimulatedFolder(operation.directory, {})
        else:
            self._change(operation, inode)

    def _change(self, operation: Operation, inode: SimulatedInode) -> None:
        match operation.kind:
            case "write":
                inode.write(operation.offset, operation.data)
            case "datasync":
                inode.datasync()
            case "create":
                self._last_number = operation.file
                self.folders[operation.directory].create(operation.name, inode)
            case "rename":
                self.folders[operation.directory].rename(operation.name, operation.target)
            case "unlink":
                self.folders[operation.directory].unlink(operation.name)
            case "truncate":
                inode.resize(operation.size)
            case "allocate":
                inode.resize(max(operation.size, len(inode.data)), gradual=True)
            case _:
                inode.lose()

    def born(self, contents: Contents, birth: str) -> "SimulatedFileSystem":
        """A disk with these contents whose random bytes and times go on from this one's."""
        count = len(self.operations)
        child = SimulatedFileSystem(contents=contents)
        child._key = hashlib.blake2b(self._key + b"+%d" % count, digest_size=16).digest()
        child._clock = self._clock + 1_000_000_000
        child._last_number = max(child._last_number, self._last_number)
        child.birth = f"{self.birth}; {birth} after operation {count}"
        return child

    @classmethod
    def _replayed(cls, start: Contents, operations: Iterable[Operation], key: bytes) -> "SimulatedFileSystem":
        *_, (_, system) = cls._walk(start, operations, key)
        return system

    @classmethod
    def _walk(
        cls, start: Contents, operations: Iterable[Operation], key: bytes
    ) -> Iterator[tuple[int, "SimulatedFileSystem"]]:
        system = cls(contents=start)
        system._key = key + b"@"
        files = {inode.number: inode for folder in system.folders.values() for inode in folder.entries.values()}
        yield 0, system
        for count, operation in enumerate(operations, 1):
            inode = files.get(operation.file)
            if operation.kind == "create":
                inode = files[operation.file] = SimulatedInode(operation.file)
            system.perform(operation, inode)
            yield count, system


def _normal(path: str) -> str:
    return posixpath.normpath(posixpath.join("/", path))
