"""A store without a roof: calls are planned, applied and written to segments in memory, and these are read again.

`Live` does in a few lines what the roof does with threads and files, so that a test can hold what a store is against
what it would be after an open: `Live.state` against `Live.recovered()`.
"""

import attrs

from tests.log.building import STORE, reader
from tests.log.histories import NODE, Item, placed, proposal, record
from walstore._log.control import CloseBody, SnapshotRecord, StateBody, SyncBody
from walstore._log.draft import Draft, Place, assemble
from walstore._log.frame import Flags, Header, Kind
from walstore._log.limits import HEADER_PAGE, align_up
from walstore._log.page import Page, Predecessor
from walstore._log.plan import (
    Received,
    encode_install,
    encode_truncate,
    encode_vote,
    judge_received,
    plan_compaction,
    plan_delete,
    plan_entries,
    plan_hard_state,
    plan_install,
)
from walstore._log.replay import Replay, first_needed_of
from walstore._log.runs import Run
from walstore._log.scan import Scanner
from walstore._log.state import Install, LogState, Mark
from walstore._types import HardState


@attrs.define
class Segment:
    """A segment as its writer knows it: page, bytes, the last frame and the place of the next one."""

    page: Page
    data: bytearray
    place: Place
    last: Header

    @property
    def sequence(self) -> int:
        """The segment's own number."""
        return self.page.segment_sequence

    def named(self) -> Predecessor:
        """What a successor says of it."""
        return Predecessor(self.sequence, self.last.next_offset, self.last.sequence, self.last.crc)


class Live:
    """Each method is a call of the interface; what the planner refuses, it raises."""

    def __init__(self, commit_align: int = 64) -> None:
        self.state = LogState(NODE)
        self.last_applied = 0
        self.segments: dict[int, Segment] = {}
        self._commit_align = commit_align
        self._queue: list[Draft] = []
        self._runs: list[Run] = []
        self._newest = self._begin(1, None, 0)

    # The calls

    def append(self, entries: list[Item], *, carry: bool = True) -> bool:
        """Whether there was news in it.  `carry`: the frame takes the mark along."""
        planned = plan_entries(self.state, proposal(entries), self.state.facts.mark if carry else None)
        if planned is None:
            return False
        change, draft = planned
        self.state.apply(change)
        self._queue.append(draft)
        self._runs.append(change.run)
        return True

    def vote(self, hard_state: HardState) -> None:
        """`save_hard_state`."""
        change = plan_hard_state(self.state, hard_state)
        if change is not None:
            self.state.apply(change)
            self._queue.append(encode_vote(hard_state, self.state.facts.mark))

    def delete(self, start: int, stop: int | None) -> None:
        """`delete_logs_from`."""
        change = plan_delete(self.state, start, stop, self.last_applied)
        if change is not None:
            self.state.apply(change)
            self._queue.append(encode_truncate(change, self.state, self._newest.sequence))

    def compact(self) -> None:
        """`do_log_compaction`, where the log still has the entry that was applied last."""
        term = self.state.term_of(self.last_applied)
        if term is not None:
            at, membership = self.state.membership_at(self.last_applied)
            self._install(plan_compaction(self.state, record(self.last_applied, term, membership.members, at)))

    def install(self, snapshot: SnapshotRecord, delete_through: int | None) -> Received:
        """`finalize_snapshot_installation`."""
        index, term = snapshot.header.index, snapshot.header.term
        received = judge_received(self.state, index, term, delete_through, self.last_applied)
        if received is not Received.STALE:
            self._install(plan_install(self.state, snapshot, delete_through, received))
            self.last_applied = max(self.last_applied, index)
        return received

    def apply(self, index: int) -> None:
        """The machine is at `index` from now on; a frame says so when there is a next one."""
        self.last_applied = index
        self.state.apply(Mark(index))

    def sync(self) -> None:
        """`attest`."""
        self._queue.append(Draft(Kind.SYNC, (SyncBody(self.state.facts.mark).encode(),)))

    def _install(self, change: Install) -> None:
        self.state.apply(change)
        self._queue.append(encode_install(change, self.state, self._newest.sequence))

    # The disk

    def flush(self) -> None:
        """One barrier for all that is planned."""
        segment = self._newest
        group = assemble(self._queue, segment.page.tag, segment.place, self._commit_align)
        self._queue.clear()
        for run in self._runs:
            run.segment = segment.sequence
        self._runs.clear()
        if group.headers:
            segment.data += b"".join(group.buffers)
            segment.last = group.headers[-1]
        segment.place = attrs.evolve(group.after, durable=group.after.sequence)

    def rotate(self) -> None:
        """The segment is full, the next one follows it."""
        self.flush()
        self._newest = self._begin(self._newest.sequence + 1, self._newest.named(), self._newest.last.sequence)

    def close(self) -> None:
        """A clean close and an open: a new segment, which leaves out the last one if none of its entries is live."""
        self._queue.append(Draft(Kind.CLOSE, (CloseBody(self.state.facts.mark).encode(),)))
        self.flush()
        old = self._newest
        before: Predecessor | None = old.named()
        if all(run.segment != old.sequence for run in self.state.log.runs):
            before = old.page.predecessor
        self._newest = self._begin(old.sequence + 1, before, old.last.sequence)

    def _begin(self, sequence: int, before: Predecessor | None, start: int) -> Segment:
        summary = self.state.summary()
        base = summary.base(sequence)
        if before is not None and before.segment_sequence < base.first_needed:
            before = None
        body = StateBody(summary.facts.hard_state, summary.facts.mark, base)
        opening = Draft(Kind.STATE, (body.encode(),), flags=Flags.OPENING)
        page = Page(
            node_id=NODE,
            store_uuid=STORE,
            segment_sequence=sequence,
            salt=sequence * 11,
            segment_size=1 << 20,
            commit_align=self._commit_align,
            zero_filled=False,
            first_index=summary.last_index + 1,
            start_sequence=start,
            born_end=align_up(HEADER_PAGE + opening.room, 64),
            created_ns=0,
            predecessor=before,
        )
        place = Place(HEADER_PAGE, start, page.crc, start)
        group = assemble([opening], page.tag, place, self._commit_align, opening=True)
        data = bytearray(page.encode() + b"".join(group.buffers))
        segment = self.segments[sequence] = Segment(page, data, group.after, group.headers[0])
        return segment

    # Reading it again

    def chain(self) -> list[tuple[Segment, int | None]]:
        """The segments that the newest frames say are needed, oldest first, and where each ends."""
        segment, needed, stop = self._newest, self._newest.sequence, None
        for span in Scanner(reader(bytes(segment.data)), len(segment.data), segment.page):
            for header in span.headers:
                said = first_needed_of(header, span.body(header))
                needed = needed if said is None else said
        found: list[tuple[Segment, int | None]] = [(segment, stop)]
        while (before := segment.page.predecessor) is not None and before.segment_sequence >= needed:
            segment = self.segments[before.segment_sequence]
            found.append((segment, before.end))
        return found[::-1]

    def recovered(self, *, keep: bool = False, spans: bool = True) -> LogState:
        """The state as an open finds it, from what was flushed."""
        replay = Replay(NODE)
        for segment, stop in self.chain():
            scanner = Scanner(reader(bytes(segment.data)), len(segment.data), segment.page, stop=stop, span_size=500)
            for span in scanner:
                if spans:
                    replay.take_span(span, span.headers, segment.sequence, keep=keep, placed=placed)
                    continue
                for header in span.headers:
                    replay.take(header, span.body(header), segment.sequence, keep=keep)
            assert scanner.fault is None
        return replay.finish()
