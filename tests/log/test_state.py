"""The state that changes add up to: what each change does, what takes it back, and what it says of memberships."""

import attrs
import pytest
from hypothesis import given, strategies as st

from tests.log.histories import (
    NODE,
    Item,
    items_of,
    member_change,
    memberships_in,
    normal,
    record,
    run_of,
    state_of,
)
from walstore._log.control import Base
from walstore._log.state import Append, Change, Facts, Install, LogState, Mark, Summary, Truncate, Undo, Vote
from walstore._types import U64_MAX, HardState, MembershipConfig

SNAPSHOT = record(3, 1, (30, 31), membership_index=2)
INITIAL = MembershipConfig({NODE})


def append(*entries: Item, overwrite: bool = False) -> Append:
    """The change that these entries are."""
    return Append(run_of(entries), overwrite, memberships_in(entries))


def said(state: LogState) -> tuple[int, int, int, int]:
    """First index, last index and term, mark."""
    return state.first_index, state.last_index, state.last_term, state.facts.mark


# -- nothing -------------------------------------------------------------------------------------------------------


def test_a_new_state_is_pristine() -> None:
    """Nothing is stored: all numbers are 0, and the node knows of nobody but itself."""
    state = LogState(NODE)

    assert state.pristine
    assert said(state) == (0, 0, 0, 0)
    assert (state.snapshot_index, state.first_needed, state.term_of(0), state.term_of(1)) == (0, None, None, None)
    assert state.membership == INITIAL
    assert state.membership_at(5) == (0, INITIAL)


@pytest.mark.parametrize(
    "change", [Vote(HardState(1)), append(*normal(1, 0)), Install(record(1, 0), False, 0)], ids=repr
)
def test_whatever_is_stored_makes_a_state_not_pristine(change: Change) -> None:
    """A vote without a log, a log without a vote, a snapshot: none is forgotten (SEMANTICS 5)."""
    state = LogState(NODE)
    state.apply(change)

    assert not state.pristine


# -- each change ---------------------------------------------------------------------------------------------------


def test_entries_follow_the_last_one() -> None:
    """An append adds entries and their memberships at the end and touches nothing else."""
    state = state_of(normal(1, 1, 1), mark=0)
    state.apply(Mark(2))
    state.apply(append(member_change(3, 2, 5), *normal(4, 2)))

    assert items_of(state.log.runs) == [*normal(1, 1, 1), member_change(3, 2, 5), *normal(4, 2)]
    assert said(state) == (1, 4, 2, 2)
    assert state.membership_at(4) == (3, MembershipConfig({5}))


@pytest.mark.parametrize("first", [1, 2, 4, 9])
def test_entries_that_do_not_follow_are_refused(first: int) -> None:
    """With a log, and with nothing but a snapshot; the state stays as it was."""
    for state in (state_of(normal(1, 1, 1)), state_of(snapshot=record(2, 1))):
        before = (state.facts, state.log.runs)
        with pytest.raises(ValueError, match=f"index {first} do not follow index 2"):
            state.apply(append(*normal(first, 1)))
        assert (state.facts, state.log.runs) == before


def test_the_first_entry_of_all_may_have_any_index() -> None:
    """A log without a snapshot begins where its first entry is."""
    assert said(state_of(normal(50, 3))) == (50, 50, 3, 0)


def test_an_overwrite_takes_the_place_of_a_suffix() -> None:
    """Entries, memberships and the mark above it are gone in the same change."""
    state = state_of([*normal(1, 1, 1), member_change(3, 1, 5), member_change(4, 1, 6)], mark=0)
    state.apply(Mark(4))
    state.apply(append(member_change(3, 2, 7), overwrite=True))

    assert items_of(state.log.runs) == [*normal(1, 1, 1), member_change(3, 2, 7)]
    assert said(state) == (1, 3, 2, 2)
    assert state.facts.memberships == ((3, MembershipConfig({7})),)


def test_an_overwrite_above_the_mark_leaves_it() -> None:
    """Entries that were not applied do not count as applied because others take their place (PROTOCOL A7)."""
    state = state_of(normal(1, 1, 1, 1, 1, 1))
    state.apply(Mark(2))
    state.apply(append(*normal(5, 2), overwrite=True))

    assert said(state) == (1, 5, 2, 2)


@pytest.mark.parametrize("first", [2, 3, 7, 9])
def test_an_overwrite_replaces_entries_and_nothing_else(first: int) -> None:
    """Not what is below the log, not the snapshot's pointer, and not what is not there yet."""
    state = state_of(normal(4, 1, 1, 1), snapshot=SNAPSHOT)
    before = (state.facts, state.log.runs)
    with pytest.raises(ValueError, match=f"index {first}"):
        state.apply(append(*normal(first, 2), overwrite=True))
    assert (state.facts, state.log.runs) == before


