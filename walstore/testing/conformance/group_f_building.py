"""openraft, tests/tests/snapshot_building, client_api and state_machine: making snapshots while the node works."""

import trio

from ..._types import CurrentSnapshotData
from ...abc import SnapshotReader
from ...errors import InvalidRangeError
from ._kit import (
    Lab,
    Store,
    case,
    e,
    expect,
    expect_log,
    expect_no_snapshot,
    expect_snapshot,
    expect_state,
    expect_true,
    install,
    log_and_apply,
    m,
    make_snapshot,
    members,
    n,
    normals,
    r,
    refused,
    snapshot_bytes,
)
from ._machines import Gate, content_of, expect_machine, requests


async def compact(store: Store) -> CurrentSnapshotData[SnapshotReader]:
    """Compacts, and closes the reader that this gave."""
    built = await store.do_log_compaction()
    await built.snapshot.aclose()
    return built


@case("F-16")
async def building_a_snapshot_does_not_block_append(lab: Lab) -> None:
    """An append returns while a compaction stands still in the middle of its writing."""
    gate = Gate()
    store = await lab.open(machine=gate.machine)
    await log_and_apply(store, normals(1, 1, 4))
    async with trio.open_nursery() as nursery:
        with gate.shut():
            nursery.start_soon(compact, store)
            await gate.wait_for_arrival()
            await store.replicate_to_log(normals(1, 4, 6))
            await expect_log(store, normals(1, 1, 6))
            await expect_no_snapshot(store)
    store = await lab.turn()
    await expect_log(store, [(1, 3), n(1, 4), n(1, 5)])
    await expect_snapshot(store, 1, 3)


@case("F-17")
async def building_a_snapshot_does_not_block_apply(lab: Lab) -> None:
    """An apply returns while a compaction stands still, and the snapshot shows nothing of it."""
    gate = Gate()
    store = await lab.open(machine=gate.machine)
    await log_and_apply(store, normals(1, 1, 4))
    await store.replicate_to_log(normals(1, 4, 6))
    async with trio.open_nursery() as nursery:
        with gate.shut():
            nursery.start_soon(compact, store)
            await gate.wait_for_arrival()
            await store.apply_entry_to_state_machine(4, r(4))
            await store.replicate_to_state_machine([(5, r(5))])
            await expect_state(store, applied=5)
    store = await lab.turn()
    await expect_snapshot(store, 1, 3)
    expect_true(content_of(requests(1, 4)) in await snapshot_bytes(store), "the snapshot holds entries 1 to 3 alone")
    await expect_state(store, applied=5)
    expect_machine(lab, range(1, 6))


@case("F-18")
async def cannot_purge_past_the_snapshot(lab: Lab) -> None:
    """A prefix deletion that reaches above the snapshot into what was applied is refused and changes nothing."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 6))
    await compact(store)
    await log_and_apply(store, normals(1, 6, 9))
    await store.replicate_to_log(normals(1, 9, 11))
    with refused(InvalidRangeError):
        await store.delete_logs_from(0, 8)
    store = await lab.turn()
    await expect_log(store, [(1, 5), *normals(1, 6, 11)])
    await expect_state(store, last=(1, 10), applied=8)
    expect_machine(lab, range(1, 9))


@case("F-19")
async def compaction_is_of_the_applied_index(lab: Lab) -> None:
    """A snapshot that is asked for stands at the applied index, however much more the log holds."""
    store = await lab.open()
    await store.replicate_to_log(normals(2, 1, 11))
    await store.replicate_to_state_machine([(index, r(index)) for index in range(1, 7)])
    built = await compact(store)
    expect((built.term, built.index), (2, 6), "(term, index) of the snapshot")
    store = await lab.turn()
    await expect_snapshot(store, 2, 6)
    await expect_log(store, [(2, 6), *normals(2, 7, 11)])


@case("F-20")
async def second_compaction_at_the_same_index_returns_the_first(lab: Lab) -> None:
    """Compacting again with nothing newly applied succeeds and gives the same snapshot."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 4))
    first = await compact(store)
    before = await snapshot_bytes(store)
    second = await compact(store)
    expect(second.snapshot.header, first.snapshot.header, "the header of the second snapshot")
    store = await lab.turn()
    third = await compact(store)
    expect(third.snapshot.header, first.snapshot.header, "the header of the third snapshot")
    expect(await snapshot_bytes(store), before, "the bytes of the snapshot")


@case("F-21")
async def current_snapshot_appears_with_compaction(lab: Lab) -> None:
    """There is no snapshot before the first compaction, and the right one after it."""
    store = await lab.open()
    await log_and_apply(store, [m(1, 1, {0, 4}), *normals(1, 2, 4)])
    await expect_no_snapshot(store)
    await compact(store)
    store = await lab.turn()
    await expect_snapshot(store, 1, 3, {0, 4})


@case("F-23")
async def applied_index_never_falls(lab: Lab) -> None:
    """Applies, repeated applies, compactions, installs and stale installs: the applied index only ever grows."""
    stale = await make_snapshot(lab, 5, 1, {0})
    ahead = await make_snapshot(lab, 12, 1, {0}, [r(index) for index in range(1, 13)])
    store = await lab.open()
    observed: list[int] = []

    async def note() -> None:
        observed.append((await store.get_initial_state()).last_applied_log)

    await log_and_apply(store, normals(1, 1, 8))
    await note()
    await compact(store)
    await note()
    await install(store, stale, 5, 1)
    await note()
    await store.replicate_to_state_machine([(index, r(index)) for index in range(3, 8)])
    await note()
    await install(store, ahead, 12, 1)
    await note()
    await store.apply_entry_to_state_machine(9, r(9))
    await note()
    await log_and_apply(store, normals(1, 13, 15))
    await note()
    store = await lab.turn()
    await note()
    expect(observed, [7, 7, 7, 7, 12, 12, 14, 14], "last_applied_log after each step")
    expect_machine(lab, range(1, 15))


@case("F-24")
async def snapshot_membership_is_that_of_its_index(lab: Lab) -> None:
    """At each applied index a compaction names the membership of the newest entry at or below it, joint ones too."""
    joint = members({0, 1}, {0, 1, 2})
    log = [m(1, 1, {0}), n(1, 2), m(1, 3, {0, 1}), n(1, 4), m(1, 5, {0, 1}, {0, 1, 2}), n(1, 6), e(1, 7)]
    store = await lab.open()
    await store.replicate_to_log(log)
    for index, membership in ((2, members({0})), (4, members({0, 1})), (6, joint)):
        await store.apply_entry_to_state_machine(index, r(index))
        built = await compact(store)
        expect((built.index, built.membership), (index, membership), "index and membership of the snapshot")
    store = await lab.turn()
    await expect_snapshot(store, 1, 6, joint)
    await expect_state(store, last=(1, 7), membership=joint)
