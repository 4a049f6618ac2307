"""Group C, openraft's suite: the vote, reads, deletions and appends.

openraft begins at index 0: its first entry is left out here.  "Purging" is a prefix deletion, or a compaction or an
install where the boundary has to be remembered.
"""

import trio

from ..._types import HardState
from ...errors import CompactedError, UnavailableError
from ._kit import (
    Lab,
    LogEntry,
    Store,
    apply_all,
    attribute,
    blanks,
    case,
    compact,
    e,
    expect,
    expect_log,
    expect_pointer,
    expect_snapshot,
    expect_state,
    expect_true,
    has,
    identities,
    install,
    log_and_apply,
    m,
    make_snapshot,
    n,
    normals,
    r,
    refused,
)

LOG10 = [(1, index) for index in range(1, 11)]


@case("C-21")
async def save_vote(lab: Lab) -> None:
    """A vote is read back as it was saved."""
    store = await lab.open(node_id=5)
    await store.save_hard_state(HardState(100, 5))
    store = await lab.turn()
    await expect_state(store, hard=HardState(100, 5))


@case("C-22")
async def get_log_entries(lab: Lab) -> None:
    """An empty range has no entries, another one those from its start to before its stop."""
    await lab.log10()
    store = await lab.turn()
    expect(await store.get_log_entries(3, 3), [], "read(3, 3)")
    expect(await store.get_log_entries(5, 7), [e(1, 5), e(1, 6)], "read(5, 7)")


@case("C-23")
async def limited_get_log_entries(lab: Lab) -> None:
    """A read with a limit of bytes gives at least one entry of a range that has any."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 11))
    store = await lab.turn()
    if not has(store, "entries"):
        return
    entries = attribute(store, "entries")
    expect(await entries(3, 3), [], "entries(3, 3)")
    expect(await entries(3, 3, 1), [], "entries(3, 3, 1)")
    expect(await entries(5, 7, 1), normals(1, 5, 6), "entries(5, 7) in one byte")
    expect(await entries(5, 7, 2**20), normals(1, 5, 7), "entries(5, 7) in a mebibyte")
    expect(await entries(5, 7), normals(1, 5, 7), "entries(5, 7) without a limit")


@case("C-24")
async def ranges(lab: Lab) -> None:
    """Ranges are clipped at both ends of the log."""
    await lab.log10()
    store = await lab.turn()
    for start, stop, found in ((3, 7, (3, 7)), (0, 3, (1, 3)), (8, 100, (8, 11)), (5, 5, (5, 5)), (0, 11, (1, 11))):
        expect(await store.get_log_entries(start, stop), blanks(1, *found), f"read({start}, {stop})")


@case("C-27")
async def single_entries(lab: Lab) -> None:
    """An entry that was deleted or does not exist is absent, without an error."""
    store = await lab.log10()
    await store.delete_logs_from(0, 2)
    store = await lab.turn()
    expect(await store.get_log_entries(3, 4), [e(1, 3)], "entry 3")
    expect(await store.get_log_entries(1, 2), [], "entry 1")
    expect(await store.get_log_entries(11, 12), [], "entry 11")


@case("C-28")
async def reader_sees_new_entries(lab: Lab) -> None:
    """A task that has read before sees what another task appends afterwards."""
    store = await lab.open()
    await store.replicate_to_log(blanks(1, 1, 3))
    has_read, has_appended = trio.Event(), trio.Event()
    found: list[list[LogEntry]] = []

    async def reader() -> None:
        found.append(await store.get_log_entries(1, 6))
        has_read.set()
        await has_appended.wait()
        found.append(await store.get_log_entries(3, 6))
        found.append(await store.get_log_entries(1, 6))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await has_read.wait()
        await store.replicate_to_log([e(1, 3), e(1, 4), e(2, 5)])
        has_appended.set()
    new = [e(1, 3), e(1, 4), e(2, 5)]
    expect(found, [blanks(1, 1, 3), new, [*blanks(1, 1, 3), *new]], "the three reads")
    store = await lab.turn()
    await expect_log(store, [*blanks(1, 1, 3), *new])


@case("C-29")
async def initial_logs(lab: Lab) -> None:
    """A new store has no entries."""
    await lab.open()
    store = await lab.turn()
    expect(await store.get_log_entries(0, 1), [], "read(0, 1)")
    expect(await store.get_log_entries(0, 2**64 - 1), [], "everything")


@case("C-30")
async def log_state(lab: Lab) -> None:
    """The first and the last entry follow appends, a boundary in the log, at its end and beyond its end."""
    data = await make_snapshot(lab, 4, 2, {0})
    store = await lab.open()
    await expect_state(store, last=(0, 0))
    entries = [*normals(0, 1, 2), *normals(1, 2, 4)]
    await store.replicate_to_log(entries)
    store = await lab.turn()
    await expect_log(store, entries)
    await expect_state(store, last=(1, 3))
    await apply_all(store, entries[:1])
    await compact(store)
    store = await lab.turn()
    await expect_log(store, [(0, 1), *entries[1:]])
    await expect_state(store, last=(1, 3))
    await apply_all(store, entries)
    await compact(store)
    store = await lab.turn()
    await expect_log(store, [(1, 3)])
    await expect_state(store, last=(1, 3))
    await install(store, data, 4, 2, None)
    store = await lab.turn()
    await expect_pointer(store, 2, 4)
    await expect_state(store, last=(2, 4), applied=4)


@case("C-31")
async def terms(lab: Lab) -> None:
    """The strict look-up of a term knows the boundary and what is above it; reads never raise."""
    requests = {index: r(index) for index in (1, 2, 3)}
    store = await lab.log10(applied=requests)
    await store.replicate_to_state_machine(list(requests.items()))
    await compact(store)
    store = await lab.turn()
    for index, found in ((2, []), (3, [(1, 3)]), (4, [(1, 4)]), (10, [(1, 10)]), (11, [])):
        expect(identities(await store.get_log_entries(index, index + 1)), found, f"entry {index}")
    if not has(store, "term_of"):
        return
    term_of = attribute(store, "term_of")
    for index in (3, 4, 10):
        expect(term_of(index), 1, f"term of entry {index}")
    with refused(CompactedError):
        term_of(2)
    with refused(UnavailableError):
        term_of(11)


@case("C-32")
async def last_id_in_log(lab: Lab) -> None:
    """The last entry of the state is the log's, whatever was applied, and the boundary's once all is compacted."""
    store = await lab.open()
    await expect_state(store, last=(0, 0))
    await log_and_apply(store, normals(1, 1, 3))
    await store.apply_entry_to_state_machine(3, r(3))  # not in the log: as volatile as PROTOCOL B12 has it
    store = await lab.turn()
    await expect_state(store, last=(1, 2), applied=3 if lab.live else 2)
    other = lab.another()
    store = await other.open()
    await log_and_apply(store, normals(1, 1, 3))
    await compact(store)
    store = await other.turn()
    await expect_log(store, [(1, 2)])
    await expect_state(store, last=(1, 2), applied=2)


@case("C-33")
async def last_applied_state(lab: Lab) -> None:
    """The applied index is that of the last applied entry, with gaps; the snapshot's membership is not touched."""
    store = await lab.open()
    await expect_state(store, applied=0)
    await log_and_apply(store, [e(1, 1), e(1, 2), *normals(1, 3, 4)])
    store = await lab.turn()
    await expect_state(store, applied=3)
    built = await compact(store)
    await log_and_apply(store, [e(1, 4), *normals(1, 5, 6)])
    store = await lab.turn()
    await expect_state(store, applied=5, membership=built.membership)
    expect(lab.machine.history, [3, 5], "applied indexes")


