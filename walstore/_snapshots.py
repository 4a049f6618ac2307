"""Snapshots at work: compaction, receiving, installing, and which one is current (SEMANTICS 9.3 and 10).

Both ways to a new snapshot end in `_publish`, one critical section: name, directory sync, then one SNAPSHOT frame that
commits pointer, log base, membership and current snapshot together.  The file is synced, dropped from the page cache,
read again and verified before that (PROTOCOL A13), so the frame never refers to what is not there.

    compaction   capture -> write a temporary file, step by step, beside appends and applies -> publish
    install      verify what was received -> restore a fresh machine, beside applies -> publish -> swap the machines

Until the frame is planned everything can be cancelled and leaves nothing but a temporary file, which is removed.
"""

import contextlib
import errno
import functools
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import trio

from ._commit import Pending
from ._core import Core
from ._interrupts import interrupted_at_checkpoints
from ._log.container import ContainerError
from ._log.control import SnapshotRecord
from ._log.limits import MAX_ENGINE_BYTES
from ._log.names import snapshot_name
from ._log.plan import Received, encode_install, judge_received, plan_compaction, plan_install
from ._log.state import Install
from ._machine import restore
from ._snapshot import FileSnapshotReader, FileSnapshotWriter, create_writer, open_reader
from ._snapshot_files import ReceivedCheck, SnapshotBuild, SnapshotCheck, SnapshotWork, as_corruption
from ._types import U64_MAX, CurrentSnapshotData, D, R, SnapshotHeader, check_u64
from .abc import SnapshotReader, SnapshotWriter, StateMachine
from .errors import (
    CompactionSuperseded,
    CorruptionError,
    NothingToCompact,
    SnapshotInvalidError,
    SnapshotMismatchError,
    StorageFullError,
    UsageError,
)

