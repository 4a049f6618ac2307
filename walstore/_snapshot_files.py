"""Snapshot files: made, read back, checked and cut, in steps that each fit into one hop to a worker thread.

Nothing here awaits.  Work on a file of any size is an object with `step`: the roof calls it in a worker thread until
it says that all is done, so that a cancelled caller waits for one step at most and the log's own writes come between.
Within a step the interpreter lock is offered to the event loop after each millisecond (PROTOCOL B14).

Rules of the file:
1. A snapshot is believed only after it was synced, dropped from the page cache, and read again (PROTOCOL A13).
2. Files are read in spans of 1 MiB; whatever a file announces, no more than that and one chunk is in memory.
3. Nothing is renamed here: name, directory sync and frame are one critical section of the roof.
4. A leftover never blocks: a temporary name that is taken is passed over (SEMANTICS 10.1).
"""

import contextlib
import errno
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator

from ._disk.seam import Directory, File
from ._log.container import MAX_CHUNK, MAX_HEADER, ContainerError, Packer, UnsupportedContainerError, Verifier
from ._log.control import SnapshotRecord
from ._log.names import snapshot_temporary
from ._types import SnapshotHeader
from .errors import CorruptionError, UnsupportedFormatError

SPAN = 1 << 20
"""How many bytes are read at once; below the 8 MiB of PROTOCOL B9, so that a step stays short."""

STEP_BYTES = 8 << 20
STEP_SECONDS = 0.02
"""What one step does at most, and one unit of work more: far above the cost of a hop, far below an election timeout."""

SYNC_EVERY = 32 << 20
"""Bytes written between two barriers: one barrier over a large file would hold up those of the log."""

_PACE_SECONDS = 0.001
_NAMES_TRIED = 1 << 16
_NOT_DONE = "the work on this snapshot file is not done, or it failed"


