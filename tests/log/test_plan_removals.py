"""Decisions that take entries away: SEMANTICS 8 (deletion), 9.3 (compaction) and 10.3 (installation)."""

import pytest
from hypothesis import given, strategies as st

from tests.log.histories import Item, frames, items_of, member_change, normal, record, run_of, state_of
from walstore._log.control import SnapshotBody, SnapshotRecord, TruncateBody, decode_snapshot, decode_truncate
from walstore._log.frame import Kind
from walstore._log.plan import (
    Received,
    encode_install,
    encode_truncate,
    judge_received,
    plan_compaction,
    plan_delete,
    plan_install,
)
from walstore._log.state import Append, Install, LogState, Mark, Truncate
from walstore._types import U64_MAX
from walstore.errors import CompactionSuperseded, InvalidRangeError, SnapshotMismatchError

TEN = normal(1, *[1] * 10)
ABOVE = normal(6, *[4] * 5)
"""Above `record(5, 3)`."""


def compacted(pointer: bool = True) -> LogState:
    """A snapshot at index 5 and term 3, and the entries 6 to 10 of term 4."""
    return state_of(ABOVE, snapshot=record(5, 3), pointer=pointer)


def indexes(state: LogState) -> list[int]:
    """The indexes of all entries, the pointer included."""
    pointer = [state.snapshot_index] if state.facts.pointer else []
    return pointer + [item.index for item in items_of(state.log.runs)]


def left(state: LogState, start: int, stop: int | None, last_applied: int = 0) -> list[int]:
    """The indexes that a deletion leaves."""
    change = plan_delete(state, start, stop, last_applied)
    if change is not None:
        state.apply(change)
    return indexes(state)


# -- SEMANTICS 8, line by line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "stop"),
    [(10, 1), (3, 3), (0, 0), (11, None), (11, 20), (U64_MAX, None), (U64_MAX, U64_MAX), (0, 1), (1, 1), (5, 4)],
)
def test_a_range_without_an_entry_is_nothing_to_write(start: int, stop: int | None) -> None:
    """start >= stop, start beyond the last index, stop at or below the first: a no-op, which writes nothing."""
    assert plan_delete(state_of(TEN), start, stop, 10) is None


@pytest.mark.parametrize("stop", [None, 1, U64_MAX])
def test_an_empty_log_has_nothing_to_delete(stop: int | None) -> None:
    """With or without a snapshot, of which the pointer was deleted."""
    assert plan_delete(state_of(), 0, stop, 0) is None
    assert plan_delete(state_of(snapshot=record(5, 3), pointer=False), 0, stop, 5) is None


@pytest.mark.parametrize(("start", "stop"), [(1, None), (0, None), (0, 11), (1, 11), (1, 12), (0, U64_MAX)])
def test_the_whole_log_can_be_deleted(start: int, stop: int | None) -> None:
    """By a suffix or by a range, applied or not; then any entry may come first again."""
    assert plan_delete(state_of(TEN), start, stop, 10) == Truncate(1, U64_MAX)
    assert left(state_of(TEN), start, stop, 10) == []


@pytest.mark.parametrize(("start", "stop"), [(7, None), (7, 11), (7, U64_MAX), (10, None), (2, 11)])
def test_a_suffix_is_deleted_though_it_was_applied(start: int, stop: int | None) -> None:
    """The core really does it, with entries that it will send again."""
    assert plan_delete(state_of(TEN), start, stop, 10) == Truncate(start, U64_MAX)
    assert left(state_of(TEN), start, stop, 10) == list(range(1, start))


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("stop", [2, 5, 10])
def test_a_prefix_is_deleted_up_to_what_was_not_applied(start: int, stop: int) -> None:
    """Half-open: (1, 10) leaves exactly index 10."""
    assert plan_delete(state_of(TEN), start, stop, 0) == Truncate(1, stop)
    assert left(state_of(TEN), start, stop) == list(range(stop, 11))


@pytest.mark.parametrize(("start", "stop"), [(2, 3), (2, 10), (9, 10)])
def test_the_middle_is_not_deleted(start: int, stop: int) -> None:
    """Entries on both sides would leave a hole."""
    with pytest.raises(InvalidRangeError, match=rf"\[{start}, {stop}\) lies in the middle of \[1, 11\)"):
        plan_delete(state_of(TEN), start, stop, 0)


