"""Decisions about entries and votes: each row of the table of SEMANTICS 6 by name, and the table as a model."""

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from tests.log.histories import (
    NODE,
    Item,
    assembled,
    items_of,
    member_change,
    memberships_in,
    normal,
    proposal,
    record,
    state_of,
    take,
)
from walstore._log.batch import EntryKind, decode_batch
from walstore._log.frame import Flags
from walstore._log.limits import MAX_ENTRIES_PER_FRAME, MAX_ENTRY_BYTES, MAX_FRAME_BODY
from walstore._log.plan import encode_vote, first_new, plan_entries, plan_hard_state, propose
from walstore._log.replay import Replay
from walstore._log.state import Append, LogState, Mark, Truncate, Vote
from walstore._types import U64_MAX, HardState
from walstore.errors import EntryTooLargeError, HardStateRegressionError, LogGapError, UsageError


def planned(state: LogState, entries: list[Item], mark: int | None = None) -> Append | None:
    """The change, if there is anything to write."""
    found = plan_entries(state, proposal(entries), mark)
    return None if found is None else found[0]


def after(state: LogState, *entries: Item) -> list[Item]:
    """The log once the entries are in it."""
    change = planned(state, list(entries))
    if change is not None:
        state.apply(change)
    return items_of(state.log.runs)


def refused(state: LogState, error: type[Exception], *entries: Item, match: str | None = None) -> None:
    """The entries are refused with just this class, and the state is untouched."""
    before = (state.facts, state.log.runs)
    with pytest.raises(error, match=match) as caught:
        planned(state, list(entries))
    assert type(caught.value) is error
    assert (state.facts, state.log.runs) == before


TEN = [*normal(1, *[1] * 10)]


# -- the table of SEMANTICS 6, row by row --------------------------------------------------------------------------


def test_the_next_index_is_appended() -> None:
    """entry.index = L + 1: append."""
    assert after(state_of(TEN), *normal(11, 1, 2)) == [*TEN, *normal(11, 1, 2)]
    assert after(state_of(snapshot=record(3, 1)), *normal(4, 1)) == normal(4, 1)


@pytest.mark.parametrize("first", [1, 2, 1000, U64_MAX - 1])
def test_an_empty_log_takes_any_first_entry(first: int) -> None:
    """Empty log, no snapshot, any index >= 1: accept as first entry."""
    assert after(state_of(), *normal(first, 3)) == normal(first, 3)
    emptied = state_of(TEN)
    emptied.apply(Truncate(1, U64_MAX))
    assert after(emptied, *normal(first, 3)) == normal(first, 3)


def test_what_is_stored_already_stays_with_its_tail() -> None:
    """entry.index <= L, same term stored: keep the stored entry and the tail after it, and write nothing."""
    for first in range(1, 11):
        assert planned(state_of(TEN), TEN[first - 1 : first + 2]) is None


def test_another_term_replaces_the_suffix() -> None:
    """entry.index <= L, different term stored: replace and drop everything after it, in the same write."""
    assert after(state_of(TEN), *normal(10, 2)) == [*TEN[:9], *normal(10, 2)]
    assert after(state_of(TEN), *normal(4, 5)) == [*TEN[:3], *normal(4, 5)]
    assert after(state_of(normal(3, 1, 1)), *normal(3, 2)) == normal(3, 2)


def test_only_what_is_new_of_a_batch_is_written() -> None:
    """A re-sent batch that reaches beyond the log, or differs in its middle, is stored from there on."""
    beyond = planned(state_of(TEN), [*TEN[7:], *normal(11, 2)])
    middle = planned(state_of(TEN), [*TEN[5:7], *normal(8, 3, 3)])

    assert beyond is not None
    assert (items_of([beyond.run]), beyond.overwrite) == (normal(11, 2), False)
    assert middle is not None
    assert (items_of([middle.run]), middle.overwrite) == (normal(8, 3, 3), True)


@pytest.mark.parametrize("first", [12, 13, U64_MAX - 1])
def test_a_gap_is_refused(first: int) -> None:
    """index > L + 1: rejected before writing; behind a log and behind a snapshot alone."""
    refused(state_of(TEN), LogGapError, *normal(first, 1), match="does not follow the last index 10")
    refused(state_of(snapshot=record(10, 1)), LogGapError, *normal(first, 1), match="does not follow the last index 10")


