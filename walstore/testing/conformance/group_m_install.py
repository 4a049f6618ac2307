"""Wanted: what finalizing an installation does to log, machine and membership, and what it must refuse."""

from ..._types import HardState, MembershipConfig
from ...errors import SnapshotInvalidError, SnapshotMismatchError, UsageError, WalstoreError
from ._kit import (
    Lab,
    Store,
    blanks,
    case,
    e,
    expect,
    expect_log,
    expect_no_snapshot,
    expect_pointer,
    expect_snapshot,
    expect_state,
    install,
    log_and_apply,
    m,
    make_snapshot,
    n,
    normals,
    r,
    refused,
    send,
    snapshot_bytes,
)
from ._machines import PickyMachine, expect_machine
from .group_f_building import compact


async def _expect_old_state(lab: Lab) -> None:
    """What `_old_state` made is still there, whole."""
    await expect_log(lab.store, [(1, 3), n(1, 4), n(1, 5)])
    await expect_snapshot(lab.store, 1, 3, {0, 8})
    await expect_state(lab.store, last=(1, 5), applied=4, hard=HardState(1, 0), membership={0, 8})
    expect_machine(lab, [2, 3, 4])


async def _old_state(lab: Lab) -> Store:
    """A store with a vote, a snapshot at 3, and two entries above it, one of them applied."""
    store = await lab.open()
    await store.save_hard_state(HardState(1, 0))
    await log_and_apply(store, [m(1, 1, {0, 8}), *normals(1, 2, 4)])
    await compact(store)
    await log_and_apply(store, normals(1, 4, 5))
    await store.append_entry_to_log(n(1, 5))
    return store


@case("M-48")
async def finalize_twice(lab: Lab) -> None:
    """The same finalize again, because the first one was slow to answer, succeeds and changes nothing."""
    data = await make_snapshot(lab, 9, 2, {0, 1})
    store = await lab.open()
    id, writer = await send(store, data)
    await store.finalize_snapshot_installation(9, 2, None, id, writer)
    await store.replicate_to_log(blanks(2, 10, 12))
    await store.finalize_snapshot_installation(9, 2, None, id, writer)
    store = await lab.turn()
    await expect_log(store, [(2, 9), (2, 10), (2, 11)])
    await expect_state(store, last=(2, 11), applied=9, membership={0, 1})
    expect(await snapshot_bytes(store), data, "the bytes of the current snapshot")
    await install(store, data, 9, 2)
    await expect_log(store, [(2, 9), (2, 10), (2, 11)])


@case("M-49")
async def finalize_with_nothing(lab: Lab) -> None:
    """An empty stream is a success for what is installed already, and refused for anything else."""
    data = await make_snapshot(lab, 9, 2)
    store = await lab.open()
    await install(store, data, 9, 2)
    await install(store, b"", 9, 2)
    await expect_state(store, last=(2, 9), applied=9)
    with refused(SnapshotInvalidError):
        await install(store, b"", 12, 2)
    store = await lab.turn()
    await expect_log(store, [(2, 9)])
    expect(await snapshot_bytes(store), data, "the bytes of the current snapshot")
    expect_machine(lab, [9])


@case("M-50")
async def stream_that_begins_in_the_middle(lab: Lab) -> None:
    """A stream that goes on where a restarted follower left off is refused; the full stream after it is taken."""
    data = await make_snapshot(lab, 9, 2)
    await _old_state(lab)
    store = await lab.turn()
    id, writer = await store.create_snapshot()
    await writer.send_all(data[1000:2000])  # meant for offset 1000; a core writes the first chunk where the writer is
    writer.seek(2000)
    await writer.send_all(data[2000:])
    await writer.aclose()
    with refused(SnapshotInvalidError):
        await store.finalize_snapshot_installation(9, 2, None, id, writer)
    await _expect_old_state(lab)
    await install(store, data, 9, 2)
    store = await lab.turn()
    await expect_log(store, [(2, 9)])
    expect_machine(lab, [9])


