"""The log in memory: runs of entries, cut from their frames only when somebody asks.

A run is what one frame brought: a table of cumulative ends over one payload, with the terms and the kinds beside it.
Python pays per run, never per entry (FORMAT 5.0): a million entries in batches of 512 are two thousand objects.

    entry i of a run = payload[ends[i - 1] - base:ends[i] - base]          (ends[-1] read as base)

A run never changes once it is in the log, apart from where it is stored: that is known when it is written, which may
be after a later call has cut it already.  A log that loses entries gets a shorter copy that shares the buffers and the
`Home`.  `Log` changes by one primitive, `_splice`, and each change hands back what undoes it, because a write that
fails must leave the log as the disk has it.

Rule of this file: no index is believed, each is checked against the run it falls in.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias

import attrs

from ..errors import CorruptionError

Bytes: TypeAlias = bytes | memoryview
Terms: TypeAlias = int | Sequence[int]


@attrs.define
class Home:
    """Where a run, and each that was cut from it, is stored."""

    segment: int = 0
    """The segment's sequence; 0 until it is written."""


@attrs.define
class Run:
    """`count` entries at the indexes [first, first + count), stored in segment `segment`.

    `skip` entries of the columns before them are no longer part of the log.  `terms` is one number where all agree.
    `kinds` is None where all entries are Normal.  `ends` count from `base` bytes before the payload: what was there was
    given back.
    """

    first: int
    count: int
    terms: Terms
    ends: Sequence[int]
    payload: Bytes
    kinds: Bytes | None = None
    skip: int = 0
    base: int = 0
    home: Home = attrs.field(factory=Home)

    @property
    def segment(self) -> int:
        """The segment that holds the frame; 0 until it is written."""
        return self.home.segment

    @segment.setter
    def segment(self, sequence: int) -> None:
        self.home.segment = sequence

    @property
    def stop(self) -> int:
        """The index after the last entry."""
        return self.first + self.count

    @property
    def last_term(self) -> int:
        """The term of the last entry."""
        return self.term_at(self.stop - 1)

    def _slot(self, index: int) -> int:
        if not self.first <= index < self.first + self.count:
            raise IndexError(index)
        return index - self.first + self.skip

    def term_at(self, index: int) -> int:
        """The term of the entry at `index`."""
        slot = self._slot(index)
        return self.terms if isinstance(self.terms, int) else self.terms[slot]

    def kind_at(self, index: int, default: int) -> int:
        """The kind of the entry at `index`; `default` where the run has no kinds."""
        slot = self._slot(index)
        return default if self.kinds is None else self.kinds[slot]

    def bytes_at(self, index: int) -> bytes:
        """A copy of the payload of the entry at `index`.  CorruptionError if the ends fall: open did not ask."""
        slot = self._slot(index)
        start, end = self._begin(slot), self.ends[slot]
        if not self.base <= start <= end <= self.base + len(self.payload):
            msg = "the table of ends of this frame falls, though its checksum holds"
            raise CorruptionError(msg, index=index, expected=f"at least {start}", found=end)
        return bytes(self.payload[start - self.base : end - self.base])

    def check_ends(self) -> None:
        """Raises what `bytes_at` would for the first entry for which it would."""
        before = self._begin(self.skip)
        for slot in range(self.skip, self.skip + self.count):
            end = self.ends[slot]
            if not self.base <= before <= end <= self.base + len(self.payload):
                self.bytes_at(self.first + slot - self.skip)
            before = end

    def _begin(self, slot: int) -> int:
        return self.ends[slot - 1] if slot else self.base

    @property
    def size(self) -> int:
        """The payload bytes of the live entries."""
        return self.ends[self.skip + self.count - 1] - self._begin(self.skip)

    def before(self, index: int) -> "Run":
        """This run without the entries at `index` and above."""
        self._slot(index)
        return attrs.evolve(self, count=index - self.first)

    def since(self, index: int) -> "Run":
        """This run without the entries below `index`.  Copies the rest where less than half of the payload is left,
        so that compaction gives memory back (PRODUCT P9); but not with ends that fall, which `bytes_at` has to find."""
        slot = self._slot(index)
        count = self.first + self.count - index
        start, stop = self._begin(slot), slot + count
        limit = self.base + len(self.payload)
        if slot == 0 or (limit - start) * 2 >= len(self.payload):
            return attrs.evolve(self, first=index, count=count, skip=slot)
        ends = _cut(self.ends, slot, stop)
        if min(ends) < start or max(ends) > min(ends[-1], limit):
            return attrs.evolve(self, first=index, count=count, skip=slot)
        return Run(
            first=index,
            count=count,
            terms=self.terms if isinstance(self.terms, int) else _cut(self.terms, slot, stop),
            ends=ends,
            payload=bytes(self.payload[start - self.base : ends[-1] - self.base]),
            kinds=None if self.kinds is None else bytes(self.kinds[slot:stop]),
            base=start,
            home=self.home,
        )


