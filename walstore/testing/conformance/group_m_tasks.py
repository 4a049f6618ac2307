"""Wanted: cancellation, closing, and random runs against a model."""

from collections.abc import Awaitable, Callable

import trio

from ..._types import HardState
from ...abc import SnapshotReader
from ._cancel import every_method, sweep
from ._kit import (
    Lab,
    attribute,
    case,
    expect,
    expect_log,
    expect_snapshot,
    expect_state,
    expect_true,
    has,
    identities,
    install,
    log_and_apply,
    make_snapshot,
    n,
    normals,
    r,
    read_log,
    refused,
    send,
)
from ._machines import expect_machine
from ._model import Run
from .group_f_building import compact

Call = Callable[[], Awaitable[object]]


@case("M-37")
async def cancelled_compaction(lab: Lab) -> None:
    """A compaction cancelled at any checkpoint leaves the old snapshot and the log, and the next one works."""
    store = await lab.open()
    applied = 0
    readers: list[SnapshotReader] = []

    async def compaction() -> None:
        readers.append((await store.do_log_compaction()).snapshot)

    async def prepare(_: int) -> Call:
        nonlocal applied
        await log_and_apply(store, normals(1, applied + 1, applied + 3))
        applied += 2
        return compaction

    await sweep(lab, "do_log_compaction", prepare)
    for reader in readers:
        await reader.aclose()
    store = await lab.turn()
    await expect_snapshot(store, 1, applied)
    await expect_log(store, [(1, applied)])
    expect_machine(lab, range(1, applied + 1))
    await log_and_apply(store, normals(1, applied + 1, applied + 2))
    await compact(store)
    await expect_snapshot(store, 1, applied + 1)


@case("M-75")
async def random_runs_against_a_model(lab: Lab) -> None:
    """Random calls, reopens and crashes leave the store with what a model of plain dicts holds."""
    for seed in range(3):
        await Run(lab.another(), seed).go(40)


@case("M-80")
async def cancelled_calls(lab: Lab) -> None:
    """Each method, cancelled at each of its checkpoints, has done nothing or all, and the store goes on."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 201))
    last, applied, term = 200, 0, 0

    async def vote(_: int) -> Call:
        nonlocal term
        term += 1
        hard = HardState(term, 0)
        return lambda: store.save_hard_state(hard)

    async def append(_: int) -> Call:
        nonlocal last
        last = (await read_log(store))[-1].index + 1
        entry = n(1, last)
        return lambda: store.append_entry_to_log(entry)

    async def replicate(_: int) -> Call:
        nonlocal last
        last = (await read_log(store))[-1].index + 3
        entries = normals(1, last - 2, last + 1)
        return lambda: store.replicate_to_log(entries)

    async def delete(_: int) -> Call:
        nonlocal last
        last = (await read_log(store))[-1].index - 1
        start = last + 1
        return lambda: store.delete_logs_from(start)

    async def apply_one(_: int) -> Call:
        nonlocal applied
        applied = index = (await store.get_initial_state()).last_applied_log + 1
        return lambda: store.apply_entry_to_state_machine(index, r(index))

    async def apply_two(_: int) -> Call:
        nonlocal applied
        first = (await store.get_initial_state()).last_applied_log + 1
        applied = first + 1
        return lambda: store.replicate_to_state_machine([(first, r(first)), (first + 1, r(first + 1))])

    async def read(method: Call) -> None:
        async def prepare(_: int) -> Call:
            return method

        await sweep(lab, "a read", prepare)

    for name, prepare in (
        ("save_hard_state", vote),
        ("append_entry_to_log", append),
        ("replicate_to_log", replicate),
        ("delete_logs_from", delete),
        ("apply_entry_to_state_machine", apply_one),
        ("replicate_to_state_machine", apply_two),
    ):
        await sweep(lab, name, prepare)
    await read(store.get_membership_config)
    await read(store.get_initial_state)
    await read(lambda: store.get_log_entries(1, 50))
    await read(store.get_current_snapshot)
    await read(store.create_snapshot)
    store = await lab.turn()
    await expect_state(store, last=(1, last), applied=applied, hard=HardState(term, 0))
    expect_machine(lab, range(1, applied + 1))
    await _cancelled_installs(lab)


async def _cancelled_installs(lab: Lab) -> None:
    node = lab.another()
    store = await node.open()
    index = 0

    async def prepare(_: int) -> Call:
        nonlocal index
        index = (await store.get_initial_state()).last_log_index + 10
        data = await make_snapshot(lab, index, 1)
        id, writer = await send(store, data)

        async def again() -> None:  # a cancelled install may have used up what was received
            try:
                await store.finalize_snapshot_installation(index, 1, None, id, writer)
            except (ValueError, trio.ClosedResourceError):
                await install(store, data, index, 1)

        return again

    await sweep(node, "finalize_snapshot_installation", prepare)
    store = await node.turn()
    await expect_snapshot(store, 1, index)
    await expect_log(store, [(1, index)])
    expect_machine(node, [index])


@case("M-82")
async def close_while_calls_are_pending(lab: Lab) -> None:
    """Calls that are under way when the store is closed finish or find it closed, and what finished is kept."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 4))
    acknowledged: list[int] = []

    async def append(index: int) -> None:
        try:
            await store.append_entry_to_log(n(1, index))
        except trio.ClosedResourceError:
            return
        acknowledged.append(index)

    async def others() -> None:
        try:
            await compact(store)
            await store.save_hard_state(HardState(1, 0))
        except trio.ClosedResourceError:
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(append, 4)
        nursery.start_soon(others)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(append, 5)
        nursery.start_soon(lab.close)
    with refused(trio.ClosedResourceError):
        await store.get_initial_state()
    if not lab.live:
        store = await lab.turn()
        found = {index for _, index in identities(await read_log(store))}
        expect_true(found.issuperset(acknowledged), f"entries {acknowledged} were acknowledged and are there: {found}")


@case("M-83", reads=True)
async def closed_store(lab: Lab) -> None:
    """Closing twice is silent; every method of a closed store says that it is closed."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 4))
    methods = await every_method(store, await make_snapshot(lab, 9, 2))
    expect(len(methods), 13, "the number of methods")
    await lab.close()
    await lab.close()
    if has(store, "aclose"):
        await attribute(store, "aclose")()
    for name, method in methods.items():
        closed = False
        try:
            await method()
        except trio.ClosedResourceError:
            closed = True
        expect_true(closed, f"{name} of a closed store raises ClosedResourceError")