@pytest.mark.parametrize(("stop", "last_applied", "fits"), [(4, 0, True), (4, 1, False), (2, 9, False), (4, 9, False)])
def test_a_prefix_that_was_applied_and_is_in_no_snapshot_stays(stop: int, last_applied: int, fits: bool) -> None:
    """The machine could not be rebuilt without it: compact first (PROTOCOL B6)."""
    if fits:
        assert left(state_of(TEN), 0, stop, last_applied) == list(range(stop, 11))
        return
    with pytest.raises(InvalidRangeError, match="compact first"):
        plan_delete(state_of(TEN), 0, stop, last_applied)


def test_what_was_applied_below_the_log_holds_nothing_back() -> None:
    """The log begins above what the machine has applied: no entry of the range is needed for it."""
    assert left(state_of(ABOVE), 0, 8, last_applied=5) == [8, 9, 10]


@pytest.mark.parametrize(
    ("stop", "last_applied", "fits"),
    [(6, 5, True), (6, 9, True), (7, 5, True), (7, 6, False), (9, 5, True), (9, 8, False)],
)
def test_what_the_snapshot_holds_may_go_from_the_log(stop: int, last_applied: int, fits: bool) -> None:
    """The pointer by the letter, and entries above it as long as they were not applied."""
    if fits:
        assert left(compacted(), 0, stop, last_applied) == list(range(stop, 11))
        return
    with pytest.raises(InvalidRangeError, match="from index 6 on"):
        plan_delete(compacted(), 0, stop, last_applied)


def test_the_pointer_can_be_deleted_with_all_that_follows_it() -> None:
    """The log is empty then, and the snapshot says where it ends."""
    state = compacted()
    assert left(state, 5, None, 9) == []
    assert (state.first_index, state.last_index, state.last_term) == (0, 5, 3)
    assert plan_delete(state_of(snapshot=record(5, 3)), 0, 6, 5) == Truncate(5, U64_MAX)


@given(
    st.integers(0, 6), st.booleans(), st.integers(0, 5), st.integers(0, 14), st.none() | st.integers(0, 14),
    st.integers(0, 12), st.integers(0, 3),
)  # fmt: skip
def test_a_deletion_is_set_difference(
    covered: int, pointer: bool, count: int, start: int, stop: int | None, last_applied: int, drop: int
) -> None:
    """What is left is the log without the range; refused if that has a hole, or if the machine needs what goes."""
    snapshot = record(covered, 1) if covered else None
    entries = [normal(covered + 1, *[1] * count)] if count else []
    state = state_of(*entries, snapshot=snapshot, pointer=pointer, drop=covered + 1 + drop if drop < count else 0)
    before = indexes(state)
    gone = [index for index in before if start <= index and (stop is None or index < stop)]
    rest = [index for index in before if index not in gone]
    above = [index for index in rest if gone and index > gone[-1]]

    if above and (min(rest) < gone[0] or any(covered < index <= last_applied for index in gone)):
        with pytest.raises(InvalidRangeError):
            plan_delete(state, start, stop, last_applied)
        assert indexes(state) == before
        return
    assert (plan_delete(state, start, stop, last_applied) is None) == (not gone)
    assert left(state, start, stop, last_applied) == rest


def test_the_frame_of_a_deletion_says_what_is_left() -> None:
    """Range, effective mark, and the oldest segment that is still needed: the new one if no entry is live."""
    state = state_of(normal(1, 1, 1, 1), normal(4, 1, 1, 1))
    state.apply(Mark(6))
    for change, expected in (
        (Truncate(1, 3), TruncateBody(1, 3, 6, 1)),
        (Truncate(3, 5), TruncateBody(3, 5, 6, 2)),
        (Truncate(6, U64_MAX), TruncateBody(6, U64_MAX, 5, 2)),
        (Truncate(5, U64_MAX), TruncateBody(5, U64_MAX, 0, 9)),
    ):
        state.apply(change)
        ((header, body),) = frames(encode_truncate(change, state, 9))
        assert (header.kind, header.first_index) == (Kind.TRUNCATE, change.start)
        assert decode_truncate(body) == expected


# -- SEMANTICS 9.3: a snapshot of our own --------------------------------------------------------------------------


@pytest.mark.parametrize("index", [6, 8, 10])
def test_a_compaction_puts_the_pointer_in_the_place_of_entries(index: int) -> None:
    """The entry at its index is replaced, the ones above are kept, and the mark stays where it is."""
    state = compacted()
    state.apply(Mark(9))
    change = plan_compaction(state, record(index, 4))
    state.apply(change)

    assert change == Install(record(index, 4), keep_suffix=True, mark=9)
    assert indexes(state) == list(range(index, 11))
    assert (state.facts.mark, state.term_of(index)) == (max(9, index), 4)


