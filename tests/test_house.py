"""The rules of the house that no linter knows: sizes, docstrings of tests, reasons, what may not be written down."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LINES_MIN, LINES_MAX = 60, 420
FUNCTION_LINES_MAX = 70

# Files outside the range, each with its reason.  None may be longer than LINES_MAX.
SHORT_FILES = {
    "walstore/_log/checksum.py": "one function: the one place that knows the library",
    "walstore/_encoding.py": "what turns entries into bytes, between the storage and the plan",
    "walstore/_interrupts.py": "what to do about Ctrl-C, below everything that awaits",
    "walstore/_disk/refusals.py": "the words that two file systems share, so that neither imports the other",
    "walstore/limits.py": "a re-export",
    "walstore/testing/kit.py": "a re-export",
    "walstore/testing/conformance/group_f_disk.py": "cases of one group, apart from those that need no disk",
    "walstore/testing/conformance/group_k_crash.py": "cases of one group, apart from those that need no crash",
    "walstore/testing/conformance/left_out.py": "a table, and the shorter the better",
}

MARKERS = re.compile(
    r"#\s*(noqa\b(:\s*[A-Z0-9, ]+)?|type:\s*ignore(\[[^]]*\])?|pragma:\s*no\s+(cover|branch))(?P<rest>.*)"
)

# In pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile("/" + r"(?:home|Users|root|work|mnt)/[A-Za-z0-9_.]")
REGISTRY_HOSTS = re.compile(
    "|".join(("pypi" + r"\.org", "python" + r"hosted\.org", "npm" + r"js\.(?:com|org)")), re.IGNORECASE
)


def repository_files() -> list[Path]:
    """Every file that belongs to the repository: tracked, or new and not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = set(listing.stdout.split("\0")) - {""}
    if not names:  # an unpacked archive: what is not hidden, the gate apart
        paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if "__pycache__" not in path.parts)
        names = {path.as_posix() for path in paths if not path.parts[0].startswith(".") or path.parts[0] == ".ci"}
    return [ROOT / name for name in sorted(names) if (ROOT / name).is_file()]


def is_python(path: Path) -> bool:
    """Whether the file is Python, by its name or by its first line."""
    return path.suffix == ".py" or (not path.suffix and re.match(rb"#!.*python", path.read_bytes()[:80]) is not None)


FILES = repository_files()
PYTHON = [path for path in FILES if is_python(path)]
PACKAGE = [path for path in PYTHON if path.is_relative_to(ROOT / "walstore")]
TESTS = [path for path in PYTHON if path.is_relative_to(ROOT / "tests") and path.name.startswith("test_")]


def nothing(found: list[str]) -> None:
    """Passes if nothing was found, else fails with all of it, a line each."""
    assert not found, "\n" + "\n".join(found)


def name_of(path: Path) -> str:
    """The path as the repository writes it."""
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file, methods and nested ones included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(path: Path) -> int:
    """How many lines the file has."""
    return len(path.read_text().splitlines())


def test_no_file_is_too_long_to_read_at_once() -> None:
    """Above 420 lines a file has two jobs; tests, tools and fuzzers are held to it as well."""
    nothing([f"{name_of(path)}: {lines_of(path)}" for path in PYTHON if lines_of(path) > LINES_MAX])


def test_no_file_of_the_package_is_too_short_to_be_one() -> None:
    """Below 60 lines a file belongs into another, front doors excepted and what the table names."""
    short = [path for path in PACKAGE if lines_of(path) < LINES_MIN and path.name != "__init__.py"]

    nothing([f"{name_of(path)}: {lines_of(path)}" for path in short if name_of(path) not in SHORT_FILES])


def test_the_table_of_short_files_is_true() -> None:
    """An exception that is no longer one leaves the table."""
    short = {name_of(path) for path in PACKAGE if lines_of(path) < LINES_MIN}

    nothing(sorted(set(SHORT_FILES) - short))


def test_functions_can_be_seen_whole() -> None:
    """No function of the package is longer than 70 lines."""
    nothing(
        [
            f"{name_of(path)}: {function.name}"
            for path in PACKAGE
            for function in functions(path)
            if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES_MAX
        ]
    )


