"""The end of the log that is written to: groups of frames, barriers, rotation.

Synchronous and used by one thread at a time: whoever leads the group commit.  It decides nothing about meaning: it gets
calls whose frames are ready, in order, and says how many of them are durable.

    write a group -> barrier -> (no room: prepare a segment, give it its name, seal the old one) -> write a group ...

Rules of this file: a frame is never half in one segment; a full disk is met when the next segment is prepared, before
any byte of a frame is written (PROTOCOL B3); the successor has its name before the old segment is sealed (A4); after a
failed write or sync nothing is ever written again by this object (the roof never calls it again: P5).
"""

import contextlib
import errno
import logging
import time
from collections.abc import Sequence
from typing import Protocol

import attrs

from ._config import StorageConfig
from ._disk.seam import File
from ._housekeeping import Spares, Worker, seal
from ._log.draft import Draft, assemble
from ._log.footer import seal_room
from ._log.frame import Kind
from ._log.limits import HEADER_PAGE, MAX_FRAMES_PER_SEGMENT, align_up
from ._log.names import EMERGENCY
from ._log.page import Predecessor
from ._log.runs import Bytes, Run
from ._log.state import Summary
from ._segments import Segment, SegmentMaker, Unborn
from .errors import StorageFullError

logger = logging.getLogger("walstore")

_JOIN_BELOW = 256 << 10
_SLOW_SECONDS = 1.0
"""A barrier that takes longer is worth a word: Raft's timeouts are shorter (etcd warns at the same)."""


class Call(Protocol):
    """What the writer needs to know of a call."""

    draft: Draft
    run: Run | None
    after: Summary
    needed: int | None


@attrs.define
class Counters:
    """What has been done so far."""

    groups: int = 0
    frames: int = 0
    bytes_written: int = 0
    rotations: int = 0
    purged_segments: int = 0


