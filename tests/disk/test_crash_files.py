"""What a power cut may leave of the bytes of simulated files: all of it, against a definition in a few lines."""

import random
from itertools import product

from hypothesis import given, strategies as st

from tests.disk.small_disk import ZERO, A, B, C, disk_with, outcomes, same, state
from walstore.testing._simulated_file import PAGE, SECTOR, SimulatedInode


def test_what_was_synced_stays() -> None:
    """With bytes and name synced there is one outcome."""
    disk, _ = disk_with(a=A)

    same(outcomes(disk), [{"a": A}])


def test_each_sector_survives_on_its_own() -> None:
    """An overwrite of three sectors without a sync leaves any of the eight mixtures."""
    disk, directory = disk_with(a=A + A + A)
    directory.open("a", write=True).pwritev(0, [B + B + B])

    same(outcomes(disk), [{"a": b"".join(sectors)} for sectors in product((A, B), repeat=3)])


def test_a_part_of_a_sector_is_never_torn() -> None:
    """A write over a boundary of sectors may lose either side, and no more finely than that."""
    disk, directory = disk_with(a=A + A)
    directory.open("a", write=True).pwritev(SECTOR - 2, [b"XXYY"])
    left, right = A[:-2] + b"XX", b"YY" + A[:-2]

    same(outcomes(disk), [{"a": x + y} for x in (A, left) for y in (A, right)])


def test_an_earlier_write_of_a_sector_may_be_the_last_that_arrived() -> None:
    """Two writes to a sector leave it as before, as between, or as after them."""
    disk, directory = disk_with(a=A)
    file = directory.open("a", write=True)
    file.pwritev(0, [b"1"])
    file.pwritev(1, [b"2"])

    same(outcomes(disk), [{"a": head + A[2:]} for head in (b"AA", b"1A", b"12")])


def test_an_append_may_leave_length_without_bytes() -> None:
    """The length came or it did not; where it came, each sector holds its bytes or zeros."""
    disk, directory = disk_with(a=A)
    directory.open("a", write=True).pwritev(SECTOR, [B + C])

    same(outcomes(disk), [{"a": A}, *({"a": A + x + y} for x in (ZERO, B) for y in (ZERO, C))])


def test_a_long_append_may_end_on_a_page() -> None:
    """A write that makes a file longer by pages may have its length from the middle."""
    disk, directory = disk_with(a=b"")
    directory.open("a", write=True).pwritev(0, [b"x" * (2 * PAGE + 1)])

    lengths = {len(state(disk.crash(random.Random(seed)))["a"]) for seed in range(200)}

    assert lengths == {0, PAGE, 2 * PAGE, 2 * PAGE + 1}


def test_a_cut_may_be_lost() -> None:
    """An unsynced truncate leaves the old length, or the new one; with the old one, bytes may be gone all the same."""
    disk, directory = disk_with(a=A + B)
    directory.open("a", write=True).truncate(SECTOR)

    same(outcomes(disk), [{"a": A + B}, {"a": A + ZERO}, {"a": A}])


def test_reserving_leaves_the_old_or_the_new_length() -> None:
    """Reserved bytes are zeros whether they arrived or not."""
    disk, directory = disk_with(a=A)
    directory.open("a", write=True).allocate(3 * SECTOR)

    same(outcomes(disk), [{"a": A}, {"a": A + ZERO + ZERO}])


def test_a_sync_is_for_its_own_file() -> None:
    """Syncing one file says nothing of another, and nothing of names."""
    disk, directory = disk_with(a=A, b=A)
    directory.open("a", write=True).pwritev(0, [B])
    other = directory.open("b", write=True)
    other.pwritev(0, [B])
    other.datasync()
    directory.sync()

    same(outcomes(disk), [{"a": A, "b": B}, {"a": B, "b": B}])


def test_a_sync_by_any_handle_will_do() -> None:
    """Bytes belong to the file, not to the handle that wrote them."""
    disk, directory = disk_with(a=A)
    directory.open("a", write=True).pwritev(0, [B])
    directory.open("a").datasync()

    same(outcomes(disk), [{"a": B}])


Step = tuple[str, int, bytes]

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("write"), st.integers(0, 900), st.sampled_from([b"", b"x", b"0" * 100, b"y" * 600, bytes(300)])
        ),
        st.tuples(st.sampled_from(["truncate", "allocate"]), st.integers(0, 1300), st.just(b"")),
    ),
    max_size=4,
)


def do(inode: SimulatedInode, step: Step) -> None:
    """One change of a file."""
    kind, place, data = step
    if kind == "write":
        inode.write(place, data)
    elif kind == "truncate":
        inode.resize(place)
    else:
        inode.resize(max(place, len(inode.data)), gradual=True)


@given(first=STEPS, pending=STEPS)
def test_a_file_by_definition(first: list[Step], pending: list[Step]) -> None:
    """Every length that the file had since its sync, with every sector as it was at any moment since then, and no more.

    Files here are shorter than a page, so there are no lengths from the middle of a write.
    """
    inode = SimulatedInode(1)
    for step in first:
        do(inode, step)
    inode.datasync()
    moments = [bytes(inode.data)]
    for step in pending:
        do(inode, step)
        moments.append(bytes(inode.data))

    room = 3 * SECTOR
    padded = [moment.ljust(room, b"\0") for moment in moments]
    sectors = [{moment[start : start + SECTOR] for moment in padded} for start in range(0, room, SECTOR)]
    expected = {b"".join(choice)[: len(moment)] for moment in moments for choice in product(*sectors)}

    plan = inode.plan()
    found = [bytes(inode.data)] if plan is None else plan.every()
    assert set(found) == expected
    assert len(found) == len(expected)
    assert inode.durable() == moments[0]