@pytest.mark.parametrize("index", [1, 4, 5])
def test_an_older_compaction_never_replaces_a_newer_snapshot(index: int) -> None:
    """One that was installed meanwhile, at the same index or above, wins."""
    with pytest.raises(CompactionSuperseded, match=f"at index 5 was installed meanwhile; the one at {index} is"):
        plan_compaction(compacted(), record(index, 3))


@pytest.mark.parametrize(("index", "term"), [(11, 4), (7, 3), (7, 5)])
def test_a_compaction_of_what_left_the_log_is_discarded(index: int, term: int) -> None:
    """The entry was truncated, or replaced by one of another term, while the snapshot was written."""
    with pytest.raises(CompactionSuperseded, match=f"index {index} and term {term} left the log"):
        plan_compaction(compacted(), record(index, term))


# -- SEMANTICS 10.3: a received snapshot ---------------------------------------------------------------------------


def install(state: LogState, snapshot: SnapshotRecord, delete_through: int | None, last_applied: int) -> Install | None:
    """What is decided of a received snapshot; None if it is stale."""
    header = snapshot.header
    received = judge_received(state, header.index, header.term, delete_through, last_applied)
    return None if received is Received.STALE else plan_install(state, snapshot, delete_through, received)


@pytest.mark.parametrize(("index", "term"), [(1, 1), (4, 3), (4, 9), (5, 3)])
def test_a_stale_snapshot_does_nothing(index: int, term: int) -> None:
    """index < current snapshot, or the same snapshot again: a no-op success; the pointer need not be there."""
    assert judge_received(compacted(), index, term, None, 9) is Received.STALE
    assert judge_received(compacted(pointer=False), index, term, index, 9) is Received.STALE


@pytest.mark.parametrize("term", [2, 4])
def test_the_current_snapshot_with_another_term_is_an_error(term: int) -> None:
    """Equal index, other term: always, whatever was applied."""
    for last_applied in (0, 5, 9):
        with pytest.raises(SnapshotMismatchError, match=f"says term {term} at index 5, where term 3 was applied"):
            judge_received(compacted(), 5, term, None, last_applied)


def test_a_snapshot_that_contradicts_what_was_applied_is_an_error() -> None:
    """The log has the entry with another term, and the machine has applied it; not applied, the log gives way."""
    with pytest.raises(SnapshotMismatchError, match="says term 5 at index 8, where term 4 was applied"):
        judge_received(compacted(), 8, 5, None, last_applied=8)
    assert judge_received(compacted(), 8, 5, None, last_applied=7) is Received.REPLACE


@pytest.mark.parametrize(
    ("index", "expected"), [(6, Received.ADOPT), (8, Received.ADOPT), (9, Received.REPLACE), (50, Received.REPLACE)]
)
def test_a_machine_that_is_further_stays(index: int, expected: Received) -> None:
    """current snapshot < index <= last_applied: the log takes the snapshot, the machine keeps what it applied since."""
    assert judge_received(compacted(), index, 4, None, last_applied=8) is expected


def test_an_entry_that_is_gone_contradicts_nothing() -> None:
    """A snapshot at an applied index which the log no longer holds is adopted, whatever its term."""
    state = compacted()
    state.apply(Truncate(7, U64_MAX))

    assert judge_received(state, 8, 9, None, last_applied=10) is Received.ADOPT


@pytest.mark.parametrize("index", [3, 5, 8, 20])
def test_deleting_through_more_than_the_snapshot_covers_is_refused(index: int) -> None:
    """It would leave a hole above the pointer; asked before anything else, of a stale snapshot too."""
    with pytest.raises(InvalidRangeError, match=f"through index {index + 1} would leave a hole"):
        judge_received(compacted(), index, 3, index + 1, 9)


@pytest.mark.parametrize(
    ("index", "term", "delete_through", "kept"),
    [
        (8, 4, 8, [9, 10]),  # the log agrees
        (8, 4, 0, [9, 10]),  # less than the snapshot covers means all that it covers
        (8, 4, None, []),  # all
        (8, 5, 8, []),  # another term: what follows is of another history
        (10, 4, 10, []),  # nothing follows
        (12, 4, 12, []),  # the log is shorter
    ],
)
def test_the_suffix_stays_if_the_log_agrees(index: int, term: int, delete_through: int | None, kept: list[int]) -> None:
    """Raft 7: kept if and only if it was asked for and the stored entry at the index has the snapshot's term."""
    state = compacted()
    change = install(state, record(index, term), delete_through, last_applied=5)
    assert change is not None
    state.apply(change)

    assert indexes(state) == [index, *kept]
    assert (state.last_index, state.last_term) == ((10, 4) if kept else (index, term))


