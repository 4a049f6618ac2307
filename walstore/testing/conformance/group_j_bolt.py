"""hashicorp/raft-boltdb: the bolt store, first and second version."""

from ..._types import HardState
from ...errors import StorageLockedError
from ._image import SMALL, Image
from ._kit import (
    Lab,
    attribute,
    case,
    expect,
    expect_log,
    expect_state,
    expect_true,
    has,
    m,
    n,
    normals,
    refused,
)


@case("J-02", needs={"reopen"})
async def second_open_is_refused(lab: Lab) -> None:
    """A second open of the same directory is refused at once, and the first store keeps working."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 3))
    with refused(StorageLockedError):
        await lab.harness.open()
    await store.replicate_to_log(normals(1, 3, 5))
    store = await lab.turn()
    await expect_log(store, normals(1, 1, 5))


@case("J-04", reads=True, needs={"disk"})
async def new_store(lab: Lab) -> None:
    """An open makes the files of a store, a close leaves them, and they open again."""
    await lab.open(config=SMALL)
    names = Image.of(lab).names()
    expect_true({"IDENTITY", "LOCK"} <= set(names) and Image.of(lab).segments(), f"a store's files are there: {names}")
    await lab.close()
    expect(Image.of(lab).segments(), [name for name in names if name.endswith(".wal")], "the segments after a close")
    store = await lab.reopen()
    await expect_state(store, last=(0, 0), applied=0)


@case("J-05")
async def first_index(lab: Lab) -> None:
    """The first index is 0 while the log is empty and 1 with entries from 1."""
    store = await lab.open()
    await expect_state(store, last=(0, 0))
    if has(store, "first_index"):
        expect(attribute(store, "first_index"), 0, "first_index of a fresh store")
    await store.replicate_to_log(normals(1, 1, 4))
    store = await lab.turn()
    expect((await store.get_log_entries(0, 2**64 - 1))[0], n(1, 1), "the first entry")
    if has(store, "first_index"):
        expect(attribute(store, "first_index"), 1, "first_index")


@case("J-06")
async def last_index(lab: Lab) -> None:
    """The last index is 0 while the log is empty and 3 with three entries."""
    store = await lab.open()
    await expect_state(store, last=(0, 0))
    await store.replicate_to_log(normals(1, 1, 4))
    store = await lab.turn()
    await expect_state(store, last=(1, 3))
    if has(store, "last_index"):
        expect(attribute(store, "last_index"), 3, "last_index")


@case("J-07")
async def get_log(lab: Lab) -> None:
    """An entry that is not there is an empty answer, and the second of three is read as it was written."""
    store = await lab.open()
    expect(await store.get_log_entries(1, 2), [], "an entry of an empty log")
    await store.replicate_to_log(normals(1, 1, 4))
    store = await lab.turn()
    expect(await store.get_log_entries(2, 3), [n(1, 2)], "the second entry")


@case("J-08")
async def set_log(lab: Lab) -> None:
    """One appended entry is read back."""
    store = await lab.open()
    await store.append_entry_to_log(n(1, 1))
    store = await lab.turn()
    await expect_log(store, [n(1, 1)])


@case("J-09")
async def set_logs(lab: Lab) -> None:
    """Two entries appended at once are both read back."""
    store = await lab.open()
    await store.replicate_to_log([n(1, 1), m(1, 2, {0, 1})])
    store = await lab.turn()
    await expect_log(store, [n(1, 1), m(1, 2, {0, 1})])


@case("J-10")
async def delete_range(lab: Lab) -> None:
    """Of three entries the first two are deleted; the third stays."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 4))
    await store.delete_logs_from(1, 3)
    store = await lab.turn()
    await expect_log(store, [n(1, 3)])


@case("J-11")
async def stable_values(lab: Lab) -> None:
    """A hard state that was never saved is term 0 without a vote; a saved one is read back exactly."""
    store = await lab.open()
    await expect_state(store, hard=HardState(0, None))
    await store.save_hard_state(HardState(2**64 - 1, 2**64 - 1))
    store = await lab.turn()
    await expect_state(store, hard=HardState(2**64 - 1, 2**64 - 1))
