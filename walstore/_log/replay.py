"""From frames back to the state.  Replay repeats decisions, it takes none (PROTOCOL A1).

The frames of the chain of segments are taken in order.  The first segment's opening STATE is where replay starts; a
later opening STATE is held against what was replayed, and is believed where a segment between them was left out
because none of its entries is live (its votes, marks and deletions are in the STATE).

Anything that does not fit raises ValueError (`BodyError` for a body) or, where log and snapshot contradict each other,
`InvertedLogError`: the frames are whole and yet do not make sense, which only damage or a bug can bring about.
"""

import struct
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

from .._types import U64_MAX
from ..errors import InvertedLogError
from .batch import decode_batch, memberships_of
from .control import (
    Base,
    BodyError,
    StateBody,
    decode_close,
    decode_snapshot,
    decode_state,
    decode_sync,
    decode_truncate,
)
from .frame import KINDS, Flags, Header, Kind, contradiction
from .runs import Bytes, Run
from .scan import Span
from .state import Append, Install, LogState, Mark, Memberships, Truncate, Vote

Placed: TypeAlias = Callable[[Header], AbstractContextManager[None]]

_END = struct.Struct("<I")


class Replay:
    """Takes frames and makes `state`."""

    def __init__(self, node_id: int) -> None:
        self.state = LogState(node_id)
        self.frames = 0
        self.entries = 0
        self._started = False

    def take(self, header: Header, body: Bytes, segment: int, *, keep: bool) -> None:
        """One more frame, whose checksums, place and order have been proven.

        With `keep`, entries stay views into `body`, which then lives as long as they do.
        """
        if header.kind not in KINDS:
            return  # an ignorable kind of a newer version; one that may not be ignored never comes this far
        wrong = contradiction(header)
        if wrong:
            raise BodyError(wrong)
        self.frames += 1
        match header.kind:
            case Kind.ENTRIES:
                self._entries(header, body, segment, keep)
            case Kind.STATE:
                self._state_frame(header, body)
            case Kind.TRUNCATE:
                truncate = decode_truncate(body)
                self.state.apply(Truncate(truncate.start, truncate.stop))
                self.state.apply(Mark(truncate.mark))
            case Kind.SNAPSHOT:
                self._snapshot(body)
            case Kind.SYNC:
                self.state.apply(Mark(decode_sync(body).mark))
            case Kind.CLOSE:
                self.state.apply(Mark(decode_close(body).mark))
        if self.state.last_index >= U64_MAX:
            msg = "the log ends at index 2**64 - 1, which no call can bring about"
            raise ValueError(msg)

    def take_span(self, span: Span, headers: Sequence[Header], segment: int, *, keep: bool, placed: Placed) -> None:
        """The frames of a span, in order.  `placed(header)` is entered around each frame that is taken by itself.

        Entries that were committed one by one, the dearest log there is to read, become one run in memory together.
        """
        singles: list[Header] = []
        for header in headers:
            if _is_single(header) and (not singles or _follows(singles, header)):
                singles.append(header)
                continue
            self._flush(span, singles, segment, keep, placed)
            singles = [header] if _is_single(header) else []
            if not singles:
                with placed(header):
                    self.take(header, span.body(header), segment, keep=keep)
        self._flush(span, singles, segment, keep, placed)

    def _flush(self, span: Span, singles: list[Header], segment: int, keep: bool, placed: Placed) -> None:
        """Takes frames of one plain entry each: together if they are as they should be, else one by one."""
        run = _together(span, singles) if len(singles) > 1 else None
        if run is None or run.first != self.state.last_index + 1:
            for header in singles:
                with placed(header):
                    self.take(header, span.body(header), segment, keep=keep)
            return
        run.segment = segment
        with placed(singles[0]):
            self._append(run, (), overwrite=False)
        self.frames += len(singles)

    def _append(self, run: Run, memberships: Memberships, *, overwrite: bool) -> None:
        follows = run.first == self.state.last_index + 1
        before = self.state.last_term if follows else self.state.term_of(run.first - 1)
        if before is not None and run.term_at(run.first) < before:
            msg = f"term {run.term_at(run.first)} at index {run.first} is below the term before it, {before}"
            raise ValueError(msg)
        self.state.apply(Append(run, overwrite, memberships))
        self.entries += run.count

    def _entries(self, header: Header, body: Bytes, segment: int, keep: bool) -> None:
        run, mark = decode_batch(header, body, keep=keep)
        run.segment = segment
        self._append(run, memberships_of(run), overwrite=bool(header.flags & Flags.OVERWRITE))
        if mark is not None:
            self.state.apply(Mark(mark))

    def _state_frame(self, header: Header, body: Bytes) -> None:
        said = decode_state(body)
        if not header.flags & Flags.OPENING:
            if said.base is not None:
                msg = "a STATE frame with a base that opens no segment"
                raise BodyError(msg)
            self.state.apply(Vote(said.hard_state))
            self.state.apply(Mark(said.mark))
        elif self._started:
            self.reconcile(said)
        else:
            self._started = True
            if said.base is None:
                msg = "the STATE that opens a segment has no base"
                raise BodyError(msg)
            self.state.start_from(said.hard_state, said.mark, said.base)
            self._agree(said.base)

    def reconcile(self, said: StateBody) -> None:
        """Holds a later opening STATE against what was replayed, and takes over what it alone knows."""
        base = said.base
        if base is None:
            msg = "the STATE that opens a segment has no base"
            raise BodyError(msg)
        state = self.state
        first = base.first_index + 1 if base.pointer else base.first_index
        if first == 0 or first > base.last_index:
            state.apply(Truncate(0, U64_MAX))
        else:
            state.apply(Truncate(base.last_index + 1, U64_MAX))
            if first > state.first_index:
                state.apply(Truncate(0, first))
        state.take_over(said.hard_state, said.mark, base)
        self._agree(base)

    def _agree(self, base: Base) -> None:
        state = self.state
        if not state.ends_at(base.last_index, base.last_term):
            msg = (
                f"the log ends at index {state.last_index} and term {state.last_term}, the segment's opening says "
                f"index {base.last_index} and term {base.last_term}"
            )
            raise ValueError(msg)
        self.check_order()

    def _snapshot(self, body: Bytes) -> None:
        said = decode_snapshot(body)
        self.state.apply(Install(said.record, said.keep_suffix, said.mark))
        if not self.state.ends_at(said.last_index, said.last_term):
            msg = (
                f"after the snapshot the log ends at index {self.state.last_index} and term {self.state.last_term}, "
                f"its frame says index {said.last_index} and term {said.last_term}"
            )
            raise InvertedLogError(msg, index=said.record.header.index)
        self.check_order()

    def check_order(self) -> None:
        """Raises `InvertedLogError` if the log contradicts the snapshot (SEMANTICS 5)."""
        state = self.state
        snapshot = state.facts.snapshot
        if snapshot is None:
            return
        index, term = snapshot.header.index, snapshot.header.term
        held = state.log.run_at(index).term_at(index) if state.log.holds(index) else term
        falls = state.last_term < term and not state.ends_at(state.last_index, term)
        if state.last_index < index or falls or held != term:
            msg = (
                f"the log, which ends at index {state.last_index} and term {state.last_term}, contradicts the "
                f"snapshot at index {index} and term {term}"
            )
            raise InvertedLogError(msg, index=index, expected=f"term {term}", found=f"term {held}")

    def finish(self) -> LogState:
        """The state, once the last frame was taken.

        ValueError if entries are missing that nothing covers, or that had been applied (evidence E5 says it better).
        """
        hollow = self.state.facts.hollow
        if hollow is not None:
            msg = f"the entries at the indexes [{hollow[0]}, {hollow[1]}) are in segments that are not there"
            raise ValueError(msg)
        if self.state.facts.mark > self.state.last_index:
            msg = f"the log ends at index {self.state.last_index}, and was applied up to index {self.state.facts.mark}"
            raise ValueError(msg)
        return self.state