def test_a_vote_replaces_the_hard_state() -> None:
    """And nothing else, whatever the log is."""
    state = state_of(normal(4, 1), snapshot=SNAPSHOT, mark=3)
    before = state.facts
    state.apply(Vote(HardState(9, 0)))

    assert state.facts == attrs.evolve(before, hard_state=HardState(9, 0))


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (7, (3, 6, 2, 6)), (6, (3, 5, 1, 5)), (5, (3, 4, 1, 4)),
        (4, (3, 3, 1, 3)), (3, (0, 3, 1, 3)), (0, (0, 3, 1, 3)),
    ],
)  # fmt: skip
def test_a_suffix_goes_with_its_mark(start: int, expected: tuple[int, int, int, int]) -> None:
    """The last index falls below `start` or to the snapshot's, the mark with it, the pointer goes if it is in there."""
    state = state_of(normal(4, 1, 1, 2), snapshot=SNAPSHOT, mark=3)
    state.apply(Mark(6))
    state.apply(Truncate(start, U64_MAX))

    assert said(state) == expected
    assert items_of(state.log.runs) == [item for item in normal(4, 1, 1, 2) if item.index < start]


def test_a_suffix_takes_its_memberships_along() -> None:
    """The membership is the one before, at once (SEMANTICS 4)."""
    state = state_of([member_change(1, 1, 5), member_change(2, 1, 6)])
    state.apply(Truncate(2, U64_MAX))
    assert state.membership == MembershipConfig({5})
    state.apply(Truncate(1, U64_MAX))
    assert state.membership == INITIAL


def test_an_emptied_log_that_began_high_has_no_mark() -> None:
    """Without a snapshot nothing at all can be rebuilt then, not even what is below the deleted entries."""
    state = state_of(normal(5, 1, 1, 1))
    state.apply(Mark(7))
    state.apply(Truncate(5, U64_MAX))

    assert said(state) == (0, 0, 0, 0)


@pytest.mark.parametrize(("stop", "first"), [(0, 3), (3, 3), (4, 4), (5, 5), (6, 6)])
def test_a_prefix_goes_and_the_mark_stays(stop: int, first: int) -> None:
    """The pointer is the first to go; hard state, snapshot and mark are left alone."""
    state = state_of(normal(4, 1, 1, 2), snapshot=SNAPSHOT, mark=3)
    state.apply(Truncate(0, stop))

    assert said(state) == (first, 6, 2, 3)
    assert state.facts.snapshot is SNAPSHOT
    assert state.facts.pointer is (first == 3)


def test_a_pointer_that_was_deleted_does_not_come_back() -> None:
    """Deleting a prefix that ends below the snapshot changes nothing then."""
    state = state_of(normal(4, 1), snapshot=SNAPSHOT, pointer=False)
    before = (state.facts, state.log.runs)
    state.apply(Truncate(0, 2))

    assert (state.facts, state.log.runs) == before


def test_a_prefix_takes_its_memberships_along() -> None:
    """A membership that only deleted entries held is gone; the snapshot's is next (SEMANTICS 8)."""
    state = state_of([member_change(4, 1, 5), *normal(5, 1)], snapshot=SNAPSHOT)
    state.apply(Truncate(0, 5))

    assert state.membership_at(9) == (2, MembershipConfig({30, 31}))


@pytest.mark.parametrize("keep", [True, False])
def test_a_snapshot_takes_the_place_of_entries(keep: bool) -> None:
    """Up to its index always, above it if that was decided; entry and pointer have the same index and term."""
    state = state_of([member_change(1, 1, 4), *normal(2, 1), member_change(3, 1, 5), member_change(4, 1, 6)])
    state.apply(Install(SNAPSHOT, keep, mark=0))

    assert items_of(state.log.runs) == ([member_change(4, 1, 6)] if keep else [])
    assert said(state) == (3, 4 if keep else 3, 1, 3)
    assert state.membership_at(3) == (2, MembershipConfig({30, 31}))
    assert state.membership == MembershipConfig({6} if keep else {30, 31})
    assert (state.term_of(3), state.term_of(2)) == (1, None)


@pytest.mark.parametrize(("mark", "expected"), [(0, 3), (3, 3), (5, 5), (6, 6), (7, 6), (U64_MAX, 6)])
def test_the_mark_lies_between_snapshot_and_last_index(mark: int, expected: int) -> None:
    """Below the snapshot there is nothing to replay, and above the log there is nothing to replay with."""
    state = state_of(normal(4, 1, 1, 2), snapshot=SNAPSHOT)
    state.apply(Mark(mark))

    assert state.facts.mark == expected


