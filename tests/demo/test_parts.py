"""The parts of the demo: the numbered lines, the reports, the ledger, and what a child makes of its orders."""

from array import array
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from walstore._demo.child import Wrong, present, work
from walstore._demo.ledger import Figures, Ledger, summary
from walstore._demo.lines import Lines, UnusableInput, named_files, standard_library
from walstore._demo.reports import Acknowledged, Done, Fault, Parser, Present, Ready, Report, Snapshots, encode
from walstore.kv import MAX_VALUE_BYTES, CompareAndSet, KeyValue, Put
from walstore.testing.rollback import RollbackReport

FILES = [("a.txt", b"one\ntwo\n\nfour"), ("empty", b""), ("dir/b.txt", b"\xff\r\nlast\n")]
PAIRS = [
    (b"a.txt:1", b"one\n"),
    (b"a.txt:2", b"two\n"),
    (b"a.txt:3", b"\n"),
    (b"a.txt:4", b"four"),
    (b"dir/b.txt:1", b"\xff\r\n"),
    (b"dir/b.txt:2", b"last\n"),
]
LINES = Lines(FILES)


def test_lines_are_numbered_through_all_files() -> None:
    """A key is file:number from 1, a value is the line with its end, and a file without lines does not matter."""
    assert list(LINES.pairs()) == PAIRS
    assert [(LINES.key(number), LINES.value(number)) for number in range(len(LINES))] == PAIRS
    assert (len(LINES), LINES.files, LINES.size) == (6, 2, sum(len(content) for _, content in FILES))


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5))
def test_the_lines_of_a_file_are_the_file(contents: list[bytes]) -> None:
    """Byte for byte, whatever its bytes."""
    contents.append(b"x")  # there are lines
    lines = Lines((str(number), content) for number, content in enumerate(contents))

    for number, content in enumerate(contents):
        mine = b"".join(value for key, value in lines.pairs() if key.startswith(b"%d:" % number))
        assert mine == content
    assert list(lines.pairs()) == [(lines.key(number), lines.value(number)) for number in range(len(lines))]


def test_children_see_the_saved_lines(tmp_path: Path) -> None:
    """What is loaded is what was saved."""
    LINES.save(tmp_path)

    assert list(Lines.load(tmp_path).pairs()) == PAIRS


def test_the_standard_library_is_read_without_what_others_installed() -> None:
    """Sources only, in a fixed order, no tests and no site-packages."""
    names = [name for name, _ in islice(standard_library(), 200)]

    assert "abc.py" in names
    assert all(name.endswith(".py") for name in names)
    assert not any(part in ("test", "site-packages", "__pycache__") for name in names for part in name.split("/"))
    assert names == [name for name, _ in islice(standard_library(), 200)]


def test_input_that_is_none_is_refused(tmp_path: Path) -> None:
    """No file, no line, a line that no value can hold: the message says which."""
    with pytest.raises(UnusableInput, match="absent cannot be read: No such file"):
        list(named_files([str(tmp_path / "absent")]))
    with pytest.raises(UnusableInput, match="no lines"):
        Lines([("empty", b"")])
    with pytest.raises(UnusableInput, match=f"more than {MAX_VALUE_BYTES} bytes"):
        Lines([("long", bytes(MAX_VALUE_BYTES + 1))])