class _Pace:
    """Lets another thread have the interpreter after each millisecond."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def __call__(self) -> None:
        if time.perf_counter() - self._last >= _PACE_SECONDS:
            time.sleep(0)  # measured: a waiting event loop goes on after 0.1 ms, not after the switch interval of 5 ms
            self._last = time.perf_counter()


class SnapshotWork(ABC):
    """Work on one snapshot file, done step by step.  Each call is meant for a worker thread, one at a time."""

    def __init__(self) -> None:
        self._record: SnapshotRecord | None = None
        self._units = self._work()

    @abstractmethod
    def _work(self) -> Generator[int, None, SnapshotRecord]:
        """Does it all, and yields after each unit the number of bytes that it moved.  Returns the record."""

    @property
    def record(self) -> SnapshotRecord:
        """What the file holds, proven.  RuntimeError while the work is not done, and if it failed."""
        if self._record is None:
            raise RuntimeError(_NOT_DONE)
        return self._record

    def step(self, *, max_bytes: int = STEP_BYTES, max_seconds: float = STEP_SECONDS) -> bool:
        """Does about that much of it; True when all is done and `record` is there.  Raises what the work raises."""
        pace = _Pace()
        deadline = time.perf_counter() + max_seconds
        moved = 0
        while self._record is None:
            try:
                moved += next(self._units)
            except StopIteration as end:
                self._record = end.value
                if self._record is None:  # it failed, or was closed, before: nothing is left to do, nothing is proven
                    raise RuntimeError(_NOT_DONE) from None
                return True
            if moved >= max_bytes or time.perf_counter() >= deadline:
                return False
            pace()
        return True

    def run(self) -> SnapshotRecord:
        """Does all of it now."""
        while not self.step():
            pass
        return self.record

    def close(self) -> None:
        """Closes the file, wherever the work stands.  Silent twice."""
        self._units.close()


class SnapshotBuild(SnapshotWork):
    """Makes a snapshot file under a temporary name, of what a view holds; done when it was read back and verified.

    Failing is OSError (the disk; a device that gives back other bytes is EIO), or whatever `chunks` raises.  Call
    `discard` then, and after a cancellation; after the roof renamed the file, call nothing.
    """

    def __init__(
        self,
        directory: Directory,
        number: int,
        header: SnapshotHeader,
        chunks: Callable[[], Iterable[bytes]],
        *,
        chunk_size: int = MAX_CHUNK,
    ) -> None:
        """`number` is the first to be tried in the temporary name; `chunks` (of a view) is called in the first step.

        Touches no disk.  Raises UsageError if the header is above a limit.
        """
        super().__init__()
        self.name: str | None = None
        """The temporary name, once the file is there; None again after `discard`."""
        self._directory = directory
        self._number = number
        self._header = header
        self._chunks = chunks
        self._packer = Packer(header, chunk_size=chunk_size)

    def _work(self) -> Generator[int, None, SnapshotRecord]:
        self.name, file = create_temporary(self._directory, self._number)
        try:
            yield from self._write(file)
            file.datasync()
            file.drop_cache()
            yield 0
            written = SnapshotRecord(self._header, self._packer.size, self._packer.checksum)
            try:
                yield from _check(file, written)
            except ContainerError as error:
                msg = f"what was read back is not the snapshot that was written: {error}"
                raise OSError(errno.EIO, msg, self.name) from error
        finally:
            file.close()
        return written

    def _write(self, file: File) -> Iterator[int]:
        offset = synced = 0
        for buffers in self._buffers():
            size = sum(map(len, buffers))
            if size:
                file.pwritev(offset, buffers)
                offset += size
            if offset - synced >= SYNC_EVERY:
                file.datasync()
                synced = offset
            yield size

    def _buffers(self) -> Iterator[list[bytes]]:
        """The container, in parts that take little work each, however large or small the pieces of the view are."""
        yield [self._packer.begin()]
        for piece in self._chunks():
            view = memoryview(piece)
            for start in range(0, len(view) or 1, MAX_CHUNK):
                yield self._packer.add(view[start : start + MAX_CHUNK])
        yield self._packer.end()

    def discard(self) -> None:
        """Closes and removes the file, wherever the work stands.  Silent twice.

        A file that can not be removed stays behind until the next open, which sweeps: the error is not raised, since
        this is called where another one is under way.
        """
        self.close()
        name, self.name = self.name, None
        if name is not None:
            with contextlib.suppress(OSError):
                self._directory.unlink(name)


class SnapshotCheck(SnapshotWork):
    """Reads a whole snapshot file and proves it.  Raises ContainerError if it can not (see `verify_file`)."""

    def __init__(self, directory: Directory, name: str, expected: SnapshotRecord | None = None) -> None:
        super().__init__()
        self._directory = directory
        self._name = name
        self._expected = expected

    def _work(self) -> Generator[int, None, SnapshotRecord]:
        file = self._directory.open(self._name)
        try:
            return (yield from _check(file, self._expected))
        finally:
            file.close()


class ReceivedCheck(SnapshotWork):
    """Makes what a peer sent durable, proves it, and cuts off what an older, longer stream left behind it.

    Raises ContainerError if the bytes are not a snapshot (the file is as it was), OSError if the disk fails.  Whether
    it is the snapshot that was announced is the caller's question: see `record`.
    """

    def __init__(self, directory: Directory, name: str) -> None:
        super().__init__()
        self.cut = 0
        """How many bytes were cut off."""
        self._directory = directory
        self._name = name

    def _work(self) -> Generator[int, None, SnapshotRecord]:
        file = self._directory.open(self._name, write=True)
        try:
            file.datasync()
            file.drop_cache()
            yield 0
            verifier = Verifier()
            for length, _ in _read(file, verifier):
                yield length
            record = _record_of(verifier)
            self.cut = file.size() - record.size
            if self.cut:
                file.truncate(record.size)
                file.datasync()
        finally:
            file.close()
        return record


def create_temporary(directory: Directory, number: int) -> tuple[str, File]:
    """A new file `snap-<number>.tmp`, or of the next number that is free; its name, and the file open for writing."""
    for candidate in range(number, number + _NAMES_TRIED):
        name = snapshot_temporary(candidate)
        try:
            return name, directory.create(name)
        except FileExistsError:
            continue
    raise FileExistsError(errno.EEXIST, f"the last of {_NAMES_TRIED} names for a snapshot is taken too", name)


def verify_file(directory: Directory, name: str, expected: SnapshotRecord | None = None) -> SnapshotRecord:
    """Reads a whole snapshot file, and returns what it is; `expected` is what the log says that it is.

    Raises ContainerError if it is damaged, has bytes behind its end, or is another one; OSError if it can not be read.
    A reader hands out bytes as they lie on disk: whoever must not serve rotten ones verifies first.
    """
    return SnapshotCheck(directory, name, expected).run()


def open_current(directory: Directory, name: str, record: SnapshotRecord) -> File:
    """The snapshot file of that record, open for reading; its header and its size are compared with the record.

    Raises ContainerError if they differ, OSError if it can not be opened.  Cheap at any size: the rest is not read.
    """
    file = directory.open(name)
    try:
        verifier = Verifier()
        verifier.feed(file.pread(0, MAX_HEADER))
        if (verifier.header, file.size()) != (record.header, record.size):
            msg = f"header or size are not those of the snapshot that is expected: {_told(record)}"
            raise ContainerError(msg, 0)
    except BaseException:
        file.close()
        raise
    return file


def payload_of(directory: Directory, name: str, expected: SnapshotRecord | None = None) -> Iterator[bytes]:
    """The payload of a snapshot file, for `StateMachine.restore`; each piece is proven when it is given.

    Raises as `verify_file`, and some of it only at the end: the whole is proven when the iterator is exhausted, and
    not before.  A caller that stopped early goes through the rest (`for _ in pieces: pass`) before it believes.
    """
    pace = _Pace()
    file = directory.open(name)
    try:
        verifier = Verifier()
        for _, pieces in _read(file, verifier):
            for piece in pieces:
                yield piece
                pace()
        _compare(file, _record_of(verifier), expected)
    finally:
        file.close()


@contextlib.contextmanager
def as_corruption(directory: Directory, name: str) -> Iterator[None]:
    """Within it, a damaged or missing snapshot that the log calls current is a CorruptionError that says where."""
    path = f"{directory.path}/{name}"
    try:
        yield
    except UnsupportedContainerError as error:
        raise UnsupportedFormatError(error.reason, path=path, offset=error.offset) from error
    except ContainerError as error:
        msg = f"the current snapshot is damaged: {error.reason}"
        raise CorruptionError(msg, path=path, offset=error.offset, evidence="snapshot") from error
    except FileNotFoundError as error:
        msg = "the current snapshot is missing"
        raise CorruptionError(msg, path=path, evidence="snapshot") from error


def _read(file: File, verifier: Verifier) -> Iterator[tuple[int, list[bytes]]]:
    """Feeds the file to the verifier up to the end of the container: the length of each span, and its payload."""
    offset = 0
    while not verifier.complete and (data := file.pread(offset, SPAN)):
        offset += len(data)
        yield len(data), verifier.feed(data)
    verifier.finish()


def _record_of(verifier: Verifier) -> SnapshotRecord:
    """What a complete verifier has seen."""
    assert verifier.header is not None
    return SnapshotRecord(verifier.header, verifier.size, verifier.checksum)


def _check(file: File, expected: SnapshotRecord | None) -> Generator[int, None, SnapshotRecord]:
    """Reads and proves all of an open file."""
    verifier = Verifier()
    for length, _ in _read(file, verifier):
        yield length
    record = _record_of(verifier)
    _compare(file, record, expected)
    return record


def _compare(file: File, found: SnapshotRecord, expected: SnapshotRecord | None) -> None:
    behind = file.size() - found.size
    if behind:
        msg = f"{behind} bytes stand behind the end of the snapshot"
        raise ContainerError(msg, found.size)
    if expected is not None and found != expected:
        msg = f"this is another snapshot: {_told(found)} where {_told(expected)} is expected"
        raise ContainerError(msg, 0)


def _told(record: SnapshotRecord) -> str:
    header = record.header
    return f"term {header.term} index {header.index} ({record.size} bytes, checksum {record.checksum:#010x})"
