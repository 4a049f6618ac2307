"""The key-value machine beside a dict: answers, reading, and views that stay what they were."""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import pytest
from hypothesis import given, strategies as st

from walstore.kv import (
    CHUNK_BYTES,
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    Answer,
    Command,
    CompareAndSet,
    Delete,
    KeyValue,
    KeyValueView,
    Put,
    Swapped,
)

KEYS = [b"", b"a", b"b", b"c", b"dd", b"eee", b"ffff"]
VALUES = st.sampled_from([b"", b"1", b"2", b"333"])
KEY = st.sampled_from(KEYS)
OPTIONAL = st.none() | VALUES
COMMANDS = st.one_of(
    st.builds(Put, KEY, VALUES),
    st.builds(Put, KEY, VALUES),
    st.builds(Delete, KEY),
    st.builds(CompareAndSet, KEY, OPTIONAL, OPTIONAL),
)
Step: TypeAlias = Command | str | int
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(COMMANDS, COMMANDS, COMMANDS, st.just("capture"), st.integers(0, 3)), max_size=80
)
"""A command, a capture, or the close of the n-th open view."""


class SlowlyMerging(KeyValue):
    """One key an apply, so that merges are under way most of the time."""

    __slots__ = ()
    merge_slice = 1


class NeverFinished(KeyValue):
    """No key an apply: overlays pile up."""

    __slots__ = ()
    merge_slice = 0


def model_apply(model: dict[bytes, bytes], command: Command) -> Answer:
    """What a command does to a dict, and its answer."""
    previous = model.get(command.key)
    if isinstance(command, CompareAndSet) and previous != command.expected:
        return Swapped(False, previous)
    value = None if isinstance(command, Delete) else command.value
    if value is None:
        model.pop(command.key, None)
    else:
        model[command.key] = value
    return Swapped(True, previous) if isinstance(command, CompareAndSet) else previous


def restored(view: KeyValueView) -> KeyValue:
    """A fresh machine that took the bytes of the view."""
    machine = KeyValue()
    machine.restore(view.chunks())
    return machine


def check_reads(machine: KeyValue, model: dict[bytes, bytes]) -> None:
    """Every way of reading agrees with the dict."""
    assert len(machine) == len(model)
    assert sorted(machine) == sorted(model)
    assert dict(machine.items()) == model
    assert sorted(machine.values()) == sorted(model.values())
    assert machine == model
    for key in KEYS:
        assert machine.get(key) == model.get(key)
        assert machine.get(key, b"default") == model.get(key, b"default")
        assert (key in machine) == (key in model)


def run(machine: KeyValue, steps: Iterable[Step]) -> None:
    """Does the steps on the machine and on a dict, and compares them and all open views after each."""
    model: dict[bytes, bytes] = {}
    views: list[tuple[KeyValueView, dict[bytes, bytes]]] = []
    for index, step in enumerate(steps, start=1):
        if isinstance(step, str):
            views.append((machine.capture(), dict(model)))
        elif isinstance(step, int):
            if step < len(views):
                view, _ = views.pop(step)
                view.close()
        else:
            assert machine.apply(index, step) == model_apply(model, step)
        check_reads(machine, model)
        for view, then in views:
            assert restored(view) == then
    for view, _ in views:
        view.close()
    check_reads(machine, model)


MACHINES = pytest.mark.parametrize("make", [KeyValue, SlowlyMerging, NeverFinished])


@MACHINES
@given(steps=STEPS)
def test_it_is_a_dict_whose_views_stay_what_they_were(make: Callable[[], KeyValue], steps: list[Step]) -> None:
    """Answers, reads and every open view agree with a dict through any order of commands, captures and closes."""
    run(make(), steps)


@MACHINES
@pytest.mark.parametrize("seed", range(10))
def test_it_stays_a_dict_for_long(make: Callable[[], KeyValue], seed: int) -> None:
    """The same for hundreds of steps, with overlays above overlays that hold the same keys."""
    rng = random.Random(seed)

    def steps() -> Iterator[Step]:
        for _ in range(300):
            key, value = rng.choice(KEYS), rng.choice([b"", b"1", b"2"])
            choice: list[Step] = [
                Put(key, value),
                Delete(key),
                CompareAndSet(key, value, None),
                "capture",
                rng.randrange(4),
            ]
            yield rng.choices(choice, weights=[8, 3, 1, 3, 4])[0]

    run(make(), steps())


