"""Group C, openraft's suite: the membership in log and snapshot.

openraft keeps a membership in its state machine; here it is that of the current snapshot.  Its search of the log for
"memberships since an index" is made through the interface's reads.
"""

from ..._types import ConfigChange, MembershipConfig
from ._kit import (
    Lab,
    Store,
    blanks,
    case,
    compact,
    e,
    expect,
    expect_log,
    expect_pointer,
    expect_snapshot,
    expect_state,
    install,
    m,
    make_snapshot,
    members,
)


async def memberships_since(store: Store, since: int) -> list[MembershipConfig]:
    """The last two memberships that entries at `since` and above set, ascending."""
    entries = await store.get_log_entries(since, 2**64 - 1)
    return [entry.payload.membership for entry in entries if isinstance(entry.payload, ConfigChange)][-2:]


async def with_snapshot(lab: Lab, index: int, ids: set[int], membership_index: int) -> Store:
    """A fresh store that received a snapshot at (term 1, `index`)."""
    data = await make_snapshot(lab, index, 1, ids, membership_index=membership_index)
    store = await lab.open()
    await install(store, data, index, 1, None)
    return store


@case("C-01")
async def no_membership_in_an_empty_log(lab: Lab) -> None:
    """The log of a new store has no membership, so that the node is alone."""
    await lab.open(node_id=7)
    store = await lab.turn()
    expect(await memberships_since(store, 0), [], "memberships in the log")
    expect(await store.get_membership_config(), MembershipConfig.new_initial(7), "membership")


@case("C-02a")
async def no_membership_above_the_snapshot(lab: Lab) -> None:
    """A log with nothing above the snapshot has no membership of its own."""
    await with_snapshot(lab, 2, {3, 4, 5}, 2)
    store = await lab.turn()
    expect(await memberships_since(store, 3), [], "memberships above the snapshot")
    await expect_state(store, membership={3, 4, 5})


@case("C-02b")
async def one_membership_in_the_log(lab: Lab) -> None:
    """A membership is found from its own index on, and not above."""
    store = await lab.open()
    await store.append_entry_to_log(m(1, 1, {1, 2, 3}))
    store = await lab.turn()
    for since, found in ((0, [members({1, 2, 3})]), (1, [members({1, 2, 3})]), (2, [])):
        expect(await memberships_since(store, since), found, f"memberships since {since}")
    await expect_state(store, membership={1, 2, 3})


@case("C-02c")
async def two_memberships_in_the_log(lab: Lab) -> None:
    """Of two memberships the later one counts."""
    store = await lab.open()
    await store.replicate_to_log([m(1, 1, {1, 2, 3}), e(1, 2), m(1, 3, {7, 8, 9}), e(1, 4)])
    store = await lab.turn()
    expect(await memberships_since(store, 0), [members({1, 2, 3}), members({7, 8, 9})], "memberships since 0")
    expect(await memberships_since(store, 4), [], "memberships since 4")
    await expect_state(store, membership={7, 8, 9})


@case("C-02d")
async def three_memberships_in_the_log(lab: Lab) -> None:
    """Of three memberships the last one counts, one by one as they come."""
    store = await lab.open()
    await store.replicate_to_log([m(1, 1, {1, 2, 3}), e(1, 2), m(1, 3, {7, 8, 9}), e(1, 4)])
    await store.append_entry_to_log(m(1, 5, {10, 11}))
    store = await lab.turn()
    expect(await memberships_since(store, 0), [members({7, 8, 9}), members({10, 11})], "the last two memberships")
    await expect_state(store, membership={10, 11})


@case("C-03")
async def memberships_far_apart(lab: Lab) -> None:
    """The search for the membership passes over a hundred blank entries, upwards and downwards."""
    store = await lab.open()
    await store.replicate_to_log([m(1, 1, {1, 2, 3}), m(1, 2, {3, 4, 5}), *blanks(1, 3, 100)])
    await expect_state(store, membership={3, 4, 5})
    await store.append_entry_to_log(m(1, 100, {5, 6, 7}))
    store = await lab.turn()
    expect(await memberships_since(store, 0), [members({3, 4, 5}), members({5, 6, 7})], "the last two memberships")
    await expect_state(store, membership={5, 6, 7})
    await store.delete_logs_from(100, None)
    store = await lab.turn()
    await expect_state(store, membership={3, 4, 5})


@case("C-04")
async def membership_initial(lab: Lab) -> None:
    """A new store's membership is the node alone, also where its id is the highest."""
    await lab.open(node_id=2**64 - 1)
    store = await lab.turn()
    expect(await store.get_membership_config(), members({2**64 - 1}), "membership")


@case("C-05")
async def membership_from_log(lab: Lab) -> None:
    """Without a snapshot the membership is the log's."""
    store = await lab.open()
    await store.append_entry_to_log(m(1, 1, {1, 2, 3}))
    store = await lab.turn()
    expect(await store.get_membership_config(), members({1, 2, 3}), "membership")


@case("C-06")
async def membership_from_snapshot(lab: Lab) -> None:
    """Without another log the membership is the snapshot's."""
    await with_snapshot(lab, 1, {3, 4, 5}, 1)
    store = await lab.turn()
    expect(await store.get_membership_config(), members({3, 4, 5}), "membership")
    await expect_pointer(store, 1, 1, {3, 4, 5})


@case("C-07")
async def stale_membership_is_skipped(lab: Lab) -> None:
    """A config entry that the snapshot covers is skipped, and changes no membership."""
    store = await with_snapshot(lab, 4, {3, 4, 5}, 2)
    await store.append_entry_to_log(m(1, 3, {1, 2, 3}))
    store = await lab.turn()
    await expect_log(store, [(1, 4)])
    await expect_state(store, last=(1, 4), membership={3, 4, 5})


@case("C-08")
async def membership_above_the_snapshot(lab: Lab) -> None:
    """A config entry above the snapshot counts; the snapshot keeps its own membership."""
    store = await with_snapshot(lab, 2, {3, 4, 5}, 2)
    await store.append_entry_to_log(m(1, 3, {7, 8, 9}))
    store = await lab.turn()
    await expect_state(store, membership={7, 8, 9})
    await expect_snapshot(store, 1, 2, {3, 4, 5})
    expect((await compact(store)).membership, members({3, 4, 5}), "membership at the applied index")


@case("C-09")
async def two_memberships_above_the_snapshot(lab: Lab) -> None:
    """Of two config entries above the snapshot the later one counts, until it is deleted."""
    store = await with_snapshot(lab, 2, {3, 4, 5}, 2)
    await store.append_entry_to_log(m(1, 3, {7, 8, 9}))
    await store.append_entry_to_log(m(1, 4, {10, 11}))
    store = await lab.turn()
    await expect_state(store, membership={10, 11})
    expect(await memberships_since(store, 3), [members({7, 8, 9}), members({10, 11})], "memberships in the log")
    await store.delete_logs_from(4, None)
    await expect_state(store, membership={7, 8, 9})
    store = await lab.turn()
    await expect_state(store, membership={7, 8, 9})
    await store.delete_logs_from(3, None)
    store = await lab.turn()
    await expect_state(store, membership={3, 4, 5})
