"""The log in memory: runs of entries against plain lists."""

from array import array
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from tests.log.histories import Item, batch, items_of, log_of, normal, run_of
from walstore._log.batch import EntryKind
from walstore._log.runs import Log, Run
from walstore.errors import CorruptionError

payloads = st.lists(st.binary(max_size=6), min_size=1, max_size=8)
items = st.builds(
    lambda first, contents, terms: [
        Item(first + i, t, c) for i, (c, t) in enumerate(zip(contents, terms, strict=False))
    ],
    st.integers(1, 2**63),
    st.lists(st.none() | st.binary(max_size=6), min_size=1, max_size=8),
    st.lists(st.integers(0, 3), min_size=8, max_size=8).map(sorted),
)


# -- one run -------------------------------------------------------------------------------------------------------


@given(items, st.data())
def test_a_run_that_was_cut_holds_what_is_left(entries: list[Item], data: st.DataObject) -> None:
    """However often it is cut on either side, a run is the slice of the entries, and says its size."""
    run = run_of(entries, segment=5)
    low, high = 0, len(entries)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(low, high - 1))
        if data.draw(st.booleans()) and at > low:
            run, high = run.before(run.first + at - low), at
        else:
            run, low = run.since(run.first + at - low), at
        left = entries[low:high]
        assert items_of([run]) == left
        assert (run.first, run.stop, run.count) == (left[0].index, left[-1].index + 1, len(left))
        assert run.last_term == left[-1].term
        assert run.size == sum(len(item.payload) for item in left)
        assert run.segment == 5


@given(items, st.integers(1, 2**63 + 10))
def test_an_index_outside_of_a_run_is_an_index_error(entries: list[Item], index: int) -> None:
    """No index is believed: each way to ask refuses one that is not there."""
    run = run_of(entries)
    if run.first <= index < run.stop:
        index = run.stop
    for ask in (run.term_at, run.bytes_at, run.since, run.before, lambda index: run.kind_at(index, 1)):
        with pytest.raises(IndexError):
            ask(index)


def test_a_run_without_kinds_has_the_kind_that_is_asked_for() -> None:
    """`kind_at` gives the default where all entries are Normal, and the cell where there is a column."""
    assert run_of(normal(3, 1, 1)).kind_at(4, default=99) == 99
    assert run_of([*normal(3, 1), Item(4, 1, None)]).kind_at(4, default=99) == EntryKind.BLANK


def test_the_rest_of_a_run_is_copied_when_most_of_it_is_gone() -> None:
    """Where less than half of the payload is left, the old buffer is let go (PRODUCT P9); else it is shared."""
    entries = [Item(1 + i, 1 + i // 2, bytes([i]) * 10) for i in range(10)]
    run = run_of(entries)

    half, less = run.since(6), run.since(7)

    assert half.payload is run.payload
    assert len(less.payload) == 40
    assert (less.skip, less.base, list(less.ends)) == (0, 60, [70, 80, 90, 100])
    assert items_of([less]) == entries[6:]
    assert run_of([Item(1, 1, bytes(9)), Item(2, 1, b"x")]).since(2).payload == b"x"
    assert items_of([run]) == entries


def test_what_is_left_of_a_run_without_bytes_is_not_copied() -> None:
    """There is nothing to give back where all payloads are empty."""
    run = run_of([Item(1, 1, b""), Item(2, 1, b""), Item(3, 1, b"")])

    assert run.since(3).payload is run.payload
    assert items_of([run.since(3)]) == [Item(3, 1, b"")]


@pytest.mark.parametrize("ends", [[4, 2, 6], [9, 9, 6], [7, 6, 6], [0, 7, 6]])
def test_ends_that_fall_are_found_where_an_entry_is_cut_out(ends: list[int]) -> None:
    """Nobody walked the table at open, so each entry checks its own cell and the one before it."""
    run = Run(1, 3, 1, ends, b"abcdef")

    for index, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), 1):
        if start <= end <= 6:
            assert run.bytes_at(index) == b"abcdef"[start:end]
            continue
        with pytest.raises(CorruptionError, match="table of ends") as caught:
            run.bytes_at(index)
        assert (caught.value.index, caught.value.expected, caught.value.found) == (index, f"at least {start}", end)


def _asked(run: Run, index: int) -> bytes | type[CorruptionError]:
    try:
        return run.bytes_at(index)
    except CorruptionError:
        return CorruptionError


def test_a_cut_mends_no_end_beyond_the_payload() -> None:
    """Two ends that agree with each other, and lie beyond the bytes that are there, are no empty entry."""
    run = Run(1, 4, 1, [5, 35, 35, 10], bytes(10))

    for cut in (run.since(3), run.before(4).since(3), run.since(2).since(3)):
        with pytest.raises(CorruptionError):
            cut.bytes_at(3)


def test_no_table_of_ends_is_mended_by_a_cut() -> None:
    """Every table of four ends around the payload, and every pair of cuts: each entry is what it was."""
    for ends in product((0, 6, 8, 9, 10, 11), repeat=4):
        run = Run(1, 4, 1, ends, b"0123456789")
        expected = {index: _asked(run, index) for index in range(1, 5)}
        for low, high, again in ((2, 5, 3), (3, 5, 4), (2, 4, 3), (3, 4, 3), (4, 5, 4)):
            shorter = run.before(high) if high < run.stop else run
            for part in (shorter.since(low), shorter.since(low).since(again)):
                assert {index: _asked(part, index) for index in range(part.first, part.stop)} == {
                    index: expected[index] for index in range(part.first, part.stop)
                }, (ends, low, high, again)


