"""A power cut for a real directory: what was not synced is noted beside it, so that a part can be taken back.

A SIGKILL loses nothing that was written: the page cache lives on.  With

    disk = RollbackFileSystem(OsFileSystem(), "/somewhere/journal")

a process keeps, outside the store and on the same file system, the before-images of all bytes and names that it
changed and has not synced.  When it was killed, its parent calls

    report = roll_back("/somewhere/store", "/somewhere/journal", random.Random(7))

and a random part of all that is undone in place, by the very choices that a `SimulatedFileSystem` has (512-byte
sectors, lengths, names).  Without the call, the next process goes on with the same journals: what its predecessor did
not sync is still not durable.

The price of a commit is one read of what it overwrites and two small writes; nothing is ever synced for it.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Sequence

from walstore._disk.refusals import check_name
from walstore._disk.seam import Buffer, Directory, File, FileSystem
from walstore.testing._before_images import NameRecord, numbers, pack_change, pack_names, place_of
from walstore.testing._journal import Journal
from walstore.testing._power_cut import RollbackReport, roll_back
from walstore.testing._wrapped import WrappedDirectory, WrappedFile, WrappedFileSystem


class _Noted:
    """What all handles of one file share."""

    __slots__ = ("gone", "handles", "journal", "lock", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.handles = 0
        self.gone = False
        """Whether its last name is durably gone: then nothing of it matters, and the path may be another file's."""
        self.journal: Journal | None = Journal(path) if os.path.exists(path) else None
        self.lock = threading.Lock()

    def change(self, payload: bytes) -> None:
        """Notes a change that is about to be made; called with the lock held."""
        if self.gone:
            return
        if self.journal is None:
            self.journal = Journal(self.path)
        self.journal.append(payload)

    def mark(self) -> int:
        """What is noted by now."""
        with self.lock:
            return 0 if self.journal is None else self.journal.last

    def durable(self, mark: int) -> None:
        """Forgets what was noted up to a mark."""
        with self.lock:
            if self.journal is not None:
                self.journal.trim(mark)

    def close(self) -> None:
        """No handle is left.  What is not durable stays noted."""
        with self.lock:
            if self.journal is not None:
                self.journal.close()
                if self.journal.empty and not self.gone:
                    os.unlink(self.path)

    def forget(self) -> None:
        """The file is gone for good, though a handle may be left."""
        with self.lock:
            self.gone = True


class _RollbackFile(WrappedFile):
    """An open file whose un-synced changes are noted."""

    __slots__ = ("_close", "_noted")

    def __init__(self, inner: File, noted: _Noted, close: Callable[[], None]) -> None:
        super().__init__(inner)
        self._noted = noted
        self._close: Callable[[], None] | None = close

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """See `File.pwritev`."""
        length = sum(map(len, buffers))
        with self._noted.lock:
            before = self.inner.pread(offset, length)
            self._noted.change(pack_change(offset, length, self.inner.size(), before, gradual=True))
            self.inner.pwritev(offset, buffers)

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        with self._noted.lock:
            self._note_length(size, gradual=False)
            self.inner.truncate(size)

    def allocate(self, size: int) -> None:
        """See `File.allocate`."""
        with self._noted.lock:
            self._note_length(max(size, self.inner.size()), gradual=True)
            self.inner.allocate(size)

    def _note_length(self, size: int, *, gradual: bool) -> None:
        old_size = self.inner.size()
        if size != old_size:
            before = self.inner.pread(size, max(0, old_size - size))
            self._noted.change(pack_change(min(size, old_size), 0, old_size, before, gradual=gradual))

    def datasync(self) -> None:
        """See `File.datasync`."""
        mark = self._noted.mark()
        self.inner.datasync()
        self._noted.durable(mark)

    def close(self) -> None:
        """See `File.close`."""
        close, self._close = self._close, None
        if close is not None:
            self.inner.close()
            close()


