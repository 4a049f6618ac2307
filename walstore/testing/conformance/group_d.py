"""Group D, the older openraft suites: what differs there from group C, down to the generation with `delete_logs_from`.

openraft keeps a membership and a term in its state machine; here both are those of the current snapshot.
"""

from ..._types import HardState, InitialState
from ...errors import InvertedLogError
from ._kit import (
    ClientRequest,
    ClientResponse,
    Lab,
    Store,
    apply_all,
    attribute,
    case,
    compact,
    content_after,
    e,
    expect,
    expect_log,
    expect_pointer,
    expect_snapshot,
    expect_state,
    expect_true,
    has,
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


async def _three_steps(lab: Lab, config_above: set[int]) -> None:
    """The membership with a snapshot {3, 4, 5} at 2 alone, then with a stale config entry at 1, then a new one at 3."""
    data = await make_snapshot(lab, 2, 1, {3, 4, 5}, membership_index=2)
    store = await lab.open()
    await install(store, data, 2, 1, None)
    store = await lab.turn()
    await expect_state(store, last=(1, 2), applied=2, membership={3, 4, 5})
    await store.append_entry_to_log(m(1, 1, {1, 2, 3}))
    store = await lab.turn()
    await expect_state(store, last=(1, 2), membership={3, 4, 5})
    await store.append_entry_to_log(m(1, 3, config_above))
    store = await lab.turn()
    await expect_state(store, last=(1, 3), membership=config_above)
    await expect_snapshot(store, 1, 2, {3, 4, 5})


@case("D-01")
async def membership_from_log_and_machine(lab: Lab) -> None:
    """The later one of the snapshot's and the log's membership counts, in the three steps of openraft 0.8 and 0.9."""
    await _three_steps(lab, {7, 8, 9})


@case("D-02")
async def delete_logs_since(lab: Lab) -> None:
    """Deleting above the end is nothing, deleting from the beginning is all."""
    store = await lab.log10()
    await store.delete_logs_from(11, None)
    store = await lab.turn()
    await expect_log(store, LOG10)
    await store.delete_logs_from(0, None)
    store = await lab.turn()
    await expect_log(store, [])
    await expect_state(store, last=(0, 0))


@case("D-03")
async def log_ends_below_the_machine(lab: Lab) -> None:
    """A machine that is ahead by a snapshot takes the log with it: the log ends where the snapshot does, and no answer
    of the machine before is remembered."""
    data = await make_snapshot(lab, 3, 3, {0})
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 3))
    await install(store, data, 3, 3, 3)
    expect(await store.apply_entry_to_state_machine(3, r(3)), None, "the answer to what the snapshot covers")
    store = await lab.turn()
    await expect_log(store, [(3, 3)])
    await expect_state(store, last=(3, 3), applied=3)


