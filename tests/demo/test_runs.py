"""Short runs of the whole demo: children that are really killed, on the real disk."""

import random
import re
import sys
from array import array
from pathlib import Path

import pytest

from walstore._demo import parent
from walstore._demo.__main__ import main
from walstore._demo.lines import Lines
from walstore._demo.parent import Options, Run

pytestmark = pytest.mark.realfs


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file with 5,000 different lines."""
    rng = random.Random(1)
    path = tmp_path / "input.txt"
    path.write_bytes(b"".join(b"%d %b\n" % (number, rng.randbytes(20).hex().encode()) for number in range(5000)))
    return path


def figure(output: str, name: str) -> int:
    """The first number of a row of the summary."""
    found = re.search(rf"^{name} +([\d,]+)", output, re.MULTILINE)
    assert found is not None, output
    return int(found[1].replace(",", ""))


def test_kills_and_power_cuts_lose_nothing(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that was acknowledged is there at the end, and the run says so in figures."""
    status = main(["--kills", "5", "--tasks", "50", "--seed", "7", str(text)])

    output = capsys.readouterr().out
    assert status == 0, output
    assert figure(output, "acknowledged") == 5000
    assert figure(output, "kills") == 5
    assert figure(output, "power cuts") == 2
    assert figure(output, "recoveries") >= 2
    assert figure(output, "snapshots") >= 1
    assert figure(output, "lost") == 0
    assert figure(output, "seed") == 7


def test_without_barriers_the_same_run_reports_losses(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The control: if nothing is ever synced, power cuts must cost acknowledged lines, and the run must say so."""
    status = main(["--no-barriers", "--kills", "6", "--tasks", "50", "--seed", "7", str(text)])

    output = capsys.readouterr().out
    assert status == 1, output
    assert figure(output, "lost") > 0
    assert "missing after kill" in output


def test_a_run_can_be_kept(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The store stays where it was asked for; the same place is not used twice."""
    keep = tmp_path / "kept"

    assert main(["--kills", "0", "--keep", str(keep), str(text)]) == 0
    assert list((keep / "store").glob("wal-*"))
    assert main(["--kills", "0", "--keep", str(keep), str(text)]) == 2
    assert "exists" in capsys.readouterr().err


def test_input_that_cannot_be_used_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the message says why, without a traceback."""
    assert main([str(tmp_path / "absent")]) == 2
    assert "tools/demo: " in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        main(["--tasks", "0"])
    assert refused.value.code == 2


def test_a_child_that_ends_by_itself_is_a_fault(text: Path, tmp_path: Path) -> None:
    """So is whatever else it dies of: nothing passes for success."""
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "store").write_text("not a directory")
    run = Run(directory, Lines([("text", text.read_bytes())]), Options(kills=1, seconds_per_life=60.0))

    assert not run.run()

    assert "the child ended by itself, with status 1" in run.figures.faults
    assert run.figures.kills == 0


def test_a_child_that_is_silent_hangs(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed and counts as a fault."""
    monkeypatch.setattr(parent, "SILENCE_SECONDS", 0.0)
    directory = tmp_path / "run"
    directory.mkdir()
    run = Run(directory, Lines([("text", text.read_bytes())]), Options(kills=1, seconds_per_life=60.0))

    assert not run.run()

    assert run.figures.faults == ["the child said nothing for 0 s"]
    assert run.ledger.lost == 0, "no line was acknowledged, and the store is sound"


def test_a_damaged_store_is_told_from_a_broken_disk(text: Path, tmp_path: Path) -> None:
    """What a store holds that does not open any more is lost, all of it."""
    directory = tmp_path / "run"
    directory.mkdir()
    lines = Lines([("text", text.read_bytes())])
    assert Run(directory, lines, Options(kills=0)).run()
    (directory / "store" / "IDENTITY").unlink()
    run = Run(directory, lines, Options(kills=1))
    run.ledger.acknowledge(array("I", range(5000)))

    assert not run.run()

    assert run.ledger.lost == 5000
    assert "CorruptionError" in run.figures.faults[0]


def test_a_person_sees_a_bar(text: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal only, and gone at the end."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    assert main(["--kills", "1", str(text)]) == 0

    drawn = capsys.readouterr().err
    assert re.search(r"\r#*\.+ [\d,]+/5,000 lines, 0/1 kills, lost 0", drawn)
    assert drawn.endswith(" \r")