@pytest.mark.parametrize("indexes", [(1, 3), (2, 1), (5, 5), (3, 4, 4), (1, 2, 4), (1, 0)])
def test_a_batch_that_is_not_consecutive_is_refused(indexes: tuple[int, ...]) -> None:
    """Whole batch rejected, whatever the log holds."""
    with pytest.raises(LogGapError, match="not consecutive"):
        proposal([Item(index, 1, b"") for index in indexes])


def test_a_term_below_the_one_before_is_refused() -> None:
    """Terms never decrease along the log: inside a batch, behind the log, over a suffix, behind a snapshot."""
    with pytest.raises(UsageError, match="terms of the entries from index 1 on fall"):
        proposal(normal(1, 2, 1))
    log = normal(1, 3, 3, 4)
    refused(state_of(log), UsageError, *normal(4, 3), match="term 3 at index 4 is below term 4")
    refused(state_of(log), UsageError, *normal(3, 2), match="term 2 at index 3 is below term 3")
    refused(state_of(snapshot=record(3, 4)), UsageError, *normal(4, 3), match="term 3 at index 4 is below term 4")
    refused(state_of(normal(4, 5), snapshot=record(3, 4)), UsageError, *normal(4, 3), match="below term 4")
    assert after(state_of(normal(5, 3)), *normal(5, 1)) == normal(5, 1)  # nothing is known of what was before


def test_a_term_below_the_snapshots_is_refused_where_entries_between_were_deleted() -> None:
    """The log would contradict its snapshot, and the next open would refuse the store."""
    state = state_of(normal(4, 4, 5, 5), snapshot=record(3, 4), drop=5)

    refused(state, UsageError, *normal(5, 3), match="term 3 at index 5 is below term 4")
    assert after(state, *normal(5, 4)) == normal(5, 4)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_what_was_deleted_below_the_log_does_not_come_back(count: int) -> None:
    """index < F with no snapshot over it: reject, also where the batch reaches into the log."""
    for state in (state_of(normal(6, 1, 1)), state_of(normal(4, 1, 1, 1, 1), snapshot=record(3, 1), drop=6)):
        refused(state, LogGapError, *normal(4, *[1] * count), match="index 4 is below the log's first index 6")


def test_index_0_is_refused() -> None:
    """It means "none"."""
    with pytest.raises(UsageError, match="index 0"):
        proposal(normal(0, 1))
    with pytest.raises(UsageError, match="index 0"):
        proposal(normal(0, 1, 1))


def test_what_the_snapshot_covers_is_skipped() -> None:
    """index < pointer: silently, whatever its term; index = pointer, same term: silently, too."""
    state = state_of(normal(6, 4), snapshot=record(5, 3))

    for entries in (normal(1, 1), normal(2, 2, 2), normal(4, 1, 3), normal(5, 3), normal(5, 3, 4)):
        assert planned(state, entries) is None
    assert after(state, *normal(4, 2, 3, 4, 4)) == normal(6, 4, 4)
    hole = state_of(normal(6, 4, 4, 4), snapshot=record(5, 3), drop=8)
    assert planned(hole, normal(4, 2, 3)) is None


@pytest.mark.parametrize("pointer", [True, False])
@pytest.mark.parametrize("entries", [normal(5, 2), normal(5, 4), normal(4, 1, 2, 4), normal(1, *[1] * 9)])
def test_the_last_covered_entry_cannot_change_its_term(entries: list[Item], pointer: bool) -> None:
    """index = pointer, another term: a committed entry would be rewritten; the pointer need not be there for it."""
    state = state_of(normal(6, 4), snapshot=record(5, 3), pointer=pointer)

    refused(state, UsageError, *entries, match="index 5 is covered by the snapshot with term 3")


# -- the table as a model ------------------------------------------------------------------------------------------


