r"""Group commit: who waits, leads (PROTOCOL B5, ECOSYSTEM 2.3 and 2.4).

There is no background task.  A call is planned and queued in the event loop, at once and in one piece; its effect is
readable from then on.  Whoever waits for durability while nobody leads takes the lead: it takes what is queued, hops
into a thread for one write and one barrier, settles, hands the lead on and wakes the others.  So a lone caller never
waits for company, and a crowd always shares.

    planned ---------> queued ---------> taken ---------> durable
               |                 |                 \----> failed: the handle is poisoned, or the disk is full
               |                 \-- cancelled while last in the queue: withdrawn, it did not happen
               \-- nobody waits (`append` without `wait`): stays queued until somebody does

Cancelled means that it did not happen: a call is withdrawn while nothing is planned on top of it; once that is no
longer so, it completes, returns normally, and the next checkpoint raises.  Planning, taking, hopping and settling are
protected from cancellation and from KeyboardInterrupt, and whatever comes out of them settles every call in flight.  An
interrupt that meets a leader is held back until its call is settled.
"""

import contextlib
import copy
import errno
import logging
import math
from collections import deque
from collections.abc import Callable

import attrs
import trio

from ._config import StorageConfig
from ._interrupts import hop, interrupted_at_checkpoints
from ._log.draft import Draft
from ._log.runs import Run
from ._log.state import Append, Change, Install, LogState, Mark, Summary, Truncate, Undo
from ._types import U64_MAX
from ._writer import Writer
from .errors import StorageFailedError, StorageFullError

logger = logging.getLogger("walstore")


@attrs.define(eq=False)
class Pending:
    """One call on its way to the disk."""

    draft: Draft
    run: Run | None
    after: Summary
    needed: int | None
    floor: float
    undo: Undo
    size: int
    notes: int
    relied_on: bool = False
    taken: bool = False
    settled: bool = False
    error: Exception | None = None
    waiters: list[trio.lowlevel.Task] = attrs.field(factory=list)

    @property
    def durable(self) -> bool:
        """Whether it is known to survive power loss."""
        return self.settled and self.error is None


