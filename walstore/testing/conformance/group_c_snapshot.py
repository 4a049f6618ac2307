"""Group C, openraft's suite: snapshots and applies."""

from ...errors import NothingToCompact
from ._kit import (
    ClientRequest,
    ClientResponse,
    Lab,
    case,
    compact,
    content_after,
    e,
    expect,
    expect_log,
    expect_no_snapshot,
    expect_snapshot,
    expect_state,
    install,
    log_and_apply,
    m,
    members,
    n,
    r,
    refused,
    snapshot_bytes,
)


@case("C-42")
async def snapshot_meta(lab: Lab) -> None:
    """A snapshot says up to where it goes, and what the membership was there, not what it is to be later."""
    store = await lab.open()
    await store.append_entry_to_log(m(1, 1, {1, 2}))
    await store.apply_entry_to_state_machine(1, r(1))
    built = await compact(store)
    expect((built.term, built.index, built.membership), (1, 1, members({1, 2})), "the snapshot's meta data")
    store = await lab.turn()
    await expect_snapshot(store, 1, 1, {1, 2})
    await log_and_apply(store, [n(1, 2), m(1, 3, {3, 4}), n(2, 4), e(2, 5), m(2, 6, {9})])
    built = await compact(store)
    expect((built.term, built.index, built.membership), (2, 4, members({3, 4})), "the second one's")
    store = await lab.turn()
    await expect_snapshot(store, 2, 4, {3, 4})
    await expect_log(store, [(2, 4), e(2, 5), m(2, 6, {9})])


@case("C-43")
async def nothing_to_compact(lab: Lab) -> None:
    """A new store has nothing to compact, and no snapshot afterwards."""
    store = await lab.open()
    with refused(NothingToCompact):
        await store.do_log_compaction()
    store = await lab.turn()
    await expect_no_snapshot(store)
    await expect_state(store, last=(0, 0), applied=0)


@case("C-44")
async def apply_single(lab: Lab) -> None:
    """One entry after another is applied, and stays applied."""
    store = await lab.open()
    await store.replicate_to_log([n(1, 1), n(1, 2)])
    await expect_state(store, applied=0)
    expect(await store.apply_entry_to_state_machine(1, r(1)), ClientResponse(None), "the first answer")
    store = await lab.turn()
    await expect_state(store, applied=1)
    expect(await store.apply_entry_to_state_machine(2, r(2)), ClientResponse("at 1"), "the second answer")
    store = await lab.turn()
    await expect_state(store, applied=2)
    expect(lab.machine.status, {"c": "at 2"}, "statuses")


@case("C-45")
async def apply_multiple(lab: Lab) -> None:
    """A batch is applied in order up to its last entry."""
    requests = [(index, ClientRequest(f"client {index % 3}", index, f"status {index}")) for index in range(1, 21)]
    store = await lab.open()
    await log_and_apply(store, [n(1, index, data) for index, data in requests])
    store = await lab.turn()
    await expect_state(store, applied=20)
    expect(lab.machine.content(), content_after(requests), "the machine")


@case("C-46")
async def transfer_snapshot(lab: Lab) -> None:
    """A snapshot that went from one store to another is the same there: meta data, machine and bytes."""
    other = lab.another()
    a, b = await lab.open(), await other.open(node_id=1)
    await expect_no_snapshot(a)
    await expect_no_snapshot(b)
    await log_and_apply(a, [m(1, 1, {0, 1, 2}, {3}), n(1, 2), n(2, 3), n(2, 4), e(2, 5), m(2, 6, {9})])
    built = await compact(a)
    await expect_snapshot(a, built.term, built.index, built.membership)
    data = await snapshot_bytes(a)
    await install(b, data, built.index, built.term, None)
    a, b = await lab.turn(), await other.turn()
    await expect_snapshot(b, 2, 4, members({0, 1, 2}, {3}))
    await expect_state(b, last=(2, 4), applied=4, membership=members({0, 1, 2}, {3}))
    expect(other.machine.content(), lab.machine.content(), "the machine on the other side")
    expect(other.machine.content(), content_after((index, r(index)) for index in (2, 3, 4)), "the machine")
    expect(await snapshot_bytes(b), data, "the bytes on the other side")
    expect(await snapshot_bytes(a), data, "the bytes on this side")