def test_every_test_says_what_it_expects() -> None:
    """Each test has a docstring: read one after another, they are the specification."""
    nothing(
        [
            f"{name_of(path)}: {function.name}"
            for path in TESTS
            for function in functions(path)
            if function.name.startswith("test_") and not ast.get_docstring(function)
        ]
    )


def test_fakes_instead_of_mocks() -> None:
    """No test patches what it tests: fakes behave, mocks agree."""
    mocks = re.compile(r"^\s*(from unittest import mock|(import|from) unittest\.mock|import mock\b)", re.MULTILINE)

    nothing([name_of(path) for path in PYTHON if mocks.search(path.read_text())])


def unexplained(text: str) -> Iterator[tuple[int, str]]:
    """The comments that silence a checker without saying why, neither behind the code nor on the line above."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or not (found := MARKERS.search(token.string)):
            continue
        before = token.string[: found.start()]
        above = lines[token.start[0] - 2].strip() if token.start[0] > 1 else ""
        reasons = (found["rest"], before, above if above.startswith("#") and not MARKERS.search(above) else "")
        if not any(len(re.findall(r"\w+", reason)) >= 2 for reason in reasons):
            yield token.start[0], token.string


def test_every_silenced_check_has_a_reason() -> None:
    """`noqa`, `type: ignore` and `pragma` stand beside the reason for which the checker is wrong here."""
    nothing([f"{name_of(path)}:{line}: {text}" for path in PYTHON for line, text in unexplained(path.read_text())])


@pytest.mark.parametrize(
    ("line", "explained"),
    [
        ("x = 1  # no" + "qa: E501", False),
        ("x = 1  # no" + "qa: E501  # the table reads better on one line", True),
        ("x = 1  # no" + "qa: E501 - the table reads better on one line", True),
        ("# The table reads better on one line.\nx = 1  # no" + "qa: E501", True),
        ("x = 1  # type: " + "ignore[assignment]", False),
        ("x = 1  # type: " + "ignore[assignment]  # the stub is wrong", True),
        ("x = 1  # pragma: " + "no cover", False),
        ("x = 1  # pragma: " + "no branch - the loop never ends", True),
        ("x = '# no" + "qa: E501'", True),
    ],
    ids=lambda value: repr(value) if isinstance(value, str) else None,
)
def test_a_reason_is_told_from_none(line: str, explained: bool) -> None:
    """The rule about reasons sees comments, not strings, and takes a reason behind the marker or above the line."""
    assert (not list(unexplained(line + "\n"))) == explained


def findings(pattern: re.Pattern[str]) -> list[str]:
    """Where in the repository the pattern occurs in text."""
    return [
        f"{name_of(path)}: {found.group()}"
        for path in FILES
        for found in [pattern.search(path.read_bytes().decode("utf-8", "replace"))]
        if found
    ]


def test_no_path_of_one_machine_is_written_down() -> None:
    """The repository works wherever it lies."""
    nothing(findings(MACHINE_PATHS))


def test_no_registry_is_written_down() -> None:
    """Where packages come from is the machine's setting: the lock file has hashes, and no addresses."""
    nothing(findings(REGISTRY_HOSTS))


def test_the_commands_are_executable() -> None:
    """What a person or the gate starts has the bit for it and names its interpreter."""
    commands = [path for path in FILES if path.parent in (ROOT / "tools", ROOT / ".ci") and not path.suffix]

    assert {"test", "run"} <= {path.name for path in commands}
    nothing([name_of(path) for path in commands if not path.stat().st_mode & 0o111])
    nothing([name_of(path) for path in commands if not path.read_bytes().startswith(b"#!")])


def test_the_top_level_is_fixed() -> None:
    """Nothing lies at the top that the layout does not name."""
    assert {path.relative_to(ROOT).parts[0] for path in FILES} <= {
        ".ci", ".gitignore", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "fuzz", "pyproject.toml",
        "requirements-dev.txt", "tests", "tools", "walstore",
    }  # fmt: skip
