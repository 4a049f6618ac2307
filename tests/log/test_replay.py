"""Replay: frames become the state again, and frames that make no sense together become an error."""

from collections.abc import Sequence

import attrs
import pytest

from tests.log.drafts import EMPTY, VOTE, close, entries, opening, replayed, snapshot, sync, truncate, vote
from tests.log.histories import frames, items_of, member_change, normal, record, take
from walstore._log.control import Base, BodyError, SnapshotBody, TruncateBody
from walstore._log.draft import Draft
from walstore._log.frame import IGNORABLE, Kind
from walstore._log.replay import first_needed_of
from walstore._types import U64_MAX, HardState
from walstore.errors import InvertedLogError

# -- frames that fit -----------------------------------------------------------------------------------------------


def test_each_kind_of_frame_does_what_it_says() -> None:
    """One after another: state, entries, vote, overwrite, deletion, snapshot, marks."""
    replay = replayed(opening())
    assert (replay.state.facts.hard_state, replay.state.last_index) == (VOTE, 0)
    take(replay, entries(*normal(1, 1, 1), member_change(3, 1, 5)), entries(*normal(4, 2, 2), mark=3))
    assert items_of(replay.state.log.runs) == [*normal(1, 1, 1), member_change(3, 1, 5), *normal(4, 2, 2)]
    assert replay.state.facts.mark == 3
    assert replay.state.membership.members == {5}
    take(replay, vote(HardState(5, 0), mark=4), entries(*normal(5, 3), overwrite=True))
    assert (replay.state.facts.hard_state, replay.state.last_term, replay.state.facts.mark) == (HardState(5, 0), 3, 4)
    take(replay, truncate(5, mark=2))
    assert (replay.state.last_index, replay.state.facts.mark) == (4, 2)
    take(replay, snapshot(2, 1, 4, 2, mark=3), sync(4))
    assert (replay.state.first_index, replay.state.facts.mark) == (2, 4)
    take(replay, close(3))
    assert replay.finish().facts.mark == 3
    assert (replay.frames, replay.entries) == (9, 6)


@pytest.mark.parametrize("keep", [True, False])
def test_entries_are_in_the_segment_that_was_replayed(keep: bool) -> None:
    """So that the oldest segment with a live entry is known, whether they are views or copies."""
    replay = replayed(opening())
    take(replay, entries(*normal(1, 1, 1)), segment=3, keep=keep)
    take(replay, entries(*normal(3, 1)), segment=5, keep=keep)

    assert replay.state.first_needed == 3
    assert [run.segment for run in replay.state.log.runs] == [3, 5]
    assert isinstance(replay.state.log.runs[0].payload, memoryview) is keep


def test_a_frame_of_a_future_kind_is_passed_over() -> None:
    """If its ignorable bit is set it does nothing and is not counted; a SEAL does nothing either."""
    replay = replayed(opening(), Draft(IGNORABLE | 0x11, (b"of the future",)), Draft(Kind.SEAL, (b"a footer",)))

    assert replay.frames == 2
    assert replay.finish().last_index == 0


def test_the_oldest_segment_needed_is_what_the_control_frames_say() -> None:
    """STATE with a base, TRUNCATE and SNAPSHOT say it, nothing else does (PROTOCOL A6)."""
    base = attrs.evolve(EMPTY, first_needed=6)
    body = SnapshotBody(record(1, 1), 1, 1, 1, True, 1, 8)
    drafts = [
        opening(base), vote(VOTE), entries(*normal(1, 1)), sync(0), close(0), truncate(1),
        Draft(Kind.TRUNCATE, (TruncateBody(1, 2, 0, 7).encode(),)), Draft(Kind.SNAPSHOT, (body.encode(),)),
    ]  # fmt: skip

    assert [first_needed_of(header, body) for header, body in frames(*drafts)] == [
        6, None, None, None, None, 1, 7, 8,
    ]  # fmt: skip


# -- a later segment's opening -------------------------------------------------------------------------------------

LOG = (opening(), entries(*normal(1, 1, 1, 2, 2)))
SNAP = record(2, 1)


