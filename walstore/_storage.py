"""The roof: an open store.  Everything that awaits a disk is reached from here.

Where things are:
    a write    is planned (`_log.plan`), applied to the state and queued (`_commit.put`), and made durable by whoever
               waits (`_commit.wait` -> one hop -> `_writer.commit`)
    a read     is located in the state and decoded (`_reading`)
    a snapshot is built or received, published, and read (`_snapshots`)
    an open    lists, reads, replays and begins a new segment (`_opener` -> one hop -> `_open`, `_recovery`)
"""

import contextlib
import os
from collections.abc import Sequence

import trio

from . import _backup
from ._commit import Barrier, Pending
from ._core import Core, Pace
from ._encoding import propose_entries
from ._interrupts import interrupted_at_checkpoints
from ._log.control import CloseBody, SyncBody
from ._log.draft import Draft
from ._log.frame import Kind
from ._log.plan import encode_truncate, encode_vote, plan_delete, plan_entries, plan_hard_state
from ._log.state import Mark
from ._open import Opened
from ._reading import Follower, decode, locate, locate_strictly, term_of
from ._report import DurablePoint, RecoveryReport, Statistics
from ._snapshots import Snapshots
from ._types import (
    ConfigChange,
    CurrentSnapshotData,
    D,
    Entry,
    HardState,
    InitialState,
    MembershipConfig,
    R,
    SnapshotHeader,
    check_u64,
)
from .abc import RaftStorage, SnapshotReader, SnapshotWriter, StateMachine
from .errors import UsageError


