"""Replay of whole spans: what is taken together is as if it had been taken frame by frame, right or wrong."""

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from tests.log.drafts import close, entries, opening, replayed, snapshot, span_of, sync, truncate, vote
from tests.log.histories import NODE, Item, batch, items_of, normal, placed, record
from walstore._log.control import Base, BodyError
from walstore._log.draft import Draft
from walstore._log.frame import Flags, Kind
from walstore._log.replay import Replay
from walstore._log.scan import Span
from walstore._types import HardState
from walstore.errors import CorruptionError

ONES = [entries(*normal(index, 1)) for index in range(1, 6)]


def by_span(replay: Replay, *drafts: Draft, segment: int = 4) -> Replay:
    """Has the frames taken as one span."""
    span = span_of(*drafts)
    replay.take_span(span, span.headers, segment, keep=True, placed=placed)
    return replay


def test_entries_that_were_committed_one_by_one_become_one_run() -> None:
    """As long as index and term go on, and nothing else is said in between."""
    drafts = [
        *ONES, entries(*normal(6, 2)), entries(*normal(7, 2)), sync(3), entries(*normal(8, 2)),
        entries(Item(9, 2, None)), entries(*normal(10, 2)), entries(*normal(11, 2), mark=5), entries(*normal(12, 2, 2)),
    ]  # fmt: skip
    replay = by_span(Replay(NODE), opening(), *drafts)

    assert [run.count for run in replay.state.log.runs] == [5, 2, 1, 1, 1, 1, 2]
    assert {run.segment for run in replay.state.log.runs} == {4}
    assert (replay.frames, replay.entries) == (len(drafts) + 1, 13)
    assert items_of(replay.state.log.runs) == items_of(replayed(opening(), *drafts).state.log.runs)
    assert replay.state.facts.mark == 5


def test_single_entries_that_do_not_fit_are_taken_one_by_one() -> None:
    """So that the error is about the very frame that is wrong."""
    bad_table = attrs.evolve(ONES[2], buffers=(b"\x01\0\0\0", b"more than one"))
    below = [entries(*normal(6, 0)), entries(*normal(7, 0))]
    for before, drafts, number, error in (
        ([], [*ONES[:2], bad_table, *ONES[3:]], 3, BodyError),
        ([entries(*normal(1, 1, 1, 1))], ONES[1:], 1, ValueError),
        ([], [*ONES, *below], 6, ValueError),
    ):
        replay = replayed(opening(), *before)
        with pytest.raises(error) as caught:
            by_span(replay, *drafts)
        assert caught.value.__notes__ == [f"frame {number}"]


terms = st.lists(st.integers(1, 3), min_size=1, max_size=2).map(sorted)
blanks: st.SearchStrategy[list[Item]] = st.just([Item(1, 3, None)]) | st.just([])
small = st.integers(0, 9)
bases = st.builds(Base, small, small, st.integers(0, 3), st.just(value=False), st.none(), small) | st.builds(
    Base, small, small, st.integers(0, 3), st.booleans(), st.builds(record, small, st.integers(1, 3)), small
)


def some_entries(first: int, terms: list[int], blank: list[Item], mark: int | None, overwrite: bool) -> Draft:
    """An ENTRIES frame with a column of kinds or without."""
    few = [*normal(first, *terms), *(attrs.evolve(item, index=first + len(terms)) for item in blank)]
    return batch(few, mark=mark, overwrite=overwrite)[0]


hostile = st.one_of(
    st.builds(some_entries, st.integers(1, 9), terms, blanks, st.none() | small, st.booleans()),
    st.builds(opening, bases, mark=small),
    st.builds(vote, st.builds(HardState, small), small),
    st.builds(lambda start, more, mark: truncate(start, start + more, mark), small, st.integers(1, 9), small),
    st.builds(truncate, small, mark=small),
    st.builds(snapshot, small, st.integers(1, 3), small, st.integers(1, 3), keep=st.booleans(), mark=small),
    st.builds(sync, small),
    st.builds(close, small),
    st.just(Draft(Kind.CLOSE, (b"short",))),
)


def outcome(span: Span, *, together: bool) -> object:
    """What is known of the log after these frames, or which error there was."""
    replay = Replay(NODE)
    try:
        if together:
            replay.take_span(span, span.headers, 1, keep=True, placed=placed)
        else:
            for header in span.headers:
                with placed(header):
                    replay.take(header, span.body(header), 1, keep=False)
        state = replay.finish()
        log = items_of(state.log.runs)
    except (ValueError, CorruptionError) as error:
        return type(error), str(error), getattr(error, "__notes__", None)
    assert [item.index for item in log] == list(range(state.last_index + 1 - len(log), state.last_index + 1))
    assert [item.term for item in log] == sorted(item.term for item in log)
    assert state.snapshot_index <= state.facts.mark <= state.last_index
    assert state.first_index <= state.last_index
    return state.facts, log, replay.frames, replay.entries


@pytest.mark.parametrize(
    "other",
    [
        entries(Item(6, 1, b""), mark=8),  # the mark looks like the end of an entry of 8 bytes
        attrs.evolve(entries(*normal(6, 1, 1)), buffers=(b"\x08\0\0\0\x04\0\0\0", b"four")),  # so does a false end
        attrs.evolve(entries(Item(6, 1, b"ab")), flags=Flags.KINDS, buffers=(b"\x03\0\0\0\x01", b"ab")),
        attrs.evolve(ONES[0], first_index=6, buffers=(b"\0",)),  # no room for an end
        attrs.evolve(ONES[0], first_index=6, table_width=0),
        attrs.evolve(sync(1), first_index=6, term=1, buffers=(b"\x04\0\0\0\0\0\0\0",)),  # no entry at all
        entries(Item(6, 1, None)),
        entries(Item(6, 1, b"over"), overwrite=True),
    ],
    ids=["mark", "two entries", "kinds", "short", "no table", "sync", "blank", "overwrite"],
)
def test_a_frame_that_only_looks_like_a_single_entry_is_none(other: Draft) -> None:
    """Whatever its bytes, it is read as what its header says it is."""
    drafts = [opening(), *ONES, other]

    assert outcome(span_of(*drafts), together=True) == outcome(span_of(*drafts), together=False)


def fitting(drafts: list[Draft]) -> list[Draft]:
    """Those of the frames that replay takes, if the others are left out."""
    found: list[Draft] = []
    for draft in drafts:
        try:
            replayed(*found, draft)
        except (ValueError, CorruptionError):
            continue
        found.append(draft)
    return found


firsts = st.just(opening()) | st.builds(opening, bases, mark=small)


@settings(max_examples=max(300, settings().max_examples))
@given(firsts, st.lists(hostile | st.sampled_from(ONES), max_size=12), hostile)
def test_any_frames_are_a_state_or_an_error_of_ours(first: Draft, rest: list[Draft], last: Draft) -> None:
    """Whole frames that contradict each other raise ValueError or CorruptionError, one by one as in spans."""
    fit = fitting([first, *rest])
    for drafts in ([first, *rest], fit, [*fit, last]):
        span = span_of(*drafts)
        assert outcome(span, together=True) == outcome(span, together=False)
