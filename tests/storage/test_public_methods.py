"""What holds of every public method alike: it is a checkpoint, and refused once the store is closed, and in a child."""

import inspect
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import assert_checkpoints

from walstore import HardState, MembershipConfig, Storage
from walstore._commit import Barrier
from walstore._reading import Follower
from walstore.abc import SnapshotWriter
from walstore.kv import Put
from walstore.testing.simulated import SimulatedFileSystem

from .stores import Store, apply, compact, opened, put, puts, snapshot_bytes

Call = Callable[[], Awaitable[object]]


@attrs.frozen
class Prepared:
    """A store with something in it, and what some calls need."""

    store: Store
    id: str
    writer: SnapshotWriter
    barrier: Barrier
    follower: Follower[Any, Any]


@asynccontextmanager
async def prepared() -> AsyncIterator[Prepared]:
    """Entries 1 to 10, of which five are applied and four are in a snapshot; a received snapshot of index 20."""
    async with opened(SimulatedFileSystem()) as store:
        await store.save_hard_state(HardState(3, 1))
        await store.replicate_to_log(puts(3, 1, 10))
        await apply(store, 1, 5)
        await compact(store)
        await apply(store, 5, 6)
        id, writer = await store.create_snapshot()
        await writer.send_all(snapshot_bytes(3, 20))
        await writer.aclose()
        barrier = await store.append([put(3, 10)])
        yield Prepared(store, id, writer, barrier, store.follow(5))


async def finish(call: Awaitable[Any]) -> None:
    """Awaits it, and closes the reader that it gives."""
    built = await call
    if built is not None:
        await built.snapshot.aclose()


def calls(at: Prepared) -> dict[str, list[Call]]:
    """Calls of every coroutine method: first with something to do, then (where there is such a thing) with nothing."""
    store = at.store
    return {
        "get_membership_config": [store.get_membership_config],
        "get_initial_state": [store.get_initial_state],
        "save_hard_state": [lambda: store.save_hard_state(HardState(4)), lambda: store.save_hard_state(HardState(4))],
        "get_log_entries": [lambda: store.get_log_entries(0, 99), lambda: store.get_log_entries(8, 8)],
        "delete_logs_from": [
            lambda: store.delete_logs_from(10),
            lambda: store.delete_logs_from(10),
            lambda: store.delete_logs_from(7, 7),
            lambda: store.delete_logs_from(4, 5),
            lambda: store.delete_logs_from(1, 5),
        ],
        "append_entry_to_log": [
            lambda: store.append_entry_to_log(put(4, 10)),
            lambda: store.append_entry_to_log(put(4, 10)),
            lambda: store.append_entry_to_log(put(3, 2)),
        ],
        "replicate_to_log": [
            lambda: store.replicate_to_log(puts(4, 11, 13)),
            lambda: store.replicate_to_log(puts(4, 11, 13)),
            lambda: store.replicate_to_log([]),
        ],
        "append": [
            lambda: store.append(puts(4, 13, 15)),
            lambda: store.append(puts(4, 13, 15)),
            lambda: store.append([]),
        ],
        "apply_entry_to_state_machine": [
            lambda: store.apply_entry_to_state_machine(6, Put(b"k6", b"3" * 8)),
            lambda: store.apply_entry_to_state_machine(6, Put(b"", b"")),
            lambda: store.apply_entry_to_state_machine(1, Put(b"", b"")),
        ],
        "replicate_to_state_machine": [
            lambda: apply(store, 7, 9),
            lambda: store.replicate_to_state_machine([(1, Put(b"", b""))]),
            lambda: store.replicate_to_state_machine([]),
        ],
        "do_log_compaction": [lambda: finish(store.do_log_compaction()), lambda: finish(store.do_log_compaction())],
        "get_current_snapshot": [lambda: finish(store.get_current_snapshot())],
        "entries": [lambda: store.entries(9, 11), lambda: store.entries(9, 9), lambda: store.entries(9, 11, 0)],
        "attest": [store.attest],
        "backup": [lambda: store.backup("/copy")],
        "finalize_snapshot_installation": [
            lambda: store.finalize_snapshot_installation(20, 3, None, at.id, at.writer),
            lambda: store.finalize_snapshot_installation(20, 3, None, at.id, at.writer),
        ],
        "create_snapshot": [store.create_snapshot, store.create_snapshot],
        "bootstrap": [lambda: store.bootstrap(MembershipConfig({1}))],
        "aclose": [store.aclose, store.aclose],
    }


def public_coroutines() -> set[str]:
    """The names of the coroutine methods that a user of a store may call."""
    return {
        name for name, member in inspect.getmembers(Storage, inspect.iscoroutinefunction) if not name.startswith("_")
    }


