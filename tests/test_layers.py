"""The import law: arrows only downwards, and the pure column stays pure.  The contracts are in pyproject.toml."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent

PURE = {
    "array": "columns of numbers",
    "attrs": "values",
    "bisect": "search in a column",
    "collections": "types and containers",
    "collections.abc": "types",
    "contextlib": "types",
    "crc32c": "in checksum.py alone",
    "enum": "names for numbers",
    "functools": "tables made once",
    "itertools": "iteration",
    "math": "the arithmetic of checksums",
    "operator": "iteration",
    "re": "file names",
    "struct": "bytes",
    "sys": "the byte order of a column",
    "types": "read-only tables",
    "typing": "types",
}


def lint_imports(checkout: Path) -> tuple[int, str]:
    """The exit code and the report of import-linter, run in `checkout` as the gate runs it."""
    command = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def imports_of(path: Path) -> set[str]:
    """What a file imports, at any depth of nesting, with relative names spelled as they are (`..errors`)."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add("." * node.level + node.module)
        elif isinstance(node, ast.ImportFrom):
            found.update("." * node.level + alias.name for alias in node.names)
    return found


def test_the_law_is_kept() -> None:
    """Every import of the package points downwards."""
    code, report = lint_imports(ROOT)

    assert code == 0, report
    assert "4 kept, 0 broken" in report


@attrs.frozen
class Breach:
    """A line that may not stand in a file, and the contract that it breaks."""

    file: str
    line: str
    contract: str


LAYERS = "arrows only downwards"
PURITY = "the log knows no input and no output"
TRIO = "only the roof knows trio"
PLACE = "the disk knows no meaning"

BREACHES = [
    Breach("walstore/_log/frame.py", "import os", PURITY),
    Breach("walstore/_log/frame.py", "import io", PURITY),
    Breach("walstore/_log/frame.py", "import trio", PURITY),
    Breach("walstore/_log/frame.py", "from pathlib import Path", PURITY),
    Breach("walstore/_log/frame.py", "import threading", PURITY),
    Breach("walstore/_log/frame.py", "from time import monotonic", PURITY),
    Breach("walstore/_log/frame.py", "def late():\n    import random", PURITY),
    Breach("walstore/_log/frame.py", "import socket", PURITY),
    Breach("walstore/_log/frame.py", "import subprocess", PURITY),
    Breach("walstore/_types.py", "import os  # which _log would reach through here", PURITY),
    Breach("walstore/_log/frame.py", "from .._disk import seam", LAYERS),
    Breach("walstore/_log/frame.py", "from .. import abc", LAYERS),
    Breach("walstore/_disk/seam.py", "import trio", TRIO),
    Breach("walstore/_disk/seam.py", "from .._log import frame", LAYERS),
    Breach("walstore/_disk/seam.py", "from .._types import Entry", PLACE),
    Breach("walstore/_types.py", "from ._log import frame", LAYERS),
    Breach("walstore/abc.py", "from . import testing", LAYERS),
    Breach("walstore/errors.py", "from . import _types", LAYERS),
    Breach("walstore/somewhere.py", "X = 1  # a file that no layer names", LAYERS),
]


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: f"{breach.file}: {breach.line.split('#')[0].strip()}")
def test_the_law_bites(breach: Breach, tmp_path: Path) -> None:
    """A forbidden import in a copy of the package turns its contract red, the indirect ones included."""
    shutil.copytree(ROOT / "walstore", tmp_path / "walstore", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / breach.file).open("a") as file:
        file.write(f"\n{breach.line}\n")

    code, report = lint_imports(tmp_path)

    assert code == 1, report
    assert f"{breach.contract} BROKEN" in report


def test_the_pure_column_imports_only_what_is_listed() -> None:
    """`_log` uses a short list of modules from outside; whoever needs another one adds it with a reason."""
    outside = {
        f"{path.name}: {name}"
        for path in (ROOT / "walstore/_log").glob("*.py")
        for name in imports_of(path)
        if not name.startswith(".") and name not in PURE
    }

    assert outside == set()


def test_the_checksum_is_called_in_one_place() -> None:
    """Only `_log/checksum.py` knows which library computes it, so that it can be exchanged there."""
    users = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "walstore").rglob("*.py") if "crc32c" in imports_of(path)
    }

    assert users == {"walstore/_log/checksum.py"}


def test_errors_import_nothing() -> None:
    """Everybody may raise from `errors`, so it leans on nobody."""
    assert imports_of(ROOT / "walstore/errors.py") == set()


def test_the_testing_package_needs_no_test_runner() -> None:
    """An implementer runs the kit under any runner: `walstore.testing` imports neither pytest nor Hypothesis."""
    runners = {"pytest", "hypothesis", "unittest", "_pytest", "coverage"}
    users = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "walstore").rglob("*.py")
        for name in imports_of(path)
        if name.split(".")[0] in runners
    }

    assert users == set()
