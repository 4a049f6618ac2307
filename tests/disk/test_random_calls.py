"""Random calls have the same outcomes on the real file system and on everything that stands in for it."""

import random
from pathlib import Path

import pytest

from tests.disk.worlds import WORLDS, outcome
from walstore._disk.seam import Directory, File

pytestmark = pytest.mark.realfs


class Machine:
    """Random calls of one directory, each described by its outcome."""

    def __init__(self, directory: Directory, seed: int) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.files: list[File] = []

    def step(self) -> object:
        """One call."""
        draw = self.random
        name, other, data = draw.choice("abc"), draw.choice("abc"), draw.randbytes(draw.randrange(1500))
        offset, file = draw.randrange(3000), draw.randrange(len(self.files)) if self.files else -1
        kind = draw.randrange(12)
        if kind == 0:
            return outcome(lambda: self.keep(self.directory.create(name)))
        if kind == 1:
            return outcome(lambda: self.keep(self.directory.open(name, write=True)))
        if kind == 2:
            return outcome(lambda: self.directory.rename(name, other))
        if kind == 3:
            return outcome(lambda: self.directory.unlink(name))
        if kind == 4:
            return outcome(self.directory.names)
        if kind == 5:
            return outcome(self.directory.sync)
        if file < 0:
            return None
        return outcome(lambda: self.touch(self.files[file], kind, offset, data))

    def keep(self, file: File) -> None:
        """Keeps a handle for later calls."""
        self.files.append(file)

    def touch(self, file: File, kind: int, offset: int, data: bytes) -> object:
        """One call of a file."""
        if kind == 6:
            file.truncate(offset)
        elif kind == 7:
            file.allocate(offset)
        elif kind == 8:
            file.datasync()
        elif kind < 11:
            file.pwritev(offset, [data[:7], data[7:]])
        return file.size(), file.pread(offset // 2, 2000)

    def run(self, steps: int) -> list[object]:
        """The outcomes, and what is there in the end."""
        outcomes = [self.step() for _ in range(steps)]
        for name in self.directory.names():
            self.keep(self.directory.open(name))
            outcomes.append((name, self.files[-1].pread(0, 10_000)))
        for file in self.files:
            file.close()
        return outcomes


@pytest.mark.parametrize("seed", range(12))
def test_random_calls_have_the_same_outcome_everywhere(tmp_path: Path, seed: int) -> None:
    """Every stand-in answers a long random sequence of calls exactly as the real file system does, errors included."""
    outcomes = {}
    for name, make in WORLDS.items():
        (tmp_path / name).mkdir()
        directory = make(tmp_path / name).directory()
        outcomes[name] = Machine(directory, seed).run(150)
        directory.close()

    for name in WORLDS:
        assert outcomes[name] == outcomes["os"], name
