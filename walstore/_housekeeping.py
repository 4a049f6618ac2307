"""What a store does off the hot path: the next segment made ahead, the last one sealed, old ones removed.

One plain thread that the store owns, starts at open and joins at close, or (prepare_ahead=False) no thread at all: the
same jobs then run where they are asked for, in order, which is what deterministic tests want.  Nothing here may harm
the log: a job that fails is counted and logged, and the segment stays as valid as it was (PROTOCOL B4).
"""

import contextlib
import errno
import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeAlias

from ._config import StorageConfig
from ._disk.seam import File
from ._log.checksum import crc
from ._log.draft import Draft, Place, assemble
from ._log.footer import encode_seal
from ._log.frame import Kind
from ._log.limits import ALIGN, SPAN_SIZE
from ._log.names import EMERGENCY, spare_name
from ._log.scan import Scanner
from ._segments import Segment, SegmentMaker, fill_with_zeros

logger = logging.getLogger("walstore")

Job: TypeAlias = Callable[[], None]

_EMERGENCY_SEGMENTS = 4
"""The room held for a full disk, in segments as an open makes them."""
_GROWTH = 64 << 10
EMERGENCY_TEMPORARY = "spare-emergency.tmp"
_HELD = "spare-held.tmp"


class Worker:
    """Runs jobs in order: in a thread of its own, or at once."""

    def __init__(self, *, threaded: bool) -> None:
        self.failures = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._work, name="walstore-housekeeping", daemon=True)
            self._thread.start()

    def submit(self, job: Job) -> None:
        """Has the job run."""
        if self._thread is None:
            self._run(job)
        else:
            self._jobs.put(job)

    def join(self) -> None:
        """Returns when all jobs are done.  Silent twice."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._run(job)

    def _run(self, job: Job) -> None:
        try:
            job()
        except OSError as error:
            self.failures += 1
            logger.warning("housekeeping failed; the log is not affected: %s", error)


class Spares:
    """The segments that are not segments yet: one made ahead, and one held for the day when the disk is full."""

    def __init__(self, maker: SegmentMaker, config: StorageConfig, worker: Worker) -> None:
        self._maker = maker
        self._config = config
        self._worker = worker
        self._ready: tuple[str, int, File] | None = None
        self._lock = threading.Lock()
        self._made = 0
        self._next_size = config.size_at_least(min(4 * config.first_segment_size, config.segment_size))
        self.misses = 0
        self.emergency_held = EMERGENCY in maker.directory.names()

    def prepare(self) -> None:
        """Asks for the next spare to be made ahead, if none is there."""
        if self._config.prepare_ahead:
            self._worker.submit(self._prepare)

    def _prepare(self) -> None:
        with self._lock:
            if self._ready is None:
                self._ready = self._make(self._next_size)

    def _make(self, size: int) -> tuple[str, int, File]:
        self._made += 1
        name = spare_name(self._made)
        return name, size, self._maker.blank(name, size)

    def take(self, at_least: int) -> tuple[str, int, File]:
        """A spare of at least that size: name, size, open file.  OSError if none can be made."""
        with self._lock:
            ready, self._ready = self._ready, None
            if ready is not None and ready[1] >= at_least:
                taken = ready
            else:
                self.misses += 1
                if ready is not None:
                    self._discard(ready)
                taken = self._make(self._config.size_at_least(max(at_least, self._next_size)))
            limit = max(self._config.segment_size, self._next_size)
            self._next_size = min(2 * self._next_size, self._config.size_at_least(limit))
            return taken

    def take_emergency(self, at_least: int) -> tuple[str, int, File]:
        """A segment made of the room that is held for a full disk.  OSError if that is not enough."""
        with self._lock:
            taken = take_emergency(self._maker, self._config.size_at_least(at_least))
            self.emergency_held = False
            return taken

    def hold_emergency(self) -> None:
        """Makes the emergency segment, or makes it whole again.  OSError if there is no room."""
        with self._lock:
            hold_emergency(self._maker, self._config)
            self.emergency_held = True

    def _discard(self, spare: tuple[str, int, File]) -> None:
        spare[2].close()
        self._maker.directory.unlink(spare[0])

    def close(self) -> None:
        """Removes the spare that was made ahead."""
        with self._lock:
            if self._ready is not None:
                with contextlib.suppress(OSError):
                    self._discard(self._ready)
                self._ready = None


def hold_emergency(maker: SegmentMaker, config: StorageConfig) -> None:
    """Makes the emergency segment, under a temporary name first, or makes it whole again if a part of it was used.

    OSError if there is no room; what is held then stays as it is.
    """
    directory, size = maker.directory, _EMERGENCY_SEGMENTS * config.size_at_least(config.first_segment_size)
    if EMERGENCY in directory.names():
        with contextlib.closing(directory.open(EMERGENCY, write=True)) as file:
            _grow(file, size)
        return
    temporary = EMERGENCY_TEMPORARY
    with contextlib.suppress(FileNotFoundError):
        directory.unlink(temporary)
    file = directory.create(temporary)
    try:
        fill_with_zeros(file, size)
        file.datasync()
        directory.rename(temporary, EMERGENCY)
        directory.sync()
    except OSError:
        with contextlib.suppress(OSError):
            directory.unlink(temporary)
        raise
    finally:
        file.close()


def _grow(file: File, size: int) -> None:
    """Adds zeros up to `size`; on OSError the file is as long as it was."""
    before = file.size()
    try:
        for offset in range(before, size, _GROWTH):
            file.pwritev(offset, (bytes(min(_GROWTH, size - offset)),))
        if before < size:
            file.datasync()
    except OSError:
        file.truncate(before)
        raise


def take_emergency(maker: SegmentMaker, size: int) -> tuple[str, int, File]:
    """A blank segment of `size` bytes from the room that is held: name, size, open file.  OSError if it is not enough.

    The held file gives up as much as is needed, so that it lasts for several such days; where somebody else takes the
    room before us, what is left of it becomes the segment itself, zeroed again (an earlier attempt may have written).
    """
    directory = maker.directory
    with contextlib.closing(directory.open(EMERGENCY, write=True)) as file:
        held = file.size()
        if held >= 2 * size:
            held -= size
            file.truncate(held)
            file.datasync()
            name = _HELD
            with contextlib.suppress(FileNotFoundError):
                directory.unlink(name)
            with contextlib.suppress(OSError):
                return name, size, maker.blank(name, size)
    if held < size:
        raise OSError(errno.ENOSPC, f"the held segment has {held} bytes, {size} are needed")
    file = directory.open(EMERGENCY, write=True)
    try:
        fill_with_zeros(file, held)
    except BaseException:
        file.close()
        raise
    return EMERGENCY, held, file


def seal(segment: Segment, *, by_close: bool) -> None:
    """Writes the SEAL frame with its footer after the last frame, and cuts the file there.

    The bytes are read back and judged first: a footer must not vouch for what has rotted meanwhile.  The footer is
    durable before the file gets shorter, or a crash could leave a short file that nothing explains (evidence E9).
    """
    try:
        headers = segment.headers
        end = headers[-1].next_offset
        scanner = Scanner(segment.file.pread, segment.file.size(), segment.page, stop=end)
        for _ in scanner:
            pass
        if scanner.fault is not None:
            logger.error("%s is damaged at offset %d: not sealed", segment.name, scanner.fault.offset)
            return
        at = segment.place.offset
        whole = 0
        for offset in range(0, at, SPAN_SIZE):
            whole = crc(segment.file.pread(offset, min(SPAN_SIZE, at - offset)), whole)
        body = encode_seal(headers, whole, by_close, offset=at)
        place = Place(at, headers[-1].sequence, headers[-1].crc, segment.place.durable)
        group = assemble((Draft(Kind.SEAL, (body,)),), segment.page.tag, place, ALIGN)
        segment.file.pwritev(at, group.buffers)
        segment.file.datasync()
        segment.file.truncate(group.after.offset)
        segment.file.datasync()
    finally:
        segment.file.close()