def _cut(column: Sequence[int], start: int, stop: int) -> Sequence[int]:
    """A copy of a part of a column, which keeps nothing else alive."""
    if isinstance(column, memoryview):
        return array(column.format, column[start:stop].tobytes())
    return column[start:stop]


@attrs.frozen
class Splice:
    """What undoes one change: at position `at`, `added` runs give way to `removed`."""

    at: int
    added: int
    removed: tuple[Run, ...]


class Log:
    """The ordinary entries, in runs of consecutive indexes without a hole."""

    __slots__ = ("_firsts", "_runs")

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._firsts: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._runs)

    @property
    def first(self) -> int:
        """The index of the first entry.  Only of a log that has one."""
        return self._firsts[0]

    @property
    def stop(self) -> int:
        """The index after the last entry.  Only of a log that has one."""
        return self._runs[-1].stop

    @property
    def last_term(self) -> int:
        """The term of the last entry.  Only of a log that has one."""
        return self._runs[-1].last_term

    @property
    def first_segment(self) -> int:
        """The oldest segment that holds a live entry.  Only of a log that has one."""
        return self._runs[0].segment

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, in order."""
        return tuple(self._runs)

    def holds(self, index: int) -> bool:
        """Whether there is an entry at `index`."""
        return bool(self._runs) and self._firsts[0] <= index < self._runs[-1].stop

    def run_at(self, index: int) -> Run:
        """The run with the entry at `index`.  Only where `holds`."""
        return self._runs[bisect_right(self._firsts, index) - 1]

    def between(self, start: int, stop: int) -> tuple[Run, ...]:
        """The runs that meet [start, stop), in order."""
        if not self._runs or start >= stop:
            return ()
        low = max(bisect_right(self._firsts, start) - 1, 0)
        high = bisect_right(self._firsts, stop - 1)
        return tuple(run for run in self._runs[low:high] if run.stop > start)

    def _splice(self, at: int, removed: int, runs: Sequence[Run]) -> Splice:
        undo = Splice(at, len(runs), tuple(self._runs[at : at + removed]))
        self._runs[at : at + removed] = runs
        self._firsts[at : at + removed] = [run.first for run in runs]
        return undo

    def undo(self, splice: Splice) -> None:
        """Takes one change back.  Changes are taken back in the reverse order in which they were made."""
        self._splice(splice.at, splice.added, splice.removed)

    def append(self, run: Run) -> Splice:
        """Adds a run that follows the last entry."""
        if self._runs and run.first != self.stop:
            msg = f"a run at index {run.first} does not follow index {self.stop - 1}"
            raise ValueError(msg)
        return self._splice(len(self._runs), 0, (run,))

    def cut(self, index: int) -> Splice:
        """Drops the entries at `index` and above."""
        if not self._runs or index >= self.stop:
            return Splice(len(self._runs), 0, ())
        at = max(bisect_right(self._firsts, index) - 1, 0)
        run = self._runs[at]
        kept = (run.before(index),) if run.first < index else ()
        return self._splice(at, len(self._runs) - at, kept)

    def drop(self, index: int) -> Splice:
        """Drops the entries below `index`."""
        if not self._runs or index <= self.first:
            return Splice(0, 0, ())
        if index >= self.stop:
            return self._splice(0, len(self._runs), ())
        at = bisect_right(self._firsts, index) - 1
        run = self._runs[at]
        return self._splice(0, at + 1, (run.since(index),))
