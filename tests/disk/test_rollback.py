"""The power cut of a real directory does what it does to a simulated disk, wherever the process was killed."""

import os
import random
import signal
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.disk.test_random_calls import Machine
from tests.disk.worlds import in_child
from walstore._disk.os_fs import OsFileSystem
from walstore._disk.seam import FileSystem
from walstore.testing.faults import CHANGES, Call, FaultyFileSystem, NoBarriers
from walstore.testing.rollback import RollbackFileSystem, RollbackReport, roll_back
from walstore.testing.simulated import SimulatedFileSystem

pytestmark = pytest.mark.realfs

Choice = Callable[[str, str, int, int], int]


class Killed(BaseException):
    """What SIGKILL is to a simulated process."""


def nothing(_kind: str, _path: str, _offset: int, _count: int) -> int:
    """Keep only what was synced."""
    return 0


def everything(_kind: str, _path: str, _offset: int, count: int) -> int:
    """Keep all that was written."""
    return count - 1


def mixture(seed: int) -> Choice:
    """Something between, which does not depend on the order of asking: by the name, or by the place in a file."""

    def choose(kind: str, path: str, offset: int, count: int) -> int:
        what = os.path.basename(path) if kind == "name" else str(offset)
        return zlib.crc32(f"{seed} {kind} {what}".encode()) % count

    return choose


CHOICES = [nothing, everything, mixture(1), mixture(2)]


def contents(store: Path) -> dict[str, bytes]:
    """What is in a real directory."""
    return {path.name: path.read_bytes() for path in store.iterdir()}


def simulated_contents(disk: SimulatedFileSystem) -> dict[str, bytes]:
    """What is in the simulated one."""
    directory = disk.open_directory("/store", create=False)
    return {name: directory.open(name).pread(0, 1 << 20) for name in directory.names()}


def work(system: FileSystem, path: str, seed: int, steps: int) -> None:
    """Random calls, without looking at their outcomes, and nothing closed."""
    machine = Machine(system.open_directory(path, create=True), seed)
    for _ in range(steps):
        machine.step()


def worker(seed: int, steps: int) -> Callable[[FileSystem, str], None]:
    """`work` with its numbers given."""
    return lambda system, path: work(system, path, seed, steps)


class KillBefore:
    """A hook that ends the process before the change of this number, counted from 0."""

    def __init__(self, number: int, die: Callable[[], object]) -> None:
        self.left = number
        self.die = die

    def __call__(self, call: Call) -> None:
        """Counts changes, and what may be one; looking is none, for a rollback looks more often."""
        if call.operation in CHANGES | {"open_directory", "open"}:
            if self.left == 0:
                self.die()
            self.left -= 1