@case("D-04")
async def apply_single_and_multiple(lab: Lab) -> None:
    """Entries applied one by one and in a batch are applied in their order."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 6))
    await store.apply_entry_to_state_machine(1, r(1))
    await store.apply_entry_to_state_machine(2, r(2))
    await apply_all(store, normals(1, 3, 6))
    store = await lab.turn()
    await expect_state(store, applied=5)
    expect(lab.machine.history, [1, 2, 3, 4, 5], "applied indexes")


@case("D-05")
async def delete_logs(lab: Lab) -> None:
    """Five deletions of LOG10; a truncation makes no boundary."""
    for start, stop, left in ((0, 1, LOG10), (0, 6, LOG10[5:]), (11, None, LOG10), (0, None, [])):
        one = lab.another()
        store = await one.log10()
        await store.delete_logs_from(start, stop)
        store = await one.turn()
        await expect_log(store, left)
        await expect_state(store, last=left[-1] if left else (0, 0))
        expect(await store.get_current_snapshot(), None, "current snapshot")
    data = await make_snapshot(lab, 20, 1, {0})
    store = await lab.log10()
    await install(store, data, 20, 1, None)
    store = await lab.turn()
    await expect_log(store, [(1, 20)])
    await expect_pointer(store, 1, 20)


@case("D-06")
async def append_at_the_last_index(lab: Lab) -> None:
    """An entry of a later term at the last index takes the place of the one there."""
    store = await lab.log10()
    await store.append_entry_to_log(e(2, 10))
    store = await lab.turn()
    await expect_log(store, [*LOG10[:9], e(2, 10)])


@case("D-07")
async def purge_not_beyond_what_is_applied(lab: Lab) -> None:
    """A compaction never reaches beyond what is applied, however long the log is; an install below what is applied
    leaves the machine where it is."""
    store = await lab.open()
    await store.replicate_to_log([*normals(1, 1, 4), *normals(2, 4, 6)])
    for applied in (1, 3):
        await apply_all(store, normals(1, 1, applied + 1))
        built = await compact(store)
        expect(built.index, applied, "the snapshot's index")
    store = await lab.turn()
    await expect_log(store, [(1, 3), *normals(2, 4, 6)])
    await expect_state(store, last=(2, 5), applied=3)
    data = await make_snapshot(lab, 4, 2, {0}, [r(index) for index in range(1, 5)])
    await apply_all(store, normals(2, 4, 6))
    await install(store, data, 4, 2, 4)
    expect(lab.machine.history, [1, 2, 3, 4, 5], "applied indexes")
    store = await lab.turn()
    await expect_log(store, [(2, 4), n(2, 5)])
    await expect_state(store, last=(2, 5), applied=5)
    expect(lab.machine.history, [1, 2, 3, 4, 5], "applied indexes after the turn")


@case("D-08")
async def delete_applied_entries(lab: Lab) -> None:
    """Applied entries may be deleted, as a core does on a repeated message.  While the store lives they stay applied;
    a rebuilt machine holds what was left, and nothing that came in its place."""
    store = await lab.open()
    await log_and_apply(store, [n(1, 1), n(1, 2)])
    await store.delete_logs_from(2, None)
    store = await lab.turn()
    await expect_log(store, [n(1, 1)])
    await expect_state(store, last=(1, 1), applied=2 if lab.live else 1)
    await store.delete_logs_from(1, None)
    store = await lab.turn()
    await expect_log(store, [])
    await expect_state(store, last=(0, 0), applied=2 if lab.live else 0)
    other = lab.another()
    store = await other.open()
    await log_and_apply(store, [n(1, 1), n(1, 2)])
    await store.delete_logs_from(1, None)
    await store.append_entry_to_log(n(2, 1, ClientRequest("other", 1, "not applied")))
    await other.turn()
    expect(other.machine.history, [1, 2] if lab.live else [], "applied indexes")


@case("D-09")
async def membership_default(lab: Lab) -> None:
    """The membership of a new store is its node."""
    await lab.open(node_id=9)
    store = await lab.turn()
    expect(await store.get_membership_config(), members({9}), "membership")


@case("D-10")
async def membership_from_log_and_snapshot(lab: Lab) -> None:
    """A config entry below the applied index changes nothing, one above it counts."""
    await _three_steps(lab, {1, 2, 3})


@case("D-11")
async def initial_state_default(lab: Lab) -> None:
    """The state of a new store is pristine, however often it is asked for."""
    await lab.open(node_id=9)
    store = await lab.turn()
    for _ in range(2):
        expect(await store.get_initial_state(), InitialState.new_initial(9), "initial state")


@case("D-12")
async def initial_state_with_state(lab: Lab) -> None:
    """A log that goes beyond what is applied: both are reported, and the vote."""
    store = await lab.open()
    await store.save_hard_state(HardState(3, 0))
    await store.replicate_to_log([n(3, 1), e(3, 2)])
    await store.apply_entry_to_state_machine(1, r(1))
    store = await lab.turn()
    await expect_state(store, last=(3, 2), applied=1, hard=HardState(3, 0))


@case("D-13")
async def state_membership_from_log_and_snapshot(lab: Lab) -> None:
    """The initial state has the same membership as the membership call, in the three steps of D-10."""
    await _three_steps(lab, {1, 2, 3})


@case("D-14")
async def log_was_overwritten_below_what_is_applied(lab: Lab) -> None:
    """An overwrite below the applied index: the last entry is the log's, and no rebuilt machine holds the new entry,
    which nobody applied."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 3))
    await store.append_entry_to_log(n(2, 1, ClientRequest("other", 1, "not applied")))
    store = await lab.turn()
    await expect_state(store, last=(2, 1), applied=2 if lab.live else 0)
    expect(lab.machine.history, [1, 2] if lab.live else [], "applied indexes")


@case("D-15", reads=True, needs={"disk"})
async def inverted_log(lab: Lab) -> None:
    """A snapshot of a later term below the end of the log is refused at open, where openraft 0.6 believed it."""
    await lab.harness.forge_inverted(log_last=(1, 2), snapshot=(3, 1))
    with refused(InvertedLogError):
        await lab.open()


