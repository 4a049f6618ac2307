"""What a power cut may leave of simulated names: all of it, against a definition in a few lines."""

import random
from itertools import product

from hypothesis import given, strategies as st

from tests.disk.small_disk import ZERO, A, B, disk_with, outcomes, same, state
from walstore.testing._simulated_file import SECTOR, SimulatedInode
from walstore.testing._simulated_names import SimulatedFolder
from walstore.testing.crashes import enumerate_crashes


def test_a_synced_file_may_have_no_name() -> None:
    """Bytes were synced and the name was not: the file is gone, or whole."""
    disk, directory = disk_with()
    file = directory.create("a")
    file.pwritev(0, [A])
    file.datasync()

    same(outcomes(disk), [{}, {"a": A}])


def test_a_named_file_may_have_only_some_of_its_bytes() -> None:
    """The name was synced and the bytes were not: anything between nothing and all."""
    disk, directory = disk_with()
    directory.create("a").pwritev(0, [A + B])
    directory.sync()

    same(outcomes(disk), [{"a": b""}, *({"a": x + y} for x in (ZERO, A) for y in (ZERO, B))])


def test_an_unlinked_file_may_be_back() -> None:
    """Without a sync of the directory, a removed name may still be there with its durable bytes."""
    disk, directory = disk_with(a=A, b=B)
    directory.unlink("a")
    directory.unlink("b")

    same(outcomes(disk), [{}, {"a": A}, {"b": B}, {"a": A, "b": B}])


def test_a_rename_is_lost_or_done_or_seen_as_both_names() -> None:
    """The file has its old name, its new one, or both; never neither."""
    disk, directory = disk_with(a=A)
    directory.rename("a", "b")

    same(outcomes(disk), [{"a": A}, {"b": A}, {"a": A, "b": A}])


def test_a_rename_over_a_file_leaves_the_old_target_or_the_new() -> None:
    """The target's name is never without a file, and the renamed file never without a name."""
    disk, directory = disk_with(a=A, b=B)
    directory.rename("a", "b")

    same(outcomes(disk), [{"a": A, "b": B}, {"a": A, "b": A}, {"b": A}])


def test_a_file_seen_under_both_names_is_one_file() -> None:
    """What is written under one name is read under the other; renaming one to the other does nothing, as in POSIX."""
    disk, directory = disk_with(a=A)
    directory.rename("a", "b")
    after = disk.crash(lambda _kind, path, _offset, count: 0 if path == "/s/a" else count - 1)
    assert state(after) == {"a": A, "b": A}

    again = after.open_directory("/s", create=False)
    again.open("a", write=True).pwritev(0, [B])
    assert again.open("b").pread(0, SECTOR) == B
    again.rename("a", "b")
    assert again.names() == ["a", "b"]


def test_a_rename_of_bytes_that_were_not_synced() -> None:
    """A name that is durable does not make the bytes durable: the classic empty file."""
    disk, directory = disk_with()
    directory.create("a.tmp").pwritev(0, [A])
    directory.rename("a.tmp", "a")
    directory.sync()

    same(outcomes(disk), [{"a": b""}, {"a": ZERO}, {"a": A}])


def test_a_directory_sync_is_for_its_own_directory() -> None:
    """Names elsewhere stay as they may be."""
    disk, directory = disk_with()
    other = disk.open_directory("/t", create=True)
    other.create("x")
    directory.create("a")
    directory.sync()

    found = [
        sorted(after.open_directory("/t", create=False).names() + after.open_directory("/s", create=False).names())
        for after in enumerate_crashes(disk)
    ]
    assert sorted(found) == [["a"], ["a", "x"]]


NAME_STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "rename", "unlink"]), *[st.sampled_from("abc")] * 2), max_size=5
)


@given(first=NAME_STEPS, pending=NAME_STEPS)
def test_names_by_definition(first: list[tuple[str, str, str]], pending: list[tuple[str, str, str]]) -> None:
    """Each name as it was at any moment since the sync; but if an old name is gone by a rename, the new one came."""
    folder = SimulatedFolder("/s", {})
    count = 0

    def perform(step: tuple[str, str, str]) -> tuple[str, str] | None:
        """Does what can be done; the two names, if it was a rename."""
        nonlocal count
        kind, name, other = step
        if kind == "create" and name not in folder.entries:
            count += 1
            folder.create(name, SimulatedInode(count))
        elif kind == "unlink" and name in folder.entries:
            folder.unlink(name)
        elif kind == "rename" and name in folder.entries and name != other:
            folder.rename(name, other)
            return name, other
        return None

    for step in first:
        perform(step)
    folder.sync()
    moments = [dict(folder.entries)]
    renames = []
    for number, step in enumerate(pending, 1):
        renamed = perform(step)
        moments.append(dict(folder.entries))
        if renamed:
            renames.append((number, *renamed))

    expected = set()
    for times in product(range(len(moments)), repeat=3):
        at = dict(zip("abc", times, strict=True))
        if all(at[old] < number or at[new] >= number for number, old, new in renames):
            expected.add(
                frozenset((name, moments[at[name]][name].number) for name in "abc" if name in moments[at[name]])
            )

    plan = folder.plan()
    found = [folder.entries] if plan is None else list(plan.every())
    assert {frozenset((name, inode.number) for name, inode in names.items()) for names in found} == expected
    generator = random.Random(count)
    for _ in range(20 if plan else 0):
        assert plan is not None
        names = plan.sample(generator)
        assert frozenset((name, inode.number) for name, inode in names.items()) in expected
