"""Decisions: from what a caller wants, and the state, to a change or a refusal.  Nothing is written here.

Each planner returns the change to make, or None where there is nothing to write, or raises before anything happened.
The rules are those of SEMANTICS 6 (append), 8 (delete), 9.1 (hard state), 9.3 (compaction) and 10.3 (install).
"""

from collections.abc import Sequence
from enum import Enum, auto

import attrs

from .._types import U64_MAX, HardState
from ..errors import (
    CompactionSuperseded,
    EntryTooLargeError,
    HardStateRegressionError,
    InvalidRangeError,
    LogGapError,
    SnapshotMismatchError,
    UsageError,
)
from .batch import encode_batch
from .control import SnapshotBody, SnapshotRecord, StateBody, TruncateBody
from .draft import Draft
from .frame import Kind
from .limits import MAX_ENTRIES_PER_FRAME, MAX_ENTRY_BYTES, MAX_FRAME_BODY
from .state import Append, Install, LogState, Memberships, Truncate, Vote


@attrs.frozen
class Proposal:
    """Entries as the roof hands them over: parallel columns, payloads already bytes."""

    first: int
    terms: Sequence[int]
    kinds: bytes
    payloads: Sequence[bytes]
    memberships: Memberships = ()


def propose(
    indexes: Sequence[int], terms: Sequence[int], kinds: bytes, payloads: Sequence[bytes], memberships: Memberships
) -> Proposal:
    """Checks what can be said of the entries without the log: index 0, consecutive indexes, terms, sizes."""
    first = indexes[0]
    if first == 0:
        msg = "index 0 means 'none'; the first entry of a log has index 1"
        raise UsageError(msg)
    if list(indexes) != list(range(first, first + len(indexes))):
        msg = f"the entries from index {first} on are not consecutive; send them in order and without a gap"
        raise LogGapError(msg)
    if indexes[-1] == U64_MAX:
        msg = "index 2**64 - 1 is out of reach: nothing could follow it"
        raise UsageError(msg)
    if sorted(terms) != list(terms):
        msg = f"the terms of the entries from index {first} on fall; a log's terms never do"
        raise UsageError(msg)
    largest = max(map(len, payloads))
    if largest > MAX_ENTRY_BYTES:
        msg = f"an entry of {largest} bytes is above MAX_ENTRY_BYTES, {MAX_ENTRY_BYTES}"
        raise EntryTooLargeError(msg)
    if len(payloads) > MAX_ENTRIES_PER_FRAME:
        msg = f"{len(payloads)} entries in one call are above MAX_ENTRIES_PER_FRAME, {MAX_ENTRIES_PER_FRAME}"
        raise EntryTooLargeError(msg)
    body = sum(map(len, payloads)) + 13 * len(payloads) + 8
    if body > MAX_FRAME_BODY:
        msg = f"a call of {body} bytes is above MAX_FRAME_BODY, {MAX_FRAME_BODY}; send it in several"
        raise EntryTooLargeError(msg)
    return Proposal(first, terms, kinds, payloads, memberships)


def first_new(state: LogState, proposal: Proposal) -> int | None:
    """The index from which on the proposal is news; None if the log has it all.  Raises where it does not fit."""
    first, stop = proposal.first, proposal.first + len(proposal.terms)
    covered, last = state.snapshot_index, state.last_index
    if first <= covered < stop and proposal.terms[covered - first] != state.term_of(covered):
        msg = f"index {covered} is covered by the snapshot with term {state.term_of(covered)}; it cannot change"
        raise UsageError(msg)
    index = max(first, covered + 1)
    if state.log and covered < index < min(stop, state.log.first):
        msg = f"index {index} is below the log's first index {state.log.first}; deleted entries do not come back"
        raise LogGapError(msg)
    while index < min(stop, last + 1) and state.term_of(index) == proposal.terms[index - first]:
        index += 1
    if index >= stop:
        return None
    if index > last + 1 and (state.log or state.facts.snapshot):
        msg = f"index {index} does not follow the last index {last}; send what is missing first"
        raise LogGapError(msg)
    before = state.term_of(index - 1)
    if before is None:  # the entries between the snapshot and the log were deleted
        before = state.term_of(covered)
    if before is not None and proposal.terms[index - first] < before:
        msg = f"term {proposal.terms[index - first]} at index {index} is below term {before} of the entry before it"
        raise UsageError(msg)
    return index


def plan_entries(state: LogState, proposal: Proposal, mark: int | None) -> tuple[Append, Draft] | None:
    """An append, or the replacement of a suffix, of what the log does not have.  `mark`: carried along, if not None."""
    index = first_new(state, proposal)
    if index is None:
        return None
    skip = index - proposal.first
    overwrite = bool(state.log) and index <= state.last_index
    if overwrite and mark is not None:
        mark = max(min(mark, index - 1), state.snapshot_index)
    draft, run = encode_batch(
        index,
        proposal.terms[skip:],
        proposal.kinds[skip:],
        proposal.payloads[skip:],
        mark=mark,
        overwrite=overwrite,
    )
    memberships = tuple(row for row in proposal.memberships if row[0] >= index)
    return Append(run, overwrite, memberships), draft


