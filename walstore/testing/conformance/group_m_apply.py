"""Wanted: the state machine between retries, failures, restarts and installs."""

import trio

from ...errors import ApplyError
from ._kit import (
    ClientRequest,
    ClientResponse,
    KitMachine,
    Lab,
    case,
    e,
    expect,
    expect_snapshot,
    expect_state,
    expect_true,
    log_and_apply,
    m,
    make_snapshot,
    n,
    normals,
    r,
    refused,
    send,
)
from ._machines import Gate, expect_machine
from .group_f_building import compact


@case("M-27")
async def first_apply_may_leave_a_gap(lab: Lab) -> None:
    """Where entry 1 is a membership, the first index that the machine sees is 2."""
    store = await lab.open()
    await store.replicate_to_log([m(1, 1, {0}), n(1, 2)])
    await store.apply_entry_to_state_machine(2, r(2))
    store = await lab.turn()
    await expect_state(store, applied=2)
    expect_machine(lab, [2])


@case("M-28")
async def same_batch_twice_at_once(lab: Lab) -> None:
    """Indexes 5 to 9 submitted by two tasks at once are executed once each, in order."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 5))
    await store.replicate_to_log(normals(1, 5, 10))
    batch = [(index, r(index)) for index in range(5, 10)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.replicate_to_state_machine, batch)
        nursery.start_soon(store.replicate_to_state_machine, batch)
    store = await lab.turn()
    await expect_state(store, applied=9)
    expect_machine(lab, range(1, 10))


@case("M-29")
async def old_index_is_skipped(lab: Lab) -> None:
    """An index below the applied one is passed over without an error, and answered with nothing."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 10))
    expect(await store.apply_entry_to_state_machine(7, r(7)), None, "the answer to an old index")
    await store.replicate_to_state_machine([(3, r(3)), (9, r(9))])
    store = await lab.turn()
    await expect_state(store, applied=9)
    expect_machine(lab, range(1, 10))


@case("M-30")
async def failing_apply_stops_the_batch(lab: Lab) -> None:
    """When the machine raises at the third of five, two are applied; the rest works when it is tried again."""
    broken = True

    class Flaky(KitMachine):
        __slots__ = ()

        def apply(self, index: int, data: ClientRequest) -> ClientResponse:
            if index == 3 and broken:
                msg = "not today"
                raise RuntimeError(msg)
            return super().apply(index, data)

    store = await lab.open(machine=Flaky)
    await store.replicate_to_log(normals(1, 1, 6))
    batch = [(index, r(index)) for index in range(1, 6)]
    with refused(ApplyError) as caught:
        await store.replicate_to_state_machine(batch)
    expect(caught[0].index, 3, "the index in the error")
    expect_true(isinstance(caught[0].__cause__, RuntimeError), "the error names what the machine raised")
    await expect_state(store, applied=2)
    with refused(ApplyError):
        await store.apply_entry_to_state_machine(3, r(3))
    store = await lab.turn()
    await expect_state(store, last=(1, 5), applied=2)
    expect_machine(lab, [1, 2])
    broken = False
    await store.replicate_to_state_machine(batch[2:])
    await expect_state(store, applied=5)
    expect_machine(lab, range(1, 6))


@case("M-32")
async def install_overtakes_an_apply(lab: Lab) -> None:
    """A batch that is submitted while an install runs changes nothing of what the install brings."""
    gate = Gate()
    data = await make_snapshot(lab, 9, 2, {0}, [r(index) for index in range(1, 10)])
    store = await lab.open(machine=gate.machine)
    await store.replicate_to_log(normals(1, 1, 6))
    id, writer = await send(store, data)
    async with trio.open_nursery() as nursery:
        with gate.shut():
            nursery.start_soon(store.finalize_snapshot_installation, 9, 2, None, id, writer)
            await gate.wait_for_arrival()
            nursery.start_soon(store.replicate_to_state_machine, [(index, r(index)) for index in range(1, 6)])
    await store.replicate_to_state_machine([(index, r(index)) for index in range(4, 10)])
    store = await lab.turn()
    await expect_state(store, last=(2, 9), applied=9)
    await expect_snapshot(store, 2, 9)
    expect_machine(lab, range(1, 10))


@case("M-33")
async def restart_with_snapshot_and_mixed_entries(lab: Lab) -> None:
    """A restart applies the Normal entries between the snapshot and the applied mark, and no others."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 6))
    await compact(store)
    mixed = [n(1, 6), e(1, 7), m(1, 8, {0, 1}), n(1, 9), n(1, 10)]
    await store.replicate_to_log(mixed)
    await store.replicate_to_state_machine([(6, r(6)), (9, r(9))])
    store = await lab.turn()
    await expect_state(store, last=(1, 10), applied=9, membership={0, 1})
    expect_machine(lab, [1, 2, 3, 4, 5, 6, 9])
    await store.apply_entry_to_state_machine(10, r(10))
    expect_machine(lab, [1, 2, 3, 4, 5, 6, 9, 10])


@case("M-34")
async def mark_above_the_log(lab: Lab) -> None:
    """Where applied entries were cut off the log, a restart rebuilds as far as the log goes, and says so."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 10))
    await store.delete_logs_from(8)
    store = await lab.turn()
    applied = 9 if lab.live else 7
    await expect_state(store, last=(1, 7), applied=applied)
    expect_machine(lab, range(1, applied + 1))
