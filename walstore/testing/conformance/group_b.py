"""Group B: async-raft's cluster tests, reduced to what one store sees: the calls that its core made, in their order."""

from ..._types import HardState
from ._kit import (
    ClientRequest,
    Lab,
    blanks,
    case,
    compact,
    content_after,
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
    members,
    n,
    normals,
    r,
    snapshot_bytes,
)


@case("B-01")
async def single_node(lab: Lab) -> None:
    """A single node that took a thousand writes, each appended and then applied, has them all and no snapshot."""
    store = await lab.open()
    await store.save_hard_state(HardState(1, 0))
    await store.append_entry_to_log(m(1, 1, {0}))
    for index in range(2, 1002):
        await store.append_entry_to_log(n(1, index))
        await store.apply_entry_to_state_machine(index, r(index))
    store = await lab.turn()
    await expect_state(store, last=(1, 1001), applied=1001, hard=HardState(1, 0), membership={0})
    await expect_no_snapshot(store)
    expect(lab.machine.history, list(range(2, 1002)), "applied indexes")


async def five_hundred(lab: Lab) -> bytes:
    """A leader's first 500 entries, compacted at the last one; the bytes of its snapshot."""
    store = await lab.open()
    await store.save_hard_state(HardState(1, 0))
    await log_and_apply(store, [m(1, 1, {0}), *normals(1, 2, 501)])
    await compact(store)
    return await snapshot_bytes(store)


@case("B-02")
async def compaction(lab: Lab) -> None:
    """At the policy's threshold a snapshot of all that is applied stands at the last index."""
    await five_hundred(lab)
    store = await lab.turn()
    await expect_snapshot(store, 1, 500, {0})
    await expect_pointer(store, 1, 500, {0})
    await expect_state(store, last=(1, 500), applied=500, hard=HardState(1, 0), membership={0})
    expect(lab.machine.history, list(range(2, 501)), "applied indexes")


@case("B-03")
async def new_node_gets_the_snapshot(lab: Lab) -> None:
    """On a new node two config entries after the installed snapshot leave machine and snapshot as they are."""
    data = await five_hundred(lab.another())
    store = await lab.open(node_id=1)
    await store.save_hard_state(HardState(1, None))
    await install(store, data, 500, 1, None)
    store = await lab.turn()
    await store.append_entry_to_log(m(1, 501, {0}, {0, 1}))
    expect(await store.get_membership_config(), members({0}, {0, 1}), "joint membership")
    await store.append_entry_to_log(m(1, 502, {0, 1}))
    store = await lab.turn()
    await expect_log(store, [(1, 500), m(1, 501, {0}, {0, 1}), m(1, 502, {0, 1})])
    await expect_state(store, last=(1, 502), applied=500, hard=HardState(1, None), membership={0, 1})
    await expect_snapshot(store, 1, 500, {0})
    expect(lab.machine.history, list(range(2, 501)), "applied indexes")


@case("B-04")
async def six_clients(lab: Lab) -> None:
    """Six thousand writes of six clients in batches pass the threshold of 5000 once, and all of them are applied."""
    store = await lab.open()
    await store.save_hard_state(HardState(1, 0))
    await store.append_entry_to_log(m(1, 1, {0, 1, 2}))
    requests = [ClientRequest(f"client {i % 6}", i // 6, f"write {i}") for i in range(6000)]
    compacted = 0
    for start in range(0, 6000, 60):
        await log_and_apply(store, [n(1, 2 + i, requests[i]) for i in range(start, start + 60)])
        if start + 61 - compacted >= 5000:
            compacted = (await compact(store)).index
    expect_true(5000 <= compacted <= 5100, f"the snapshot's index, {compacted}, is in [5000, 5100]")
    store = await lab.turn()
    await expect_state(store, last=(1, 6001), applied=6001, membership={0, 1, 2})
    await expect_snapshot(store, 1, compacted, {0, 1, 2})
    expect(lab.machine.content(), content_after(enumerate(requests, 2)), "the machine")


@case("B-05")
async def initialization(lab: Lab) -> None:
    """Pristine nodes know only themselves; after the first entry each knows the cluster."""
    nodes = [lab.another() for _ in range(3)]
    for node_id, node in enumerate(nodes):
        await node.open(node_id=node_id)
        store = await node.turn()
        await expect_state(store, last=(0, 0), applied=0, hard=HardState(0, None), membership={node_id})
    for node in nodes:
        await node.store.save_hard_state(HardState(1, 0))
        await node.store.append_entry_to_log(m(1, 1, {0, 1, 2}))
        store = await node.turn()
        await expect_state(store, last=(1, 1), applied=0, hard=HardState(1, 0), membership={0, 1, 2})


@case("B-06")
async def non_voter_restart(lab: Lab) -> None:
    """A restarted non-voter has its entries, and does not take itself for a member."""
    store = await lab.open(node_id=1)
    await store.save_hard_state(HardState(1, None))
    await log_and_apply(store, [m(1, 1, {0}), n(1, 2)])
    store = await lab.turn()
    await expect_state(store, last=(1, 2), applied=2, hard=HardState(1, None), membership={0})
    expect((await store.get_membership_config()).contains(1), False, "whether it is a voter")


@case("B-07")
async def dynamic_membership(lab: Lab) -> None:
    """The membership is joint while the joint entry is the latest config, and uniform after the next one."""
    store = await lab.open()
    await store.save_hard_state(HardState(1, 0))
    await store.append_entry_to_log(m(1, 1, {0}))
    await store.append_entry_to_log(m(1, 2, {0}, range(5)))
    store = await lab.turn()
    await expect_state(store, membership=members({0}, range(5)))
    expect((await store.get_membership_config()).is_in_joint_consensus(), True, "whether it is joint")
    await store.append_entry_to_log(m(1, 3, range(5)))
    store = await lab.turn()
    await expect_state(store, last=(1, 3), hard=HardState(1, 0), membership=range(5))
    await store.save_hard_state(HardState(2, 3))
    await store.append_entry_to_log(e(2, 4))
    store = await lab.turn()
    await expect_state(store, last=(2, 4), hard=HardState(2, 3), membership=range(5))


@case("B-08")
async def step_down(lab: Lab) -> None:
    """Config and blank entries alone leave nothing applied and no snapshot, on the old leader and on the others."""
    log = [m(1, 1, {0, 1}), m(1, 2, {0, 1}, {1, 2, 3}), m(1, 3, {1, 2, 3})]
    store = await lab.open()
    await store.save_hard_state(HardState(1, 0))
    await store.replicate_to_log(log)
    other = lab.another()
    follower = await other.open(node_id=1)
    await follower.save_hard_state(HardState(1, 0))
    await follower.replicate_to_log(log)
    await follower.save_hard_state(HardState(2, 1))
    await follower.replicate_to_log(blanks(2, 4, 5))
    store = await lab.turn()
    await expect_state(store, last=(1, 3), applied=0, hard=HardState(1, 0), membership={1, 2, 3})
    await expect_no_snapshot(store)
    follower = await other.turn()
    await expect_state(follower, last=(2, 4), applied=0, hard=HardState(2, 1), membership={1, 2, 3})
    await expect_no_snapshot(follower)