# -- what old segments leave open (PROTOCOL A1) --------------------------------------------------------------------

HOLLOW = Base(first_index=2, last_index=9, last_term=4, pointer=False, snapshot=None, first_needed=5)


def hollow_state(base: Base = HOLLOW, mark: int = 6) -> LogState:
    """A state whose entries are in segments that nobody has read."""
    state = LogState(NODE)
    state.start_from(HardState(5), mark, base)
    return state


def test_entries_of_unread_segments_are_hollow() -> None:
    """They count for where the log begins and ends, and nothing is known of them but the last term."""
    state = hollow_state()

    assert state.facts.hollow == (2, 10, 4)
    assert said(state) == (2, 9, 4, 6)
    assert (state.term_of(9), state.first_needed, bool(state.log)) == (None, None, False)
    state.apply(append(*normal(10, 4)))
    assert said(state) == (2, 10, 4, 6)
    with pytest.raises(ValueError, match="do not follow"):
        hollow_state().apply(append(*normal(9, 4)))


def test_a_pointer_is_no_hollow_entry() -> None:
    """The entries begin behind it."""
    both = attrs.evolve(HOLLOW, first_index=3, pointer=True, snapshot=SNAPSHOT)
    alone = attrs.evolve(both, last_index=3, last_term=1)

    assert hollow_state(both).facts.hollow == (4, 10, 4)
    assert hollow_state(alone, mark=0).facts == Facts(HardState(5), 3, SNAPSHOT, True)
    assert hollow_state(Base(0, 0, 0, False, None, 1), mark=0).facts == Facts(HardState(5))
    used = state_of(normal(1, 1, 1))
    used.start_from(HardState(5), 0, alone)
    assert (used.facts, bool(used.log)) == (hollow_state(alone, mark=0).facts, False)


@pytest.mark.parametrize(
    ("change", "hollow", "first", "last"),
    [
        (Truncate(0, 5), (5, 10, 4), 5, 11),
        (Truncate(0, 1), (2, 10, 4), 2, 11),
        (Truncate(0, 2), (2, 10, 4), 2, 11),
        (Truncate(0, 10), None, 10, 11),
        (Truncate(5, U64_MAX), (2, 5, 0), 2, 4),
        (Truncate(2, U64_MAX), None, 0, 0),
        (Truncate(10, U64_MAX), (2, 10, 4), 2, 9),
        (Truncate(11, U64_MAX), (2, 10, 4), 2, 10),
        (append(*normal(6, 5), overwrite=True), (2, 6, 0), 2, 6),
        (append(*normal(2, 5), overwrite=True), None, 2, 2),
        (append(*normal(11, 5), overwrite=True), (2, 10, 4), 2, 11),
        (Install(record(6, 4), True, 6), (7, 10, 4), 6, 11),
        (Install(record(9, 4), True, 6), None, 9, 11),
        (Install(record(6, 4), False, 6), None, 6, 6),
    ],
    ids=repr,
)
def test_hollow_entries_go_like_others(
    change: Change, hollow: tuple[int, int, int] | None, first: int, last: int
) -> None:
    """Each change covers them as far as it would if they were there."""
    state = hollow_state()
    state.apply(append(*normal(10, 4, 4)))
    undo = state.apply(change)

    assert (state.facts.hollow, state.first_index, state.last_index) == (hollow, first, last)
    state.undo(undo)
    assert said(state) == (2, 11, 4, 6)


def test_the_term_of_a_cut_hollow_log_is_not_known() -> None:
    """Where the last hollow entry was cut off, an older term may follow, and any term may be said to be the last."""
    state = hollow_state()
    assert not state.ends_at(state.last_index, 3)
    state.apply(Truncate(5, U64_MAX))

    assert state.ends_at(4, 3)
    assert not state.ends_at(5, 3)
    state.apply(append(*normal(5, 2)))
    assert state.last_term == 2


def test_taking_over_replaces_all_but_the_entries() -> None:
    """Hard state, mark, snapshot and pointer are what the later segment says (the mark not below the snapshot)."""
    state = state_of(normal(4, 1, 1), snapshot=record(3, 1))
    base = Base(4, 5, 1, False, SNAPSHOT, 1)
    state.take_over(HardState(8, 2), 0, base)

    assert (state.facts.hard_state, state.facts.mark, state.facts.snapshot) == (HardState(8, 2), 3, SNAPSHOT)
    assert not state.facts.pointer
    assert items_of(state.log.runs) == normal(4, 1, 1)


