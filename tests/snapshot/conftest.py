"""The disks of the snapshot tests: each test runs on the simulated one and on the real one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from walstore._disk.os_fs import OsFileSystem
from walstore._disk.seam import Directory
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem


@pytest.fixture(params=["simulated", pytest.param("os", marks=pytest.mark.realfs)])
def disk(request: pytest.FixtureRequest) -> FaultyFileSystem:
    """A file system that can be made to fail."""
    return FaultyFileSystem(SimulatedFileSystem() if request.param == "simulated" else OsFileSystem())


@pytest.fixture
def directory(disk: FaultyFileSystem, tmp_path: Path) -> Iterator[Directory]:
    """An empty directory on it."""
    opened = disk.open_directory(str(tmp_path / "store"), create=True)
    disk.calls.clear()
    yield opened
    disk.hook = None
    opened.close()
