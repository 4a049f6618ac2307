"""What a store does live and what an open makes of its bytes are the same (the pair of `plan` and `replay`)."""

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from tests.log.histories import Item, items_of, member_change, normal, record
from tests.log.live import Live
from walstore._log.plan import Received
from walstore._log.state import LogState
from walstore._types import HardState, MembershipConfig
from walstore.errors import UsageError, WalstoreError


def picture(state: LogState, *, marks: bool = True) -> dict[str, object]:
    """All that a state says; without the mark, if it may differ."""
    facts = state.facts if marks else attrs.evolve(state.facts, mark=0)
    return {
        "facts": facts,
        "entries": items_of(state.log.runs),
        "segments": [state.log.run_at(item.index).segment for item in items_of(state.log.runs)],
        "ends": (state.first_index, state.last_index, state.last_term, state.first_needed),
        "memberships": [state.membership_at(index) for index in range(state.last_index + 2)],
    }


contents = st.sampled_from([b"", b"x", b"yy" * 40, None]) | st.builds(MembershipConfig, st.sets(st.integers(1, 4)))
calls = st.one_of(
    st.tuples(
        st.just("append"),
        st.integers(-4, 1),
        st.integers(0, 1),
        st.lists(contents, min_size=1, max_size=4),
        st.booleans(),
    ),
    st.tuples(st.just("append"), st.just(0), st.just(0), st.just([b"one"]), st.just(value=False)),
    st.tuples(st.just("resend"), st.integers(0, 5), st.integers(0, 5), st.lists(contents, max_size=2)),
    st.tuples(st.just("vote"), st.integers(0, 1), st.none() | st.integers(0, 2)),
    st.tuples(st.just("delete"), st.integers(-1, 5), st.none() | st.integers(0, 6)),
    st.tuples(st.just("apply"), st.integers(1, 4)),
    st.tuples(st.just("apply"), st.integers(1, 4)),
    st.tuples(st.just("compact")),
    st.tuples(st.just("install"), st.integers(-4, 3), st.integers(0, 1), st.none() | st.integers(-2, 0)),
    st.tuples(st.sampled_from(["sync", "flush", "rotate"])),
    st.tuples(st.sampled_from(["rotate", "close"])),
)


def call(live: Live, name: str, *arguments: Any) -> None:
    """One random call, made to fit the store as it is just so far that it is often accepted."""
    state = live.state
    match name:
        case "append":
            shift, bump, few, carry = arguments
            first = max(state.last_index + shift, 0) + 1
            term = (state.term_of(first - 1) or state.last_term) + bump
            live.append([Item(first + i, term, content) for i, content in enumerate(few)], carry=carry)
        case "resend":
            back, bump, few = arguments
            again = items_of(state.log.runs)[-1 - back :]
            news = [Item(state.last_index + 1 + i, state.last_term + bump, content) for i, content in enumerate(few)]
            if again or news:
                live.append(again + news)
        case "vote":
            bump, vote = arguments
            live.vote(HardState(state.facts.hard_state.current_term + bump, vote))
        case "delete":
            shift, stop = arguments
            low = max(state.last_index - 3 if stop is None else state.first_index, 0)
            live.delete(max(low + shift, 0), None if stop is None else low + stop)
        case "apply":
            index = min(max(live.last_applied, state.first_index - 1) + arguments[0], state.last_index)
            if index > live.last_applied:
                live.apply(index)
        case "install":
            shift, bump, through = arguments
            index = max(state.last_index + shift, 1)
            term = (state.term_of(index) or state.last_term) + bump
            through = None if through is None else max(index + through, 0)
            live.install(record(index, term, [shift + 9], index), through)
        case _:
            getattr(live, name)()


@given(st.lists(calls, min_size=5, max_size=40), st.sampled_from([64, 256]), st.booleans())
@settings(max_examples=max(300, settings().max_examples))
def test_replay_of_what_was_written_is_the_state_that_was_live(
    history: list[tuple[Any, ...]], align: int, keep: bool
) -> None:
    """Any calls, over any rotations, closes and segments left out: hard state, log, snapshot, pointer, memberships.

    The mark is as it is in memory once a frame has carried it, and never above that before.
    """
    live = Live(align)
    for name, *arguments in history:
        before = picture(live.state)
        try:
            call(live, name, *arguments)
        except WalstoreError:
            assert picture(live.state) == before
    live.flush()
    found = live.recovered(keep=keep, spans=not keep)
    assert picture(found, marks=False) == picture(live.state, marks=False)
    assert found.facts.mark <= live.state.facts.mark

    live.sync()
    live.flush()
    assert picture(live.recovered(keep=keep)) == picture(live.recovered(spans=False)) == picture(live.state)


@given(st.lists(calls, min_size=3, max_size=20))
def test_a_reopened_store_goes_on_as_if_it_had_never_closed(history: list[tuple[Any, ...]]) -> None:
    """The replayed state plans what the live one would: after a close, both say the same of each further call."""
    live = Live()
    for name, *arguments in history:
        try:
            call(live, name, *arguments)
        except WalstoreError:
            continue
    live.close()
    again = live.recovered()
    assert picture(again) == picture(live.state)
    live.state = again
    for name, *arguments in (("append", 0, 1, [b"new"], True), ("append", -1, 1, [b"newer"], True), ("sync",)):
        try:
            call(live, str(name), *arguments)
        except UsageError:
            continue
    live.flush()
    assert picture(live.recovered()) == picture(live.state)