def test_a_summary_is_what_a_segment_needs_to_begin() -> None:
    """It says how the log was after a call; without live entries the new segment is the oldest needed."""
    state = state_of(normal(4, 1, 2), snapshot=SNAPSHOT)
    summary = state.summary()
    state.apply(Truncate(0, U64_MAX))

    assert summary == Summary(summary.facts, 3, 5, 2, first_needed=1)
    assert summary.base(7) == Base(3, 5, 2, True, SNAPSHOT, first_needed=1)
    assert state.summary().base(7) == Base(0, 3, 1, False, SNAPSHOT, first_needed=7)


# -- taking changes back -------------------------------------------------------------------------------------------


@st.composite
def next_change(draw: st.DrawFn, state: LogState) -> Change:
    """A change that fits the state."""
    first, last = state.log.first if state.log else 0, state.last_index
    kinds = ["append", "vote", "mark", "install", "cut", "drop"] + ["overwrite"] * bool(state.log)
    kind = draw(st.sampled_from(kinds))
    if kind in ("append", "overwrite"):
        at = draw(st.integers(first, last)) if kind == "overwrite" else last + 1
        fresh = kind == "append" and not state.log and state.facts.snapshot is None
        at += draw(st.integers(0, 3)) if fresh else 0
        term = state.last_term if at > last else state.term_of(at - 1) or 0
        contents = draw(st.lists(st.none() | st.just(b"x") | st.builds(MembershipConfig, st.sets(st.integers(0, 3)))))
        entries = [Item(at + i, term + draw(st.integers(0, 1)), content) for i, content in enumerate(contents or [b""])]
        entries.sort(key=lambda item: item.term)
        return append(*(attrs.evolve(item, index=at + i) for i, item in enumerate(entries)), overwrite=kind != "append")
    number = draw(st.integers(0, last + 2))
    match kind:
        case "vote":
            return Vote(HardState(number, draw(st.none() | st.integers(0, 3))))
        case "mark":
            return Mark(number)
        case "cut":
            return Truncate(number, U64_MAX)
        case "drop":
            return Truncate(0, number + 1)
    index = max(number, state.snapshot_index, 1)
    keep = state.log.holds(index) and draw(st.booleans())
    return Install(record(index, state.term_of(index) or 9, draw(st.sets(st.integers(4, 7)))), keep, number)


def picture(state: LogState) -> object:
    """All that a state says."""
    indexes = range(12)
    return (
        state.facts, state.log.runs, items_of(state.log.runs), said(state), state.pristine, state.summary(),
        [state.term_of(index) for index in indexes], [state.membership_at(index) for index in indexes],
    )  # fmt: skip


@given(st.data(), st.integers(0, 12))
def test_changes_taken_back_in_reverse_were_never_made(data: st.DataObject, count: int) -> None:
    """After any changes, taking the latest back gives exactly the state before it, down to the first."""
    state = LogState(NODE)
    history: list[tuple[Undo, object]] = []
    for _ in range(count):
        before = picture(state)
        history.append((state.apply(data.draw(next_change(state))), before))
        assert state.facts.mark <= state.last_index
        assert state.facts.mark >= state.snapshot_index
    for undo, before in reversed(history):
        state.undo(undo)
        assert picture(state) == before


# -- memberships (SEMANTICS 4) -------------------------------------------------------------------------------------


def naive_membership(state: LogState, index: int) -> MembershipConfig:
    """The reverse search of the interface's documentation, entry by entry, then the snapshot, then the node alone."""
    entries = [(item.index, item.content) for item in items_of(state.log.runs)]
    snapshot = state.facts.snapshot
    if snapshot is not None and state.facts.pointer:
        entries.insert(0, (snapshot.header.index, snapshot.header.membership))
    for at, content in reversed(entries):
        if at <= index and isinstance(content, MembershipConfig):
            return content
    return INITIAL if snapshot is None else snapshot.header.membership


@given(st.data(), st.integers(0, 12))
def test_the_membership_is_what_a_reverse_scan_finds(data: st.DataObject, count: int) -> None:
    """At every index, after any changes, and for all of the log."""
    state = LogState(NODE)
    for _ in range(count):
        state.apply(data.draw(next_change(state)))
        for index in range(state.last_index + 2):
            at, membership = state.membership_at(index)
            assert membership == naive_membership(state, index)
            if at > state.snapshot_index:
                assert items_of([state.log.run_at(at).since(at)])[0] == Item(at, state.term_of(at) or 0, membership)
        assert state.membership == naive_membership(state, U64_MAX)


def test_the_membership_of_a_deleted_pointer_is_still_the_snapshots() -> None:
    """The search goes on behind the log: snapshot, then the node alone."""
    state = state_of(normal(4, 1), snapshot=SNAPSHOT, pointer=False)

    assert state.membership_at(4) == state.membership_at(3) == (2, MembershipConfig({30, 31}))