@pytest.mark.parametrize(
    ("base", "left"),
    [
        (Base(1, 4, 2, False, None, 1), [1, 2, 3, 4]),
        (Base(1, 3, 2, False, None, 1), [1, 2, 3]),  # a segment that deleted a suffix was left out
        (Base(3, 4, 2, False, None, 1), [3, 4]),  # one that deleted a prefix
        (Base(2, 4, 2, True, SNAP, 1), [3, 4]),  # one that took a snapshot
        (Base(2, 2, 1, True, SNAP, 1), []),  # one that took it for all there was
        (Base(0, 2, 1, False, SNAP, 1), []),  # and then deleted its pointer
        (Base(4, 4, 2, False, SNAP, 1), [4]),  # one that deleted more than the snapshot covers
        (Base(0, 0, 0, False, None, 1), []),  # one that deleted all
    ],
    ids=repr,
)
def test_a_segment_that_was_left_out_is_in_the_opening_of_the_next(base: Base, left: list[int]) -> None:
    """What it did to entries, votes, marks and snapshot is taken over from there."""
    mark = min(2, base.last_index)
    replay = replayed(*LOG, opening(base, mark=mark, hard_state=HardState(9, 9)))
    state = replay.finish()

    assert [item.index for item in items_of(state.log.runs)] == left
    assert (state.last_index, state.last_term) == (base.last_index, base.last_term)
    assert (state.facts.pointer, state.facts.snapshot) == (base.pointer, base.snapshot)
    assert (state.facts.hard_state, state.facts.mark) == (HardState(9, 9), mark)
    take(replay, entries(*normal(base.last_index + 1, 3)))
    assert replay.state.last_index == base.last_index + 1


@pytest.mark.parametrize(
    "base",
    [
        Base(1, 5, 2, False, None, 1),
        Base(1, 4, 1, False, None, 1),
        Base(1, 4, 3, False, None, 1),
        Base(5, 5, 2, False, None, 1),
        Base(0, 3, 2, False, None, 1),
    ],
    ids=repr,
)
def test_an_opening_that_does_not_agree_with_what_was_replayed_is_refused(base: Base) -> None:
    """Entries that no segment holds, or that end with another term: something is missing or wrong."""
    with pytest.raises(ValueError, match="the segment's opening says"):
        replayed(*LOG, opening(base))


@pytest.mark.parametrize(
    "base",
    [Base(0, 7, 1, False, None, 1), Base(9, 7, 1, False, None, 1), Base(0, 0, 3, False, None, 1)],
    ids=repr,
)
def test_an_opening_that_does_not_agree_with_itself_is_refused(base: Base) -> None:
    """A log that ends somewhere and begins nowhere would be a shorter log in silence."""
    with pytest.raises(ValueError, match="the log ends at index 0"):
        replayed(opening(base))


# -- PROTOCOL A1: what segments that are gone leave open -----------------------------------------------------------

UPPER = (opening(Base(1, 8, 3, False, None, 2), mark=8), entries(*normal(9, 3, 4)))
"""A segment whose entries 1 to 8 are in segments that are not there."""


def test_a1_a_kept_suffix_is_kept_without_the_entry_that_decided_it() -> None:
    """The SNAPSHOT frame at 8 says "kept"; index 8 is in a missing segment, so that no term can be compared."""
    replay = replayed(*UPPER)
    assert replay.state.facts.hollow == (1, 9, 3)
    assert replay.state.term_of(8) is None

    state = take(replay, snapshot(8, 3, 10, 4, mark=8)).finish()

    assert state.facts.hollow is None
    assert items_of(state.log.runs) == normal(9, 3, 4)
    assert (state.first_index, state.facts.mark) == (8, 8)


def test_a1_a_dropped_suffix_is_dropped_although_the_terms_agree() -> None:
    """The SNAPSHOT frame says "not kept": that index 9 is there with the same term decides nothing."""
    state = take(replayed(*UPPER), snapshot(9, 3, 9, 3, keep=False, mark=9)).finish()

    assert (items_of(state.log.runs), state.first_index, state.last_index) == ([], 9, 9)


@pytest.mark.parametrize(
    "covers",
    [
        (truncate(1, 9, mark=8),), (truncate(1),), (entries(*normal(1, 5), overwrite=True),),
        (truncate(5), snapshot(6, 4, 6, 4, keep=False)), (truncate(1, 5, mark=8), truncate(5)),
        (entries(*normal(4, 5), overwrite=True), snapshot(4, 5, 4, 5)),
    ],
)  # fmt: skip
def test_a1_any_frame_may_cover_what_is_missing(covers: Sequence[Draft]) -> None:
    """A deletion, a replacement or a snapshot, in one step or in several."""
    assert take(replayed(*UPPER), *covers).finish().facts.hollow is None


