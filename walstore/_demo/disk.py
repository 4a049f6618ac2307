"""The disk under a child: the real one, as slow as a common one, with before-images for power cuts.

On a fast disk a kill would hardly ever meet a write that is not synced yet, and a power cut would have nothing to take
back.  So each sync takes a few milliseconds here, as on a plain solid-state disk, and most kills meet one.
"""

import random
import time
from pathlib import Path

from walstore._config import StorageConfig
from walstore._disk.os_fs import OsFileSystem
from walstore._disk.seam import Directory, File, FileSystem
from walstore.testing._wrapped import WrappedDirectory, WrappedFile, WrappedFileSystem
from walstore.testing.faults import NoBarriers
from walstore.testing.rollback import RollbackFileSystem, RollbackReport, roll_back

CONFIG = StorageConfig(first_segment_size=256 << 10, segment_size=4 << 20)
"""Small segments, so that a short life sees several."""

SLOWEST_SYNC_SECONDS = 0.004


def _wait() -> None:
    time.sleep(random.uniform(0, SLOWEST_SYNC_SECONDS))


class _SlowFile(WrappedFile):
    __slots__ = ()

    def datasync(self) -> None:
        """See `File.datasync`."""
        _wait()
        self.inner.datasync()


class _SlowDirectory(WrappedDirectory):
    __slots__ = ()

    def open(self, name: str, *, write: bool = False) -> File:
        """See `Directory.open`."""
        return _SlowFile(self.inner.open(name, write=write))

    def create(self, name: str) -> File:
        """See `Directory.create`."""
        return _SlowFile(self.inner.create(name))

    def sync(self) -> None:
        """See `Directory.sync`."""
        _wait()
        self.inner.sync()


class SlowSyncs(WrappedFileSystem):
    """A file system whose syncs take their time, before they do anything."""

    def open_directory(self, path: str, *, create: bool) -> Directory:
        """See `FileSystem.open_directory`."""
        return _SlowDirectory(self.inner.open_directory(path, create=create))


def store_of(directory: Path) -> Path:
    """Where the store is, in the directory of a run."""
    return directory / "store"


def disk_of(directory: Path, *, barriers: bool) -> FileSystem:
    """The disk for a child.  Without barriers nothing ever counts as synced."""
    disk = RollbackFileSystem(OsFileSystem(), str(directory / "journal"))
    return SlowSyncs(disk) if barriers else NoBarriers(disk)


def cut_power(directory: Path, rng: random.Random) -> RollbackReport:
    """Takes back a random part of what the last child wrote and did not sync.  No child may be alive."""
    return roll_back(str(store_of(directory)), str(directory / "journal"), rng)
