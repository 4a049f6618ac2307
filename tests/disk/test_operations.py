"""The lint of disk discipline: a store that keeps it passes, and each barrier left out is found and named."""

import random
from collections.abc import Callable

import pytest

from tests.disk.small_disk import A, B
from walstore._disk.seam import Directory
from walstore.testing.operations import RULES, lint
from walstore.testing.simulated import SimulatedFileSystem


def new_disk() -> tuple[SimulatedFileSystem, Directory]:
    """An empty disk with a directory."""
    disk = SimulatedFileSystem()
    return disk, disk.open_directory("/s", create=True)


def rules_of(disk: SimulatedFileSystem, align: int = 1) -> list[str]:
    """The rules that the disk's operations break, in order."""
    return [finding.partition(":")[0] for finding in lint(disk.operations, align=align)]


def publish(directory: Directory, name: str, data: bytes) -> None:
    """A file made as it should be."""
    file = directory.create(f"{name}.tmp")
    file.pwritev(0, [data])
    file.datasync()
    directory.rename(f"{name}.tmp", name)
    directory.sync()
    file.close()


def test_a_good_store_passes() -> None:
    """Temporary, sync, rename, sync; append, sync; the next file, then the old one goes; a spare meanwhile."""
    disk, directory = new_disk()
    publish(directory, "a", A + bytes(4096))
    log = directory.open("a", write=True)
    log.pwritev(len(A), [B])
    log.datasync()
    spare = directory.create("spare.tmp")
    spare.pwritev(0, [bytes(8192)])
    spare.datasync()
    log.pwritev(len(A + B), [B])
    log.datasync()
    log.truncate(len(A + B + B))
    log.datasync()
    publish(directory, "b", B)
    directory.unlink("a")
    directory.unlink("spare.tmp")
    directory.create("LOCK").pwritev(0, [b"pid"])
    directory.open("LOCK", write=True).pwritev(0, [b"another"])

    assert lint(disk.operations) == []


def test_a_finding_says_what_and_where() -> None:
    """The rule, the files, and the operation with its number."""
    disk, directory = new_disk()
    directory.create("a.tmp").pwritev(0, [A])
    directory.rename("a.tmp", "a")

    assert lint(disk.operations) == [
        "unsynced-rename: a.tmp is renamed, and its bytes are not durable (operation 3: rename /s/a.tmp -> a #1)"
    ]


def rename_unsynced_write(_: SimulatedFileSystem, directory: Directory) -> None:
    """Bytes written after the last sync."""
    file = directory.create("a.tmp")
    file.datasync()
    file.pwritev(0, [A])
    directory.rename("a.tmp", "a")


def rename_unsynced_length(_: SimulatedFileSystem, directory: Directory) -> None:
    """A length set after the last sync."""
    file = directory.create("a.tmp")
    file.pwritev(0, [A])
    file.datasync()
    file.truncate(3)
    directory.rename("a.tmp", "a")


def rename_unsynced_empty(_: SimulatedFileSystem, directory: Directory) -> None:
    """An empty file whose emptiness nobody synced."""
    directory.create("a.tmp")
    directory.rename("a.tmp", "a")


def append_under_unsynced_name(_: SimulatedFileSystem, directory: Directory) -> None:
    """Acknowledged under a name that may be lost."""
    file = directory.create("a.tmp")
    file.pwritev(0, [A])
    file.datasync()
    directory.rename("a.tmp", "a")
    file.pwritev(len(A), [A])
    file.datasync()


def append_twice_to_new_file(_: SimulatedFileSystem, directory: Directory) -> None:
    """A file made under its own name, synced twice before its name is."""
    file = directory.create("a")
    file.pwritev(0, [A])
    file.datasync()
    file.pwritev(len(A), [A])
    file.datasync()


def acknowledge_by_another_file(_: SimulatedFileSystem, directory: Directory) -> None:
    """A snapshot is renamed, and the log says so before the name is durable."""
    publish(directory, "log", A)
    snapshot = directory.create("snap.tmp")
    snapshot.datasync()
    directory.rename("snap.tmp", "snap")
    log = directory.open("log", write=True)
    log.pwritev(len(A), [A])
    log.datasync()


def unlink_before_the_successor_is_durable(_: SimulatedFileSystem, directory: Directory) -> None:
    """The old one goes first."""
    publish(directory, "a", A)
    file = directory.create("b.tmp")
    file.datasync()
    directory.rename("b.tmp", "b")
    directory.unlink("a")


def unlink_beside_a_new_file(_: SimulatedFileSystem, directory: Directory) -> None:
    """The old one goes while its successor, made under its own name, may be lost."""
    publish(directory, "a", A)
    directory.create("b")
    directory.unlink("a")


def rewrite_durable_bytes(_: SimulatedFileSystem, directory: Directory) -> None:
    """The same place again."""
    publish(directory, "a", A + A)
    directory.open("a", write=True).pwritev(len(A) + 3, [b"x"])


def cut_durable_bytes(_: SimulatedFileSystem, directory: Directory) -> None:
    """An acknowledged end is cut off."""
    publish(directory, "a", A + A)
    directory.open("a", write=True).truncate(len(A))


def write_after_failed_sync(disk: SimulatedFileSystem, directory: Directory) -> None:
    """The fsync trap."""
    file = directory.create("a.tmp")
    disk.fail_sync()
    with pytest.raises(OSError):
        file.datasync()
    file.pwritev(0, [A])


def sync_after_failed_sync(disk: SimulatedFileSystem, directory: Directory) -> None:
    """The fsync trap, second form."""
    file = directory.create("a.tmp")
    disk.fail_sync()
    with pytest.raises(OSError):
        file.datasync()
    file.datasync()


def fail_twice(disk: SimulatedFileSystem, directory: Directory) -> None:
    """The fsync trap, third form."""
    file = directory.create("a.tmp")
    for _ in range(2):
        disk.fail_sync()
        with pytest.raises(OSError):
            file.datasync()


def resize_after_failed_sync(disk: SimulatedFileSystem, directory: Directory) -> None:
    """The fsync trap, fourth form."""
    file = directory.create("a.tmp")
    disk.fail_sync()
    with pytest.raises(OSError):
        file.datasync()
    file.allocate(100)


@pytest.mark.parametrize(
    ("sin", "rule"),
    [
        (rename_unsynced_write, "unsynced-rename"),
        (rename_unsynced_length, "unsynced-rename"),
        (rename_unsynced_empty, "unsynced-rename"),
        (append_under_unsynced_name, "unsynced-name"),
        (append_twice_to_new_file, "unsynced-name"),
        (acknowledge_by_another_file, "unsynced-name"),
        (unlink_before_the_successor_is_durable, "early-unlink"),
        (unlink_beside_a_new_file, "early-unlink"),
        (rewrite_durable_bytes, "rewrite"),
        (cut_durable_bytes, "cut"),
        (write_after_failed_sync, "after-failure"),
        (sync_after_failed_sync, "after-failure"),
        (fail_twice, "after-failure"),
        (resize_after_failed_sync, "after-failure"),
    ],
)
def test_each_sin_has_its_rule(sin: Callable[[SimulatedFileSystem, Directory], None], rule: str) -> None:
    """One barrier left out, one finding of its rule; and none if that rule is not asked."""
    disk, directory = new_disk()
    sin(disk, directory)

    assert rules_of(disk) == [rule]
    assert lint(disk.operations, ignore={rule}) == []
    assert rule in RULES


def test_files_of_a_former_life_are_not_touched() -> None:
    """A list that begins after a crash shows each write into a file that was there before."""
    disk, directory = new_disk()
    publish(directory, "a", A)
    after = disk.crash(random.Random(1))
    again = after.open_directory("/s", create=False)
    again.open("a", write=True).pwritev(len(A), [A])
    again.open("a", write=True).truncate(len(A))
    publish(again, "b", A)
    again.unlink("a")

    assert rules_of(after) == ["old-file", "old-file"]


def test_an_old_file_may_be_renamed_as_it_is() -> None:
    """Bytes of a former life are as durable as they will be."""
    disk, directory = new_disk()
    publish(directory, "a", A)
    after = disk.crash_keeping_nothing()
    again = after.open_directory("/s", create=False)
    again.rename("a", "b")
    again.sync()

    assert rules_of(after) == []


@pytest.mark.parametrize(("align", "found"), [(1, []), (512, ["rewrite"])])
def test_a_block_with_durable_bytes_is_not_written_again(align: int, found: list[str]) -> None:
    """With `align`, an append into the block that an acknowledged write ended in is a rewrite."""
    disk, directory = new_disk()
    publish(directory, "a", b"x" * 100 + bytes(2000))
    file = directory.open("a", write=True)
    file.pwritev(100, [b"y" * 50])
    file.datasync()
    file.pwritev(1024, [b"z"])

    assert rules_of(disk, align) == found


def test_what_was_not_synced_may_be_written_again() -> None:
    """Only durable bytes are protected, and zero fill is none of them."""
    disk, directory = new_disk()
    file = directory.create("a.tmp")
    file.pwritev(0, [bytes(4096)])
    file.datasync()
    directory.rename("a.tmp", "a")
    directory.sync()
    file.pwritev(0, [A])
    file.pwritev(0, [B])
    file.datasync()
    file.pwritev(1024, [A])
    file.datasync()

    assert rules_of(disk) == []


def test_a_temporary_file_may_be_written_and_cut_at_will() -> None:
    """Nothing in it is relied on yet, synced or not; from its rename on, all of it is."""
    disk, directory = new_disk()
    file = directory.create("a.tmp")
    for data in (A + A, B):
        file.pwritev(0, [data])
        file.datasync()
    file.truncate(100)
    file.datasync()
    assert rules_of(disk) == []

    directory.rename("a.tmp", "a")
    directory.sync()
    file.pwritev(100, [b"x"])
    assert rules_of(disk) == []
    file.pwritev(99, [b"x"])
    assert rules_of(disk) == ["rewrite"]


def test_many_ranges_stay_known() -> None:
    """Bytes of every earlier sync are protected, in whatever order they were written."""
    disk, directory = new_disk()
    publish(directory, "a", b"")
    file = directory.open("a", write=True)
    for offset in (400, 0, 200, 100, 300):
        file.pwritev(offset, [b"x" * 50])
        file.pwritev(offset + 10, [b"x" * 10])
        file.datasync()
    assert rules_of(disk) == []

    file.pwritev(60, [b"x" * 10])
    file.datasync()
    assert rules_of(disk) == []
    for offset in (49, 120, 449):
        file.pwritev(offset, [b"y"])
    assert rules_of(disk) == ["rewrite"] * 3


def test_a_replaced_name_is_no_longer_waited_for() -> None:
    """A name that was taken over, or away, before it was durable is nothing to sync; the one that took it over is."""
    disk, directory = new_disk()
    publish(directory, "log", A)
    for name, target in (("x", "a"), ("y", "a"), ("z", "b")):
        file = directory.create(f"{name}.tmp")
        file.datasync()
        directory.rename(f"{name}.tmp", target)
    directory.unlink("b")
    assert rules_of(disk) == ["early-unlink"]

    directory.open("log", write=True).datasync()
    assert rules_of(disk) == ["early-unlink", "unsynced-name"]


def test_a_file_that_is_put_away_is_temporary_again() -> None:
    """Renamed to a temporary name, synced or not, it is nothing that anyone relies on."""
    disk, directory = new_disk()
    publish(directory, "a", A)
    directory.open("a", write=True).pwritev(len(A), [B])
    directory.rename("a", "a.tmp")
    directory.open("a.tmp", write=True).pwritev(0, [B])

    assert rules_of(disk) == []


def test_directories_are_apart() -> None:
    """A sync of one directory is none of another, and what is pending in one holds nobody up in another."""
    disk, directory = new_disk()
    other = disk.open_directory("/t", create=True)
    file = directory.create("a.tmp")
    file.datasync()
    directory.rename("a.tmp", "a")
    publish(other, "b", A)
    other.open("b").datasync()
    other.unlink("b")
    other.sync()
    assert rules_of(disk) == []

    file.pwritev(0, [A])
    file.datasync()
    assert rules_of(disk) == ["unsynced-name"]