@pytest.mark.parametrize(
    ("covers", "missing"),
    [
        ((), r"\[1, 9\)"), ((snapshot(7, 3, 10, 4),), r"\[8, 9\)"), ((truncate(1, 8, mark=8),), r"\[8, 9\)"),
        ((truncate(3),), r"\[1, 3\)"), ((entries(*normal(4, 5), overwrite=True),), r"\[1, 4\)"),
    ],
)  # fmt: skip
def test_a1_what_no_frame_covers_is_missing(covers: Sequence[Draft], missing: str) -> None:
    """A log with a hole is an error, never a shorter log in silence."""
    with pytest.raises(ValueError, match=missing):
        take(replayed(*UPPER), *covers).finish()


def test_a1_a_term_that_is_in_no_file_any_more_is_not_judged_by() -> None:
    """Of what is left of a missing segment only the index is known: its term may be lower than the base says."""
    replay = take(replayed(*UPPER), truncate(5), entries(*normal(5, 2)), snapshot(4, 2, 5, 2))
    assert replay.finish().last_term == 2
    base = Base(2, 8, 3, True, SNAP, 2)
    state = replayed(opening(base, mark=2), truncate(5, mark=2), opening(Base(2, 4, 2, True, SNAP, 2), mark=2)).state
    assert (state.facts.hollow, state.last_index) == ((3, 5, 0), 4)
    with pytest.raises(ValueError, match="term 2 at index 9 is below the term before it, 3"):  # while it is known
        replayed(UPPER[0], entries(*normal(9, 2)))
    with pytest.raises(InvertedLogError, match="ends at index 9 and term 0"):  # a term of 0 that is known is one
        replayed(opening(Base(1, 8, 0, False, None, 2)), entries(*normal(9, 0)), snapshot(8, 0, 9, 1))
    late = opening(Base(1, 4, 2, False, None, 2))
    assert take(replayed(*UPPER), truncate(5), late).state.last_index == 4
    with pytest.raises(ValueError, match="ends at index 4"):
        take(replayed(*UPPER), truncate(5), opening(Base(1, 5, 2, False, None, 2)))


# -- PROTOCOL A7: the effective mark -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ((truncate(3, mark=2),), 2),
        ((truncate(3, mark=9),), 2),  # whatever the frame claims
        ((entries(*normal(3, 5, 5, 5), overwrite=True),), 2),
        ((entries(*normal(3, 5, 5, 5), mark=2, overwrite=True),), 2),
        ((truncate(3, mark=2), entries(*normal(3, *[5] * 9))), 2),
        ((truncate(3, mark=2), entries(*normal(3, *[5] * 9)), vote(HardState(6), mark=2)), 2),
        ((truncate(3, mark=2), entries(*normal(3, 5, 5)), entries(*normal(5, 5), mark=4)), 4),
        ((entries(*normal(5, 5)), sync(4)), 4),
    ],
)
def test_a7_the_mark_is_that_of_the_entries_that_are_there(later: Sequence[Draft], expected: int) -> None:
    """min(mark, start - 1) over every later TRUNCATE and OVERWRITE; entries that came after them were not applied."""
    replay = replayed(opening(), entries(*normal(1, 1, 1, 2, 2)), sync(4))
    assert replay.state.facts.mark == 4

    assert take(replay, *later).finish().facts.mark == expected


def test_a7_a_mark_above_the_log_is_an_error() -> None:
    """An opening or a snapshot that claims more was applied than there is: entries are missing (evidence E5)."""
    for replay in (replayed(opening(mark=1)), replayed(*LOG, snapshot(2, 1, 4, 2, mark=5))):
        with pytest.raises(ValueError, match="was applied up to index"):
            replay.finish()
    assert replayed(opening(mark=4), entries(*normal(1, 1, 1, 1, 1))).finish().facts.mark == 4


# -- frames that make no sense -------------------------------------------------------------------------------------

