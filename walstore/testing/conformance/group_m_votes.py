"""Wanted: hard state, node id and the lock of the directory."""

from ..._types import HardState, InitialState, MembershipConfig
from ...errors import NodeIdMismatchError, StorageLockedError
from ._image import SMALL
from ._kit import (
    Lab,
    blanks,
    case,
    e,
    expect,
    expect_log,
    expect_state,
    expect_true,
    install,
    log_and_apply,
    make_snapshot,
    normals,
    refused,
)
from .group_f_building import compact

TOP = 2**64 - 1


@case("M-19")
async def votes_are_told_apart(lab: Lab) -> None:
    """A vote for node 0, no vote, and a vote for the highest id survive as what they are."""
    for vote in (0, None, TOP):
        node = lab.another()
        await (await node.open()).save_hard_state(HardState(4, vote))
        await expect_state(await node.turn(), hard=HardState(4, vote))


@case("M-21")
async def vote_survives_everything_else(lab: Lab) -> None:
    """Compaction, install, deletion of the whole log and the rotation of segments leave the hard state alone."""
    vote = HardState(7, 0)
    store = await lab.open(config=SMALL)
    await store.save_hard_state(vote)
    for start in range(1, 800, 40):
        await store.replicate_to_log(normals(7, start, start + 40))
    await expect_state(store, hard=vote)
    await log_and_apply(store, normals(7, 1, 11))
    await compact(store)
    await expect_state(store, hard=vote)
    await install(store, await make_snapshot(lab, 900, 7), 900, 7)
    await expect_state(store, hard=vote)
    await store.delete_logs_from(0)
    store = await lab.turn()
    await expect_state(store, hard=vote, last=(7, 900))


@case("M-22")
async def voter_without_a_log_is_not_pristine(lab: Lab) -> None:
    """A saved vote with an empty log is reported: a node that forgets it may vote twice."""
    store = await lab.open()
    await store.save_hard_state(HardState(1, 3))
    store = await lab.turn()
    state = await store.get_initial_state()
    expect(state, InitialState(0, 0, 0, HardState(1, 3), MembershipConfig.new_initial(0)), "the initial state")
    expect_true(state != InitialState.new_initial(0), "the node is not pristine")


@case("M-23", reads=True, needs={"reopen"})
async def foreign_node_id_is_refused(lab: Lab) -> None:
    """A directory of one node does not open for another, and is unchanged by the attempt."""
    store = await lab.open(node_id=3)
    await store.save_hard_state(HardState(2, 3))
    await store.replicate_to_log(blanks(2, 1, 4))
    await lab.close()
    changes = lab.harness.disk.operations if lab.harness.disk else []
    before = len(changes)
    with refused(NodeIdMismatchError):
        await lab.harness.open(node_id=4)
    expect(changes[before:], [], "what the refused open changed")
    store = await lab.reopen()
    await expect_log(store, blanks(2, 1, 4))
    await expect_state(store, hard=HardState(2, 3))


@case("M-24")
async def default_membership_is_of_the_stored_id(lab: Lab) -> None:
    """The membership of a node that knows of nobody else names the id that was stored when the store was made."""
    await lab.open(node_id=7)
    store = await lab.turn()
    expect(await store.get_membership_config(), MembershipConfig.new_initial(7), "the membership")
    await expect_state(store, membership={7})


@case("M-25", needs={"reopen"})
async def directory_has_one_owner(lab: Lab) -> None:
    """While a store is open a second open is refused; once it is closed, or its process dead, it succeeds."""
    store = await lab.open()
    await store.append_entry_to_log(e(1, 1))
    for _ in range(2):
        with refused(StorageLockedError):
            await lab.harness.open()
    store = await lab.turn()
    if lab.live:
        store = await lab.reopen()
    await store.append_entry_to_log(e(1, 2))
    with refused(StorageLockedError):
        await lab.harness.open()
    await expect_log(store, blanks(1, 1, 3))


@case("M-26", reads=True, needs={"reopen"})
async def failed_open_leaves_no_lock(lab: Lab) -> None:
    """An open that fails half-way gives the directory back."""
    store = await lab.open(node_id=1)
    await store.append_entry_to_log(e(1, 1))
    await lab.close()
    for _ in range(2):
        with refused(NodeIdMismatchError):
            await lab.harness.open(node_id=2)
    store = await lab.reopen()
    await expect_log(store, blanks(1, 1, 2))
