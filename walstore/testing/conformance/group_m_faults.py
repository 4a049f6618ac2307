"""Wanted: barriers and writes that fail, barriers that are slow, and the order in which things reach the disk."""

import errno
import os
import threading
from collections.abc import Awaitable, Callable

import trio

from ..._types import HardState
from ...errors import StorageFailedError
from ..faults import Call, FaultyFileSystem
from ..operations import Operation
from ._cancel import observe
from ._image import SMALL, Image, disk_of, faulty
from ._kit import (
    Lab,
    Store,
    any_of,
    case,
    expect,
    expect_log,
    expect_state,
    expect_true,
    log_and_apply,
    n,
    normals,
    r,
    refused,
)
from .group_f_building import compact

BATCH = [n(2, index, r(index, "batch " * 30)) for index in range(4, 9)]


async def _expect_failed_for_good(store: Store) -> None:
    """The handle acknowledges nothing any more."""
    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: store.append_entry_to_log(n(1, 4)),
        lambda: store.save_hard_state(HardState(9, 9)),
        lambda: store.delete_logs_from(2),
        store.do_log_compaction,
    ]
    for write in writes:
        with refused(StorageFailedError):
            await write()


@case("M-71", reads=True, needs={"disk"})
async def failed_barrier(lab: Lab) -> None:
    """A barrier that fails once: the call and all later writes fail, reads go on, and a new open is sound."""
    disk = faulty(lab)
    store = await lab.open(config=SMALL)
    await log_and_apply(store, normals(1, 1, 4))
    before = await observe(lab)
    disk_of(lab).fail_sync()  # as ext4 does it: the pages count as clean, and never reach the disk
    with refused(StorageFailedError) as caught:
        await store.replicate_to_log(BATCH)
    expect_true(isinstance(caught[0].__cause__, OSError), "the error names its cause")
    expect(await observe(lab), before, "what reads show after the failure")
    await _expect_failed_for_good(store)
    expect(await observe(lab), before, "what reads show after more failures")
    syncs = [call for call in disk.calls if call.operation == "datasync" and call.name.startswith("wal-")]
    await lab.close()
    later = [call for call in disk.calls if call.operation == "datasync" and call.name.startswith("wal-")]
    expect(len(later), len(syncs), "the number of barriers after the one that failed, which must not be tried again")
    await _expect_same_after_a_cut(lab, before)


async def _expect_same_after_a_cut(lab: Lab, before: tuple[object, ...]) -> None:
    """The store opens, with the batch or without it, and what it shows then survives a power cut right away."""
    lab.harness.filesystem = None
    store = await lab.reopen()
    found = await observe(lab)
    if found != before:
        await expect_log(store, [*normals(1, 1, 4), *BATCH])
    disk = disk_of(lab).crash_keeping_nothing()
    async with Image(disk, lab.harness.path).opened(lab) as node:
        expect(await observe(node), found, "what is there after a power cut")
        await node.store.append_entry_to_log(n(3, 4))


@case("M-72", reads=True, needs={"disk"})
async def failed_writes(lab: Lab) -> None:
    """No space, a short write, an error in the middle of a batch: none of it is seen, and a new open is sound."""

    def full(disk: FaultyFileSystem) -> None:
        disk.space_left = 200

    faults: dict[str, Callable[[FaultyFileSystem], object]] = {
        "the disk is full": full,
        "a write is short": lambda disk: disk.shorten(keep=100, name="wal-*"),
        "a write fails in the middle": lambda disk: disk.shorten(keep=300, error=_error(errno.EIO), name="wal-*"),
        "a write fails at once": lambda disk: disk.fail("pwritev", name="wal-*"),
    }
    for what, break_it in faults.items():
        node = lab.another()
        disk = faulty(node)
        store = await node.open(config=SMALL)
        await log_and_apply(store, normals(1, 1, 4))
        before = await observe(node)
        break_it(disk)
        with refused(StorageFailedError):
            await store.replicate_to_log(BATCH)
        expect(await observe(node), before, f"what reads show after {what}")
        disk.heal()
        await _expect_failed_for_good(store)
        await node.close()
        await _expect_same_after_a_cut(node, before)

    for operation, name in (("rename", "snap-*"), ("sync", "*"), ("rename", "wal-*")):
        await _failed_name(lab.another(), operation, name)


async def _failed_name(node: Lab, operation: str, name: str) -> None:
    """A name that could not be made durable, of a snapshot or of a segment: the handle is done for, the log is not."""
    disk = faulty(node)
    store = await node.open(config=SMALL)
    await log_and_apply(store, normals(1, 1, 4))
    disk.fail(operation, name=name)
    with refused(StorageFailedError):
        if name != "wal-*":
            await store.do_log_compaction()
        last = 3
        while last < 100:
            await store.append_entry_to_log(n(1, last + 1, r(last + 1, "w" * 600)))
            last += 1
    last = (await store.get_initial_state()).last_log_index
    disk.heal()
    await _expect_failed_for_good(store)
    await node.close()
    node.harness.filesystem = None
    store = await node.reopen()
    state = await store.get_initial_state()
    any_of(state.last_log_index, last, last + 1, what="the last entry after an open")
    expect((state.last_applied_log, node.machine.history), (3, [1, 2, 3]), "what is applied")


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@case("F-35", reads=True, needs={"disk"})
async def storage_errors_surface(lab: Lab) -> None:
    """An error of the disk reaches the caller as an exception, whatever he was calling; it is never swallowed."""
    calls: dict[str, Callable[[Store], Awaitable[object]]] = {
        "append_entry_to_log": lambda store: store.append_entry_to_log(n(1, 4)),
        "replicate_to_log": lambda store: store.replicate_to_log(normals(1, 4, 6)),
        "save_hard_state": lambda store: store.save_hard_state(HardState(3, 1)),
        "delete_logs_from": lambda store: store.delete_logs_from(2),
        "do_log_compaction": lambda store: store.do_log_compaction(),
        "create_snapshot": lambda store: store.create_snapshot(),
    }
    for name, call in calls.items():
        node = lab.another()
        disk = faulty(node)
        store = await node.open(config=SMALL)
        await log_and_apply(store, normals(1, 1, 4))
        disk.fail("change", once=False)
        raised = False
        try:
            await call(store)
        except OSError:
            raised = True
        expect_true(raised, f"{name} on a disk that refuses every change raises")


