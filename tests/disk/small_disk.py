"""Small simulated disks, and all states that a power cut may leave of them."""

from walstore._disk.seam import Directory
from walstore.testing._simulated_file import SECTOR
from walstore.testing.crashes import enumerate_crashes
from walstore.testing.simulated import SimulatedFileSystem

A, B, C = (letter * SECTOR for letter in (b"A", b"B", b"C"))
ZERO = bytes(SECTOR)

State = dict[str, bytes]


def disk_with(**files: bytes) -> tuple[SimulatedFileSystem, Directory]:
    """A disk whose one directory durably holds these files."""
    disk = SimulatedFileSystem()
    directory = disk.open_directory("/s", create=True)
    for name, data in files.items():
        file = directory.create(name)
        file.pwritev(0, [data])
        file.datasync()
    directory.sync()
    return disk, directory


def state(disk: SimulatedFileSystem) -> State:
    """What is in the directory."""
    directory = disk.open_directory("/s", create=False)
    return {name: directory.open(name).pread(0, 1 << 20) for name in directory.names()}


def outcomes(disk: SimulatedFileSystem) -> list[State]:
    """Every state after a power cut now, each once."""
    states = enumerate_crashes(disk, bound=100_000)
    assert states.exhaustive
    return [state(after) for after in states]


def same(found: list[State], expected: list[State]) -> None:
    """Passes if both hold the same states, and none of them twice."""
    key = lambda one: sorted(one.items())  # noqa: E731 - a name for the one thing that sorts states
    assert sorted(found, key=key) == sorted(expected, key=key)
