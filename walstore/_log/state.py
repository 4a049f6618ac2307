"""The state that the frames add up to, and the only code that changes it.

A change is what one frame says, without its bytes.  Planning a call makes a change, and so does reading a frame back:
both go through `LogState.apply`, so that what a store does live and what it rebuilds cannot drift apart.

    call  --plan-->  change  --apply-->  state          (live; the frame's bytes are encoded from the same change)
    frame --replay-> change  --apply-->  state          (at open)

Applying hands back an `Undo`; a failed write takes its changes back in reverse order.

Invariants: the ordinary entries are consecutive; terms never fall along the log; `mark` (up to where the state machine
can be rebuilt) never exceeds the last index and never falls below the snapshot; with a `pointer`, the snapshot's index
is directly below the first ordinary entry or the log has none.

While old segments are replayed the log may name entries whose segments are gone, because a later SNAPSHOT or TRUNCATE
covers them (PROTOCOL A1).  They are `hollow`: [start, stop) with the term of the last, or 0 once that one is cut off
and the term of the new last is not known.  When replay ends none may be.
"""

from bisect import bisect_left, bisect_right
from typing import TypeAlias

import attrs

from .._types import U64_MAX, HardState, MembershipConfig
from .control import Base, SnapshotRecord
from .runs import Log, Run, Splice

Memberships: TypeAlias = tuple[tuple[int, MembershipConfig], ...]


@attrs.frozen
class Append:
    """Entries, after the last one or (overwrite) in the place of a suffix.  `memberships` are those among them."""

    run: Run
    overwrite: bool = False
    memberships: Memberships = ()


@attrs.frozen
class Vote:
    """A new hard state."""

    hard_state: HardState


@attrs.frozen
class Truncate:
    """[start, stop) goes: a suffix if stop is U64_MAX, else a prefix."""

    start: int
    stop: int


@attrs.frozen
class Install:
    """A snapshot takes the place of the entries up to its index; the later ones stay if `keep_suffix`."""

    record: SnapshotRecord
    keep_suffix: bool
    mark: int


@attrs.frozen
class Mark:
    """The state machine has been applied up to here.  Also what SYNC and CLOSE frames say."""

    mark: int


Change: TypeAlias = Append | Vote | Truncate | Install | Mark


@attrs.frozen
class Facts:
    """The part of the state that is replaced as a whole."""

    hard_state: HardState = attrs.field(factory=HardState)
    mark: int = 0
    snapshot: SnapshotRecord | None = None
    pointer: bool = False
    hollow: tuple[int, int, int] | None = None
    memberships: Memberships = ()


@attrs.frozen
class Undo:
    """What takes one change back."""

    facts: Facts
    splices: tuple[Splice, ...] = ()


@attrs.frozen
class Summary:
    """What a segment's opening STATE says: the state after one call, small enough to be kept with the call."""

    facts: Facts
    first_index: int
    last_index: int
    last_term: int
    first_needed: int | None

    def base(self, segment: int) -> Base:
        """The log as `segment` finds it when it is opened."""
        return Base(
            first_index=self.first_index,
            last_index=self.last_index,
            last_term=self.last_term,
            pointer=self.facts.pointer,
            snapshot=self.facts.snapshot,
            first_needed=segment if self.first_needed is None else self.first_needed,
        )


