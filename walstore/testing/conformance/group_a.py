"""Group A: what async-raft's memstore does, in its tests and beyond them."""

from ..._types import HardState
from ...errors import NothingToCompact
from ._kit import (
    ClientRequest,
    ClientResponse,
    Lab,
    apply_all,
    blanks,
    case,
    compact,
    content_after,
    e,
    expect,
    expect_log,
    expect_pointer,
    expect_snapshot,
    expect_state,
    identities,
    install,
    log_and_apply,
    m,
    make_snapshot,
    members,
    n,
    normals,
    r,
    refused,
)

LOG10 = [(1, index) for index in range(1, 11)]


@case("A-01")
async def membership_default(lab: Lab) -> None:
    """A new store of node 0 has the membership {0}, which is not joint."""
    await lab.open()
    store = await lab.turn()
    expect(await store.get_membership_config(), members({0}), "membership")


@case("A-02")
async def membership_with_previous_state(lab: Lab) -> None:
    """The membership is that of the ConfigChange in the log."""
    store = await lab.open()
    await store.save_hard_state(HardState(1, 0))
    await store.append_entry_to_log(m(1, 1, {1, 2, 3}))
    store = await lab.turn()
    expect(await store.get_membership_config(), members({1, 2, 3}), "membership")


@case("A-03")
async def initial_state_default(lab: Lab) -> None:
    """A new store has the pristine state."""
    await lab.open()
    store = await lab.turn()
    await expect_state(store, last=(0, 0), applied=0, hard=HardState(0, None), membership={0})


@case("A-04")
async def initial_state_with_previous_state(lab: Lab) -> None:
    """Last entry, applied index and hard state are reported as they were stored."""
    store = await lab.open()
    await store.save_hard_state(HardState(1, 0))
    await store.append_entry_to_log(e(1, 1) if lab.live else n(1, 1))
    await store.apply_entry_to_state_machine(1, r(1))
    store = await lab.turn()
    await expect_state(store, last=(1, 1), applied=1, hard=HardState(1, 0))


@case("A-05")
async def save_hard_state(lab: Lab) -> None:
    """A saved hard state is what the initial state then says."""
    store = await lab.open()
    await expect_state(store, hard=HardState(0, None))
    await store.save_hard_state(HardState(100, 0))
    store = await lab.turn()
    await expect_state(store, hard=HardState(100, 0))


@case("A-06")
async def read_with_start_above_stop(lab: Lab) -> None:
    """A range that ends before it starts is empty."""
    await lab.log10()
    store = await lab.turn()
    expect(await store.get_log_entries(10, 1), [], "read(10, 1)")


@case("A-07")
async def read_a_range(lab: Lab) -> None:
    """A range holds its start and not its stop."""
    await lab.log10()
    store = await lab.turn()
    expect(await store.get_log_entries(5, 7), [e(1, 5), e(1, 6)], "read(5, 7)")


@case("A-08")
async def delete_with_start_above_stop(lab: Lab) -> None:
    """Deleting a range that ends before it starts deletes nothing."""
    store = await lab.log10()
    await store.delete_logs_from(10, 1)
    store = await lab.turn()
    expect(identities(await store.get_log_entries(1, 11)), LOG10, "read(1, 11)")


@case("A-09")
async def delete_all(lab: Lab) -> None:
    """A range over the whole log leaves nothing."""
    store = await lab.log10()
    await store.delete_logs_from(1, 11)
    store = await lab.turn()
    expect(await store.get_log_entries(0, 100), [], "read(0, 100)")
    await expect_state(store, last=(0, 0), hard=HardState(1, 0))


@case("A-10")
async def delete_without_stop(lab: Lab) -> None:
    """Without a stop everything from the start goes."""
    store = await lab.log10()
    await store.delete_logs_from(1, None)
    store = await lab.turn()
    expect(await store.get_log_entries(0, 100), [], "read(0, 100)")
    await expect_state(store, last=(0, 0), hard=HardState(1, 0))


@case("A-11")
async def delete_up_to_the_last(lab: Lab) -> None:
    """The stop is exclusive: the entry there stays, and the log begins with it."""
    store = await lab.log10()
    await store.delete_logs_from(1, 10)
    store = await lab.turn()
    expect(await store.get_log_entries(0, 100), [e(1, 10)], "read(0, 100)")
    await expect_state(store, last=(1, 10))


@case("A-12")
async def append_over_the_last_entry(lab: Lab) -> None:
    """An entry of another term takes the place of the one at its index."""
    store = await lab.log10()
    await store.append_entry_to_log(e(2, 10))
    store = await lab.turn()
    await expect_log(store, [*blanks(1, 1, 10), e(2, 10)])
    await expect_state(store, last=(2, 10))


@case("A-13")
async def replicate(lab: Lab) -> None:
    """A batch of one is appended at its index."""
    store = await lab.log10()
    await store.replicate_to_log([e(1, 11)])
    store = await lab.turn()
    await expect_log(store, blanks(1, 1, 12))


@case("A-14")
async def apply_entry(lab: Lab) -> None:
    """An applied entry is answered with the previous status, and is in the machine."""
    request = ClientRequest("0", 0, "lit")
    store = await lab.log10(applied={1: request})
    answer = await store.apply_entry_to_state_machine(1, request)
    expect(answer, ClientResponse(None), "the answer")
    store = await lab.turn()
    await expect_state(store, last=(1, 10), applied=1)
    expect(lab.machine.serial, {"0": (0, None)}, "serials")
    expect(lab.machine.status, {"0": "lit"}, "statuses")


OLD_NEW_OTHER = {
    1: ClientRequest("1", 0, "old"),
    2: ClientRequest("1", 1, "new"),
    3: ClientRequest("2", 0, "other"),
}


