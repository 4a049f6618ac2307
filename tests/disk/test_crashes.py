"""Going through crash states: all of them where they are few, the extremes and a sample where they are many."""

import random

from tests.disk.small_disk import A, B, disk_with, state
from walstore._disk.seam import Directory
from walstore.testing.crashes import enumerate_crashes
from walstore.testing.simulated import SimulatedFileSystem


def pending_sectors(count: int) -> tuple[SimulatedFileSystem, Directory]:
    """A disk whose one file has this many sectors pending."""
    disk, directory = disk_with(a=A * count)
    directory.open("a", write=True).pwritev(0, [B * count])
    return disk, directory


def test_few_states_are_all_gone_through() -> None:
    """Up to the bound the iteration is exhaustive, and says how many there were."""
    disk, _ = pending_sectors(6)

    states = enumerate_crashes(disk, bound=64)

    assert states.exhaustive
    assert states.combinations == 64
    assert len({state(after)["a"] for after in states}) == 64
    assert states.distinct == 64


def test_sectors_that_the_length_hides_are_not_counted() -> None:
    """An append of two sectors has one outcome without its length, and four with it."""
    disk, directory = disk_with(a=A)
    directory.open("a", write=True).pwritev(len(A), [B + B])

    assert enumerate_crashes(disk).combinations == 5


def test_many_states_are_sampled() -> None:
    """Beyond the bound the iteration hands out at most that many, no two of them equal, and says so."""
    disk, _ = pending_sectors(7)

    states = enumerate_crashes(disk, bound=64)

    assert not states.exhaustive
    assert states.combinations == 0
    found = [state(after)["a"] for after in states]
    assert len(set(found)) == len(found) == states.distinct
    assert 30 <= len(found) <= 64
    assert {A * 7, B * 7, B + A * 6, A + B * 6} <= set(found)


def test_names_alone_can_be_too_many() -> None:
    """A disk with many pending names is sampled as well, the extremes first."""
    disk, directory = disk_with()
    for number in range(20):
        directory.create(f"f{number}").pwritev(0, [A])

    states = enumerate_crashes(disk, bound=400)
    found = [state(after) for after in states]

    assert not states.exhaustive
    assert found[0] == {}
    assert any(len(one) == 20 and set(one.values()) == {A} for one in found)
    assert any(len(one) == 20 and set(one.values()) == {b""} for one in found), "names without bytes"
    assert any(len(one) == 19 for one in found), "all but one"


def test_equal_states_are_handed_out_once() -> None:
    """Two ways to the same bytes are one state: a lost create, and a create whose unlink came through."""
    disk, directory = disk_with(a=A)
    directory.create("b")
    directory.unlink("b")
    directory.open("a", write=True).pwritev(0, [B])
    directory.open("a", write=True).pwritev(0, [A])

    states = enumerate_crashes(disk)
    found = sorted(sorted(state(after).items()) for after in states)

    assert states.combinations == 9
    assert found == [[("a", A)], [("a", A), ("b", b"")], [("a", B)], [("a", B), ("b", b"")]]


def test_nothing_pending_is_one_state() -> None:
    """An idle disk has one outcome, an empty one too."""
    disk, _ = disk_with(a=A)

    assert [state(after) for after in enumerate_crashes(disk)] == [{"a": A}]
    assert len(list(enumerate_crashes(SimulatedFileSystem()))) == 1


def test_states_can_be_gone_through_again() -> None:
    """The same object gives the same states each time, and the same seed the same sample."""
    for sectors in (3, 12):
        disk, _ = pending_sectors(sectors)
        states = enumerate_crashes(disk, bound=100, seed=4)
        first = [state(after) for after in states]

        assert [state(after) for after in states] == first
        assert [state(after) for after in enumerate_crashes(disk, bound=100, seed=4)] == first


def test_another_seed_is_another_sample() -> None:
    """Campaigns get new states by new seeds."""
    disk, _ = pending_sectors(16)

    samples = [{state(after)["a"] for after in enumerate_crashes(disk, bound=300, seed=seed)} for seed in (1, 2)]

    assert len(samples[0] - samples[1]) > 100


def test_every_enumerated_state_is_a_whole_disk() -> None:
    """A store can go on from each: write, sync, and crash again."""
    disk, directory = disk_with(a=A)
    directory.rename("a", "b")
    for after in enumerate_crashes(disk):
        again = after.open_directory("/s", create=False)
        file = again.create("c")
        file.pwritev(0, [B])
        file.datasync()
        again.sync()
        for name in ("a", "b"):
            if name in again.names():
                again.unlink(name)
        again.sync()
        assert state(after.crash(random.Random(0))) == {"c": B}