@given(st.lists(st.integers(0, 40), min_size=2, max_size=6), st.integers(0, 30), st.data())
def test_a_cut_mends_no_falling_end(ends: list[int], size: int, data: st.DataObject) -> None:
    """An entry that was damaged stays so and the others stay what they are, whatever is cut away beside them."""
    run = Run(1, len(ends), 1, array("I", ends), bytes(range(size)))
    expected = {index: _asked(run, index) for index in range(run.first, run.stop)}
    for _ in range(3):
        bad = [index for index in range(run.first, run.stop) if expected[index] is CorruptionError]
        if bad:
            with pytest.raises(CorruptionError) as caught:
                run.check_ends()
            assert caught.value.index == bad[0]
        else:
            run.check_ends()
        at = data.draw(st.integers(run.first, run.stop - 1))
        run = run.before(at) if at > run.first and data.draw(st.booleans()) else run.since(at)
        assert {index: _asked(run, index) for index in range(run.first, run.stop)} == {
            index: expected[index] for index in range(run.first, run.stop)
        }


# -- the log -------------------------------------------------------------------------------------------------------


class ListLog:
    """The model: a list of entries, the first of which has index `first`."""

    def __init__(self) -> None:
        self.entries: list[Item] = []

    def holds(self, index: int) -> bool:
        """Whether one of the entries has that index."""
        return any(item.index == index for item in self.entries)

    def apply(self, name: str, argument: Any) -> None:
        """The same call as to the log."""
        if name == "append":
            self.entries = self.entries + argument
        elif name == "cut":
            self.entries = [item for item in self.entries if item.index < argument]
        else:
            self.entries = [item for item in self.entries if item.index >= argument]


def _same(log: Log, model: ListLog) -> None:
    entries = model.entries
    assert items_of(log.runs) == entries
    assert bool(log) == bool(entries)
    if entries:
        assert (log.first, log.stop, log.last_term) == (entries[0].index, entries[-1].index + 1, entries[-1].term)
        assert log.first_segment == min(run.segment for run in log.runs)
    for index in range(14):
        assert log.holds(index) == model.holds(index)
        if log.holds(index):
            run = log.run_at(index)
            assert run.first <= index < run.stop
            assert Item(index, run.term_at(index), run.bytes_at(index)) in entries


steps = st.lists(
    st.tuples(st.just("append"), st.integers(1, 3), st.integers(0, 2))
    | st.tuples(st.sampled_from(["cut", "drop"]), st.integers(0, 13), st.just(0)),
    max_size=12,
)


@given(st.integers(1, 4), steps)
def test_a_log_is_a_list(first: int, steps: list[tuple[str, int, int]]) -> None:
    """Appended, cut and dropped in any order it holds what a list holds; taken back in reverse it was never touched."""
    log, model = Log(), ListLog()
    history = []
    for segment, (name, number, term) in enumerate(steps, 1):
        before = (log.runs, list(model.entries))
        if name == "append":
            start = model.entries[-1].index + 1 if model.entries else first
            argument: Any = normal(start, *[term] * number)
            undo = log.append(run_of(argument, segment))
        else:
            argument = number
            undo = log.cut(number) if name == "cut" else log.drop(number)
        model.apply(name, argument)
        _same(log, model)
        history.append((undo, before))
    for undo, (runs, entries) in reversed(history):
        log.undo(undo)
        assert log.runs == runs
        model.entries = entries
        _same(log, model)


@given(st.lists(st.integers(1, 3), max_size=4), st.integers(0, 14), st.integers(0, 14))
@example(counts=[3], start=4, stop=4)
@example(counts=[1, 3, 1], start=6, stop=5)
@example(counts=[2], start=5, stop=9)
def test_between_is_what_meets_a_range(counts: list[int], start: int, stop: int) -> None:
    """`between` gives the runs with an entry in [start, stop), in order, and no others."""
    log, index = Log(), 3
    for segment, count in enumerate(counts, 1):
        log.append(run_of(normal(index, *[1] * count), segment))
        index += count

    expected = [run for run in log.runs if set(range(start, stop)) & set(range(run.first, run.stop))]

    assert list(log.between(start, stop)) == expected


def test_a_run_that_does_not_follow_is_refused() -> None:
    """A log has no hole and no overlap, and is as it was after a refusal."""
    log = log_of(normal(4, 1, 1))
    for first in (1, 4, 5, 7):
        with pytest.raises(ValueError, match=f"index {first} does not follow index 5"):
            log.append(run_of(normal(first, 1)))
    assert items_of(log.runs) == normal(4, 1, 1)


def test_a_cut_run_keeps_the_segment_it_lies_in() -> None:
    """The oldest segment that is needed is the one of the first run, however much of that was cut away."""
    log = log_of(normal(1, 1, 1, 1), normal(4, 1, 1, 1))

    log.drop(3)
    assert log.first_segment == 1
    log.drop(5)
    assert log.first_segment == 2
    log.cut(6)
    assert [(run.first, run.stop, run.segment) for run in log.runs] == [(5, 6, 2)]


def test_a_run_that_was_cut_before_it_was_written_knows_where_it_is_stored() -> None:
    """Segment 0 means "not yet"; once the frame is written, all that was cut from it learns of it."""
    run = batch(normal(1, 1, 1, 1, 1))[1]
    log = Log()
    log.append(run)
    log.cut(4)
    log.drop(3)
    assert log.first_segment == 0

    run.segment = 7

    assert [(left.first, left.stop, left.segment) for left in log.runs] == [(3, 4, 7)]