@interrupted_at_checkpoints
class Storage(RaftStorage[D, R], trio.abc.AsyncResource):
    """An open store: made by `open_storage`.  See `walstore.abc.RaftStorage` for the 13 methods."""

    def __init__(self, core: Core[D, R], opened: Opened[D, R]) -> None:
        self._core = core
        self._opened = opened
        self._snapshots = Snapshots(core)
        self._close_lock = trio.Lock()
        self._sealed: bool | None = None
        self._released = False

    # The 13 methods: what is stored

    async def get_membership_config(self) -> MembershipConfig:
        """See `RaftStorage` and SEMANTICS 4."""
        await trio.lowlevel.checkpoint()
        self._core.check()
        return self._core.state.membership

    async def get_initial_state(self) -> InitialState:
        """See `RaftStorage` and SEMANTICS 5."""
        await trio.lowlevel.checkpoint()
        self._core.check()
        state = self._core.state
        return InitialState(
            state.last_index, state.last_term, self.last_applied, state.facts.hard_state, state.membership
        )

    async def save_hard_state(self, hs: HardState) -> None:
        """See `RaftStorage` and SEMANTICS 9.1."""
        await self._begin_write()
        change = plan_hard_state(self._core.state, hs)
        if change is None:
            await self._nothing_new()
            return
        facts = self._core.state.facts
        await self._own(self._core.commit.put(change, lambda: encode_vote(hs, facts.mark)))

    # The 13 methods: the log

    async def get_log_entries(self, start: int, stop: int) -> list[Entry[D]]:
        """See `RaftStorage` and SEMANTICS 7.  The entries are copies."""
        check_u64("start", start)
        check_u64("stop", stop)
        await trio.lowlevel.checkpoint()
        self._core.check()
        return await decode(locate(self._core.state, start, stop), self._core.machine.codec)

    async def delete_logs_from(self, start: int, stop: int | None = None) -> None:
        """See `RaftStorage` and SEMANTICS 8."""
        check_u64("start", start)
        if stop is not None:
            check_u64("stop", stop)
        await self._begin_write()
        core = self._core
        change = plan_delete(core.state, start, stop, core.machine.last_applied)
        if change is None:
            await self._nothing_new()
            return
        await self._own(
            core.commit.put(
                change, lambda: encode_truncate(change, core.state, core.commit.segment_sequence), needed=True
            )
        )

    async def append_entry_to_log(self, entry: Entry[D]) -> None:
        """See `RaftStorage` and SEMANTICS 6."""
        await self.replicate_to_log((entry,))

    async def replicate_to_log(self, entries: Sequence[Entry[D]]) -> None:
        """See `RaftStorage` and SEMANTICS 6."""
        await self._begin_write()
        pending = self._put_entries(entries)
        if pending is None:
            await self._nothing_new()
        else:
            await self._own(pending)

    # The 13 methods: the state machine

    async def apply_entry_to_state_machine(self, index: int, data: D) -> R | None:
        """See `RaftStorage` and SEMANTICS 9.2."""
        check_u64("index", index, 1)
        await trio.lowlevel.checkpoint()
        core = self._core
        async with core.applying:
            core.check_appliable()
            machine = core.machine
            if index <= machine.last_applied:
                if self._mark_is_behind():
                    await self._applied()
                return machine.answer_of(index)
            machine.check_logged(core.state, index, data)
            answer = machine.apply(index, data)
            await self._applied()
        return answer

    async def replicate_to_state_machine(self, entries: Sequence[tuple[int, D]]) -> None:
        """See `RaftStorage` and SEMANTICS 9.2.  Lets the event loop run; once an entry is applied, nothing cancels."""
        for index, _ in entries:
            check_u64("index", index, 1)
        await trio.lowlevel.checkpoint()
        core = self._core
        async with core.applying:
            core.check_appliable()
            machine, pace = core.machine, Pace()
            for index, data in entries:
                if index > machine.last_applied:
                    machine.check_logged(core.state, index, data)
                if pace.due:
                    await pace.rest()
            core.check_appliable()
            before = machine.last_applied
            try:
                with trio.CancelScope(shield=True):
                    for index, data in entries:
                        if index > machine.last_applied:
                            machine.apply(index, data)
                        if pace.due:
                            await pace.rest()
            finally:
                if machine.last_applied > before or self._mark_is_behind():
                    await self._applied()

    def _mark_is_behind(self) -> bool:
        """Whether `sync_apply` still owes durability: an earlier call applied, but its frame was refused."""
        core = self._core
        owed = min(core.machine.last_applied, core.state.last_index)
        return core.config.sync_apply and core.commit.durable.facts.mark < owed

    async def _applied(self) -> None:
        """Notes how far the machine is: in the next frame, or (`sync_apply`) in one of its own."""
        core = self._core
        core.commit.note(core.machine.last_applied)
        if core.config.sync_apply:
            pending = core.commit.put(Mark(core.machine.last_applied), self._sync_frame)
            with trio.CancelScope(shield=True):
                await core.commit.wait(pending, owner=False)

    # The 13 methods: snapshots

    async def do_log_compaction(self, *, engine: bytes = b"") -> CurrentSnapshotData[SnapshotReader]:
        """See `RaftStorage` and SEMANTICS 9.3.  `engine`: opaque bytes to be kept in the snapshot's header."""
        return await self._snapshots.compact(engine)

    async def create_snapshot(self) -> tuple[str, SnapshotWriter]:
        """See `RaftStorage` and SEMANTICS 10.1."""
        return await self._snapshots.create()

    async def finalize_snapshot_installation(
        self, index: int, term: int, delete_through: int | None, id: str, snapshot: SnapshotWriter
    ) -> None:
        """See `RaftStorage` and SEMANTICS 10.3."""
        await self._snapshots.install(index, term, delete_through, id, snapshot)

    async def get_current_snapshot(self) -> CurrentSnapshotData[SnapshotReader] | None:
        """See `RaftStorage` and SEMANTICS 10.4.  The file is read and proven whole before it is handed out."""
        return await self._snapshots.current()

    # What an engine needs beyond them

    @property
    def first_index(self) -> int:
        """The index of the first entry in the log, the snapshot's pointer included; 0 if there is none."""
        return self._core.state.first_index

    @property
    def last_index(self) -> int:
        """The index of the last entry, durable or not yet; else the snapshot's; else 0."""
        return self._core.state.last_index

    @property
    def durable_index(self) -> int:
        """Entries up to here survive power loss as they are."""
        return self._core.commit.durable_index

    @property
    def durable_point(self) -> DurablePoint:
        """Where the ordered stream of calls is durable; for `open_storage(expect_durable=...)`."""
        return DurablePoint(self._opened.writer.sequence, self.durable_index)

    @property
    def last_applied(self) -> int:
        """The highest index that the state machine has applied."""
        return self._core.machine.last_applied

    @property
    def machine(self) -> StateMachine[D, R]:
        """The live state machine, for reading.  A snapshot install puts another in its place."""
        return self._core.machine.live

    @property
    def current_snapshot(self) -> SnapshotHeader | None:
        """What the current snapshot says of itself."""
        record = self._snapshots.record
        return None if record is None else record.header

    @property
    def recovery(self) -> RecoveryReport:
        """What the open of this store found and did."""
        return self._core.report

    def term_of(self, index: int) -> int:
        """The term of the entry at `index`, or of the last one in the snapshot.  Constant time.

        Raises `CompactedError` below that and `UnavailableError` above the last index.
        """
        self._core.check()
        return term_of(self._core.state, check_u64("index", index))

    async def entries(self, low: int, high: int, max_bytes: int | None = None) -> list[Entry[D]]:
        """The entries of [low, high), all of them or (`max_bytes` of payload) as many as fit, but at least one.

        Raises `CompactedError` or `UnavailableError` where the log does not have them.
        """
        check_u64("low", low)
        check_u64("high", high)
        await trio.lowlevel.checkpoint()
        self._core.check()
        return await decode(locate_strictly(self._core.state, low, high, max_bytes), self._core.machine.codec)

    async def append(self, entries: Sequence[Entry[D]]) -> Barrier:
        """`replicate_to_log` without its barrier: readable on return, durable when `Barrier.wait` returns.

        Nothing is written until somebody waits: for this, or for any later call.
        """
        await self._begin_write()
        pending = self._put_entries(entries) or self._core.commit.rely_on_last()
        index = entries[-1].index if entries else self.last_index
        await trio.lowlevel.cancel_shielded_checkpoint()  # it has happened
        return Barrier(self._core.commit, pending, index)

    async def attest(self) -> None:
        """Writes a small frame that proves the last one durable, so that later rot of it cannot pass for a tear.

        Cheap; meant for a moment when nothing else is to be written (FORMAT 5.6).
        """
        await self._begin_write()
        await self._own(self._core.commit.put(Mark(self._core.state.facts.mark), self._sync_frame))

    async def bootstrap(self, membership: MembershipConfig) -> None:
        """Makes a new node a member: hard state (1, None) and the membership as the entry at index 1, term 1.

        Raises UsageError unless the store is pristine.  If it was interrupted, call it again.
        """
        await self._begin_write()
        state = self._core.state
        if state.log or state.facts.snapshot or state.facts.hard_state not in (HardState(), HardState(1)):
            msg = "this store is not pristine; bootstrap is for the first boot only"
            raise UsageError(msg)
        await self.save_hard_state(HardState(1))
        with trio.CancelScope(shield=True):
            await self.append_entry_to_log(Entry(1, 1, ConfigChange(membership)))

    def follow(self, start: int) -> Follower[D, R]:
        """The entries from `start` on, each once it is durable: see `Follower`."""
        self._core.check()
        return Follower(self._core, check_u64("start", start, 1))

    async def backup(self, to: "str | os.PathLike[str]", *, node_id: int | None = None) -> None:
        """Writes a copy into the new directory `to`, while writing goes on: see `_backup`.

        The copy holds everything that was durable when this was called; it opens as a store of its own identity.
        """
        await _backup.backup(self._core, os.fspath(to), self._core.node_id if node_id is None else node_id)

    def statistics(self) -> Statistics:
        """The store as of now."""
        core, writer = self._core, self._opened.writer
        return Statistics(
            first_index=self.first_index,
            last_index=self.last_index,
            last_applied=self.last_applied,
            durable_index=self.durable_index,
            durable_point=self.durable_point,
            snapshot_index=core.state.snapshot_index,
            pending_calls=core.commit.pending_calls,
            pending_bytes=core.commit.pending_bytes,
            barriers=writer.counters.groups,
            frames=writer.counters.frames,
            bytes_written=writer.counters.bytes_written,
            rotations=writer.counters.rotations,
            purged_segments=writer.counters.purged_segments,
            segments=writer.segments,
            spare_misses=self._opened.spares.misses,
            housekeeping_failures=self._opened.worker.failures,
            payload_bytes_since_snapshot=core.payload_since_snapshot,
            failed=core.commit.failure is not None,
        )

    # Closing

    async def aclose(self) -> None:
        """Flushes what is queued, marks the log as closed, and releases everything.  Silent twice.

        Closes even when cancelled (shielded), and then raises Cancelled.  A handle that failed is closed as it is.
        """
        interrupt: KeyboardInterrupt | None = None
        with trio.CancelScope(shield=True):
            while not self._released:
                try:
                    async with self._close_lock:
                        if not self._released:
                            await self._close()
                except KeyboardInterrupt as error:
                    interrupt = error
        if interrupt is not None:
            raise interrupt
        await trio.lowlevel.checkpoint()

    async def _close(self) -> None:
        core = self._core
        core.closed = True
        if core.forked:  # the files are the parent's, who goes on with them
            self._opened.directory.close()
            self._released = True
            return
        await core.unused()
        async with core.compacting, core.publishing, core.applying:
            if self._sealed is None:
                with contextlib.suppress(OSError):  # whoever waited for a call has been told
                    await core.commit.flush()
                self._sealed = core.commit.failure is None and await self._write_close()
            await self._snapshots.discard_writers()
        await trio.to_thread.run_sync(self._opened.release, self._sealed, limiter=core.log_limiter)
        self._released = True
        core.commit.wake_followers()

    async def _write_close(self) -> bool:
        core = self._core
        mark = core.state.facts.mark
        pending = core.commit.put(Mark(mark), lambda: Draft(Kind.CLOSE, (CloseBody(mark).encode(),)))
        try:
            await core.commit.wait(pending, owner=False, firm=True)
        except OSError:
            return False
        return True

    # Shared steps

    async def _begin_write(self) -> None:
        self._core.check_writable()
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._core.commit.room()
        self._core.check_writable()

    async def _nothing_new(self) -> None:
        """There is nothing to write; but what makes it so may not be durable yet."""
        if self._core.commit.last is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._core.commit.flush()

    async def _own(self, pending: Pending) -> None:
        await self._core.commit.wait(pending, owner=True)

    def _sync_frame(self) -> Draft:
        return Draft(Kind.SYNC, (SyncBody(self._core.state.facts.mark).encode(),))

    def _put_entries(self, entries: Sequence[Entry[D]]) -> Pending | None:
        if not entries:
            return None
        core = self._core
        proposal = propose_entries(entries, core.machine.codec)
        commit, mark = core.commit, core.state.facts.mark
        planned = plan_entries(core.state, proposal, mark if mark != commit.carried_mark else None)
        if planned is None:
            return None
        change, draft = planned
        pending = commit.put(change, lambda: draft)
        commit.carried_mark = mark
        core.payload_since_snapshot += change.run.size
        return pending
