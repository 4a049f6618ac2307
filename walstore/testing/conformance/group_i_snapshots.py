"""hashicorp/raft: the file and memory snapshot stores, and what raft_test.go says of snapshots and restarts."""

from ..._types import ConfigChange, Entry, HardState, InitialState, MembershipConfig
from ...errors import NothingToCompact
from ._kit import (
    Lab,
    case,
    current_snapshot,
    e,
    expect,
    expect_log,
    expect_no_snapshot,
    expect_pointer,
    expect_snapshot,
    expect_state,
    expect_true,
    install,
    log_and_apply,
    m,
    make_snapshot,
    n,
    normals,
    r,
    read_all,
    refused,
    send,
    snapshot_bytes,
)
from ._machines import expect_machine
from .group_f_building import compact


@case("I-03")
async def snapshot_exists_when_it_is_finished(lab: Lab) -> None:
    """A snapshot under way is not listed; the finished one has its index, term, membership, size and content."""
    data = await make_snapshot(lab, 10, 3, {0, 1})
    store = await lab.open()
    await expect_no_snapshot(store)
    id, writer = await store.create_snapshot()
    await expect_no_snapshot(store)
    await writer.send_all(data[:100])
    await writer.send_all(data[100:])
    await writer.aclose()
    await expect_no_snapshot(store)
    await store.finalize_snapshot_installation(10, 3, None, id, writer)
    store = await lab.turn()
    await expect_snapshot(store, 3, 10, {0, 1})
    async with (await current_snapshot(store)).snapshot as reader:
        expect(reader.size, len(data), "the size")
        expect(await read_all(reader), data, "the content")


@case("I-04")
async def discarded_writer_leaves_nothing(lab: Lab) -> None:
    """A snapshot that was begun and discarded is not there, and the next one is not disturbed."""
    data = await make_snapshot(lab, 10, 3)
    store = await lab.open()
    _, writer = await store.create_snapshot()
    await writer.send_all(data)
    await writer.discard()
    await expect_no_snapshot(store)
    store = await lab.turn()
    await expect_no_snapshot(store)
    expect(await store.get_initial_state(), InitialState.new_initial(0), "the initial state")
    await install(store, data, 10, 3)
    await expect_snapshot(store, 3, 10)


@case("I-05")
async def one_snapshot_is_retained(lab: Lab) -> None:
    """Of five snapshots one after another the last one is kept."""
    store = await lab.open()
    for index in range(10, 15):
        await install(store, await make_snapshot(lab, index, 3), index, 3)
    store = await lab.turn()
    await expect_snapshot(store, 3, 14)
    await expect_log(store, [(3, 14)])
    expect_machine(lab, [14])


@case("I-08")
async def order_is_that_of_the_numbers(lab: Lab) -> None:
    """Of (term 5, index 130350) and (36, 204917) the second is current; the first one does not come back after it."""
    early = await make_snapshot(lab, 130350, 5)
    late = await make_snapshot(lab, 204917, 36)
    store = await lab.open()
    await install(store, early, 130350, 5)
    await install(store, late, 204917, 36)
    await install(store, early, 130350, 5)
    store = await lab.turn()
    await expect_snapshot(store, 36, 204917)
    expect(await snapshot_bytes(store), late, "the bytes of the current snapshot")
    await expect_state(store, last=(36, 204917), applied=204917)


@case("I-11")
async def closing_is_idempotent(lab: Lab) -> None:
    """Readers and writers may be closed and discarded more than once."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 3))
    _, writer = await store.create_snapshot()
    await writer.aclose()
    await writer.aclose()
    await writer.discard()
    await writer.discard()
    await writer.aclose()
    reader = (await store.do_log_compaction()).snapshot
    await reader.aclose()
    await reader.aclose()
    store = await lab.turn()
    await expect_snapshot(store, 1, 2)


@case("I-13")
async def writer_is_not_the_current_snapshot(lab: Lab) -> None:
    """While a new snapshot arrives the old one stays current, and both can be read and written."""
    data = await make_snapshot(lab, 10, 3)
    store = await lab.open()
    await install(store, data, 10, 3)
    _, writer = await store.create_snapshot()
    await writer.send_all(b"half of something")
    await expect_snapshot(store, 3, 10)
    expect(await snapshot_bytes(store), data, "the bytes of the current snapshot")
    await writer.aclose()
    store = await lab.turn()
    await expect_snapshot(store, 3, 10)


@case("I-14")
async def two_readers_read_the_same(lab: Lab) -> None:
    """Two readers of one snapshot both give all of it, wherever the other one stands."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 30))
    await compact(store)
    store = await lab.turn()
    first, second = (await current_snapshot(store)).snapshot, (await current_snapshot(store)).snapshot
    async with first, second:
        head = bytes(await first.receive_some(100))
        whole = await read_all(second, 333)
        expect(head + await read_all(first), whole, "what the first reader gave")
        expect((first.tell(), second.tell()), (first.size, second.size), "where they stand")
        expect(await second.receive_some(1), b"", "a read at the end")


