"""Wanted: the power is cut at every operation of a call."""

from ..._types import HardState, Normal
from ...errors import LogGapError
from ._cuts import Workload
from ._image import SMALL, disk_of
from ._kit import (
    Lab,
    blanks,
    case,
    e,
    expect,
    expect_true,
    identities,
    install,
    log_and_apply,
    make_snapshot,
    n,
    normals,
    r,
    read_log,
    refused,
)
from .group_f_building import compact


@case("M-17", reads=True, needs={"disk"})
async def deletion_of_nothing_writes_nothing(lab: Lab) -> None:
    """A deletion beyond the end, or of an empty range, does not touch the disk."""
    store = await lab.open(config=SMALL)
    await store.replicate_to_log(blanks(1, 1, 11))
    before = len(disk_of(lab).operations)
    await store.delete_logs_from(11)
    await store.delete_logs_from(5000, 6000)
    await store.delete_logs_from(10, 1)
    await store.delete_logs_from(5, 5)
    expect(disk_of(lab).trace[before:], [], "what the deletions did to the disk")


@case("M-18", reads=True, needs={"disk"})
async def crash_during_a_deletion(lab: Lab) -> None:
    """After a crash in a deletion the log is untouched or cut at its start, never with a hole."""
    store = await lab.open(config=SMALL)
    work = Workload(lab)
    await store.replicate_to_log(normals(1, 1, 11))
    await work.note()
    await store.delete_logs_from(6)
    await work.note()
    await store.replicate_to_log(normals(2, 6, 8))
    await work.note()
    await store.delete_logs_from(0, 3)
    await work.note()
    await store.delete_logs_from(0)
    await work.note()
    await work.check(4)


@case("M-20", reads=True, needs={"disk"})
async def vote_survives_if_the_entry_does(lab: Lab) -> None:
    """Wherever the power is cut: if an entry is there, so is the hard state that was saved before it."""
    store = await lab.open(config=SMALL)
    work = Workload(lab)
    await work.note()
    for term in range(1, 5):
        await store.save_hard_state(HardState(term, term))
        await work.note()
        await store.append_entry_to_log(n(term, term))
        await work.note()

    async def judge(node: Lab, _: int) -> None:
        state = await node.store.get_initial_state()
        expect_true(state.hard_state.current_term >= state.last_log_term, f"{state} has the vote of its last entry")

    await work.check(2)
    for count in range(work.start, len(disk_of(lab).operations) + 1):
        for disk in work.every_state(count, 4):
            await work.check_one(disk, count, judge)


@case("M-31", reads=True, needs={"disk"})
async def machine_equals_what_was_applied(lab: Lab) -> None:
    """Wherever the power is cut, the machine has executed exactly the Normal entries up to the applied index."""
    config = {**SMALL, "sync_apply": False}
    store = await lab.open(config=config)
    work = Workload(lab, config=config)
    await work.note()
    await store.replicate_to_log([n(1, 1), e(1, 2), n(1, 3), n(1, 4)])
    await store.replicate_to_state_machine([(1, r(1)), (3, r(3))])
    await store.save_hard_state(HardState(1, 0))
    await store.apply_entry_to_state_machine(4, r(4))
    await compact(store)
    await log_and_apply(store, normals(1, 5, 8))
    await store.append_entry_to_log(e(1, 8))

    async def judge(node: Lab, _: int) -> None:
        applied = (await node.store.get_initial_state()).last_applied_log
        expect(node.machine.history, [index for index in (1, 3, 4, 5, 6, 7) if index <= applied], "what was executed")
        expect_true(applied in (0, 1, 3, 4, 5, 6, 7), f"{applied} is the index of a Normal entry")
        log = await read_log(node.store)
        normal = [entry.payload.data for entry in log if isinstance(entry.payload, Normal)]
        expect(normal, [r(entry.index) for entry in log if isinstance(entry.payload, Normal)], "the entries")

    await work.check(3, judge)


@case("M-35", reads=True, needs={"disk"})
async def crash_during_a_compaction(lab: Lab) -> None:
    """After a crash at any operation of a compaction: the old snapshot and the log, or the new one and its rest."""
    store = await lab.open(config=SMALL)
    await log_and_apply(store, normals(1, 1, 4))
    await compact(store)
    await store.replicate_to_log(normals(1, 4, 8))
    await store.replicate_to_state_machine([(4, r(4)), (5, r(5))])
    work = Workload(lab)
    await work.note()
    await compact(store)
    await work.note()
    await store.append_entry_to_log(n(2, 8))
    await work.note()
    expect_true(await work.check(4) >= 40, "a compaction has steps to be cut at")


@case("M-57", reads=True, needs={"disk"})
async def crash_during_an_install(lab: Lab) -> None:
    """After a crash at any operation of an install: all of the old state, or all of the new one."""
    data = await make_snapshot(lab, 9, 2, {0, 1})
    store = await lab.open(config=SMALL)
    await store.save_hard_state(HardState(2, 1))
    await log_and_apply(store, normals(1, 1, 4))
    await compact(store)
    await log_and_apply(store, normals(1, 4, 6))
    work = Workload(lab)
    await work.note()
    await install(store, data, 9, 2)
    await work.note()
    with refused(LogGapError):
        await store.append_entry_to_log(n(2, 12))
    await store.append_entry_to_log(n(2, 10))
    await work.note()
    expect(identities(await read_log(store)), [(2, 9), (2, 10)], "the log at the end")
    expect_true(await work.check(4) >= 40, "an install has steps to be cut at")
