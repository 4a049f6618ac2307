"""The file systems that must keep the contract of the seam, each with a place for a directory in it.

The real one comes first: what it does is the contract, and the others are held to it.
"""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import attrs

from walstore._disk.os_fs import OsFileSystem
from walstore._disk.seam import Directory, File, FileSystem
from walstore.testing._wrapped import WrappedDirectory, WrappedFile, WrappedFileSystem
from walstore.testing.faults import FaultyFileSystem, NoBarriers
from walstore.testing.rollback import RollbackFileSystem
from walstore.testing.simulated import SimulatedFileSystem


@attrs.frozen
class World:
    """A file system, and a path in it that does not exist yet."""

    system: FileSystem
    path: str

    def directory(self) -> Directory:
        """The directory at the path, made if it is not there."""
        return self.system.open_directory(self.path, create=True)


def _simulated(_: Path) -> World:
    return World(SimulatedFileSystem(), "/base/store")


def _crashed(_: Path) -> World:
    """What comes out of a crash is a disk like any other."""
    disk = SimulatedFileSystem()
    disk.open_directory("/base", create=True).create("other").pwritev(0, [b"x" * 1000])
    return World(disk.crash(random.Random(1)), "/base/store")


class _PassingDirectory(WrappedDirectory):
    __slots__ = ()

    def open(self, name: str, *, write: bool = False) -> File:
        return WrappedFile(super().open(name, write=write))

    def create(self, name: str) -> File:
        return WrappedFile(super().create(name))


class _Passing(WrappedFileSystem):
    def open_directory(self, path: str, *, create: bool) -> Directory:
        return _PassingDirectory(super().open_directory(path, create=create))


WORLDS: dict[str, Callable[[Path], World]] = {
    "os": lambda base: World(OsFileSystem(), str(base / "store")),
    "rollback": lambda base: World(RollbackFileSystem(OsFileSystem(), str(base / "journal")), str(base / "store")),
    "simulated": _simulated,
    "crashed": _crashed,
    "faulty": lambda base: World(FaultyFileSystem(_simulated(base).system), "/base/store"),
    "wrapped": lambda base: World(_Passing(_simulated(base).system), "/base/store"),
    "no-barriers": lambda base: World(NoBarriers(_simulated(base).system), "/base/store"),
}


REAL = {"os", "rollback"}
"""Those that write to a real directory."""


def outcome(do: Callable[[], object]) -> object:
    """What a call gives, or the name of the error that it raises."""
    try:
        return do()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def in_child(do: Callable[[], int]) -> int:
    """The exit code of a forked child that does this and nothing else."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = do()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