@interrupted_at_checkpoints
class GroupCommit:
    """The queue in front of the writer.  All methods run in the event loop."""

    def __init__(self, state: LogState, writer: Writer, config: StorageConfig, limiter: trio.CapacityLimiter) -> None:
        self.state = state
        self.failure: BaseException | None = None
        self.durable = state.summary()
        self.durable_index = state.last_index
        self.pending_bytes = 0
        self.carried_mark: int | None = state.facts.mark
        """The applied mark that the latest frame with entries carries."""
        self._noted = state.facts.mark
        self._notes = 0
        self._writer = writer
        self._config = config
        self._limiter = limiter
        self._queue: deque[Pending] = deque()
        self._flying: list[Pending] = []
        self._leading = False
        self._progress = trio.lowlevel.ParkingLot()
        self._admission = trio.Lock()

    @property
    def pending_calls(self) -> int:
        """Calls that are not settled."""
        return len(self._queue) + len(self._flying)

    def check(self) -> None:
        """Raises StorageFailedError once a write has failed."""
        if self.failure is not None:
            raise self._failed()

    def _failed(self) -> StorageFailedError:
        code = self.failure.errno if isinstance(self.failure, OSError) else None
        error = StorageFailedError(
            code or errno.EIO,
            f"a write of the log failed ({self.failure!r}); the outcome of the calls in flight is unknown: open again",
        )
        error.__cause__ = self.failure
        return error

    def poison(self, cause: BaseException) -> None:
        """A rename or a directory sync failed: nothing is acknowledged from now on (PROTOCOL B4)."""
        refused = list(self._queue)
        self._queue.clear()
        self._refuse(refused, cause)
        self._settle_durable_index()
        for pending in refused:
            self._settle(pending)
        self._progress.unpark_all()

    @property
    def segment_sequence(self) -> int:
        """The segment that is written to, for frames that are planned now: theirs is this one or a later one."""
        return self._writer.segment_sequence

    # Planning

    @trio.lowlevel.enable_ki_protection
    def put(self, change: Change, encode: Callable[[], Draft], *, needed: bool = False) -> Pending:
        """Makes the change and queues its frame, which `encode` makes of the state after it.

        `needed`: the frame says which segments are still needed.
        """
        self.check()
        segment = self.segment_sequence  # first: the writer may move on to the next one while this goes on
        undo = self.state.apply(change)
        try:
            draft = encode()
        except BaseException:
            self.state.undo(undo)
            raise
        floor = _floor(change)
        pending = Pending(
            draft=draft,
            run=change.run if isinstance(change, Append) else None,
            after=self._summary(segment),
            needed=(self.state.first_needed or segment) if needed else None,
            floor=floor,
            undo=undo,
            size=draft.room,
            notes=self._notes,
        )
        self._queue.append(pending)
        self.pending_bytes += pending.size
        self.durable_index = int(min(self.durable_index, floor, self.state.last_index))
        return pending

    def _summary(self, segment: int) -> Summary:
        """The state after a call.  If its first entry is still to be written, it will be in `segment` or later."""
        after = self.state.summary()
        return after if after.first_needed != 0 else attrs.evolve(after, first_needed=segment)

    @trio.lowlevel.enable_ki_protection
    def note(self, mark: int) -> None:
        """Notes how far the machine is.  The next frame carries it, also if calls in the queue are taken back."""
        self.state.apply(Mark(mark))
        self._noted = mark
        self._notes += 1

    @property
    def last(self) -> Pending | None:
        """The last call that is not settled."""
        if self._queue:
            return self._queue[-1]
        return self._flying[-1] if self._flying else None

    def rely_on_last(self) -> Pending | None:
        """The last call that is not settled, which from now on cannot be withdrawn: an answer rests on it."""
        if self.last is not None:
            self.last.relied_on = True
        return self.last

    def _withdraw(self, pending: Pending) -> bool:
        """Takes a call back, if it is still possible."""
        if pending.taken or not self._queue or self._queue[-1] is not pending or pending.waiters or pending.relied_on:
            return False
        self._queue.pop()
        self.pending_bytes -= pending.size
        self._undo(pending)
        self._settle_durable_index()
        self._progress.unpark_all()
        return True

    def _undo(self, pending: Pending) -> None:
        self.state.undo(pending.undo)
        if self._notes > pending.notes:
            self.state.apply(Mark(self._noted))
        self.carried_mark = None

    def _settle_durable_index(self) -> None:
        floors = [pending.floor for pending in (*self._flying, *self._queue)]
        self.durable_index = int(min(self.durable.last_index, self.state.last_index, *floors))

    # Waiting

    async def room(self) -> None:
        """Back-pressure: returns when no more bytes are queued than the configuration allows, in the order of calls.

        Not a checkpoint where there is room.  The caller plans its call at once, before the next one is let in.
        """
        most = self._config.max_pending_bytes
        if self.pending_bytes <= most and not self._admission.locked():
            return
        async with self._admission:
            while self.pending_bytes > most and self.last is not None:
                with contextlib.suppress(StorageFullError):  # met by another call: this one has not been tried
                    await self.wait(self.last, owner=False)

    async def flush(self) -> None:
        """Returns when everything planned so far is durable."""
        if self.last is not None:
            await self.wait(self.last, owner=False)

    async def progress(self) -> None:
        """Returns when something has become durable, or has failed, after this call."""
        await self._progress.park()

    def wake_followers(self) -> None:
        """Lets those who wait for progress look again."""
        self._progress.unpark_all()

    async def wait(self, pending: Pending, *, owner: bool, firm: bool = False) -> None:
        """Returns when the call is durable; raises its error.

        Cancelled: the owner's call is withdrawn if that is possible, else it completes and this returns normally.
        Others (owner=False) only stop waiting, unless `firm`: then not even KeyboardInterrupt ends it early.
        A checkpoint, unless the owner's call was settled meanwhile.
        """
        if pending.settled and not firm:
            await trio.lowlevel.checkpoint()
        interrupt: KeyboardInterrupt | None = None
        while not pending.settled:
            if self._leading:
                await self._park(pending, owner=owner, firm=firm)
            else:
                interrupt = await self._lead() or interrupt
        if pending.error is not None:
            error = copy.copy(pending.error)  # each waiter has a traceback of its own
            raise error from pending.error.__cause__
        if interrupt is not None:
            raise interrupt

    async def _park(self, pending: Pending, *, owner: bool, firm: bool) -> None:
        task = trio.lowlevel.current_task()
        pending.waiters.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            if firm:
                return trio.lowlevel.Abort.FAILED
            pending.waiters.remove(task)
            if not owner or self._withdraw(pending):
                return trio.lowlevel.Abort.SUCCEEDED
            pending.waiters.append(task)
            return trio.lowlevel.Abort.FAILED

        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _lead(self) -> KeyboardInterrupt | None:
        """Takes, writes and settles one batch.  Returns the interrupt that came meanwhile."""
        self._leading = True
        batch = self._flying = self._take()
        self._writer.written = 0
        cause: BaseException | None = None
        interrupt: KeyboardInterrupt | None = None
        try:
            interrupt = await hop(self._writer.commit, batch, limiter=self._limiter)
        except BaseException as error:  # noqa: BLE001  whatever it is, nobody may be left waiting
            cause = error
        self._leading = False
        done = batch[: self._writer.written]
        rest = batch[self._writer.written :]
        self._flying = []
        if done:
            self.durable = done[-1].after
        refused: list[Pending] = []
        if cause is not None:
            refused = [*rest, *self._queue]
            self._queue.clear()
            self._refuse(refused, cause)
        self._settle_durable_index()
        self._hand_on()
        for pending in (*done, *refused):
            self._settle(pending)
        self._progress.unpark_all()
        if cause is not None and not isinstance(cause, Exception):
            raise cause
        return interrupt

    def _take(self) -> list[Pending]:
        batch: list[Pending] = []
        size = 0
        while self._queue and (not batch or size + self._queue[0].size <= self._config.max_group_bytes):
            pending = self._queue.popleft()
            pending.taken = True
            size += pending.size
            batch.append(pending)
        return batch

    def _refuse(self, refused: list[Pending], cause: BaseException) -> None:
        full = isinstance(cause, StorageFullError)
        if not full:
            self.failure = self.failure or cause
            logger.error("the log failed: %r; the handle acknowledges nothing from now on", cause)
        for pending in reversed(refused):
            self._undo(pending)
            pending.error = StorageFullError(*cause.args) if full else self._failed()
            pending.error.__cause__ = cause

    def _hand_on(self) -> None:
        """Wakes the first who waits for a queued call, before those whose calls are done, so that the disk is busy."""
        for pending in self._queue:
            if pending.waiters:
                pending.relied_on = True  # by the task that is woken, which is no longer among the waiters
                trio.lowlevel.reschedule(pending.waiters.pop(0))
                return

    def _settle(self, pending: Pending) -> None:
        pending.settled = True
        pending.undo = Undo(pending.after.facts)  # a Barrier may live on; what the call replaced need not
        self.pending_bytes -= pending.size
        waiters, pending.waiters = pending.waiters, []
        for task in waiters:
            trio.lowlevel.reschedule(task)


def _floor(change: Change) -> float:
    """Up to where the entries stay as they are, while the change is on its way."""
    match change:
        case Append(run):
            return run.first - 1
        case Truncate(start, stop) if stop == U64_MAX:
            return max(start, 1) - 1
        case Install(record, keep_suffix) if not keep_suffix:
            return record.header.index
    return math.inf


@interrupted_at_checkpoints
class Barrier:
    """Something to await for the durability of an `append`.  Any number of tasks may wait, any number of times."""

    def __init__(self, commit: GroupCommit, pending: Pending | None, index: int) -> None:
        self._commit = commit
        self._pending = pending
        self.index = index
        """The last index of the append."""

    @property
    def durable(self) -> bool:
        """Whether the entries survive power loss."""
        return self._pending is None or self._pending.durable

    async def wait(self) -> None:
        """Returns when the entries survive power loss.  Cancelled: only the waiting ends, the append stays.

        Raises `StorageFullError` (the append was taken back) or `StorageFailedError` (its outcome is unknown).
        """
        if self._pending is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._commit.wait(self._pending, owner=False)