class Writer:
    """Writes frames at the end of the newest segment of a chain."""

    def __init__(
        self,
        maker: SegmentMaker,
        spares: Spares,
        worker: Worker,
        segment: Segment,
        older: Sequence[tuple[int, str]],
        summary: Summary,
        needed: int,
    ) -> None:
        self._maker = maker
        self._config: StorageConfig = maker.config
        self._spares = spares
        self._worker = worker
        self._segment = segment
        self._older = list(older)
        self._summary = summary
        self._needed = needed
        self.counters = Counters()
        self.written = 0

    @property
    def segment_sequence(self) -> int:
        """The segment that is written to."""
        return self._segment.sequence

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return len(self._older) + 1

    @property
    def sequence(self) -> int:
        """The sequence of the last durable frame."""
        return self._segment.place.durable

    def commit(self, calls: Sequence[Call]) -> None:
        """Makes the calls durable, in order.  `written` counts those that are, also when this raises.

        StorageFullError: the rest is not written and nothing is broken.  OSError: the outcome of the rest is unknown.
        """
        self.written = 0
        try:
            self._write(calls)
        except StorageFullError:
            self.purge()  # what is no longer needed may be just what the disk lacks
            raise
        self.purge()

    def _write(self, calls: Sequence[Call]) -> None:
        group: list[Call] = []
        room = 0
        for call in calls:
            more = call.draft.room
            if not self._fits(len(group) + 1, room + more, call.draft.kind):
                self._flush(group)
                group, room = [], 0
                if not self._fits(1, more, call.draft.kind):
                    self._rotate(call.draft)
            group.append(call)
            room += more
        self._flush(group)

    def _fits(self, frames: int, room: int, kind: int) -> bool:
        segment = self._segment
        frames += len(segment.headers)
        end = align_up(segment.place.offset + room, self._config.commit_align) + seal_room(frames + 1)
        if kind == Kind.ENTRIES:
            end += self._config.control_reserve
            frames += 1
        return end <= segment.page.segment_size and frames <= MAX_FRAMES_PER_SEGMENT

    def _flush(self, calls: Sequence[Call]) -> None:
        if not calls:
            return
        segment = self._segment
        group = assemble([call.draft for call in calls], segment.page.tag, segment.place, self._config.commit_align)
        size = sum(map(len, group.buffers))
        segment.file.pwritev(segment.place.offset, _joined(group.buffers, size))
        began = time.perf_counter()
        segment.file.datasync()
        if time.perf_counter() - began > _SLOW_SECONDS:
            logger.warning("a barrier of %s took %.1f s", segment.name, time.perf_counter() - began)
        segment.headers.extend(group.headers)
        segment.place = attrs.evolve(group.after, durable=group.after.sequence)
        for call in calls:
            if call.run is not None:
                call.run.segment = segment.sequence
            if call.needed is not None:
                self._needed = max(self._needed, call.needed)
        self._summary = self._rising(calls[-1].after)
        self.written += len(calls)
        self.counters.groups += 1
        self.counters.frames += len(calls)
        self.counters.bytes_written += size

    def _rising(self, after: Summary) -> Summary:
        """What is needed never falls: a summary that was made before its call was written may say too little."""
        first = after.first_needed
        return after if first is None or first >= self._needed else attrs.evolve(after, first_needed=self._needed)

    def _rotate(self, draft: Draft) -> None:
        old = self._segment
        sequence = old.sequence + 1
        summary = self._summary
        last = old.headers[-1]
        at_least = (
            HEADER_PAGE
            + align_up(self._maker.opening(summary, sequence).room, self._config.commit_align)
            + align_up(draft.room, self._config.commit_align)
            + seal_room(4)
            + self._config.control_reserve
        )
        try:
            name, size, file = self._spare(at_least, draft.kind)
        except OSError as error:
            raise _full(error) from error
        try:
            new = self._maker.bear(
                file,
                name,
                size,
                sequence=sequence,
                start=last.sequence,
                summary=summary,
                predecessor=Predecessor(old.sequence, last.next_offset, last.sequence, last.crc),
            )
        except Unborn as error:
            file.close()
            if name != EMERGENCY:
                with contextlib.suppress(OSError):
                    self._maker.directory.unlink(name)
            raise _full(error.cause) from error.cause
        except OSError:
            file.close()
            raise
        self._segment = new
        self._older.append((old.sequence, old.name))
        self._needed = summary.base(sequence).first_needed
        self.counters.rotations += 1
        self._worker.submit(lambda: seal(old, by_close=False))
        self._spares.prepare()

    def _spare(self, at_least: int, kind: int) -> tuple[str, int, File]:
        try:
            return self._spares.take(at_least)
        except OSError:
            if kind != Kind.ENTRIES:
                with contextlib.suppress(OSError):  # that there is no room says more
                    return self._spares.take_emergency(at_least)
            raise

    def purge(self) -> None:
        """Has the segments removed that the newest durable frame says are no longer needed (PROTOCOL A6)."""
        gone = [row for row in self._older if row[0] < self._needed]
        if not gone:
            return
        self._older = [row for row in self._older if row[0] >= self._needed]
        self.counters.purged_segments += len(gone)
        directory = self._maker.directory

        def remove() -> None:
            for _, name in gone:
                with contextlib.suppress(OSError):  # the next open sweeps what stays
                    directory.unlink(name)
            if not self._spares.emergency_held:
                self._spares.hold_emergency()

        self._worker.submit(remove)

    def close(self, *, sealed: bool) -> None:
        """Seals the newest segment (after its CLOSE frame) or leaves it as it is, and releases the file."""
        if sealed:
            seal(self._segment, by_close=True)
        else:
            self._segment.file.close()


def _joined(buffers: Sequence[Bytes], size: int) -> Sequence[Bytes]:
    """Small buffers as one (a system call takes them faster), large ones as they are (a copy costs more)."""
    return (b"".join(buffers),) if size <= _JOIN_BELOW else buffers


def _full(error: OSError) -> StorageFullError:
    return StorageFullError(
        error.errno or errno.ENOSPC,
        f"no next segment can be prepared ({error.strerror or error}); nothing of the call was written; free some "
        "space or compact, and call again",
    )