@case("M-51")
async def short_stream_over_a_longer_one(lab: Lab) -> None:
    """A stream that another, longer one had begun is taken cut to its own length, or refused: never a mixture."""
    long = await make_snapshot(lab, 9, 2, {0}, [r(9, "long" * 2000)])
    short = await make_snapshot(lab, 10, 3, {0, 1}, [r(10, "short")])
    store = await _old_state(lab)
    id, writer = await store.create_snapshot()
    await writer.send_all(long)
    writer.seek(0)
    await writer.send_all(short)
    await writer.aclose()
    await store.finalize_snapshot_installation(10, 3, None, id, writer)
    store = await lab.turn()
    expect(await snapshot_bytes(store), short, "the bytes of the current snapshot")
    expect_machine(lab, {10: r(10, "short")})
    await expect_state(store, last=(3, 10), applied=10, membership={0, 1})
    id, writer = await store.create_snapshot()
    await writer.send_all(long)
    writer.seek(0)
    await writer.send_all(short[: len(short) // 2])
    with refused(SnapshotInvalidError):
        await store.finalize_snapshot_installation(11, 3, None, id, writer)
    expect(await snapshot_bytes(store), short, "the bytes of the current snapshot")


@case("M-52")
async def other_snapshot_than_announced(lab: Lab) -> None:
    """A whole snapshot of another index or term than announced is refused, and the old state is intact."""
    data = await make_snapshot(lab, 9, 2)
    store = await _old_state(lab)
    for index, term in ((9, 3), (10, 2), (8, 2), (12, 7)):
        with refused(SnapshotMismatchError):
            await install(store, data, index, term)
    await lab.turn()
    await _expect_old_state(lab)


@case("M-53")
async def stale_install(lab: Lab) -> None:
    """A snapshot older than the current one is a success that changes nothing."""
    stale = await make_snapshot(lab, 2, 1, {0, 8})
    store = await _old_state(lab)
    await install(store, stale, 2, 1)
    await install(store, stale, 2, 1, delete_through=2)
    await lab.turn()
    await _expect_old_state(lab)


@case("M-54")
async def delete_through_is_inclusive(lab: Lab) -> None:
    """Entries up to and with `delete_through` go; what follows stays only behind an entry of the snapshot's term."""
    for term, kept in ((1, blanks(1, 6, 11)), (2, [])):
        node = lab.another()
        data = await make_snapshot(lab, 5, term, {0})
        store = await node.open()
        await store.replicate_to_log(blanks(1, 1, 11))
        await install(store, data, 5, term, delete_through=5)
        store = await node.turn()
        await expect_log(store, [(term, 5), *kept])
        await expect_pointer(store, term, 5, {0})
        await expect_state(store, applied=5)


@case("M-55")
async def delete_through_nothing_in_particular(lab: Lab) -> None:
    """Without `delete_through` everything goes but the pointer."""
    store = await lab.log10()
    await install(store, await make_snapshot(lab, 5, 1, {0}), 5, 1)
    store = await lab.turn()
    await expect_log(store, [(1, 5)])
    await expect_state(store, last=(1, 5), applied=5)


@case("M-56")
async def delete_through_above_the_snapshot(lab: Lab) -> None:
    """A `delete_through` above the snapshot's index would leave a hole: it is refused and nothing is changed."""
    data = await make_snapshot(lab, 9, 2)
    store = await _old_state(lab)
    id, writer = await send(store, data)
    with refused(UsageError):
        await store.finalize_snapshot_installation(9, 2, 10, id, writer)
    await lab.turn()
    await _expect_old_state(lab)


@case("M-59")
async def install_leaves_the_vote(lab: Lab) -> None:
    """An install does not touch term and vote, whatever terms the snapshot speaks of."""
    store = await lab.open()
    await store.save_hard_state(HardState(2, 1))
    await install(store, await make_snapshot(lab, 9, 5), 9, 5)
    store = await lab.turn()
    await expect_state(store, last=(5, 9), hard=HardState(2, 1))


@case("M-60")
async def kept_suffix_has_the_newer_membership(lab: Lab) -> None:
    """A membership entry in the suffix that an install keeps wins over the snapshot's membership."""
    store = await lab.open()
    await store.replicate_to_log([*blanks(1, 1, 7), m(1, 7, {0, 1, 2, 3}), e(1, 8)])
    await install(store, await make_snapshot(lab, 5, 1, {0, 1}), 5, 1, delete_through=5)
    store = await lab.turn()
    await expect_state(store, last=(1, 8), membership={0, 1, 2, 3})
    await expect_snapshot(store, 1, 5, {0, 1})
    await store.delete_logs_from(7)
    await expect_state(store, membership={0, 1})


@case("M-61")
async def machine_is_replaced_wholly(lab: Lab) -> None:
    """What only the old machine knew is gone after an install, with `delete_through` and without."""
    for delete_through in (None, 9):
        node = lab.another()
        data = await make_snapshot(lab, 9, 2, {0}, [r(9, client="new")])
        store = await node.open()
        await log_and_apply(store, [n(1, index, r(index, client=f"old {index}")) for index in range(1, 4)])
        await install(store, data, 9, 2, delete_through)
        await node.turn()
        expect(node.machine.status, {"new": "at 9"}, "what the machine knows")
        expect_machine(node, {9: r(9, client="new")})


@case("M-62")
async def bad_ids_are_refused(lab: Lab) -> None:
    """An id that `create_snapshot` did not give is refused, above all one that looks like a path."""
    data = await make_snapshot(lab, 9, 2)
    store = await _old_state(lab)
    id, writer = await send(store, data)
    for bad in ("../x", "", "/", "a/b", ".", id + "x", "snap-2-9"):
        with refused(ValueError):
            await store.finalize_snapshot_installation(9, 2, None, bad, writer)
    await lab.turn()
    await _expect_old_state(lab)


@case("M-84")
async def install_below_what_was_applied(lab: Lab) -> None:
    """A snapshot between the current one and the applied index is adopted, and the machine does not go back."""
    data = await make_snapshot(lab, 5, 1, {0}, [r(index) for index in range(1, 6)])
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 11))
    await install(store, data, 5, 1, delete_through=5)
    await store.replicate_to_state_machine([(index, r(index)) for index in range(6, 11)])
    await expect_state(store, last=(1, 10), applied=10)
    store = await lab.turn()
    await expect_log(store, [(1, 5), *normals(1, 6, 11)])
    await expect_snapshot(store, 1, 5)
    await expect_state(store, last=(1, 10), applied=10)
    expect_machine(lab, range(1, 11))