SENSELESS = {
    "a gap": (entries(*normal(6, 2)), ValueError, "do not follow index 4"),
    "backwards without the flag": (entries(*normal(3, 2)), ValueError, "do not follow index 4"),
    "an overwrite of nothing": (entries(*normal(5, 2), overwrite=True), ValueError, "replace nothing"),
    "terms that fall": (entries(*normal(5, 1)), ValueError, "term 1 at index 5 is below the term before it, 2"),
    "an overwrite whose terms fall": (
        entries(*normal(4, 1), overwrite=True), ValueError, "term 1 at index 4 is below the term before it, 2",
    ),
    "a base in the middle": (vote(VOTE, base=EMPTY), BodyError, "opens no segment"),
    "a later opening without a base": (opening(None), BodyError, "has no base"),
    "entries without a table": (
        attrs.evolve(entries(*normal(5, 2)), table_width=0), BodyError, "table_width 0",
    ),
    "a table that is too long": (attrs.evolve(entries(*normal(5, 2)), count=9), BodyError, "tables need 36"),
    "a vote with entries": (attrs.evolve(vote(VOTE), count=1), BodyError, "STATE with 1 entries"),
    "ends beyond the payload": (
        attrs.evolve(entries(*normal(5, 2)), buffers=(b"\x09\0\0\0abc",)), BodyError, "9 payload bytes",
    ),
    "a state cut short": (Draft(Kind.STATE, (b"\0" * 9,)), BodyError, "needed"),
    "a truncation cut short": (Draft(Kind.TRUNCATE, (b"\0" * 9,)), BodyError, "needed"),
    "a snapshot cut short": (Draft(Kind.SNAPSHOT, (b"\0" * 9,)), BodyError, "needed"),
    "a sync too long": (Draft(Kind.SYNC, (b"\0" * 9,)), BodyError, "left over"),
    "a close cut short": (Draft(Kind.CLOSE, (b"\0" * 7,)), BodyError, "needed"),
    "a snapshot that ends elsewhere": (snapshot(2, 1, 5, 2), InvertedLogError, "its frame says index 5 and term 2"),
    "a snapshot that ends in another term": (snapshot(2, 1, 4, 3), InvertedLogError, "its frame says index 4 and"),
    "a snapshot above the log": (snapshot(4, 3, 4, 2), InvertedLogError, "after the snapshot"),
    "a snapshot of a later term": (snapshot(2, 3, 4, 2), InvertedLogError, "contradicts the snapshot at index 2"),
    "a base below its snapshot": (opening(Base(1, 1, 1, False, SNAP, 1)), InvertedLogError, "ends at index 1"),
    "a base whose snapshot has another term": (
        opening(Base(1, 4, 2, False, record(2, 2), 1)), InvertedLogError, "at index 2 and term 2",
    ),
}  # fmt: skip


def test_an_inverted_log_says_where() -> None:
    """Index, and the terms that do not agree, for the message and for whoever handles it."""
    with pytest.raises(InvertedLogError) as caught:
        replayed(*LOG, opening(Base(1, 4, 2, False, record(2, 2), 1)))
    assert (caught.value.index, caught.value.expected, caught.value.found) == (2, "term 2", "term 1")
    with pytest.raises(InvertedLogError) as caught:
        replayed(*LOG, snapshot(2, 1, 5, 2))
    assert caught.value.index == 2


@pytest.mark.parametrize(("draft", "error", "said"), SENSELESS.values(), ids=SENSELESS)
def test_a_whole_frame_that_makes_no_sense_is_an_error(draft: Draft, error: type[Exception], said: str) -> None:
    """Only damage or a bug brings it about, and nothing is guessed."""
    with pytest.raises(error, match=said) as caught:
        replayed(*LOG, draft)
    assert type(caught.value) is error


def test_the_last_index_of_all_ends_no_log() -> None:
    """Nothing could follow it, so no store lets it in: an open must not come to compute the one after it."""
    with pytest.raises(ValueError, match=r"2\*\*64 - 1"):
        replayed(opening(), entries(*normal(U64_MAX, 1)))
    assert replayed(opening(), entries(*normal(U64_MAX - 1, 1))).state.last_index == U64_MAX - 1


def test_a_segment_that_opens_without_a_base_is_refused() -> None:
    """The first one has nothing else to say where the log begins."""
    with pytest.raises(BodyError, match="has no base"):
        replayed(opening(None))