def _is_single(header: Header) -> bool:
    """Whether the frame holds one Normal entry and nothing else, as far as its header says."""
    return (
        header.kind == Kind.ENTRIES
        and not header.flags
        and header.count == 1
        and header.table_width == _END.size
        and header.body_len >= _END.size
        and 0 < header.first_index < U64_MAX
    )


def _follows(singles: list[Header], header: Header) -> bool:
    last = singles[-1]
    return header.first_index == last.first_index + 1 and header.term == last.term


def _together(span: Span, singles: list[Header]) -> Run | None:
    """The run of these frames' entries; None if a body is not what its header says."""
    data, start = span.data, span.offset
    ends = array("I")
    pieces = []
    total = 0
    for header in singles:
        at = header.body_offset - start
        size = header.body_len - _END.size
        if _END.unpack_from(data, at)[0] != size:
            return None
        total += size
        ends.append(total)
        pieces.append(data[at + _END.size : at + _END.size + size])
    first = singles[0]
    return Run(first.first_index, len(singles), first.term, ends, b"".join(pieces))


def first_needed_of(header: Header, body: Bytes) -> int | None:
    """The oldest segment that is still needed, if this frame says so (PROTOCOL A6)."""
    match header.kind:
        case Kind.STATE:
            base = decode_state(body).base
            return base.first_needed if base else None
        case Kind.TRUNCATE:
            return decode_truncate(body).first_needed
        case Kind.SNAPSHOT:
            return decode_snapshot(body).first_needed
    return None
