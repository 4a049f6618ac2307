"""The set-up behind the commands in tools/: once, quick when done, safe when several start or one is interrupted.

Played on a checkout with an empty lock file, so that nothing is fetched.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SAY_PYTHON = '. tools/_setup.sh; "$python" -c "import sys; print(sys.prefix)"'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the set-up script and a lock file that asks for nothing."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/_setup.sh", tmp_path / "tools")
    (tmp_path / "requirements-dev.txt").write_text("# nothing\n")
    return tmp_path


def start(checkout: Path, command: str = SAY_PYTHON) -> "subprocess.Popen[str]":
    """Starts a command as one of tools/ would be started."""
    return subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Its exit code, and what it said."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out.strip(), err


def test_it_is_made_once_and_found_again(checkout: Path) -> None:
    """The first command makes the environment and says so; the second one finds it, is silent and quick."""
    code, out, err = finish(start(checkout))
    assert (code, out) == (0, str(checkout / ".venv"))
    assert "making a private environment" in err

    began = time.monotonic()
    assert finish(start(checkout)) == (0, str(checkout / ".venv"), "")
    assert time.monotonic() - began < 2
    code, out, _ = finish(start(checkout, '. tools/_setup.sh; cd /; "$python" -c "import sys; print(sys.path)"'))
    assert code == 0
    assert repr(str(checkout)) in out, "the checkout can be imported from everywhere"


def test_several_at_once_make_one(checkout: Path) -> None:
    """Of commands that start at the same time one makes the environment, the others wait and use it."""
    results = [finish(process) for process in [start(checkout) for _ in range(4)]]

    assert [(code, out) for code, out, _ in results] == [(0, str(checkout / ".venv"))] * 4
    assert sum("making a private environment" in err for _, _, err in results) == 1


def test_an_interrupted_one_is_begun_anew(checkout: Path) -> None:
    """Killed in the middle, the set-up leaves no lock and nothing that the next one would take for finished."""
    process = start(checkout)
    while not (checkout / ".venv/pyvenv.cfg").exists():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (checkout / ".venv/ready").exists()

    code, out, err = finish(start(checkout))
    assert (code, out) == (0, str(checkout / ".venv"))
    assert "making a private environment" in err


def test_another_lock_file_makes_another_environment(checkout: Path) -> None:
    """What was installed for one lock file is not used with the next one."""
    finish(start(checkout))
    (checkout / ".venv/leftover").touch()
    (checkout / "requirements-dev.txt").write_text("# nothing, in other words\n")

    code, _, err = finish(start(checkout))
    assert code == 0
    assert "making a private environment" in err
    assert not (checkout / ".venv/leftover").exists()


def test_a_foreign_environment_is_left_alone(checkout: Path) -> None:
    """A .venv that this script did not make is not removed: the command fails and says what to do."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv/mine").touch()

    code, _, err = finish(start(checkout))
    assert code != 0
    assert "move it away" in err
    assert (checkout / ".venv/mine").exists()


def test_a_failed_installation_says_why(checkout: Path) -> None:
    """If a package cannot be installed, the command ends with the installer's words, and is not ready."""
    (checkout / "requirements-dev.txt").write_text("./missing\n")

    code, out, err = finish(start(checkout))
    assert (code != 0, out) == (True, "")
    assert "missing" in err
    assert not (checkout / ".venv/ready").exists()


def test_a_missing_python_is_named(checkout: Path) -> None:
    """Without a Python that is new enough the command says which one it needs."""
    (checkout / "bin").mkdir()
    for tool in ("dirname", "cksum", "cat"):
        (checkout / "bin" / tool).symlink_to(shutil.which(tool) or tool)

    code, _, err = finish(start(checkout, 'unset WALSTORE_PYTHON; PATH="$PWD/bin"; . tools/_setup.sh'))
    assert code != 0
    assert "3.11" in err