@case("A-15")
async def apply_batch(lab: Lab) -> None:
    """A batch is applied in order."""
    store = await lab.log10(applied=OLD_NEW_OTHER)
    await store.replicate_to_state_machine(list(OLD_NEW_OTHER.items()))
    store = await lab.turn()
    await expect_state(store, last=(1, 10), applied=3)
    expect(lab.machine.serial, {"1": (1, "old"), "2": (0, None)}, "serials")
    expect(lab.machine.status, {"1": "new", "2": "other"}, "statuses")


@case("A-16")
async def empty_ranges(lab: Lab) -> None:
    """An empty range reads nothing and deletes nothing."""
    store = await lab.log10()
    expect(await store.get_log_entries(5, 5), [], "read(5, 5)")
    await store.delete_logs_from(5, 5)
    store = await lab.turn()
    await expect_log(store, LOG10)


@case("A-17")
async def same_client_and_serial(lab: Lab) -> None:
    """The machine's own deduplication by client is not that by index: both indexes are applied."""
    first, repeated = ClientRequest("c", 0, "first"), ClientRequest("c", 0, "repeated")
    store = await lab.open()
    await store.replicate_to_log([n(1, 1, first), n(1, 2, repeated)])
    await store.apply_entry_to_state_machine(1, first)
    answer = await store.apply_entry_to_state_machine(2, repeated)
    expect(answer, ClientResponse(None), "the answer that was given for this serial")
    store = await lab.turn()
    expect(lab.machine.status, {"c": "first"}, "statuses")
    expect(lab.machine.history, [1, 2], "applied indexes")
    await expect_state(store, applied=2)


@case("A-18")
async def compaction(lab: Lab) -> None:
    """A compaction puts a pointer at the last applied index, in place of all up to there."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 6))
    await apply_all(store, normals(1, 1, 4))
    built = await compact(store)
    expect((built.term, built.index), (1, 3), "(term, index) of the snapshot")
    store = await lab.turn()
    await expect_log(store, [(1, 3), n(1, 4), n(1, 5)])
    await expect_pointer(store, 1, 3, {0})
    expect(identities(await store.get_log_entries(1, 4)), [(1, 3)], "read(1, 4)")
    await expect_snapshot(store, 1, 3, {0})
    await expect_state(store, last=(1, 5), applied=3)


@case("A-19")
async def install_over_a_log(lab: Lab) -> None:
    """A peer's snapshot takes the place of a shorter log, and of a longer one where nothing is to be kept."""
    requests = [ClientRequest("peer", 1, "one"), ClientRequest("peer", 2, "two")]
    for log, delete_through in ((blanks(1, 1, 4), 3), (blanks(1, 1, 10), None)):
        one = lab.another()
        data = await make_snapshot(one, 5, 2, {1, 2}, requests)
        store = await one.open()
        await store.replicate_to_log(log)
        await install(store, data, 5, 2, delete_through)
        store = await one.turn()
        await expect_log(store, [(2, 5)])
        await expect_pointer(store, 2, 5, {1, 2})
        await expect_state(store, last=(2, 5), applied=5, membership={1, 2})
        expect(one.machine.content(), content_after([(4, requests[0]), (5, requests[1])]), "the machine")


@case("A-20")
async def nothing_to_compact(lab: Lab) -> None:
    """With nothing applied a compaction says so, and changes nothing."""
    store = await lab.log10()
    with refused(NothingToCompact):
        await store.do_log_compaction()
    store = await lab.turn()
    await expect_log(store, LOG10)
    await expect_state(store, last=(1, 10), applied=0, hard=HardState(1, 0), membership={0})
    expect(await store.get_current_snapshot(), None, "current snapshot")


@case("A-21")
async def log_without_hard_state(lab: Lab) -> None:
    """A store with a log and no hard state is not pristine."""
    store = await lab.open()
    await log_and_apply(store, [m(1, 1, {0, 1}), n(1, 2)])
    store = await lab.turn()
    await expect_state(store, last=(1, 2), applied=2, hard=HardState(0, None), membership={0, 1})


@case("A-22")
async def second_compaction_keeps_membership(lab: Lab) -> None:
    """A compaction finds the membership in the pointer of the one before."""
    store = await lab.open()
    await log_and_apply(store, [m(1, 1, {1, 2, 3}), n(1, 2), n(1, 3)])
    await compact(store)
    store = await lab.turn()
    await log_and_apply(store, normals(1, 4, 7))
    built = await compact(store)
    expect(built.membership, members({1, 2, 3}), "membership of the second snapshot")
    store = await lab.turn()
    await expect_snapshot(store, 1, 6, {1, 2, 3})
    await expect_pointer(store, 1, 6, {1, 2, 3})
    await expect_state(store, membership={1, 2, 3})


@case("A-23")
async def membership_of_an_installed_snapshot(lab: Lab) -> None:
    """An installed snapshot brings its own membership, whatever the local log said."""
    data = await make_snapshot(lab, 3, 2, {1, 2, 3})
    store = await lab.open()
    await store.replicate_to_log([e(1, 1), m(1, 2, {9})])
    await install(store, data, 3, 2, None)
    store = await lab.turn()
    await expect_state(store, last=(2, 3), membership={1, 2, 3})
    await expect_snapshot(store, 2, 3, {1, 2, 3})
    await expect_pointer(store, 2, 3, {1, 2, 3})


@case("A-24")
async def overwrite_drops_the_tail(lab: Lab) -> None:
    """An entry of another term in the middle drops all that came after it."""
    store = await lab.log10()
    await store.replicate_to_log([e(2, 3)])
    store = await lab.turn()
    await expect_log(store, [e(1, 1), e(1, 2), e(2, 3)])
    await expect_state(store, last=(2, 3))