def test_each_command_answers_with_what_was_there() -> None:
    """The previous value, None for absent; a CompareAndSet also says whether it was done."""
    machine = KeyValue()

    commands: list[Command] = [
        Put(b"k", b"1"),
        Put(b"k", b""),
        CompareAndSet(b"k", b"1", b"2"),
        CompareAndSet(b"k", b"", b"2"),
        CompareAndSet(b"k", b"2", None),
        CompareAndSet(b"k", None, None),
        Delete(b"k"),
        CompareAndSet(b"k", None, b"3"),
        Delete(b"k"),
    ]

    answers = [machine.apply(index, command) for index, command in enumerate(commands)]

    assert answers == [
        None,
        b"1",
        Swapped(False, b""),
        Swapped(True, b""),
        Swapped(True, b"2"),
        Swapped(True, None),
        None,
        Swapped(True, None),
        b"3",
    ]
    assert machine == {}


def test_reading_what_is_absent() -> None:
    """Absence is a KeyError as in any mapping, or the default."""
    machine = KeyValue()

    with pytest.raises(KeyError, match="absent"):
        machine[b"absent"]
    assert machine.get(b"absent") is None
    assert repr(machine) == "<KeyValue of 0 keys>"


def test_only_commands_are_applied() -> None:
    """Anything else is a TypeError and changes nothing."""
    machine = KeyValue()

    with pytest.raises(TypeError, match="not a command"):
        machine.apply(1, b"raw")  # type: ignore[arg-type]  # the wrong type is the point
    assert machine == {}


@pytest.mark.parametrize("change", [Put(b"a", b"2"), Put(b"new", b""), Delete(b"b")], ids=repr)
def test_an_iteration_that_meets_a_change_raises(change: Command) -> None:
    """Even where a dict's own iterator would not notice, as when a value is replaced."""
    machine = KeyValue()
    for index, key in enumerate([b"a", b"b", b"c"]):
        machine.apply(index, Put(key, b""))
    keys = iter(machine)
    next(keys)

    machine.apply(3, change)

    with pytest.raises(RuntimeError, match="changed during iteration"):
        next(keys)


def test_a_capture_copies_nothing_and_no_apply_pays_for_the_merge() -> None:
    """After the last view is closed, each apply brings down a bounded number of keys, until none is left above."""
    machine = KeyValue()
    count = 40 * machine.merge_slice
    for number in range(count):
        machine.apply(number, Put(b"%d" % number, b"old"))
    first, second = machine.capture(), machine.capture()
    for number in range(count):
        machine.apply(number, Put(b"%d" % number, b"new"))
    first.close()
    machine.apply(0, Put(b"x", b""))
    assert sum(map(len, machine._overlays)) == count + 1, "a view is still open"
    second.close()
    second.close()  # silent twice

    left = [sum(map(len, machine._overlays))]
    while machine._overlays:
        machine.apply(0, Put(b"x", b""))
        left.append(sum(map(len, machine._overlays)))

    assert all(before - after <= machine.merge_slice + 1 for before, after in itertools.pairwise(left))
    assert machine == {b"%d" % number: b"new" for number in range(count)} | {b"x": b""}


def test_a_key_deleted_while_a_view_is_open_stays_deleted() -> None:
    """The merge takes the key out of the base, where the view had found it."""
    machine = KeyValue()
    machine.apply(1, Put(b"k", b"1"))
    view = machine.capture()
    machine.apply(2, Delete(b"k"))
    assert restored(view) == {b"k": b"1"}
    view.close()

    machine.apply(3, Put(b"x", b""))

    assert not machine._overlays
    assert machine == {b"x": b""}