@case("I-20")
async def existing_state_is_seen(lab: Lab) -> None:
    """A fresh node is pristine; one that voted, or has an entry, or has a snapshot, is not."""
    voter, logger, installed = lab.another(), lab.another(), lab.another()
    pristine = InitialState.new_initial(0)
    await lab.open()
    await (await voter.open()).save_hard_state(HardState(1, 0))
    await (await logger.open()).append_entry_to_log(e(1, 1))
    await install(await installed.open(), await make_snapshot(lab, 3, 1, {0}), 3, 1)
    expect(await (await lab.turn()).get_initial_state(), pristine, "the state of a fresh node")
    for node in (voter, logger, installed):
        state = await (await node.turn()).get_initial_state()
        expect_true(state != pristine, f"{state} is not pristine")


@case("I-21")
async def hundred_applies_are_restored(lab: Lab) -> None:
    """A hundred applies, a snapshot, a restart: the machine holds them all and the log is trimmed."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 101))
    await compact(store)
    store = await lab.turn()
    expect_machine(lab, range(1, 101))
    await expect_log(store, [(1, 100)])
    await expect_state(store, last=(1, 100), applied=100)


@case("I-22")
async def snapshot_does_not_reset_the_log(lab: Lab) -> None:
    """A restart with a snapshot leaves the first and the last entry where they were."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 11))
    await compact(store)
    await store.replicate_to_log(normals(1, 11, 16))
    store = await lab.turn()
    await expect_log(store, [(1, 10), *normals(1, 11, 16)])
    await store.replicate_to_log(normals(2, 16, 18))
    await expect_state(store, last=(2, 17), applied=10)


@case("I-23")
async def tracked_applies_behind_a_snapshot_are_restored(lab: Lab) -> None:
    """What was applied behind the snapshot is applied again at a restart, the log keeps its ends, and no more is."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 11))
    await compact(store)
    await store.replicate_to_log(normals(1, 11, 16))
    await store.replicate_to_state_machine([(index, r(index)) for index in (11, 12)])
    store = await lab.turn()
    await expect_log(store, [(1, 10), *normals(1, 11, 16)])
    await expect_state(store, last=(1, 15), applied=12)
    expect_machine(lab, range(1, 13))


@case("I-24")
async def applied_entries_are_applied_again_at_start(lab: Lab) -> None:
    """Without any snapshot a restart rebuilds the machine from the log, up to what had been applied."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 21))
    await store.replicate_to_state_machine([(index, r(index)) for index in range(1, 13)])
    store = await lab.turn()
    await expect_state(store, last=(1, 20), applied=12)
    expect_machine(lab, range(1, 13))


@case("I-27")
async def membership_comes_from_the_snapshot(lab: Lab) -> None:
    """Where the log no longer has the membership entry, the snapshot's membership counts."""
    store = await lab.open()
    await log_and_apply(store, [m(1, 1, {0, 1, 2}), *normals(1, 2, 8)])
    await compact(store)
    await store.replicate_to_log(normals(1, 8, 10))
    store = await lab.turn()
    await expect_state(store, last=(1, 9), membership={0, 1, 2})
    await expect_pointer(store, 1, 7, {0, 1, 2})