P = ParamSpec("P")
T = TypeVar("T")

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def _in_use(
    method: Callable[Concatenate["Snapshots[D, R]", P], Awaitable[T]],
) -> Callable[Concatenate["Snapshots[D, R]", P], Coroutine[Any, Any, T]]:
    """Has a close wait until the method is done with the directory; it breaks off at its next step."""

    @functools.wraps(method)
    async def using(self: "Snapshots[D, R]", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._core.use():
            return await method(self, *args, **kwargs)

    return using


@interrupted_at_checkpoints
class Snapshots(Generic[D, R]):
    """The snapshots of one open store."""

    def __init__(self, core: Core[D, R]) -> None:
        self._core = core
        self._writers: set[FileSnapshotWriter] = set()
        self._made: weakref.WeakSet[FileSnapshotWriter] = weakref.WeakSet()

    @property
    def record(self) -> SnapshotRecord | None:
        """What the log says of the current snapshot."""
        return self._core.state.facts.snapshot

    # Reading

    @_in_use
    async def current(self) -> CurrentSnapshotData[SnapshotReader] | None:
        """The current snapshot, proven whole, with a fresh reader.  CorruptionError if it is damaged or gone."""
        await trio.lowlevel.checkpoint()
        self._core.check()
        while (record := self.record) is not None:
            header = record.header
            name = snapshot_name(header.term, header.index)
            try:
                with as_corruption(self._core.directory, name):
                    reader = await open_reader(self._core.directory, name, record, limiter=self._core.file_limiter)
                try:
                    with as_corruption(self._core.directory, name):
                        await self._finish(SnapshotCheck(self._core.directory, name, record))
                except BaseException:
                    await _aclose_forcefully(reader)
                    raise
            except CorruptionError:
                if self.record is not record:  # a newer one took its place, and its file, meanwhile
                    continue
                raise
            return CurrentSnapshotData(header.term, header.index, header.membership, reader)
        return None

    async def _finish(self, work: SnapshotWork) -> SnapshotRecord:
        """Does the work in hops of one step each; a cancelled caller waits for one step at most."""
        try:
            while not await trio.to_thread.run_sync(work.step, limiter=self._core.file_limiter):
                self._core.check()
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StorageFullError(error.errno, f"no room for a snapshot: {error.strerror}; free some") from error
            raise
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(work.close, limiter=self._core.file_limiter)
        return work.record

    # Compaction

    @_in_use
    async def compact(self, engine: bytes) -> CurrentSnapshotData[SnapshotReader]:
        """Makes a snapshot of what is applied, and lets the log up to there go."""
        core = self._core
        if len(engine) > MAX_ENGINE_BYTES:
            msg = f"{len(engine)} engine bytes are above MAX_ENGINE_BYTES, {MAX_ENGINE_BYTES}"
            raise UsageError(msg)
        async with core.compacting:
            core.check_writable()
            async with core.applying:
                core.check_writable()
                header = self._capture_header(engine)
                view = core.machine.live.capture() if header is not None else None
            if header is not None and view is not None:
                build = SnapshotBuild(core.directory, core.next_temporary(), header, view.chunks)
                try:
                    return await self._build_and_publish(header, build)
                finally:
                    view.close()
            await core.commit.flush()  # nothing is written, and still what was called before is durable on return
            current = await self.current()
        assert current is not None
        return current

    def _capture_header(self, engine: bytes) -> SnapshotHeader | None:
        """What a snapshot taken now is called; None if the current one is it."""
        state, index = self._core.state, self._core.machine.last_applied
        if index == 0:
            msg = "nothing has been applied yet, so there is nothing that a snapshot could hold"
            raise NothingToCompact(msg)
        if index == state.snapshot_index:
            return None
        term = state.term_of(index)
        if term is None or index < state.snapshot_index:
            msg = f"the entry at the last applied index {index} is not in the log, so the snapshot would have no term"
            raise CompactionSuperseded(msg)
        membership_index, membership = state.membership_at(index)
        return SnapshotHeader(
            id=f"{term}-{index}-{self._core.filesystem.random_bytes(4).hex()}",
            term=term,
            index=index,
            membership=membership,
            membership_index=membership_index,
            engine=bytes(engine),
        )

    async def _build_and_publish(
        self, header: SnapshotHeader, build: SnapshotBuild
    ) -> CurrentSnapshotData[SnapshotReader]:
        """From the view to the current snapshot, and a reader of it: once it is published, nothing is cancelled."""
        core = self._core
        try:
            record = await self._finish(build)
            name = build.name
            assert name is not None
            async with core.publishing:
                core.check_writable()
                plan_compaction(core.state, record)
                with trio.CancelScope(shield=True):
                    build.name = None
                    await self._publish(name, record, lambda: plan_compaction(core.state, record), swap=lambda: None)
                    reader = await open_reader(
                        core.directory, snapshot_name(header.term, header.index), record, limiter=core.file_limiter
                    )
            return CurrentSnapshotData(header.term, header.index, header.membership, reader)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(build.discard, limiter=core.file_limiter)

    # Publishing

    async def _publish(
        self, temporary: str, record: SnapshotRecord, plan: Callable[[], Install], swap: Callable[[], None]
    ) -> None:
        """Gives the file its name and commits it; then `swap` puts another machine in the place of the live one.

        Called shielded, with `publishing` held.  KeyboardInterrupt has to wait as well once the name is there: the
        file may go only if it is known that the frame is not there.
        """
        core = self._core
        name = snapshot_name(record.header.term, record.header.index)
        before = self.record

        def rename() -> None:
            core.directory.rename(temporary, name)
            core.directory.sync()

        try:
            await trio.to_thread.run_sync(rename, limiter=core.file_limiter)
        except OSError as error:
            core.commit.poison(error)
            core.commit.check()
        pending: Pending | None = None
        try:
            core.check_writable()
            change = plan()
            pending = core.commit.put(
                change,
                lambda: encode_install(change, core.state, core.commit.segment_sequence),
                needed=True,
            )
            core.payload_since_snapshot = 0
            await core.commit.wait(pending, owner=False, firm=True)
        finally:
            if pending is not None and pending.durable:
                swap()
                if before is not None:
                    await self._remove(snapshot_name(before.header.term, before.header.index), but=record)
            elif core.commit.failure is None:  # else it is unknown whether the frame is there: the next open knows
                await self._remove(name, but=before)

    async def _remove(self, name: str, but: SnapshotRecord | None) -> None:
        """Removes a snapshot file, unless it is that of `but`.  What cannot be removed is swept by the next open."""
        if but is not None and name == snapshot_name(but.header.term, but.header.index):
            return

        def remove() -> None:
            with contextlib.suppress(OSError):
                self._core.directory.unlink(name)

        await trio.to_thread.run_sync(remove, limiter=self._core.file_limiter)

    # Receiving

    @_in_use
    async def create(self) -> tuple[str, FileSnapshotWriter]:
        """A blank writer; those that were made before and not finalized are garbage now."""
        core = self._core
        await trio.lowlevel.checkpoint()
        core.check_writable()
        await self.discard_writers()
        number = core.next_temporary()
        id = f"received-{number}-{core.filesystem.random_bytes(4).hex()}"
        writer = await create_writer(
            core.directory, number, id, limiter=core.file_limiter, on_removed=self._writers.discard
        )
        self._writers.add(writer)
        self._made.add(writer)
        return id, writer

    async def discard_writers(self, but: FileSnapshotWriter | None = None) -> None:
        """Removes what was received and not installed."""
        for writer in tuple(self._writers):
            if writer is not but:
                with contextlib.suppress(trio.BusyResourceError, OSError):
                    await writer.discard()

    @_in_use
    async def install(
        self, index: int, term: int, delete_through: int | None, id: str, snapshot: SnapshotWriter
    ) -> None:
        """Installs what the writer received (SEMANTICS 10.3)."""
        core = self._core
        core.check_writable()
        if check_u64("index", index, 1) == U64_MAX:
            msg = "index 2**64 - 1 is out of reach: nothing could follow it"
            raise UsageError(msg)
        check_u64("term", term)
        if not isinstance(snapshot, FileSnapshotWriter) or snapshot.id != id or snapshot not in self._made:
            msg = f"{id!r} is not the id that create_snapshot of this store gave with this writer"
            raise UsageError(msg)
        received = judge_received(core.state, index, term, delete_through, core.machine.last_applied)
        await trio.lowlevel.checkpoint_if_cancelled()
        if snapshot.removed:
            if received is Received.STALE:  # finalized before; a leader repeats what it had no answer to
                await core.commit.flush()
                await trio.lowlevel.checkpoint()
                return
            msg = f"the snapshot {id!r} was discarded, or finalized under another index; receive it again"
            raise UsageError(msg)
        await snapshot.aclose()
        try:
            with snapshot.hold() as name:
                await self._install(index, term, delete_through, snapshot, name)
        except trio.Cancelled:
            raise
        except BaseException:
            with trio.CancelScope(shield=True), contextlib.suppress(OSError):
                await snapshot.discard()
            raise
        with trio.CancelScope(shield=True):
            await core.commit.flush()
            await snapshot.discard()
            await self.discard_writers()

    async def _install(
        self, index: int, term: int, delete_through: int | None, snapshot: FileSnapshotWriter, name: str
    ) -> None:
        core = self._core
        if snapshot.size == 0 and core.state.snapshot_index == index and core.state.term_of(index) == term:
            return  # the leader sent its last, empty chunk again
        try:
            record = await self._finish(ReceivedCheck(core.directory, name))
        except ContainerError as error:
            msg = f"the received bytes are not a whole snapshot: {error}; the old state is intact, send them again"
            raise SnapshotInvalidError(msg) from error
        if (record.header.index, record.header.term) != (index, term):
            msg = (
                f"the received snapshot is of term {record.header.term} and index {record.header.index}, not of the "
                f"announced term {term} and index {index}; the old state is intact"
            )
            raise SnapshotMismatchError(msg)
        last_applied = core.machine.last_applied
        received = judge_received(core.state, index, term, delete_through, last_applied)
        if received is Received.STALE:
            return
        fresh: StateMachine[D, R] | None = None
        if received is Received.REPLACE:
            fresh = core.factory()
            try:
                await trio.to_thread.run_sync(restore, fresh, core.directory, name, record, limiter=core.file_limiter)
            except ValueError as error:
                msg = f"the received snapshot is whole, but no state of this machine: {error}; the old state is intact"
                raise SnapshotInvalidError(msg) from error
        async with core.publishing, core.applying:
            core.check_writable()
            last_applied = core.machine.last_applied
            received = judge_received(core.state, index, term, delete_through, last_applied)
            if received is Received.STALE:
                return
            with trio.CancelScope(shield=True):
                snapshot.forget()
                await self._publish(
                    name,
                    record,
                    lambda: plan_install(core.state, record, delete_through, received),
                    swap=lambda: self._swap(fresh if received is Received.REPLACE else None, index),
                )

    def _swap(self, fresh: StateMachine[D, R] | None, index: int) -> None:
        if fresh is not None:
            self._core.machine.replace(fresh, index)


async def _aclose_forcefully(reader: FileSnapshotReader) -> None:
    with trio.CancelScope(shield=True):
        await reader.aclose()