class _Names:
    """The journals of one directory, shared by all its handles."""

    def __init__(self, store: str, place: str) -> None:
        self.store = store
        self.place = place
        self.lock = threading.RLock()
        self._handles = 0
        self._kept: dict[int, int] = {}
        """Inodes that have a link here, and the newest record that needs it."""
        self._files: dict[int, _Noted] = {}

    def open(self) -> None:
        """One handle of the directory more.  The first one finds what an earlier process left."""
        with self.lock:
            self._handles += 1
            if self._handles > 1:
                return
            os.makedirs(self.place, 0o700, exist_ok=True)
            self.journal = Journal(self._path("names"))
            self._kept = dict.fromkeys(numbers(self.place, "keep-"), self.journal.last)

    def close(self) -> None:
        """One handle of the directory less.  Files may stay open."""
        with self.lock:
            self._handles -= 1
            if self._handles == 0:
                self.journal.close()

    def change(self, record: NameRecord, do: Callable[[], None]) -> None:
        """Notes a change of names, and does it.  Whether it was done in truth shows when it is undone."""
        if record.removed:
            keep = self._path(f"keep-{record.removed}")
            if not os.path.exists(keep):
                os.link(os.path.join(self.store, record.new or record.old), keep, follow_symlinks=False)
            self._kept[record.removed] = self.journal.last + 1
        self.journal.append(pack_names(record))
        do()

    def durable(self, mark: int) -> None:
        """Forgets changes of names up to a mark, and the files that they took the last name of."""
        with self.lock:
            self.journal.trim(mark)
            for number in [number for number, needed in self._kept.items() if needed <= mark]:
                keep = self._path(f"keep-{number}")
                if os.stat(keep).st_nlink == 1:
                    # In this order: once the link is gone, a new file may get the number, and this must not be its.
                    noted = self._files.pop(number, None)
                    if noted is not None:
                        noted.forget()
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self._path(f"file-{number}"))
                os.unlink(keep)
                del self._kept[number]

    def noted(self, number: int) -> _Noted:
        """What is noted of a file; to be paired with `let_go`."""
        with self.lock:
            noted = self._files.get(number)
            if noted is None:
                noted = self._files[number] = _Noted(self._path(f"file-{number}"))
            noted.handles += 1
            return noted

    def let_go(self, number: int, noted: _Noted) -> None:
        """One handle less."""
        with self.lock:
            noted.handles -= 1
            if noted.handles == 0:
                noted.close()
                if self._files.get(number) is noted:
                    del self._files[number]

    def _path(self, name: str) -> str:
        return os.path.join(self.place, name)


class _RollbackDirectory(WrappedDirectory):
    """An open directory whose un-synced changes are noted."""

    __slots__ = ("_closed", "_names")

    def __init__(self, inner: Directory, names: _Names) -> None:
        super().__init__(inner)
        self._names = names
        self._closed = False
        names.open()

    def open(self, name: str, *, write: bool = False) -> File:
        """See `Directory.open`."""
        with self._names.lock:
            return self._handle(self.inner.open(name, write=write), name)

    def create(self, name: str) -> File:
        """See `Directory.create`."""
        made: list[File] = []
        with self._names.lock:
            if self._number(name):
                return self.inner.create(name)  # which raises
            self._names.change(NameRecord("", name, 0), lambda: made.append(self.inner.create(name)))
            return self._handle(made[0], name)

    def rename(self, old: str, new: str) -> None:
        """See `Directory.rename`."""
        with self._names.lock:
            if not self._number(old) or self._number(old) == self._number(new):
                self.inner.rename(old, new)  # raises, or does nothing
                return
            self._names.change(NameRecord(old, new, self._number(new)), lambda: self.inner.rename(old, new))

    def unlink(self, name: str) -> None:
        """See `Directory.unlink`."""
        with self._names.lock:
            number = self._number(name)
            if number:
                self._names.change(NameRecord(name, "", number), lambda: self.inner.unlink(name))
            else:
                self.inner.unlink(name)  # which raises

    def sync(self) -> None:
        """See `Directory.sync`."""
        with self._names.lock:
            mark = self._names.journal.last
        self.inner.sync()
        self._names.durable(mark)

    def close(self) -> None:
        """See `Directory.close`."""
        closed, self._closed = self._closed, True
        if not closed:
            self.inner.close()
            self._names.close()

    def _number(self, name: str) -> int:
        """The inode of a name, 0 if there is none."""
        try:
            return os.stat(os.path.join(self._names.store, check_name(name)), follow_symlinks=False).st_ino
        except FileNotFoundError:
            return 0

    def _handle(self, inner: File, name: str) -> File:
        number = self._number(name)
        noted = self._names.noted(number)
        return _RollbackFile(inner, noted, lambda: self._names.let_go(number, noted))


class RollbackFileSystem(WrappedFileSystem):
    """A real file system, and beside it what `roll_back` needs; see the module."""

    def __init__(self, inner: FileSystem, journal: str) -> None:
        super().__init__(inner)
        self._journal = os.path.realpath(journal)
        self._directories: dict[str, _Names] = {}
        self._lock = threading.Lock()

    def open_directory(self, path: str, *, create: bool) -> Directory:
        """See `FileSystem.open_directory`.  One process at a time; its handles share the journals."""
        inner = self.inner.open_directory(path, create=create)
        store = os.path.realpath(path)
        with self._lock:
            if store not in self._directories:
                self._directories[store] = _Names(store, place_of(store, self._journal))
            # The journals stay with this object, for files may be open longer than the directory.
            return _RollbackDirectory(inner, self._directories[store])


__all__ = ["RollbackFileSystem", "RollbackReport", "roll_back"]