@case("I-28")
async def policy_makes_snapshots(lab: Lab) -> None:
    """A node that compacts whenever ten entries were applied since the last snapshot has one after every ten."""
    store = await lab.open()
    seen: list[int] = []
    for start in range(1, 36, 5):
        await log_and_apply(store, normals(1, start, start + 5))
        applied = (await store.get_initial_state()).last_applied_log
        if applied - (seen[-1] if seen else 0) >= 10:
            seen.append((await compact(store)).index)
    expect(seen, [10, 20, 30], "the indexes of the snapshots")
    store = await lab.turn()
    await expect_snapshot(store, 1, 30)
    await expect_log(store, [(1, 30), *normals(1, 31, 36)])


@case("I-29")
async def nothing_new_to_compact(lab: Lab) -> None:
    """With nothing applied there is nothing to compact, which changes nothing; after one apply there is."""
    store = await lab.open()
    await store.replicate_to_log([m(1, 1, {0}), n(1, 2)])
    with refused(NothingToCompact):
        await store.do_log_compaction()
    await expect_no_snapshot(store)
    await expect_log(store, [(1, 1), (1, 2)])
    await store.apply_entry_to_state_machine(2, r(2))
    await compact(store)
    store = await lab.turn()
    await expect_snapshot(store, 1, 2, {0})


@case("I-30")
async def restore_discards_the_old_state(lab: Lab) -> None:
    """A restored snapshot replaces the machine wholly, and the index jumps to the snapshot's."""
    store = await lab.open()
    old = [n(1, index, r(index, client=f"old {index}")) for index in range(1, 6)]
    await log_and_apply(store, old)
    await compact(store)
    await install(store, await make_snapshot(lab, 1000, 7, {0}, [r(1000, client="new")]), 1000, 7)
    store = await lab.turn()
    expect_machine(lab, {1000: r(1000, client="new")})
    await expect_log(store, [(7, 1000)])
    await expect_state(store, last=(7, 1000), applied=1000)


@case("I-31")
async def lagging_follower_catches_up(lab: Lab) -> None:
    """A follower gets a snapshot, then a later one and the entries behind it, and holds what the leader holds."""
    leader, follower = lab.another(), await lab.open()
    source = await leader.open()
    await log_and_apply(source, [m(1, 1, {0, 1}), *normals(1, 2, 11)])
    await compact(source)
    await install(follower, await snapshot_bytes(source), 10, 1)
    await log_and_apply(source, normals(1, 11, 21))
    await compact(source)
    tail = normals(1, 21, 26)
    await log_and_apply(source, tail)
    await install(follower, await snapshot_bytes(source), 20, 1)
    await log_and_apply(follower, tail)
    store = await lab.turn()
    await expect_log(store, [(1, 20), *tail])
    await expect_state(store, last=(1, 25), applied=25, membership={0, 1})
    expect(lab.machine.content(), leader.machine.content(), "the follower's machine, which is to equal the leader's")


@case("I-36")
async def membership_is_kept_exactly(lab: Lab) -> None:
    """Both sets of a membership survive, an empty second set is not a missing one, and the ends of the range do."""
    top = 2**64 - 1
    kinds: list[MembershipConfig] = [
        MembershipConfig({0}),
        MembershipConfig({0, top}, set()),
        MembershipConfig({top, 1, 0, 2**63}, {0}),
        MembershipConfig(set(), None),
        MembershipConfig(set(), {top}),
        MembershipConfig(range(300), range(1000, 1300)),
    ]
    store = await lab.open()
    for index, kind in enumerate(kinds, 1):
        await store.append_entry_to_log(Entry(1, index, ConfigChange(kind)))
        expect(await store.get_membership_config(), kind, "the membership right after its append")
    store = await lab.turn()
    found = await store.get_log_entries(1, len(kinds) + 1)
    expect([entry.payload for entry in found], [ConfigChange(kind) for kind in kinds], "the payloads")
    for index in range(len(kinds), 1, -1):
        await store.delete_logs_from(index)
        expect(await store.get_membership_config(), kinds[index - 2], "the membership after a deletion")
    for index, kind in enumerate(kinds, 1):
        node = lab.another()
        id, writer = await send(await node.open(), await make_snapshot(lab, index, 1, kind))
        await node.store.finalize_snapshot_installation(index, 1, None, id, writer)
        expect(await (await node.turn()).get_membership_config(), kind, "the membership after an install")
