"""The input of the demo: the lines of some files, numbered from 0 through all of them.

A line's key in the store is `file:number`, its value the line's bytes with its end, so that the store holds the files
byte for byte.  The parent reads the files once and saves a copy for its children, who then all see the same.
"""

import json
import os
import sysconfig
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path

from walstore.kv import MAX_KEY_BYTES, MAX_VALUE_BYTES

_NAMES = "input.json"
_CONTENT = "input.bin"

_LEFT_OUT = {"__pycache__", "dist-packages", "idle_test", "site-packages", "test", "tests"}
"""Directories of the standard library: packages of others, and tests, which not every system installs."""


class UnusableInput(Exception):
    """The files do not make an input; the message says why."""


class Lines:
    """All lines of the named contents.  Compact: the bytes once, and eight bytes a line."""

    def __init__(self, files: Iterable[tuple[str, bytes]]) -> None:
        self._names: list[bytes] = []
        self._firsts: list[int] = []  # the number of each file's first line
        contents = []
        lengths = array("Q", [0])
        for name, content in files:
            if content:
                self._names.append(os.fsencode(name))
                self._firsts.append(len(lengths) - 1)
                lengths.extend(map(len, content.splitlines(keepends=True)))
                contents.append(content)
        if not contents:
            msg = "there are no lines in the input"
            raise UnusableInput(msg)
        if max(lengths) > MAX_VALUE_BYTES or max(map(len, self._names)) > MAX_KEY_BYTES - 20:
            msg = f"a line of more than {MAX_VALUE_BYTES} bytes, or a file name of more than {MAX_KEY_BYTES - 20}"
            raise UnusableInput(msg)
        self._ends = array("Q", accumulate(lengths))
        self._content = b"".join(contents)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def files(self) -> int:
        """How many files have lines."""
        return len(self._names)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self._content)

    def key(self, number: int) -> bytes:
        """The key of a line."""
        file = bisect_right(self._firsts, number) - 1
        return b"%b:%d" % (self._names[file], number - self._firsts[file] + 1)

    def value(self, number: int) -> bytes:
        """The bytes of a line."""
        return self._content[self._ends[number] : self._ends[number + 1]]

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of every line, in order."""
        content, ends = self._content, self._ends
        stops = [*self._firsts[1:], len(self)]
        for name, first, stop in zip(self._names, self._firsts, stops, strict=True):
            for number in range(first, stop):
                yield b"%b:%d" % (name, number - first + 1), content[ends[number] : ends[number + 1]]

    def save(self, directory: Path) -> None:
        """Writes a copy of the input for `load`."""
        stops = [self._ends[first] for first in (*self._firsts[1:], len(self))]
        rows = [(os.fsdecode(name), stop) for name, stop in zip(self._names, stops, strict=True)]
        (directory / _NAMES).write_text(json.dumps(rows))
        (directory / _CONTENT).write_bytes(self._content)

    @classmethod
    def load(cls, directory: Path) -> "Lines":
        """What `save` saved."""
        rows: list[tuple[str, int]] = json.loads((directory / _NAMES).read_text())
        content = (directory / _CONTENT).read_bytes()
        starts = [0, *(stop for _, stop in rows)]
        return cls((name, content[start:stop]) for (name, stop), start in zip(rows, starts, strict=False))


def standard_library() -> Iterator[tuple[str, bytes]]:
    """The sources of the running Python's standard library, in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    for directory, below, names in os.walk(root):
        below[:] = sorted(set(below) - _LEFT_OUT)
        for name in sorted(names):
            path = Path(directory, name)
            if name.endswith(".py") and path.is_file() and os.access(path, os.R_OK):
                yield path.relative_to(root).as_posix(), path.read_bytes()


def named_files(paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """These files, each once.  Raises UnusableInput if one cannot be read."""
    for path in dict.fromkeys(paths):
        try:
            yield path, Path(path).read_bytes()
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror}"
            raise UnusableInput(msg) from error