@case("D-16")
async def save_hard_state(lab: Lab) -> None:
    """A hard state is read back, and the same one may be saved again."""
    store = await lab.open()
    await store.save_hard_state(HardState(100, 0))
    await store.save_hard_state(HardState(100, 0))
    store = await lab.turn()
    await expect_state(store, hard=HardState(100, 0))


@case("D-17")
async def get_log_entries(lab: Lab) -> None:
    """Entries 5 to 7 are two."""
    await lab.log10()
    store = await lab.turn()
    expect(await store.get_log_entries(5, 7), [e(1, 5), e(1, 6)], "read(5, 7)")


@case("D-18")
async def try_get_log_entry(lab: Lab) -> None:
    """One entry is there, a deleted one and one beyond the end are not."""
    store = await lab.log10()
    await store.delete_logs_from(0, 2)
    store = await lab.turn()
    for index, found in ((1, []), (2, [e(1, 2)]), (10, [e(1, 10)]), (11, [])):
        expect(await store.get_log_entries(index, index + 1), found, f"entry {index}")


@case("D-19")
async def first_index(lab: Lab) -> None:
    """The log's first entry is the first one that was kept."""
    await lab.open()
    store = await lab.turn()
    await _expect_first(store, 0)
    other = lab.another()
    await other.log10()
    store = await other.turn()
    await _expect_first(store, 1)
    await store.delete_logs_from(0, 4)
    store = await other.turn()
    await _expect_first(store, 4)
    await store.delete_logs_from(0, None)
    store = await other.turn()
    await _expect_first(store, 0)
    await store.append_entry_to_log(e(1, 1000))
    store = await other.turn()
    await _expect_first(store, 1000)


async def _expect_first(store: Store, index: int) -> None:
    found = await store.get_log_entries(0, 2**64 - 1)
    expect(found[0].index if found else 0, index, "the first readable index")
    if has(store, "first_index"):
        expect(attribute(store, "first_index"), index, "first_index")


@case("D-20")
async def last_id_in_log(lab: Lab) -> None:
    """The last entry is the log's, whatever is applied; after a deletion of all there is none."""
    store = await lab.open()
    await store.replicate_to_log([n(1, 1), n(1, 2)])
    await expect_state(store, last=(1, 2))
    await apply_all(store, [n(1, 1), n(1, 2)])
    await expect_state(store, last=(1, 2))
    store = await lab.turn()
    await expect_state(store, last=(1, 2), applied=2)
    await store.delete_logs_from(1, None)
    store = await lab.turn()
    await expect_state(store, last=(0, 0))


@case("D-21")
async def last_applied_state(lab: Lab) -> None:
    """The applied index goes from 0 over 3 to 5."""
    store = await lab.open()
    await expect_state(store, applied=0)
    await log_and_apply(store, normals(1, 1, 4))
    store = await lab.turn()
    await expect_state(store, applied=3)
    await log_and_apply(store, normals(1, 4, 6))
    store = await lab.turn()
    await expect_state(store, applied=5)


@case("D-22")
async def delete_logs_from(lab: Lab) -> None:
    """Four ranges: nothing, the first three, more than there is, everything."""
    for start, stop, left in ((1, 1, LOG10), (1, 4, LOG10[3:]), (1, 1000, []), (1, None, [])):
        one = lab.another()
        store = await one.log10()
        await store.delete_logs_from(start, stop)
        store = await one.turn()
        await expect_log(store, left)


@case("D-23")
async def append_over_the_end(lab: Lab) -> None:
    """A batch that begins at the last index with a later term takes its place."""
    store = await lab.log10()
    await store.replicate_to_log([e(2, 10)])
    store = await lab.turn()
    await expect_log(store, [*LOG10[:9], e(2, 10)])
    await expect_state(store, last=(2, 10))


@case("D-24")
async def apply(lab: Lab) -> None:
    """The sample machine remembers serial and status of each client, for one entry and for a batch."""
    one = lab.another()
    request = ClientRequest("0", 0, "lit")
    store = await one.log10(applied={1: request})
    expect(await store.apply_entry_to_state_machine(1, request), ClientResponse(None), "the answer")
    await one.turn()
    expect((one.machine.serial, one.machine.status), ({"0": (0, None)}, {"0": "lit"}), "the machine")
    batch = {
        1: ClientRequest("1", 0, "old"),
        2: ClientRequest("1", 1, "new"),
        3: ClientRequest("2", 0, "other"),
    }
    store = await lab.log10(applied=batch)
    await store.replicate_to_state_machine(list(batch.items()))
    store = await lab.turn()
    await expect_state(store, applied=3)
    expect_true(lab.machine.content() == content_after(batch.items()), "the machine holds the batch")
