r"""Executing commands: logged, durable, applied, answered, for any number of callers at once.

There is no background task: the first caller leads.  It takes every command that waits, logs them as one call, waits
for the barrier, hands the lead to the next caller that waits, applies its batch and wakes the others.  So one batch is
applied while the next is on its way to the disk, and answers come in log order.

    waiting ---------> taken ---------> logged, durable ---------> applied: answered
           \-- cancelled: withdrawn, it did not happen         \-- the machine raised: ApplyError

Rules of this file: a command that was taken is settled, whatever happens to its caller; one that was not can still be
withdrawn; only the leader appends; batches are applied in the order in which they were logged.
"""

import copy
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar, cast

import attrs
import trio

from ._log.limits import MAX_ENTRY_BYTES
from ._types import D, Entry, Normal, R
from .abc import Codec, SnapshotView, StateMachine
from .errors import ApplyError, EntryTooLargeError, UsageError

T = TypeVar("T")

BATCH_BYTES = 1 << 20
"""Commands are logged together up to this many bytes: more than any barrier needs to be worth its while."""

BATCH_COMMANDS = 1024
"""Commands that are applied in one go, at most: a few milliseconds."""


class Barrier(Protocol):
    """What an append gives."""

    async def wait(self) -> None:
        """Returns when what was appended is durable."""


class Log(Protocol[D, R]):
    """What the executor needs of the storage below."""

    @property
    def machine(self) -> StateMachine[D, R]:
        """The live machine, a `Recorder`."""

    @property
    def last_index(self) -> int:
        """The index of the last entry."""

    async def append(self, entries: Sequence[Entry[D]]) -> Barrier:
        """Puts the entries in the log."""

    async def replicate_to_state_machine(self, entries: Sequence[tuple[int, D]]) -> None:
        """Applies the entries."""


class Recorder(StateMachine[D, R]):
    """The application's machine, and a place for the answers that callers wait for."""

    __slots__ = ("answers", "machine")

    def __init__(self, machine: StateMachine[D, R]) -> None:
        self.machine = machine
        self.answers: dict[int, R] | None = None

    def apply(self, index: int, data: D) -> R:
        """As the application's machine, and the answer is kept if somebody waits for answers."""
        answer = self.machine.apply(index, data)
        if self.answers is not None:
            self.answers[index] = answer
        return answer

    def capture(self) -> SnapshotView:
        """As the application's machine."""
        return self.machine.capture()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """As the application's machine."""
        self.machine.restore(chunks)


@attrs.define(eq=False)
class _Call(Generic[D, R]):
    """One command on its way."""

    data: D
    size: int
    task: trio.lowlevel.Task | None = None
    taken: bool = False
    settled: bool = False
    answer: R | None = None
    error: BaseException | None = None

    def settle(self, answer: R | None, error: BaseException | None = None) -> None:
        self.answer, self.error, self.settled = answer, error, True
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)

    def result(self) -> R:
        if self.error is not None:
            error = copy.copy(self.error)  # each caller has a traceback of its own
            error.__cause__ = self.error.__cause__
            raise error
        return cast("R", self.answer)


class _Firm:
    """Awaits steps that may be repeated until no interrupt breaks them off, and keeps the interrupt."""

    def __init__(self) -> None:
        self.interrupt: KeyboardInterrupt | None = None

    async def do(self, step: Callable[[], Awaitable[T]]) -> T:
        """The step's result, however often it takes."""
        while True:
            try:
                return await step()
            except KeyboardInterrupt as error:
                self.interrupt = error


