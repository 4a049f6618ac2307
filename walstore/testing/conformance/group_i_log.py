"""hashicorp/raft: log.go, the log cache, and the operations of its benchmark."""

from ..._types import HardState
from ._kit import (
    Lab,
    attribute,
    case,
    expect,
    expect_log,
    expect_state,
    has,
    normals,
    read_log,
)


@case("I-16")
async def oldest_entry(lab: Lab) -> None:
    """An empty log has no oldest entry; one that starts at 1234 has 1234."""
    store = await lab.open()
    expect(await read_log(store), [], "the log of a fresh store")
    if has(store, "first_index"):
        expect(attribute(store, "first_index"), 0, "first_index of a fresh store")
    await store.replicate_to_log(normals(1, 1234, 1240))
    store = await lab.turn()
    await expect_log(store, normals(1, 1234, 1240))
    if has(store, "first_index"):
        expect(attribute(store, "first_index"), 1234, "first_index")


@case("I-18")
async def deleted_entries_are_not_served(lab: Lab) -> None:
    """Entries are read before and after a deletion of the last two: what is gone is not read from any cache."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 35))
    expect(await store.get_log_entries(20, 21), normals(1, 20, 21), "an entry in the middle")
    expect(await store.get_log_entries(33, 35), normals(1, 33, 35), "the last two entries")
    await store.delete_logs_from(33)
    expect(await store.get_log_entries(33, 35), [], "what was deleted")
    store = await lab.turn()
    expect(await store.get_log_entries(32, 35), normals(1, 32, 33), "what is left")
    await store.replicate_to_log(normals(2, 33, 34))
    expect(await store.get_log_entries(33, 35), normals(2, 33, 34), "what was written in its place")


@case("I-35")
async def benchmark_operations_answer(lab: Lab) -> None:
    """The operations of the usual benchmark: ends of the log, one read, appends by one and three, deletes, votes."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 11))
    await expect_state(store, last=(1, 10))
    expect(await store.get_log_entries(5, 6), normals(1, 5, 6), "the fifth entry of ten")
    for index in range(11, 15):
        await store.append_entry_to_log(normals(1, index, index + 1)[0])
    for index in range(15, 27, 3):
        await store.replicate_to_log(normals(1, index, index + 3))
    for stop in (11, 21):
        await store.delete_logs_from(stop - 10, stop)
    for term in range(1, 6):
        await store.save_hard_state(HardState(term, term % 3))
        await expect_state(store, hard=HardState(term, term % 3))
    store = await lab.turn()
    await expect_log(store, normals(1, 21, 27))
    await expect_state(store, last=(1, 26), applied=0, hard=HardState(5, 2))