def die_for_real() -> None:
    """SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def die() -> None:
    """The same for a simulated process."""
    raise Killed


def killed_for_real(base: Path, do: Callable[[FileSystem, str], None], *, before: int = -1) -> None:
    """Does this in a child on the real disk, which is killed before one change, or in the end."""

    def run() -> int:
        disk = FaultyFileSystem(OsFileSystem())
        disk.hook = KillBefore(before, die_for_real)
        do(RollbackFileSystem(disk, str(base / "journal")), str(base / "store"))
        die_for_real()
        return 0

    assert in_child(run) == -signal.SIGKILL


def roll(base: Path, choice: random.Random | Choice) -> RollbackReport:
    """The power cut."""
    return roll_back(str(base / "store"), str(base / "journal"), choice)


# -- the same as a simulated disk


@pytest.mark.parametrize("seed", range(32))
def test_it_leaves_what_a_simulated_disk_leaves(tmp_path: Path, seed: int) -> None:
    """After the same random calls and the same choices, both have the same names with the same bytes."""
    choice = CHOICES[seed % len(CHOICES)]
    disk = SimulatedFileSystem()
    work(disk, "/store", seed, 60)
    killed_for_real(tmp_path, worker(seed, 60))

    roll(tmp_path, choice)

    assert contents(tmp_path / "store") == simulated_contents(disk.crash(choice))
    assert list((tmp_path / "journal").iterdir()) == []


@pytest.mark.parametrize("before", range(1, 40))
def test_a_kill_at_any_moment(tmp_path: Path, before: int) -> None:
    """The process is killed between noting a change and doing it, at each change of a run."""
    for seed, choice in enumerate(CHOICES):
        disk = SimulatedFileSystem()
        faulty = FaultyFileSystem(disk)
        faulty.hook = KillBefore(before, die)
        with pytest.raises(Killed):
            work(faulty, "/store", seed, 70)

        base = tmp_path / str(seed)
        base.mkdir()
        killed_for_real(base, worker(seed, 70), before=before)
        roll(base, choice)
        assert contents(base / "store") == simulated_contents(disk.crash(choice))


@pytest.mark.parametrize("seed", range(10))
def test_without_a_cut_the_next_life_goes_on(tmp_path: Path, seed: int) -> None:
    """A kill alone loses nothing and makes nothing durable: several lives and then a cut are as one life and a cut."""
    disk = SimulatedFileSystem()
    for life in range(3):
        work(disk, "/store", seed * 10 + life, 30)
        killed_for_real(tmp_path, worker(seed * 10 + life, 30))
        assert contents(tmp_path / "store") == simulated_contents(disk)
    choice = mixture(seed)

    roll(tmp_path, choice)

    assert contents(tmp_path / "store") == simulated_contents(disk.crash(choice))


@pytest.mark.parametrize("seed", range(5))
def test_cuts_in_a_row(tmp_path: Path, seed: int) -> None:
    """What a cut left counts as durable: lives and cuts in turn are as on a simulated disk."""
    disk = SimulatedFileSystem()
    for life in range(4):
        work(disk, "/store", seed * 10 + life, 30)
        killed_for_real(tmp_path, worker(seed * 10 + life, 30))
        disk = disk.crash(mixture(life))
        roll(tmp_path, mixture(life))
        assert contents(tmp_path / "store") == simulated_contents(disk)


@pytest.mark.parametrize("choice", CHOICES, ids=["nothing", "everything", "mixture", "other mixture"])
def test_without_barriers_nothing_is_ever_durable(tmp_path: Path, choice: Choice) -> None:
    """With NoBarriers on top, syncs come to nothing, and all may be lost."""
    disk = SimulatedFileSystem()
    work(NoBarriers(disk), "/store", 5, 60)
    killed_for_real(tmp_path, lambda system, path: work(NoBarriers(system), path, 5, 60))

    roll(tmp_path, choice)

    assert contents(tmp_path / "store") == simulated_contents(disk.crash(choice))
    if choice is nothing:
        assert contents(tmp_path / "store") == {}


def test_a_failed_sync_makes_nothing_durable(tmp_path: Path) -> None:
    """Only a sync that succeeded trims what is noted; a call that failed is not noted."""

    def run(system: FileSystem, path: str) -> None:
        assert isinstance(system, RollbackFileSystem)
        assert isinstance(system.inner, FaultyFileSystem)
        directory = system.open_directory(path, create=True)
        file = directory.create("a")
        directory.sync()
        file.pwritev(0, [b"x"])
        directory.create("b")
        for operation in ("datasync", "sync", "rename", "unlink"):
            system.inner.fail(operation, error=OSError(5, operation))
        for call in (file.datasync, directory.sync, lambda: directory.rename("a", "c"), lambda: directory.unlink("a")):
            with pytest.raises(OSError, match=r"sync|rename|unlink"):
                call()

    killed_for_real(tmp_path, run)
    report = roll(tmp_path, nothing)

    assert contents(tmp_path / "store") == {"a": b""}
    assert report == RollbackReport(
        files=1, sectors=1, sectors_lost=0, lengths=1, lengths_lost=1, names=1, names_lost=1
    )


# -- by chance, and in figures


def test_chance_repeats_by_seed(tmp_path: Path) -> None:
    """The same calls and the same seed leave the same, and different seeds different things."""
    left = []
    for number, seed in enumerate((1, 1, 2, 3)):
        base = tmp_path / str(number)
        base.mkdir()
        killed_for_real(base, lambda system, path: work(NoBarriers(system), path, 9, 80))
        roll(base, random.Random(seed))
        left.append(contents(base / "store"))

    assert left[0] == left[1]
    assert len({str(one) for one in left}) == 3


def test_the_report_counts(tmp_path: Path) -> None:
    """Sectors, lengths and names that were pending, and how many of each are gone."""

    def run(system: FileSystem, path: str) -> None:
        directory = system.open_directory(path, create=True)
        file = directory.create("a")
        file.pwritev(0, [bytes(4096)])
        file.datasync()
        directory.create("old")
        directory.sync()
        file.pwritev(0, [b"x" * 1024])
        file.pwritev(4096, [b"y" * 10])
        directory.rename("old", "new")

    killed_for_real(tmp_path, run)
    report = roll(tmp_path, lambda kind, _path, offset, count: 0 if kind == "sector" and offset == 0 else count - 1)

    assert report == RollbackReport(
        files=1, sectors=3, sectors_lost=1, lengths=1, lengths_lost=0, names=2, names_lost=0
    )
    assert report.lost == 1
    assert contents(tmp_path / "store") == {"a": bytes(512) + b"x" * 512 + bytes(3072) + b"y" * 10, "new": b""}


def test_a_store_without_a_journal_is_left_alone(tmp_path: Path) -> None:
    """Nothing is known of it, so nothing is undone."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a").write_bytes(b"x")

    assert roll(tmp_path, nothing) == RollbackReport()
    assert contents(tmp_path / "store") == {"a": b"x"}


def test_only_the_store_itself_is_cut(tmp_path: Path) -> None:
    """Another directory of the same file system has journals of its own; odd things in the store stay."""

    def run(system: FileSystem, path: str) -> None:
        system.open_directory(path, create=True).create("a")
        system.open_directory(path + "2", create=True).create("b")

    killed_for_real(tmp_path, run)
    os.mkfifo(tmp_path / "store" / "fifo")
    roll(tmp_path, nothing)

    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["fifo"]
    assert contents(tmp_path / "store2") == {"b": b""}
    roll_back(str(tmp_path / "store2"), str(tmp_path / "journal"), nothing)
    assert contents(tmp_path / "store2") == {}