@case("M-85")
async def install_on_a_fresh_node(lab: Lab) -> None:
    """A fresh node with a snapshot is no longer pristine, although it never voted."""
    store = await lab.open()
    await expect_no_snapshot(store)
    await install(store, await make_snapshot(lab, 9, 2, {3, 4}), 9, 2)
    store = await lab.turn()
    await expect_log(store, [(2, 9)])
    state = await store.get_initial_state()
    expect((state.last_log_index, state.last_log_term, state.last_applied_log), (9, 2, 9), "log and applied")
    expect((state.hard_state, state.membership), (HardState(), MembershipConfig({3, 4})), "vote and membership")


@case("M-86")
async def machine_that_refuses_a_snapshot(lab: Lab) -> None:
    """When the machine does not take the snapshot's state the error is raised and the old state is intact."""
    data = await make_snapshot(lab, 9, 2)
    store = await lab.open(machine=PickyMachine)
    await log_and_apply(store, normals(1, 1, 4))
    with refused(WalstoreError, ValueError):
        await install(store, data, 9, 2)
    store = await lab.turn()
    await expect_log(store, normals(1, 1, 4))
    await expect_no_snapshot(store)
    await expect_state(store, last=(1, 3), applied=3)
    expect_machine(lab, range(1, 4))
    await store.append_entry_to_log(n(1, 4))