def table(log: dict[int, int], covered: tuple[int, int] | None, batch: list[Item]) -> dict[int, int] | type[Exception]:
    """SEMANTICS 6 taken literally: from terms by index, and the snapshot's last entry, to the terms after the batch."""
    log = dict(log)
    for item in batch:
        if covered and item.index < covered[0]:
            continue
        if covered and item.index == covered[0]:
            if item.term != covered[1]:
                return UsageError
            continue
        if not log and not covered:
            log[item.index] = item.term
            continue
        first, last = (min(log), max(log)) if log else (covered[0] + 1, covered[0]) if covered else (0, 0)
        if item.index < first or item.index > last + 1:
            return LogGapError
        if log.get(item.index) == item.term:
            continue
        below = [log[index] for index in sorted(log) if index < item.index] or [covered[1] if covered else 0]
        if item.term < below[-1]:
            return UsageError
        log = {index: term for index, term in log.items() if index < item.index} | {item.index: item.term}
    return log


terms_3 = st.lists(st.integers(1, 3), max_size=5).map(sorted)


@given(st.integers(1, 6), terms_3, st.none() | st.integers(0, 3), st.integers(0, 4), st.integers(1, 12), terms_3)
def test_the_plan_is_the_table(
    first: int, terms: list[int], covered_term: int | None, dropped: int, start: int, batch_terms: list[int]
) -> None:
    """For any log, snapshot and batch: the same log after it, or the same class of error and nothing changed."""
    snapshot = None if covered_term is None else record(first - 1, covered_term) if first > 1 else None
    terms = [max(term, covered_term or 0) for term in terms]
    log = normal(first, *terms)
    state = state_of(*([log] if log else []), snapshot=snapshot, drop=first + dropped if dropped < len(log) else 0)
    batch = normal(start, *(batch_terms or [2]))
    covered = (first - 1, covered_term) if snapshot and covered_term is not None else None
    before = {item.index: item.term for item in items_of(state.log.runs)}

    expected = table(before, covered, batch)

    if isinstance(expected, type):
        refused(state, expected, *batch)
        return
    change = planned(state, batch)
    assert (change is None) == (expected == before)
    if change is not None:
        state.apply(change)
    assert {item.index: item.term for item in items_of(state.log.runs)} == expected


# -- frames, marks, memberships ------------------------------------------------------------------------------------


def test_an_overwrite_is_marked_as_one() -> None:
    """A frame that goes backwards without the flag would be corruption (FORMAT 5.3)."""
    for entries, flags in ((normal(11, 2), 0), (normal(10, 2), Flags.OVERWRITE)):
        found = plan_entries(state_of(TEN), proposal(entries), None)
        assert found is not None
        assert (found[0].overwrite, found[1].flags) == (bool(flags), flags)


@pytest.mark.parametrize(
    ("entries", "mark", "carried"),
    [
        (normal(11, 2), 10, 10), (normal(11, 2), None, None), (normal(8, 2), 10, 7), (normal(8, 2), 5, 5),
        (normal(4, 2), 10, 3), (normal(8, 2), None, None),
    ],
)  # fmt: skip
def test_the_mark_that_is_carried_is_the_effective_one(
    entries: list[Item], mark: int | None, carried: int | None
) -> None:
    """An overwrite carries no mark above the entries that it leaves, nor below the snapshot (PROTOCOL A7)."""
    state = state_of(normal(4, *[1] * 7), snapshot=record(3, 1))
    state.apply(Mark(10))
    found = plan_entries(state, proposal(entries), mark)
    assert found is not None
    (header,) = assembled([found[1]]).headers

    assert decode_batch(header, b"".join(found[1].buffers), keep=False)[1] == carried


def test_the_memberships_of_a_plan_are_those_that_are_new() -> None:
    """What the log has already is not counted twice."""
    old, new = member_change(3, 1, 5), member_change(4, 1, 6)
    change = planned(state_of([*normal(1, 1, 1), old]), [old, new])

    assert change is not None
    assert change.memberships == memberships_in([new])


def test_a_plan_changes_nothing() -> None:
    """A decision can be taken and dropped: only `apply` changes the state."""
    state = state_of(TEN)
    before = (state.facts, state.log.runs)

    assert first_new(state, proposal(normal(4, 2))) == 4
    assert planned(state, normal(4, 2)) is not None
    assert (state.facts, state.log.runs) == before