def test_some_delete_through_on_an_empty_log_is_fine() -> None:
    """There is nothing to keep."""
    change = install(state_of(), record(8, 2), 5, last_applied=0)

    assert change == Install(record(8, 2), keep_suffix=False, mark=8)


@pytest.mark.parametrize(("delete_through", "last_applied", "mark"), [(8, 10, 10), (None, 10, 8), (8, 7, 8), (8, 6, 8)])
def test_the_mark_after_an_install_is_what_can_be_rebuilt(
    delete_through: int | None, last_applied: int, mark: int
) -> None:
    """The snapshot, and what was applied beyond it only as far as the log still has it."""
    state = compacted()
    state.apply(Mark(last_applied))
    change = install(state, record(8, 4), delete_through, last_applied)
    assert change is not None
    state.apply(change)

    assert state.facts.mark == mark


@given(
    st.integers(0, 6), st.lists(st.integers(2, 4), max_size=6).map(sorted), st.integers(1, 14), st.integers(1, 4),
    st.none() | st.integers(0, 14), st.integers(0, 14), st.booleans(),
)  # fmt: skip
def test_an_install_is_the_table(
    covered: int, terms: list[int], index: int, term: int, delete_through: int | None, last_applied: int, pointer: bool
) -> None:
    """For any log, snapshot and call, the rows of 10.3 and the suffix rule, one after another."""
    log = normal(covered + 1, *terms)
    snapshot = record(covered, 2) if covered else None
    state = state_of(*([log] if log else []), snapshot=snapshot, pointer=pointer)
    last_applied = min(max(last_applied, covered), state.last_index)
    state.apply(Mark(last_applied))
    held = {covered: 2} if covered else {}
    held |= {item.index: item.term for item in log}
    before = (state.facts, items_of(state.log.runs))

    expected: type[Exception] | None = None
    if delete_through is not None and delete_through > index:
        expected = InvalidRangeError
    elif index >= covered and index in held and held[index] != term and index <= last_applied:
        expected = SnapshotMismatchError
    if expected is not None:
        with pytest.raises(expected):
            install(state, record(index, term), delete_through, last_applied)
        assert (state.facts, items_of(state.log.runs)) == before
        return
    change = install(state, record(index, term), delete_through, last_applied)
    if index <= covered:
        assert change is None
        return
    assert change is not None
    state.apply(change)
    agrees = delete_through is not None and held.get(index) == term
    kept = [item for item in log if item.index > index and agrees]
    assert items_of(state.log.runs) == kept
    assert (state.first_index, state.last_index) == (index, kept[-1].index if kept else index)
    assert state.facts.mark == (max(index, last_applied) if agrees else index)
    assert state.membership == record(index, term).header.membership


def test_the_frame_of_a_snapshot_says_what_was_decided() -> None:
    """Everything that replay would otherwise have to decide again (PROTOCOL A1), and the oldest segment needed."""
    entries: list[Item] = [*normal(4, 1, 1), member_change(6, 2, 9)]
    state = state_of(normal(1, 1, 1, 1), entries)
    state.apply(Mark(6))
    for snapshot, through, expected in (
        (record(4, 1), 4, SnapshotBody(record(4, 1), 4, 6, 2, True, 6, 2)),
        (record(5, 1), None, SnapshotBody(record(5, 1), 5, 5, 1, False, 5, 9)),
    ):
        change = install(state, snapshot, through, last_applied=6)
        assert change is not None
        state.apply(change)
        ((header, body),) = frames(encode_install(change, state, 9))
        assert (header.kind, header.first_index, header.term) == (Kind.SNAPSHOT, snapshot.header.index, 1)
        assert decode_snapshot(body) == expected


def test_entries_that_are_not_written_yet_need_the_segment_that_is_written_to() -> None:
    """Their frame goes there or to a later one; an older segment, which may be gone by then, is not asked for."""
    state = LogState(1)
    state.apply(Append(run_of(TEN, segment=0)))
    state.apply(cut := Truncate(5, U64_MAX))
    ((_, body),) = frames(encode_truncate(cut, state, 9))
    assert decode_truncate(body).first_needed == 9
    state.apply(kept := Install(record(2, 1), True, 2))
    ((_, body),) = frames(encode_install(kept, state, 9))
    assert decode_snapshot(body).first_needed == 9