def test_a_file_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    """Its keys would be the same."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"x\n")

    assert list(named_files([str(path), str(path)])) == [(str(path), b"x\n")]


REPORTS: list[Report] = [
    Ready(0.5, True, 3, 4),
    Present(b"\0\1\1"),
    Acknowledged(array("I", [5, 7, 2**31])),
    Snapshots(3),
    Fault("CorruptionError: näher", True),
    Done(),
]


@given(st.lists(st.integers(1, 40), min_size=1))
def test_reports_survive_a_pipe(sizes: list[int]) -> None:
    """However the bytes are cut on their way."""
    raw = b"".join(map(encode, REPORTS))
    parser = Parser()
    heard: list[Report] = []
    while raw:
        for size in sizes:
            heard.extend(parser.feed(raw[:size]))
            raw = raw[size:]

    assert heard == REPORTS


def test_a_report_that_is_cut_short_was_not_made() -> None:
    """As the last one of a killed child may be."""
    raw = encode(Acknowledged(array("I", [1, 2, 3])))
    for end in range(len(raw)):
        assert list(Parser().feed(raw[:end])) == []


def test_the_ledger_notices_what_is_lost() -> None:
    """An acknowledged line that a recovered store does not show is lost, once, though it may be written again."""
    ledger = Ledger(LINES)
    ledger.acknowledge(array("I", [0, 1, 4]))
    ledger.acknowledge(array("I", [4]))
    assert (ledger.count, ledger.lost) == (3, 0)

    assert ledger.compare(bytes([1, 0, 0, 0, 0, 0]), "after kill 1") == 2

    assert (ledger.count, ledger.lost) == (1, 2)
    assert ledger.examples == ["a.txt:2, missing after kill 1", "dir/b.txt:1, missing after kill 1"]
    assert ledger.compare(bytes([1, 0, 0, 0, 0, 0]), "after kill 2") == 0
    ledger.acknowledge(array("I", [1, 4]))
    assert ledger.lost == 2


def test_what_a_start_has_shown_counts_as_acknowledged() -> None:
    """A line that was found without its acknowledgement may not vanish later."""
    ledger = Ledger(LINES)

    assert ledger.compare(bytes([1, 1, 1, 1, 1, 1]), "after kill 1") == 0
    assert (ledger.found, ledger.complete) == (6, True)
    assert ledger.compare(bytes([1, 1, 1, 1, 1, 0]), "after kill 2") == 1
    assert not ledger.complete


def test_a_store_that_is_not_opened_has_lost_everything() -> None:
    """As long as nobody repairs it."""
    ledger = Ledger(LINES)
    ledger.acknowledge(array("I", range(6)))

    ledger.lose_all("at the end")

    assert (ledger.count, ledger.lost, len(ledger.examples)) == (0, 6, 3)


def test_the_summary_has_the_figures() -> None:
    """Acknowledged, kills, power cuts, recoveries with their times, snapshots, lost."""
    ledger, figures = Ledger(LINES), Figures(kills=3, kills_in_recovery=1, snapshots=7)
    ledger.acknowledge(array("I", [0, 1]))
    for seconds in (0.25, 0.5, 2.0):
        figures.recovered(Ready(seconds, True, 1, 0))
    figures.cut(RollbackReport(sectors_lost=1200, lengths_lost=1, names_lost=4))
    figures.faults.append("Wrong: something")

    text = summary(LINES, ledger, figures)

    for row in (
        "input         6 lines of 2 files, 21 bytes",
        "acknowledged  2 lines in",
        "kills         3, 1 of them before",
        "power cuts    1 of these kills; they took back 1,201 sectors and 4 names",
        "recoveries    3, median 0.500 s, longest 2.000 s; 3 torn tails, 3 frames",
        "snapshots     7",
        "lost          0",
        "fault         Wrong: something",
    ):
        assert row in text


def machine_of(pairs: list[tuple[bytes, bytes]]) -> KeyValue:
    """A machine that holds these pairs."""
    machine = KeyValue()
    for key, value in pairs:
        machine.apply(1, Put(key, value))
    return machine


def test_a_child_believes_no_byte() -> None:
    """It says which lines are there, and nothing else may be: no other value, no other key."""
    assert present(LINES, machine_of(PAIRS[1:3])) == bytes([0, 1, 1, 0, 0, 0])
    with pytest.raises(Wrong, match=r"b'a.txt:2' should be b'two\\n', and is b'two'"):
        present(LINES, machine_of([(b"a.txt:2", b"two")]))
    with pytest.raises(Wrong, match="1 keys that were never written"):
        present(LINES, machine_of([(b"a.txt:1", b"one\n"), (b"a.txt:5", b"one\n")]))


def test_a_child_writes_what_is_missing_and_then_everything_again() -> None:
    """The second round expects every line to be there."""
    todo = list(islice(work(LINES, bytearray([1, 0, 1, 1, 1, 0])), 5))

    assert todo[:2] == [(1, Put(*PAIRS[1])), (5, Put(*PAIRS[5]))]
    assert todo[2:] == [
        (number, CompareAndSet(PAIRS[number][0], PAIRS[number][1], PAIRS[number][1])) for number in range(3)
    ]