async def _deleted(lab: Lab, start: int, stop: int | None) -> Store:
    """LOG10 after a deletion and the turn."""
    store = await lab.log10()
    await store.delete_logs_from(start, stop)
    return await lab.turn()


@case("C-34")
async def purge_nothing(lab: Lab) -> None:
    """Deleting below the first entry leaves all ten."""
    store = await _deleted(lab, 0, 1)
    await expect_log(store, LOG10)
    await expect_state(store, last=(1, 10))


@case("C-35")
async def purge_half(lab: Lab) -> None:
    """Deleting the first five leaves the others, and the last entry is the same.  The same above a snapshot: what it
    covers does not need the log, and the pointer may go too."""
    store = await _deleted(lab, 0, 6)
    await expect_log(store, LOG10[5:])
    await expect_state(store, last=(1, 10))
    other = lab.another()
    store = await other.open()
    await log_and_apply(store, [m(1, 1, {1, 2}), n(1, 2)])
    await compact(store)
    await store.replicate_to_log(normals(1, 3, 8))
    await store.delete_logs_from(0, 6)
    store = await other.turn()
    await expect_log(store, normals(1, 6, 8))
    await expect_state(store, last=(1, 7), applied=2, membership={1, 2})
    await expect_snapshot(store, 1, 2, {1, 2})


@case("C-36")
async def purge_beyond_the_end(lab: Lab) -> None:
    """An installed snapshot beyond the end leaves no ordinary entry."""
    data = await make_snapshot(lab, 20, 1, {0})
    store = await lab.log10()
    await install(store, data, 20, 1, None)
    store = await lab.turn()
    await expect_log(store, [(1, 20)])
    await expect_state(store, last=(1, 20), applied=20)


@case("C-37")
async def truncate_beyond_the_end(lab: Lab) -> None:
    """Deleting above the last entry deletes nothing."""
    store = await _deleted(lab, 12, None)
    await expect_log(store, LOG10)
    await expect_state(store, last=(1, 10))


@case("C-38")
async def truncate_half(lab: Lab) -> None:
    """Deleting from 6 on leaves five."""
    store = await _deleted(lab, 6, None)
    await expect_log(store, LOG10[:5])
    await expect_state(store, last=(1, 5))


@case("C-39")
async def truncate_all(lab: Lab) -> None:
    """Deleting from the first entry on leaves none."""
    store = await _deleted(lab, 1, None)
    await expect_log(store, [])
    await expect_state(store, last=(0, 0))


@case("C-40")
async def truncate_from_zero(lab: Lab) -> None:
    """Deleting from index 0 on leaves none, and the next entry may come at any index."""
    store = await _deleted(lab, 0, None)
    await expect_log(store, [])
    await expect_state(store, last=(0, 0), hard=HardState(1, 0))
    await store.append_entry_to_log(e(2, 7))
    store = await lab.turn()
    await expect_log(store, [e(2, 7)])


@case("C-41")
async def append(lab: Lab) -> None:
    """An entry of a later term is appended after the last one."""
    store = await lab.log10()
    await store.append_entry_to_log(e(2, 11))
    store = await lab.turn()
    await expect_log(store, [*LOG10, e(2, 11)])
    await expect_state(store, last=(2, 11))
    expect_true((await store.get_log_entries(11, 12))[0].term == 2, "entry 11 has term 2")