async def test_every_method_is_a_checkpoint() -> None:
    """Each coroutine method gives way and can be cancelled whenever it succeeds, also where it has nothing to do."""
    async with prepared() as at:
        table = calls(at)
        assert set(table) == public_coroutines()
        for name, variants in table.items():
            if name == "bootstrap":
                continue
            for call in variants:
                with assert_checkpoints():
                    await call()
    async with opened(SimulatedFileSystem()) as store:
        with assert_checkpoints():
            await store.bootstrap(MembershipConfig({1}))
        with assert_checkpoints():
            assert await store.get_current_snapshot() is None


async def test_what_a_store_hands_out_is_a_checkpoint_too() -> None:
    """So are barriers, done or not, and followers."""
    async with prepared() as at:
        with assert_checkpoints():
            await at.barrier.wait()
        with assert_checkpoints():
            await at.barrier.wait()
        with assert_checkpoints():
            await anext(at.follower)
        done = await at.store.append([])
        assert done.durable
        with assert_checkpoints():
            await done.wait()


async def test_a_closed_store_refuses_every_method() -> None:
    """After `aclose` each coroutine method raises ClosedResourceError, and so do the plain ones that read the log."""
    async with prepared() as at:
        await at.barrier.wait()
        await at.store.aclose()
        for name, variants in calls(at).items():
            if name == "aclose":
                continue
            for call in variants:
                with pytest.raises(trio.ClosedResourceError):
                    await call()
        with pytest.raises(trio.ClosedResourceError):
            at.store.term_of(5)
        with pytest.raises(trio.ClosedResourceError):
            at.store.follow(1)
        with pytest.raises(trio.ClosedResourceError):
            await anext(at.follower)
        with assert_checkpoints():
            await at.store.aclose()


async def test_a_cancelled_caller_begins_nothing() -> None:
    """A call in a scope that is cancelled already raises Cancelled, and no file is touched; only `aclose` closes."""
    async with prepared() as at:
        await at.barrier.wait()
        table = calls(at)
        del table["aclose"]
        table["bootstrap"].clear()
        for name, variants in table.items():
            for call in variants[:1]:
                before = (at.store.statistics(), await at.store.get_initial_state())
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await call()
                assert scope.cancelled_caught, name
                assert (at.store.statistics(), await at.store.get_initial_state()) == before, name


CHILD = """
    import os, sys, trio
    import walstore
    from walstore.kv import KeyValue, KeyValueCodec, Put
    from walstore import Entry, HardState, Normal

    def put(index):
        return Entry(1, index, Normal(Put(b"k%d" % index, b"v")))

    async def refused(store):
        for call in (
            lambda: store.append_entry_to_log(put(2)),
            lambda: store.append([put(2)]),
            lambda: store.save_hard_state(HardState(2, 1)),
            lambda: store.delete_logs_from(1),
            lambda: store.get_log_entries(1, 2),
            lambda: store.apply_entry_to_state_machine(1, Put(b"k1", b"v")),
            lambda: store.do_log_compaction(),
            lambda: store.create_snapshot(),
            lambda: store.backup(sys.argv[1] + "-copy"),
        ):
            try:
                await call()
            except walstore.StorageLockedError:
                continue
            return False
        try:
            store.term_of(1)
        except walstore.StorageLockedError:
            await store.aclose()
            await store.aclose()
            return True
        return False

    async def main():
        child = 0
        async with walstore.open_storage(sys.argv[1], node_id=1, machine=KeyValue, codec=KeyValueCodec()) as store:
            await store.append_entry_to_log(put(1))
            queued = await store.append([put(2)])
            child = os.fork()
            if child == 0:
                os._exit(0 if await refused(store) else 1)
            assert os.waitpid(child, 0)[1] == 0, "the child was not refused"
            await queued.wait()
            await store.append_entry_to_log(put(3))
            try:
                async with walstore.open_storage(sys.argv[1], node_id=1, machine=KeyValue, codec=KeyValueCodec()):
                    raise AssertionError("the child's close has freed the lock")
            except walstore.StorageLockedError:
                pass
        async with walstore.open_storage(sys.argv[1], node_id=1, machine=KeyValue, codec=KeyValueCodec()) as store:
            assert store.recovery.closed
            assert [entry.index for entry in await store.get_log_entries(0, 9)] == [1, 2, 3]
        print("held")

    trio.run(main)
"""


def test_a_forked_child_may_not_use_the_store(tmp_path: Path) -> None:
    """In a child every method is refused, its `aclose` writes nothing and frees no lock, and the parent goes on."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(CHILD))
    root = Path(__file__).parent.parent.parent

    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(root)},
    )

    assert (done.stdout, done.returncode) == ("held\n", 0), done.stderr
