"""The README is true: its Python runs, its console sessions give what they show, its names and files exist.

Blocks run from top to bottom in one scratch directory, as a reader would try them, so a later block may use the store
that an earlier one made.

* ```python    a whole script, run as a process of its own, with warnings as errors;
* ```console   lines with `$ ` are commands, the lines below are their output, where `...` stands for anything.
"""

import ast
import fnmatch
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import walstore
from walstore._log import evidence, frame, identity, limits
from walstore.testing.kit import LEFT_OUT

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"^```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

HEADINGS = [
    "What it promises",
    "What it does not do",
    "Install",
    "The API in one page",
    "Recipes",
    "The file format",
    "Crash safety, by operation",
    "What we assume about disks",
    "Limits and caveats",
    "Testing your own storage",
    "Demo and tests",
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


def tables(heading: str) -> list[list[str]]:
    """The rows of all tables below a heading of the README, without the head, as cells."""
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", README, re.MULTILINE | re.DOTALL)
    assert section is not None, heading
    rows = re.findall(r"^\|.*\|\n", re.sub(r"^\|.*\|\n\|[-|]+\|\n", "", section[1], flags=re.MULTILINE), re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|\n").split("|")] for row in rows]


def named(heading: str) -> set[str]:
    """The names in backticks, without arguments, in the first cells of the tables below a heading."""
    return {name for row in tables(heading) for name in re.findall(r"`(\w+)", row[0])}


def size(text: str) -> int:
    """The number that a cell says: `64 MiB`, `4096`, `256 MiB + 64`."""
    units = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) ?(\w*)", text))


def test_the_evidence_table_is_the_one_that_is_asked() -> None:
    """Each row of the code's table is in the README's, in the order of asking, with its verdict."""
    found = [(label, name, verdict) for label, name, _, verdict in tables("How the end of the log is judged")]

    assert found == [
        (row.label, row.name, row.outcome.value + (", ambiguous" if row.ambiguous else "")) for row in evidence.TABLE
    ]


@pytest.mark.parametrize(
    ("heading", "layout"),
    [
        ("Version", None),
        ("IDENTITY", identity.IDENTITY_STRUCT.size),
        ("Header page", limits.HEADER_PAGE),
        ("Frame header", frame.FRAME_STRUCT.size),
    ],
)
def test_fields_lie_one_behind_the_other(heading: str, layout: int | None) -> None:
    """The offsets of a layout are the sums of the sizes before them, and all of it is as long as the code says."""
    end = 0
    for offset, _, type_, *_ in tables(heading):
        assert int(offset) == end
        end += int(type_[1:]) // 8 if type_.startswith("u") else int(type_.removesuffix(" B"))

    assert end == (48 if layout is None else layout)


def test_the_frame_header_has_the_fields_of_the_struct() -> None:
    """The fields of the header, by name, in order, in the sizes that the struct gives them."""
    codes = {"u64": "Q", "u32": "I", "u8": "B"}

    assert tuple(row[1] for row in tables("Frame header")) == frame.Header._fields
    assert "<" + "".join(codes[row[2]] for row in tables("Frame header")) == frame.FRAME_STRUCT.format


def test_the_kinds_of_frames_are_those_of_the_code() -> None:
    """Numbers, names and flags."""
    found = {
        int(row[0]): (row[1], sum(int(bit, 16) for bit in re.findall(r"\b(\d\d) [A-Z]", row[3])))
        for row in tables("Kinds")
    }

    assert found == {int(kind): (row.name, row.flags) for kind, row in frame.KINDS.items()}


def test_the_limits_are_those_of_the_code() -> None:
    """Every limit with its value."""
    found = {row[0].strip("`"): size(row[1]) for row in tables("Limits and caveats")}

    assert found == {name: getattr(walstore.limits, name) for name in walstore.limits.__all__}


def test_the_methods_are_those_of_the_interface() -> None:
    """All 13 methods, with the arguments in their order; and what a storage has beyond them exists."""
    abstract = walstore.RaftStorage.__abstractmethods__
    calls = {row[0].strip("`") for row in tables("The 13 methods")}

    assert named("The 13 methods") == set(abstract)
    for call in calls:
        name, _, arguments = call.removesuffix(")").partition("(")
        parameters = [str(parameter).partition(":")[0] for parameter in signature_of(name)]
        assert [argument.partition("=")[0] for argument in arguments.split(", ") if argument] == parameters
    assert {name for name in named("What an engine needs beyond them") if not hasattr(walstore.Storage, name)} == set()


def signature_of(method: str) -> list[inspect.Parameter]:
    """The parameters of a method of the interface, `self` apart."""
    return list(inspect.signature(getattr(walstore.RaftStorage, method)).parameters.values())[1:]


def test_the_errors_are_those_of_the_code() -> None:
    """Every class with its bases."""
    found = {row[0].strip("`"): row[1] for row in tables("Errors")}
    classes = {
        name: value
        for name, value in vars(walstore.errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }

    assert found == {name: ", ".join(base.__name__ for base in value.__bases__) for name, value in classes.items()}


def test_the_settings_are_those_of_the_code() -> None:
    """Every setting with its default."""
    defaults = {
        row[0].strip("`"): size(row[1]) if row[1][0].isdigit() else ast.literal_eval(row[1].strip("`"))
        for row in tables("StorageConfig")
    }

    assert defaults == attrs.asdict(walstore.StorageConfig())


@pytest.mark.parametrize("kind", [walstore.Statistics, walstore.StandaloneStatistics, walstore.RecoveryReport])
def test_every_figure_is_named(kind: type[attrs.AttrsInstance]) -> None:
    """What a store says of itself is in the README, field by field."""
    assert [field.name for field in attrs.fields(kind) if f"`{field.name}`" not in README] == []


def test_the_reasons_for_what_the_kit_leaves_out_are_given() -> None:
    """Each number without a case is in the README."""
    assert named("The conformance kit on your own storage") == {"G", "J"}
    assert {row[0].strip("`") for row in tables("The conformance kit on your own storage")} == set(LEFT_OUT)


def test_links_within_the_readme_lead_somewhere() -> None:
    """Each link to a section has its section."""
    anchors = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }

    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors
