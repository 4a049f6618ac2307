"""How a crash is chosen: by chance, by a function, at the two ends; and what a sync that failed leaves."""

import errno
import random

import pytest

from tests.disk.small_disk import ZERO, A, B, C, disk_with, outcomes, same, state
from walstore.testing._simulated_file import PAGE, SECTOR
from walstore.testing.simulated import SimulatedFileSystem

# -- chance and choice


def busy_disk() -> SimulatedFileSystem:
    """A disk with a little of everything pending."""
    disk, directory = disk_with(a=A + A, b=B)
    directory.open("a", write=True).pwritev(100, [C])
    directory.open("b", write=True).truncate(10)
    directory.rename("b", "c")
    directory.create("d").pwritev(0, [b"dd"])
    return disk


def test_chance_finds_all_that_is_possible_and_nothing_else() -> None:
    """Sampled crashes are among the enumerated ones, and many samples reach every one of them."""
    disk = busy_disk()
    possible = {frozenset(one.items()) for one in outcomes(disk)}

    generator = random.Random(1)
    sampled = {frozenset(state(disk.crash(generator)).items()) for _ in range(20_000)}

    assert sampled == possible
    assert len(possible) == len(outcomes(disk))


def test_the_same_chance_gives_the_same_crash() -> None:
    """A seed is enough to see a crash again."""
    disk = busy_disk()

    assert state(disk.crash(random.Random(5))) == state(disk.crash(random.Random(5)))


def test_the_two_ends() -> None:
    """Keeping nothing is what was synced; keeping everything is what a reader sees."""
    disk = busy_disk()

    assert state(disk.crash_keeping_nothing()) == {"a": A + A, "b": B}
    assert state(disk.crash_keeping_everything()) == state(disk)


def test_the_two_ends_where_a_length_came_back() -> None:
    """A file that grew and was cut again has its old length at both ends, and another one in between."""
    disk, directory = disk_with(a=A)
    file = directory.open("a", write=True)
    file.truncate(2 * SECTOR)
    file.truncate(SECTOR)

    assert state(disk.crash_keeping_nothing()) == state(disk.crash_keeping_everything()) == {"a": A}
    same(outcomes(disk), [{"a": A}, {"a": A + ZERO}])


def test_a_choice_is_asked_by_name_length_and_sector() -> None:
    """A function is asked for each thing that may go either way, with how many versions it has."""
    disk = busy_disk()
    asked = []

    def choose(kind: str, path: str, offset: int, count: int) -> int:
        asked.append((kind, path, offset, count))
        return count - 1

    disk.crash(choose)

    assert asked == [
        ("name", "/s/c", 0, 2),
        ("name", "/s/b", 0, 2),
        ("name", "/s/d", 0, 2),
        ("sector", "/s/a", 0, 2),
        ("sector", "/s/a", SECTOR, 2),
        ("size", "/s/c", 0, 2),
        ("sector", "/s/c", 0, 2),
        ("size", "/s/d", 0, 2),
        ("sector", "/s/d", 0, 2),
    ]


def test_a_file_with_two_names_is_asked_for_once() -> None:
    """Under both of its names it has the same bytes."""
    disk, directory = disk_with(a=A)
    directory.open("a", write=True).pwritev(0, [B])
    directory.rename("a", "b")
    asked = []

    def choose(kind: str, path: str, _offset: int, _count: int) -> int:
        asked.append(kind)
        return 0 if (kind, path) == ("name", "/s/a") else 1

    after = disk.crash(choose)

    assert asked == ["name", "name", "sector"]
    assert state(after) == {"a": B, "b": B}


def test_a_choice_that_would_lose_a_file_has_the_rename_done() -> None:
    """Old name gone and new one not there is not allowed, through a chain of renames too."""
    disk, directory = disk_with(a=A)
    directory.rename("a", "b")
    directory.rename("b", "c")

    after = disk.crash(lambda kind, path, _offset, count: count - 1 if (kind, path) == ("name", "/s/a") else 0)

    assert state(after) == {"b": A}


# -- a sync that fails


def test_a_failed_sync_leaves_clean_pages_that_are_not_on_the_disk() -> None:
    """The fsync trap: an error, then bytes that read well and a sync that succeeds, and a power cut takes them."""
    disk, directory = disk_with(a=A + A)
    file = directory.open("a", write=True)
    file.pwritev(0, [B])
    disk.fail_sync("a")

    with pytest.raises(OSError) as caught:
        file.datasync()
    assert caught.value.errno == errno.EIO
    assert file.pread(0, 2 * SECTOR) == B + A
    file.datasync()
    same(outcomes(disk), [{"a": A + A}])

    file.drop_cache()
    assert file.pread(0, 2 * SECTOR) == A + A


def test_after_a_failed_sync_only_a_new_write_of_the_page_helps() -> None:
    """Writing the lost page again, and syncing, puts all of the page on the disk; other lost pages stay lost."""
    disk, directory = disk_with(a=A * 24)
    file = directory.open("a", write=True)
    file.pwritev(0, [B])
    file.pwritev(2 * PAGE, [B])
    disk.fail_sync("*", OSError(errno.ENOSPC, "full"))
    with pytest.raises(OSError, match="full"):
        file.datasync()

    file.pwritev(SECTOR, [C])
    possible = outcomes(disk)
    assert {"a": A * 24} in possible
    assert {"a": B + C + A * 22} in possible
    assert all(one["a"][2 * PAGE :] == A * 8 for one in possible)
    assert len(possible) == 4
    file.drop_cache()  # which does not drop what is still to be written
    assert file.pread(0, 2 * SECTOR) == B + C

    file.datasync()
    same(outcomes(disk), [{"a": B + C + A * 22}])
    file.drop_cache()
    assert state(disk) == {"a": B + C + A * 22}


def test_a_lost_length_stays_lost_until_the_next_change() -> None:
    """An append whose sync failed is gone after the cut; the next synced append brings the length, not the bytes."""
    disk, directory = disk_with(a=A)
    file = directory.open("a", write=True)
    file.pwritev(SECTOR, [B * 8])
    disk.fail_sync()
    with pytest.raises(OSError):
        file.datasync()
    same(outcomes(disk), [{"a": A}])

    file.pwritev(2 * PAGE, [C])
    file.datasync()
    same(outcomes(disk), [{"a": A + ZERO * 15 + C}])


def test_all_written_again_is_as_if_nothing_had_failed() -> None:
    """Once every lost page was written again and synced, the disk holds what readers see."""
    disk, directory = disk_with(a=A)
    file = directory.open("a", write=True)
    file.pwritev(0, [B])
    disk.fail_sync()
    with pytest.raises(OSError):
        file.datasync()
    file.drop_cache()
    file.pwritev(0, [B])
    file.drop_cache()
    file.datasync()

    same(outcomes(disk), [{"a": B}])
    file.pwritev(0, [C])
    same(outcomes(disk), [{"a": B}, {"a": C}])


def test_a_sync_failure_is_for_the_file_that_was_named() -> None:
    """Other files are synced as ever, and the failure waits."""
    disk, directory = disk_with(a=A, b=A)
    disk.fail_sync("b")
    for name in ("a", "b"):
        directory.open(name, write=True).pwritev(0, [B])

    directory.open("a").datasync()
    with pytest.raises(OSError):
        directory.open("b").datasync()
    directory.open("b").datasync()
    same(outcomes(disk), [{"a": B, "b": A}])
