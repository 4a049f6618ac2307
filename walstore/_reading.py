"""Reading the log: locate the runs, cut the entries out, decode them.

What is read is fixed at one moment, so that a read sees one version of the log; what takes long is decoded with the
event loop running in between.
"""

from collections.abc import Iterator
from typing import Generic

import attrs
import trio

from ._core import Core, Pace
from ._interrupts import interrupted_at_checkpoints
from ._log.batch import EntryKind
from ._log.control import decode_membership
from ._log.runs import Run
from ._log.state import LogState
from ._types import Blank, ConfigChange, D, Entry, Normal, R
from .abc import Codec
from .errors import CompactedError, UnavailableError


@attrs.frozen
class Located(Generic[D]):
    """The entries of a range, not yet cut out."""

    pointer: Entry[D] | None
    runs: tuple[Run, ...]
    start: int
    stop: int

    def entries(self, codec: Codec[D]) -> Iterator[Entry[D]]:
        """The entries, in order."""
        if self.pointer is not None:
            yield self.pointer
        for run in self.runs:
            for index in range(max(run.first, self.start), min(run.stop, self.stop)):
                yield decode_entry(run, index, codec)


def decode_entry(run: Run, index: int, codec: Codec[D]) -> Entry[D]:
    """One entry of a run."""
    term, data = run.term_at(index), run.bytes_at(index)
    match run.kind_at(index, EntryKind.NORMAL):
        case EntryKind.NORMAL:
            return Entry(term, index, Normal(codec.decode(data)))
        case EntryKind.BLANK:
            return Entry(term, index, Blank())
        case _:
            return Entry(term, index, ConfigChange(decode_membership(data)))


def locate(state: LogState, start: int, stop: int) -> Located[D]:
    """What of [start, stop) exists."""
    pointer: Entry[D] | None = None
    snapshot = state.facts.snapshot
    if state.facts.pointer and snapshot is not None and start <= snapshot.header.index < stop:
        header = snapshot.header
        pointer = Entry.new_snapshot_pointer(header.index, header.term, header.id, header.membership)
    return Located(pointer, state.log.between(start, stop), start, stop)


async def decode(located: Located[D], codec: Codec[D]) -> list[Entry[D]]:
    """The entries, as a list.  Lets the event loop run after each millisecond."""
    entries: list[Entry[D]] = []
    pace = Pace()
    for entry in located.entries(codec):
        entries.append(entry)
        if pace.due:
            await pace.rest()
    return entries


def term_of(state: LogState, index: int) -> int:
    """The term at `index`, that of the compaction boundary included; index 0 has term 0 while the log begins at 1."""
    term = state.term_of(index)
    if term is not None:
        return term
    if index > state.last_index:
        msg = f"index {index} is above the last index {state.last_index}"
        raise UnavailableError(msg)
    if index == 0 and state.first_index <= 1 and not state.snapshot_index:
        return 0
    msg = f"index {index} is below the first index {state.first_index}: only the snapshot holds it"
    raise CompactedError(msg)


def locate_strictly(state: LogState, low: int, high: int, max_bytes: int | None) -> Located[D]:
    """[low, high), all of it or an error; with `max_bytes` as many entries as fit, but at least one."""
    if high > state.last_index + 1:
        msg = f"[{low}, {high}) reaches above the last index {state.last_index}"
        raise UnavailableError(msg)
    if low < high and (low < state.first_index or state.first_index == 0):
        msg = f"[{low}, {high}) reaches below the first index {state.first_index}: send the snapshot"
        raise CompactedError(msg)
    if max_bytes is not None and low < high:
        high = _fitting(state, low, high, max_bytes)
    return locate(state, low, high)


def _fitting(state: LogState, low: int, high: int, max_bytes: int) -> int:
    """The end of the longest range from `low` whose payloads are within `max_bytes`, and that is not empty."""
    left = max_bytes
    for run in state.log.between(low, high):
        for index in range(max(run.first, low), min(run.stop, high)):
            left -= len(run.bytes_at(index))
            if left < 0:
                return max(index, low + 1)
    return high


@interrupted_at_checkpoints
class Follower(Generic[D, R]):
    """Follows the log: `async for entry in storage.follow(start)` gives each entry once it is durable, in order.

    Waits where the log ends.  Raises `CompactedError` when what comes next has gone into a snapshot (read that, and
    follow from the index after it), and `trio.ClosedResourceError` when the store is closed.  An entry that is given
    may still be replaced by a later leader's, as Raft has it; it is then given again with its new term.
    """

    def __init__(self, core: Core[D, R], start: int) -> None:
        self._core = core
        self._next = start
        self._given: list[tuple[int, int]] = []

    def __aiter__(self) -> "Follower[D, R]":
        return self

    async def __anext__(self) -> Entry[D]:
        """The next entry.  Cancelled: nothing was skipped."""
        await trio.lowlevel.checkpoint()
        core = self._core
        while True:
            core.check()
            self._step_back()
            state = core.state
            if self._next <= core.commit.durable_index:
                break
            core.commit.check()
            await core.commit.progress()
        if self._next < state.first_index or not (state.log.holds(self._next) or state.facts.pointer):
            msg = f"index {self._next} is below the first index {state.first_index}: read the snapshot"
            raise CompactedError(msg)
        located: Located[D] = locate(state, self._next, self._next + 1)
        entry = next(located.entries(core.machine.codec))
        if not self._given or self._given[-1][1] != entry.term:
            self._given.append((entry.index, entry.term))
        self._next += 1
        return entry

    def _step_back(self) -> None:
        """Returns to the first entry given that the log no longer has as it was given.

        Terms never fall along a log, and where index and term agree all before agrees: so runs of terms will do.
        """
        state = self._core.state
        while self._given and self._next > state.first_index:
            first, term = self._given[-1]
            if state.term_of(self._next - 1) == term:
                return
            self._next -= 1
            if self._next == first:
                self._given.pop()