class LogState:
    """Hard state, log, snapshot and applied mark of one node."""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.log = Log()
        self.facts = Facts()

    # What it says

    @property
    def snapshot_index(self) -> int:
        """The index of the current snapshot, 0 without one."""
        snapshot = self.facts.snapshot
        return snapshot.header.index if snapshot else 0

    @property
    def first_index(self) -> int:
        """The index of the first entry, the pointer included; 0 for an empty log."""
        if self.facts.pointer:
            return self.snapshot_index
        if self.facts.hollow:
            return self.facts.hollow[0]
        return self.log.first if self.log else 0

    @property
    def last_index(self) -> int:
        """The index of the last entry, else the snapshot's, else 0."""
        if self.log:
            return self.log.stop - 1
        return self.facts.hollow[1] - 1 if self.facts.hollow else self.snapshot_index

    @property
    def last_term(self) -> int:
        """The term of the entry at `last_index`."""
        if self.log:
            return self.log.last_term
        if self.facts.hollow:
            return self.facts.hollow[2]
        snapshot = self.facts.snapshot
        return snapshot.header.term if snapshot else 0

    def ends_at(self, index: int, term: int) -> bool:
        """Whether the last entry has that index and term, as far as its term is known."""
        unknown = not self.log and self.facts.hollow is not None and self.last_term == 0
        return self.last_index == index and (unknown or self.last_term == term)

    def term_of(self, index: int) -> int | None:
        """The term of the entry at `index` (the snapshot's last one included), or None."""
        if self.log.holds(index):
            return self.log.run_at(index).term_at(index)
        snapshot = self.facts.snapshot
        if snapshot and snapshot.header.index == index:
            return snapshot.header.term
        return None

    @property
    def membership(self) -> MembershipConfig:
        """The latest membership (SEMANTICS 4)."""
        return self.membership_at(U64_MAX)[1]

    def membership_at(self, index: int) -> tuple[int, MembershipConfig]:
        """The latest membership at or below `index`, with the index of its entry (0: none set it)."""
        memberships = self.facts.memberships
        at = bisect_right(memberships, index, key=lambda row: row[0])
        if at:
            return memberships[at - 1]
        snapshot = self.facts.snapshot
        if snapshot:
            return snapshot.header.membership_index, snapshot.header.membership
        return 0, MembershipConfig.new_initial(self.node_id)

    @property
    def pristine(self) -> bool:
        """Whether nothing at all is stored."""
        return self.facts == Facts() and not self.log

    @property
    def first_needed(self) -> int | None:
        """The oldest segment with a live entry; None if no entry is live, 0 if the first is still to be written."""
        return self.log.first_segment if self.log else None

    def summary(self) -> Summary:
        """The state as of now, for the opening of a segment."""
        return Summary(self.facts, self.first_index, self.last_index, self.last_term, self.first_needed)

    # What changes it

    def apply(self, change: Change) -> Undo:
        """Makes one change.  ValueError if it does not fit, with nothing changed."""
        match change:
            case Append():
                return self._append(change)
            case Vote():
                return self._become(hard_state=change.hard_state)
            case Truncate():
                return self._cut(change.start) if change.stop == U64_MAX else self._drop(change.stop)
            case Install():
                return self._install(change)
        return self._mark(change.mark)

    def undo(self, undo: Undo) -> None:
        """Takes the latest change back that has not been taken back."""
        for splice in reversed(undo.splices):
            self.log.undo(splice)
        self.facts = undo.facts

    def start_from(self, hard_state: HardState, mark: int, base: Base) -> None:
        """Becomes the state of an opening STATE whose older segments are not read: their entries are hollow."""
        snapshot_index = base.snapshot.header.index if base.snapshot else 0
        first = base.first_index + 1 if base.pointer else base.first_index
        hollow = (first, base.last_index + 1, base.last_term) if first and first <= base.last_index else None
        self.log = Log()
        self.facts = Facts(hard_state, max(mark, snapshot_index), base.snapshot, base.pointer, hollow)

    def take_over(self, hard_state: HardState, mark: int, base: Base) -> None:
        """Takes what a later opening STATE says, apart from the entries, which were replayed."""
        snapshot_index = base.snapshot.header.index if base.snapshot else 0
        self._become(
            hard_state=hard_state, mark=max(mark, snapshot_index), snapshot=base.snapshot, pointer=base.pointer
        )

    def _become(self, *splices: Splice, **facts: object) -> Undo:
        undo = Undo(self.facts, splices)
        self.facts = attrs.evolve(self.facts, **facts)  # type: ignore[arg-type]  # the keywords are those of Facts
        return undo

    def _mark(self, mark: int) -> Undo:
        return self._become(mark=max(min(mark, self.last_index), self.snapshot_index))

    def _append(self, change: Append) -> Undo:
        run = change.run
        if not change.overwrite:
            if (self.log or self.facts.hollow or self.facts.snapshot) and run.first != self.last_index + 1:
                msg = f"entries at index {run.first} do not follow index {self.last_index}"
                raise ValueError(msg)
            undo = Undo(self.facts, (self.log.append(run),))
            if change.memberships:
                self.facts = attrs.evolve(self.facts, memberships=self.facts.memberships + change.memberships)
            return undo
        if not self.first_index <= run.first <= self.last_index:
            msg = f"entries at index {run.first} replace nothing in [{self.first_index}, {self.last_index + 1})"
            raise ValueError(msg)
        if self.facts.pointer and run.first == self.snapshot_index:
            msg = f"entries at index {run.first} would replace the snapshot's pointer"
            raise ValueError(msg)
        cut = self.log.cut(run.first)
        return self._become(
            cut,
            self.log.append(run),
            hollow=self._hollow_before(run.first),
            memberships=self._memberships_before(run.first) + change.memberships,
            mark=max(min(self.facts.mark, run.first - 1), self.snapshot_index),
        )

    def _memberships_before(self, index: int) -> Memberships:
        memberships = self.facts.memberships
        return memberships[: bisect_left(memberships, index, key=lambda row: row[0])]

    def _memberships_since(self, index: int) -> Memberships:
        memberships = self.facts.memberships
        return memberships[bisect_left(memberships, index, key=lambda row: row[0]) :]

    def _hollow_before(self, index: int) -> tuple[int, int, int] | None:
        hollow = self.facts.hollow
        if hollow is None or index <= hollow[0]:
            return None
        return (hollow[0], index, 0) if index < hollow[1] else hollow

    def _hollow_since(self, index: int) -> tuple[int, int, int] | None:
        hollow = self.facts.hollow
        if hollow is None or index >= hollow[1]:
            return None
        return max(index, hollow[0]), hollow[1], hollow[2]

    def _cut(self, start: int) -> Undo:
        """Drops the entries at `start` and above, the pointer too if it is among them."""
        undo = self._become(
            self.log.cut(start),
            pointer=self.facts.pointer and start > self.snapshot_index,
            hollow=self._hollow_before(start),
            memberships=self._memberships_before(start),
        )
        self._mark(self.facts.mark)  # below `start`, and lower where the log had begun above index 1 and is empty now
        return undo

    def _drop(self, stop: int) -> Undo:
        """Drops the entries below `stop`, the pointer too if it is among them."""
        return self._become(
            self.log.drop(stop),
            pointer=self.facts.pointer and stop <= self.snapshot_index,
            hollow=self._hollow_since(stop),
            memberships=self._memberships_since(stop),
        )

    def _install(self, change: Install) -> Undo:
        index = change.record.header.index
        keep = index + 1 if change.keep_suffix else U64_MAX
        return self._become(
            self.log.drop(keep),
            snapshot=change.record,
            pointer=True,
            hollow=self._hollow_since(keep),
            memberships=self._memberships_since(keep),
            mark=max(change.mark, index),
        )