def test_a_capture_without_changes_since_the_last_adds_no_layer() -> None:
    """A hundred views of one state cost one layer, not a hundred."""
    machine = KeyValue()
    views = [machine.capture() for _ in range(100)]

    assert len(machine._overlays) == 1
    for view in views:
        view.close()


def test_the_pieces_of_a_view_are_bounded() -> None:
    """Small values are gathered, large ones are cut: no piece is tiny, none holds a whole large value."""
    machine = KeyValue()
    sizes = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 10 * CHUNK_BYTES + 7]
    for number, size in enumerate(sizes):
        machine.apply(number, Put(bytes([number]) * MAX_KEY_BYTES, bytes(size)))
    for number in range(10_000):
        machine.apply(number, Put(b"%d" % number, b"small"))
    view = machine.capture()

    pieces = list(view.chunks())

    assert all(CHUNK_BYTES <= len(piece) <= 4 * CHUNK_BYTES for piece in pieces[:-1])
    assert restored(view) == machine
    view.close()


def state_of(machine: KeyValue) -> bytes:
    """The bytes of a view in one piece."""
    view = machine.capture()
    try:
        return b"".join(view.chunks())
    finally:
        view.close()


def example() -> KeyValue:
    """A machine of three keys."""
    machine = KeyValue()
    for key, value in ((b"one", b"1"), (b"", b""), (b"three", b"333")):
        machine.apply(0, Put(key, value))
    return machine


@given(st.lists(st.integers(1, 9), min_size=1))
def test_a_state_is_restored_from_pieces_of_any_size(sizes: list[int]) -> None:
    """How the bytes are cut makes no difference."""
    raw = state_of(example())

    def pieces() -> Iterator[bytes]:
        at = 0
        for size in itertools.cycle(sizes):
            if at >= len(raw):
                return
            yield raw[at : at + size]
            yield b""
            at += size

    machine = KeyValue()
    machine.restore(pieces())

    assert machine == example()


@pytest.mark.parametrize("cut", range(len(state_of(example()))))
def test_a_state_that_is_cut_short_is_refused(cut: int) -> None:
    """Every proper prefix is a ValueError, and the machine keeps what it had."""
    machine = example()

    with pytest.raises(ValueError, match="cut short"):
        machine.restore([state_of(machine)[:cut]])
    assert machine == example()


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"x" + state_of(KeyValue())[1:], "does not begin"),
        (state_of(KeyValue()) + b"x", "after the last key"),
        (state_of(KeyValue())[:8] + (2).to_bytes(8, "little") + 2 * b"\1\0\0\0\0\0k", "twice"),
        (
            state_of(KeyValue())[:8]
            + (1).to_bytes(8, "little")
            + b"\0\0"
            + (MAX_VALUE_BYTES + 1).to_bytes(4, "little"),
            "a value of 16777217 bytes",
        ),
    ],
    ids=["magic", "trailing", "twice", "huge"],
)
def test_a_state_that_is_not_one_is_refused(raw: bytes, match: str) -> None:
    """Another magic, bytes after the end, a key that stands twice, a length beyond the limit: ValueError."""
    with pytest.raises(ValueError, match=match):
        KeyValue().restore([raw])
    with pytest.raises(ValueError, match=match):
        KeyValue().restore([bytes([byte]) for byte in raw])


@given(st.integers(0, len(state_of(example())) - 1), st.integers(1, 255))
def test_a_damaged_state_is_another_state_or_a_value_error(place: int, flip: int) -> None:
    """The container's checksum finds damage; the machine itself never raises anything but ValueError."""
    raw = bytearray(state_of(example()))
    raw[place] ^= flip
    try:
        KeyValue().restore([bytes(raw)])
    except ValueError:
        return
    assert place >= 16 + 6, "damage of the header and the first lengths cannot go unnoticed"


def test_restore_leaves_open_views_as_they_were() -> None:
    """A view of the state before a restore still gives that state."""
    machine = example()
    view = machine.capture()

    machine.restore([state_of(KeyValue())])
    machine.apply(1, Put(b"after", b""))

    assert restored(view) == example()
    assert machine == {b"after": b""}
    view.close()