async def _read_everything(store: Store) -> None:
    found = await store.get_log_entries(0, 4)
    expect([entry.index for entry in found], [3], "the durable part of the log")
    await store.get_initial_state()
    await store.get_membership_config()
    current = await store.get_current_snapshot()
    expect_true(current is not None, "there is a snapshot")
    if current is not None:
        await current.snapshot.receive_some(10)
        await current.snapshot.aclose()


@case("M-81", reads=True, needs={"disk"})
async def reads_do_not_wait_for_a_barrier(lab: Lab) -> None:
    """While a barrier takes its time, every read comes back."""
    disk = faulty(lab)
    store = await lab.open(config=SMALL)
    await log_and_apply(store, normals(1, 1, 4))
    await compact(store)
    reached, release = threading.Event(), threading.Event()

    def slow(call: Call) -> None:
        if call.operation == "datasync" and call.name.startswith("wal-"):
            reached.set()
            release.wait(60)

    disk.hook = slow
    async with trio.open_nursery() as nursery:
        try:
            nursery.start_soon(store.append_entry_to_log, n(1, 4))
            await trio.to_thread.run_sync(reached.wait, abandon_on_cancel=True)
            with trio.move_on_after(10) as patience:
                await _read_everything(store)
        finally:
            release.set()
        expect_true(not patience.cancelled_caught, "the reads came back while the barrier was under way")
    disk.hook = None
    await expect_state(store, last=(1, 4))


def _with_names(operations: list[Operation]) -> list[tuple[Operation, str]]:
    """Each operation with the name that its file had by then, whatever it was opened as."""
    names: dict[int, str] = {}
    named = []
    for operation in operations:
        if operation.kind in {"create", "rename"}:
            names[operation.file] = operation.target or operation.name
        named.append((operation, names.get(operation.file, operation.name)))
    return named


@case("M-36", reads=True, needs={"disk"})
async def log_refers_to_durable_snapshots_only(lab: Lab) -> None:
    """The frame that names a snapshot is written when file, name and directory are durable, and not before."""
    store = await lab.open(config=SMALL)
    await log_and_apply(store, normals(1, 1, 4))
    disk = disk_of(lab)
    for start, last in ((4, 6), (6, 9)):
        await log_and_apply(store, normals(1, start, last))
        before = len(disk.operations)
        await compact(store)
        done = _with_names(disk.operations)[before:]

        def places(kind: str, prefix: str, done: list[tuple[Operation, str]] = done) -> list[int]:
            return [at for at, (op, name) in enumerate(done) if op.kind == kind and name.startswith(prefix)]

        (renamed,) = places("rename", "snap-")
        synced = [place for place in places("sync", "") if place > renamed]
        frames = places("write", "wal-")
        written, made_durable = places("write", "snap-"), places("datasync", "snap-")
        expect_true(written and made_durable and synced and frames, "all steps of a compaction are there")
        order = [max(written), max(made_durable), renamed, min(synced), min(frames)]
        expect(order, sorted(order), "places of: file written, synced, renamed, directory synced, frame written")
        expect_true(min(places("unlink", "snap-"), default=len(done)) > max(frames), "the old file goes last")


@case("M-73", reads=True, needs={"disk"})
async def directory_is_synced_after_each_name(lab: Lab) -> None:
    """Between a new name and the next thing that relies on it the directory is synced."""
    store = await lab.open(config=SMALL)
    for start in range(1, 121, 20):
        await log_and_apply(store, [n(1, index, r(index, "x" * 400)) for index in range(start, start + 20)])
    await compact(store)
    await store.save_hard_state(HardState(1, 0))
    await lab.close()
    store = await lab.reopen()
    await log_and_apply(store, normals(1, 121, 124))
    pending: set[str] = set()
    renames = 0
    for operation, name in _with_names(disk_of(lab).operations):
        if operation.kind == "rename":
            pending.add(operation.target)
            renames += 1
        elif operation.kind == "sync":
            pending.clear()
        elif operation.kind in {"write", "datasync"} and not name.endswith(".tmp"):
            expect(pending, set(), f"names that are not durable at: {operation}")
    expect(pending, set(), "names that are not durable at the end")
    expect_true(renames >= 6, "segments, identity and snapshot were all named")
    any_of(len(Image.of(lab).names("snap-*")), 1, what="the number of snapshots")