class Executor(Generic[D, R]):
    """The queue of commands in front of a log and its machine.  All of it runs in the event loop."""

    def __init__(self, log: Log[D, R], codec: Codec[D], *, term: int, skip_apply_errors: bool) -> None:
        self._log = log
        self._codec = codec
        self._term = term
        self._skip_apply_errors = skip_apply_errors
        self._waiting: dict[_Call[D, R], None] = {}  # an ordered set
        self._leading = False
        self._applying = trio.Lock()
        self._apply_error: ApplyError | None = None
        self.executed = 0
        self.batches = 0
        self.logged_bytes = 0

    @property
    def waiting(self) -> int:
        """Commands that nobody has taken yet."""
        return len(self._waiting)

    @property
    def recorder(self) -> Recorder[D, R]:
        """The machine as the log below knows it."""
        return cast("Recorder[D, R]", self._log.machine)

    @trio.lowlevel.enable_ki_protection
    async def execute(self, command: D) -> R:
        """See `Standalone.execute`."""
        call = self._checked(command)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._waiting[call] = None
        if self._leading:
            await self._wait(call)
        if not call.settled:
            self._leading = True
            with trio.CancelScope(shield=True):
                interrupt = await self._lead()
            if interrupt is not None:
                raise interrupt
        return call.result()

    def _checked(self, command: D) -> _Call[D, R]:
        encoded = self._codec.encode(command)
        if len(encoded) > MAX_ENTRY_BYTES:
            msg = f"a command of {len(encoded)} bytes; at most {MAX_ENTRY_BYTES} are allowed"
            raise EntryTooLargeError(msg)
        decoded = self._codec.decode(encoded)
        if self._codec.encode(decoded) != encoded:
            msg = f"{type(self._codec).__name__} decodes {command!r} to {decoded!r}, which has other bytes"
            raise UsageError(msg)
        return _Call(decoded, len(encoded))

    async def _wait(self, call: _Call[D, R]) -> None:
        """Returns when the call is settled, or when it is this task's turn to lead."""

        def withdraw(_: object) -> trio.lowlevel.Abort:
            if call.taken:
                return trio.lowlevel.Abort.FAILED
            del self._waiting[call]
            return trio.lowlevel.Abort.SUCCEEDED

        call.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(withdraw)
        call.task = None

    async def _lead(self) -> KeyboardInterrupt | None:
        """Does one batch, the caller's command among it, and settles all of it.

        An interrupt that comes meanwhile is for the leader alone, and only once the batch is through: what is logged
        has to be applied before anything else is, or the live machine would part from the log.  It is returned.
        """
        batch = self._take()
        firm = _Firm()
        try:
            try:
                first = await self._append(batch, firm)
                await firm.do(self._applying.acquire)
            finally:
                self._hand_on()
            try:
                await self._apply(first, batch, firm)
            finally:
                self._applying.release()
        except BaseException as error:  # noqa: BLE001  # whatever it is, nobody may be left waiting
            for call in batch:
                if not call.settled:
                    call.settle(None, error)
        return firm.interrupt

    def _take(self) -> list[_Call[D, R]]:
        batch: list[_Call[D, R]] = []
        room = BATCH_BYTES
        for call in self._waiting:
            room -= call.size
            if batch and (room < 0 or len(batch) == BATCH_COMMANDS):
                break
            batch.append(call)
        for call in batch:
            del self._waiting[call]
            call.taken = True
        return batch

    def _hand_on(self) -> None:
        following = next(iter(self._waiting), None)
        if following is None:
            self._leading = False
        else:
            assert following.task is not None, "who waits while nobody leads, leads"
            trio.lowlevel.reschedule(following.task)

    async def _append(self, batch: Sequence[_Call[D, R]], firm: _Firm) -> int:
        """Logs the batch, which is durable on return.  The index of its first command."""
        if self._apply_error is not None:
            raise self._apply_error
        first = self._log.last_index + 1
        entries = [Entry(self._term, index, Normal(call.data)) for index, call in enumerate(batch, start=first)]
        barrier = await firm.do(lambda: self._log.append(entries))
        await firm.do(barrier.wait)
        self.batches += 1
        self.logged_bytes += sum(call.size for call in batch)
        return first

    async def _apply(self, first: int, batch: Sequence[_Call[D, R]], firm: _Firm) -> None:
        """Applies a batch that is durable, and settles its calls in order."""
        done = 0
        while done < len(batch):
            if self._apply_error is not None:
                raise self._apply_error
            answers, error = await self._apply_run(first + done, batch[done:], firm)
            for index in range(first + done, first + done + len(answers)):
                batch[index - first].settle(answers[index])
            done += len(answers)
            self.executed += len(answers)
            if error is not None:
                if not self._skip_apply_errors:
                    self._apply_error = error
                batch[done].settle(None, error)
                done += 1

    async def _apply_run(
        self, first: int, calls: Sequence[_Call[D, R]], firm: _Firm
    ) -> tuple[Mapping[int, R], ApplyError | None]:
        """The answers of the commands from `first` on, up to the first at which the machine raises."""
        recorder = self.recorder
        answers: dict[int, R] = {}
        recorder.answers = answers
        try:
            pairs = [(index, call.data) for index, call in enumerate(calls, start=first)]
            await firm.do(lambda: self._log.replicate_to_state_machine(pairs))
        except ApplyError as error:
            return answers, error
        finally:
            recorder.answers = None
        return answers, None
