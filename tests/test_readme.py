"""The README is true: its Python runs, its console sessions give what they show, its names and files exist.

Blocks run from top to bottom in one scratch directory, as a reader would try them, so a later block may use the store
that an earlier one made.

* ```python    a whole script, run as a process of its own, with warnings as errors;
* ```console   lines with `$ ` are commands, the lines below are their output, where `...` stands for anything.
"""

import fnmatch
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import walstore

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"^```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

HEADINGS = [
    "What it promises",
    "What it does not do",
    "Install",
    "The API in one page",
    "The file format",
    "Crash safety, by operation",
    "What we assume about disks",
    "Limits and caveats",
    "Testing your own storage",
    "Reading the source",
    "Changelog",
    "Licence",
]


@attrs.frozen
class Block:
    """A fenced block, and the line of the README where its text begins."""

    language: str
    text: str
    line: int


def blocks(markdown: str) -> list[Block]:
    """All fenced blocks in order."""
    return [
        Block(found["language"], found["text"], markdown.count("\n", 0, found.start("text")) + 1)
        for found in FENCE.finditer(markdown)
    ]


def environment() -> dict[str, str]:
    """What a reader has after the set-up: this Python, this checkout, and no colours."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def run_python(block: Block, directory: Path) -> None:
    """Runs a script; it has to end well and silently on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"README line {block.line}:\n{done.stderr}"


def run_console(block: Block, directory: Path) -> None:
    """Runs each command and compares what it prints, both streams together, with the lines below it."""
    for session in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE):
        if not session.strip():
            continue
        command, _, expected = session.removeprefix("$ ").partition("\n")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=directory,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert matches(expected, done.stdout), f"README line {block.line}: $ {command}\n{done.stdout}"


def matches(expected: str, found: str) -> bool:
    """Whether the text is as expected, where `...` stands for anything, line ends included."""
    pattern = re.sub(r"([*?[])", r"[\1]", expected.strip()).replace("...", "*")
    return fnmatch.fnmatchcase(found.strip(), pattern)


def play(markdown: str, directory: Path) -> int:
    """Runs every block that can run, in order; how many there were."""
    (directory / "tools").symlink_to(ROOT / "tools")
    runners = {"python": run_python, "console": run_console}
    runnable = [block for block in blocks(markdown) if block.language in runners]
    for block in runnable:
        runners[block.language](block, directory)
    return len(runnable)


def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    """What the README shows is what happens."""
    assert play(README, tmp_path) >= 1


@pytest.mark.parametrize(
    "markdown",
    [
        "```python\nassert 1 == 2\n```\n",
        "```python\nimport warnings\nwarnings.warn('old', stacklevel=1)\n```\n",
        "```console\n$ echo yes\nno\n```\n",
        "```console\n$ echo yes\nyes\n$ echo no\nyes\n```\n",
    ],
)
def test_an_untrue_readme_is_found_out(markdown: str, tmp_path: Path) -> None:
    """A block that fails, warns, or prints something else makes the test fail."""
    with pytest.raises(AssertionError, match="README line 2"):
        play(markdown, tmp_path)


def test_blocks_share_their_directory(tmp_path: Path) -> None:
    """A console block sees the files that a script above it has written, and dots stand for what varies."""
    markdown = (
        "```python\nimport pathlib\npathlib.Path('store').write_text('[1] 7 ms')\n```\n"
        "text\n"
        "```console\n$ cat store\n[1] ... ms\n$ ls\nstore\n...\n```\n"
        "```text\nnot run\n```\n"
    )

    assert play(markdown, tmp_path) == 2


def test_no_block_goes_by_unnoticed() -> None:
    """Every fence says what it holds, so that no example escapes by a missing word."""
    assert [block.line for block in blocks(README) if block.language not in {"python", "console", "sh", "text"}] == []
    assert len(re.findall(r"^```", README, re.MULTILINE)) == 2 * len(blocks(README))


def test_the_readme_has_its_sections() -> None:
    """The sections are there, in an order in which the reader's questions come up."""
    found = re.findall(r"^## (.+)$", README, re.MULTILINE)

    assert [heading for heading in found if heading in HEADINGS] == HEADINGS


def test_files_that_the_readme_names_exist() -> None:
    """A path below the checkout leads to a file."""
    named = re.findall(r"`((?:walstore|tools|tests|fuzz|\.ci)/[\w./-]*)`", README)

    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_changelog_knows_this_version() -> None:
    """The newest section of the changelog is the version of the package."""
    newest = re.search(r"^### (\S+)", README.partition("## Changelog")[2], re.MULTILINE)

    assert newest is not None
    assert newest[1] == walstore.__version__