# -- what can be said without the log ------------------------------------------------------------------------------


def many(count: int, size: int, last: int | None = None) -> Callable[[], object]:
    """A proposal of that many entries of that size (the last one of another), all of them the same bytes."""
    payloads = [bytes(size)] * (count - 1) + [bytes(size if last is None else last)]
    return lambda: propose(range(1, count + 1), [1] * count, bytes([EntryKind.NORMAL]) * count, payloads, ())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (many(1, MAX_ENTRY_BYTES + 1), "an entry of 67108865 bytes is above MAX_ENTRY_BYTES"),
        (many(MAX_ENTRIES_PER_FRAME + 1, 0), "1048577 entries in one call"),
        (many(2, MAX_ENTRY_BYTES + 1, 0), "an entry of 67108865 bytes is above MAX_ENTRY_BYTES"),
        (many(4, MAX_ENTRY_BYTES, MAX_ENTRY_BYTES - 59), "a call of 268435457 bytes is above MAX_FRAME_BODY"),
    ],
    ids=["entry", "entries", "an entry among others", "call"],
)
def test_what_is_too_large_is_refused(make: Callable[[], object], said: str) -> None:
    """An entry, a call of too many entries, and a call of too many bytes, before anything is written."""
    with pytest.raises(EntryTooLargeError, match=said):
        make()


def test_the_largest_that_is_allowed_is_allowed() -> None:
    """A limit is itself still within it."""
    many(1, MAX_ENTRY_BYTES)()
    many(MAX_ENTRIES_PER_FRAME, 0)()
    many(4, MAX_ENTRY_BYTES, MAX_ENTRY_BYTES - 60)()
    assert 4 * MAX_ENTRY_BYTES == MAX_FRAME_BODY


def test_the_last_index_of_all_is_out_of_reach() -> None:
    """An entry at 2**64 - 1 could have no successor."""
    with pytest.raises(UsageError, match="out of reach"):
        proposal(normal(U64_MAX, 1))
    with pytest.raises(UsageError, match="out of reach"):
        proposal(normal(U64_MAX - 1, 1, 1))


# -- hard state (SEMANTICS 9.1) ------------------------------------------------------------------------------------

VOTES = {
    "the same": (HardState(3, 1), HardState(3, 1), None),
    "nothing yet": (HardState(), HardState(), None),
    "a first vote": (HardState(3), HardState(3, 0), Vote(HardState(3, 0))),
    "a higher term": (HardState(3, 1), HardState(4), Vote(HardState(4))),
    "a higher term, another vote": (HardState(3, 1), HardState(5, 2), Vote(HardState(5, 2))),
    "a lower term": (HardState(3), HardState(2), "term 2 is below the saved term 3"),
    "a lower term, a vote": (HardState(3, 1), HardState(2, 1), "term 2 is below the saved term 3"),
    "another vote": (HardState(3, 1), HardState(3, 2), "given to node 1; it cannot become 2"),
    "a vote for 0 taken back": (HardState(3, 0), HardState(3), "given to node 0; it cannot become None"),
}


@pytest.mark.parametrize(("old", "new", "expected"), VOTES.values(), ids=VOTES)
def test_a_term_never_falls_and_a_vote_never_changes(
    old: HardState, new: HardState, expected: Vote | str | None
) -> None:
    """Within a term a vote is given once; a vote for node 0 is a vote."""
    state = state_of()
    state.apply(Vote(old))
    if isinstance(expected, str):
        with pytest.raises(HardStateRegressionError, match=expected):
            plan_hard_state(state, new)
    else:
        assert plan_hard_state(state, new) == expected
    assert state.facts.hard_state == old


def test_a_vote_is_replayed_as_it_was_given() -> None:
    """Its frame holds the hard state and the mark, and no base."""
    replay = Replay(NODE)
    replay.state = state_of(TEN)
    take(replay, encode_vote(HardState(4, 0), 7))

    assert (replay.state.facts.hard_state, replay.state.facts.mark) == (HardState(4, 0), 7)