def plan_hard_state(state: LogState, new: HardState) -> Vote | None:
    """A new term or vote; None if it is the old one."""
    old = state.facts.hard_state
    if new == old:
        return None
    if new.current_term < old.current_term:
        msg = f"term {new.current_term} is below the saved term {old.current_term}"
        raise HardStateRegressionError(msg)
    if new.current_term == old.current_term and old.voted_for is not None:
        msg = f"the vote of term {old.current_term} is given to node {old.voted_for}; it cannot become {new.voted_for}"
        raise HardStateRegressionError(msg)
    return Vote(new)


def plan_delete(state: LogState, start: int, stop: int | None, last_applied: int) -> Truncate | None:
    """A suffix or a prefix to delete, clipped to the log; None if nothing is in the range."""
    if not state.log and not state.facts.pointer:
        return None
    low, high = state.first_index, state.last_index
    if start > high or (stop is not None and (start >= stop or stop <= low)):
        return None
    start = max(start, low)
    if stop is None or stop > high:
        return Truncate(start, U64_MAX)
    if start > low:
        msg = f"[{start}, {stop}) lies in the middle of [{low}, {high + 1}); only a suffix or a prefix can be deleted"
        raise InvalidRangeError(msg)
    needed = max(low, state.snapshot_index + 1)
    if needed <= min(stop - 1, last_applied):
        msg = (
            f"[{start}, {stop}) reaches into the applied entries from index {needed} on, which no snapshot holds yet; "
            "compact first"
        )
        raise InvalidRangeError(msg)
    return Truncate(start, stop)


def plan_compaction(state: LogState, record: SnapshotRecord) -> Install:
    """The entries up to a snapshot of our own give way to its pointer."""
    index, term = record.header.index, record.header.term
    if state.snapshot_index >= index:
        msg = f"a snapshot at index {state.snapshot_index} was installed meanwhile; the one at {index} is discarded"
        raise CompactionSuperseded(msg)
    if not state.log.holds(index) or state.term_of(index) != term:
        msg = f"the entry at index {index} and term {term} left the log meanwhile; its snapshot is discarded"
        raise CompactionSuperseded(msg)
    return Install(record, keep_suffix=True, mark=state.facts.mark)


class Received(Enum):
    """What to do with a received snapshot."""

    STALE = auto()
    ADOPT = auto()
    REPLACE = auto()


def judge_received(state: LogState, index: int, term: int, delete_through: int | None, last_applied: int) -> Received:
    """STALE: nothing happens.  ADOPT: the log takes it, the machine is further already.  REPLACE: both take it."""
    if delete_through is not None and delete_through > index:
        msg = f"deleting through index {delete_through} would leave a hole above the snapshot at index {index}"
        raise InvalidRangeError(msg)
    if index < state.snapshot_index:
        return Received.STALE
    held = state.term_of(index)
    if index == state.snapshot_index and index and held == term:
        return Received.STALE
    if held is not None and held != term and index <= max(last_applied, state.snapshot_index):
        msg = f"the snapshot says term {term} at index {index}, where term {held} was applied"
        raise SnapshotMismatchError(msg)
    return Received.ADOPT if index <= last_applied else Received.REPLACE


def plan_install(state: LogState, record: SnapshotRecord, delete_through: int | None, received: Received) -> Install:
    """A received snapshot takes the place of the log up to its index, and of the rest unless the log agrees with it."""
    index = record.header.index
    keep = delete_through is not None and state.log.holds(index) and state.term_of(index) == record.header.term
    mark = state.facts.mark if received is Received.ADOPT and keep else index
    return Install(record, keep, max(mark, index))


def encode_vote(hard_state: HardState, mark: int) -> Draft:
    """The frame of a hard state."""
    return Draft(Kind.STATE, (StateBody(hard_state, mark, None).encode(),))


def encode_truncate(change: Truncate, state: LogState, segment: int) -> Draft:
    """The frame of a deletion.  `state` is the state after it, `segment` the one now written to."""
    body = TruncateBody(change.start, change.stop, state.facts.mark, state.first_needed or segment)
    return Draft(Kind.TRUNCATE, (body.encode(),), first_index=change.start)


def encode_install(change: Install, state: LogState, segment: int) -> Draft:
    """The frame of a snapshot.  It says what was decided, so that replay decides nothing (PROTOCOL A1)."""
    body = SnapshotBody(
        record=change.record,
        first_index=state.first_index,
        last_index=state.last_index,
        last_term=state.last_term,
        keep_suffix=change.keep_suffix,
        mark=state.facts.mark,
        first_needed=state.first_needed or segment,
    )
    return Draft(
        Kind.SNAPSHOT, (body.encode(),), first_index=change.record.header.index, term=change.record.header.term
    )