# -- PROTOCOL A1: replay repeats decisions, it takes none ----------------------------------------------------------


def two_segments(last: int = 8) -> Live:
    """Entries 1 to `last` in segment 1, the four after them in segment 2, all applied."""
    live = Live()
    live.append(normal(1, *[1] * last))
    live.rotate()
    live.append(normal(last + 1, 1, 2, 2, 2))
    live.apply(last + 4)
    live.rotate()
    return live


def test_a1_the_suffix_is_kept_though_the_segment_of_the_entry_is_gone() -> None:
    """The frame says that the suffix stays; the entry that would say whether the terms agree is in no file any more.

    Replay that evaluated it again would find nothing at index 8 and drop the acknowledged entries 9 to 12.
    """
    live = two_segments()
    live.install(record(8, 1), 8)
    live.flush()
    del live.segments[1]

    found = live.recovered()

    assert [segment.sequence for segment, _ in live.chain()] == [2, 3]
    assert items_of(found.log.runs) == normal(9, 1, 2, 2, 2)
    assert picture(found) == picture(live.state)


def test_a1_the_suffix_is_dropped_though_the_terms_agree() -> None:
    """The frame says that the suffix goes (delete_through was None); the entry is there, with the snapshot's term."""
    live = two_segments()
    live.install(record(10, 2), None)
    live.flush()

    found = live.recovered()

    assert items_of(found.log.runs) == []
    assert picture(found) == picture(live.state)


def test_a1_a_base_may_name_entries_that_a_later_frame_covers() -> None:
    """Segment 2 begins on entries 1 to 8, which only a TRUNCATE two segments later makes superfluous."""
    live = two_segments()
    live.last_applied = 0  # so that the prefix may go without a snapshot
    live.delete(0, 9)
    live.flush()
    del live.segments[1]

    assert items_of(live.recovered().log.runs) == normal(9, 1, 2, 2, 2)


# -- PROTOCOL A7: the effective mark -------------------------------------------------------------------------------


def marks(live: Live) -> tuple[int, int]:
    """The mark live, and as an open finds it."""
    live.flush()
    return live.state.facts.mark, live.recovered().facts.mark


Call: TypeAlias = Callable[[Live], object]
ABOVE: dict[str, tuple[list[Call], int]] = {
    "a suffix deleted": ([lambda live: live.delete(6, None)], 5),
    "a suffix above the mark deleted": ([lambda live: live.delete(10, None)], 8),
    "a suffix replaced": ([lambda live: live.append(normal(4, *[3] * 8))], 3),
    "deleted and appended again": (
        [lambda live: live.delete(6, None), lambda live: live.append(normal(6, *[1] * 9))], 5,
    ),
    "replaced twice": ([lambda live: live.append(normal(5, 3)), lambda live: live.append(normal(3, 4, 4, 4))], 2),
    "replaced, then higher": (
        [lambda live: live.append(normal(3, 4, 4, 4)), lambda live: live.append(normal(6, *[4] * 9))], 2,
    ),
    "all deleted": ([lambda live: live.delete(0, None)], 0),
}  # fmt: skip


@pytest.mark.parametrize(("calls", "expected"), ABOVE.values(), ids=ABOVE)
def test_a7_the_mark_falls_with_what_it_stood_on(calls: list[Call], expected: int) -> None:
    """min(mark, start - 1) over every later TRUNCATE and OVERWRITE: entries that came later were not applied.

    Replay up to the mark as it was written would hand the machine entries of another history.
    """
    live = Live()
    live.append(normal(1, *[1] * 12))
    live.apply(8)
    live.sync()
    for make in calls:
        make(live)

    assert marks(live) == (expected, expected)


def test_a7_an_overwrite_carries_the_mark_as_it_is_after_it() -> None:
    """The mark that travels in the very frame which lowers it is the lowered one."""
    live = Live()
    live.append(normal(1, *[1] * 12))
    live.apply(8)
    live.append(normal(4, 3))

    assert marks(live) == (3, 3)


def test_a7_a_mark_in_no_frame_is_forgotten_by_a_crash() -> None:
    """It lives in memory until the next frame, of any kind, carries it (A9)."""
    for carry in ("sync", "vote", "append", "delete", "close"):
        live = Live()
        live.append(normal(1, *[1] * 12))
        live.apply(8)
        assert marks(live) == (8, 0)
        match carry:
            case "vote":
                live.vote(HardState(3))
            case "append":
                live.append(normal(13, 1))
            case "delete":
                live.delete(12, None)
            case _:
                getattr(live, carry)()
        assert marks(live) == (8, 8), carry


def test_a7_the_mark_never_falls_below_the_snapshot() -> None:
    """Deleting all that follows a snapshot, its pointer too, leaves what the snapshot itself brings."""
    live = Live()
    live.append(normal(1, *[1] * 12))
    live.apply(8)
    live.compact()
    live.apply(11)
    live.delete(0, None)

    assert marks(live) == (8, 8)


def test_a_received_snapshot_that_is_adopted_keeps_the_mark() -> None:
    """As if it had been compacted at that index and then applied further (SEMANTICS 10.3)."""
    live = Live()
    live.append([*normal(1, 1, 1), member_change(3, 1, 5), *normal(4, *[1] * 6)])
    live.apply(8)
    assert live.install(record(5, 1), 5) is Received.ADOPT

    assert marks(live) == (8, 8)
    assert picture(live.recovered()) == picture(live.state)
