"""`open_standalone`: durable state for one application, without a cluster.

A store of its own is a Raft node that is alone: term 1, one member, and what is durable is committed.  So an open
replays every durable command (PROTOCOL A10), and `execute` answers once its command is durable and applied.
"""

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, cast, overload

import attrs
import trio

from ._config import StorageConfig
from ._executor import Executor, Recorder
from ._opener import open_storage
from ._report import DurablePoint, RecoveryReport, Statistics
from ._storage import Storage
from ._types import D, MembershipConfig, R, SnapshotHeader
from .abc import Codec, FileSystem, StateMachine
from .errors import CompactionSuperseded, NothingToCompact, UsageError
from .kv import Answer, Command, CompareAndSet, Delete, KeyValue, KeyValueCodec, Put, Swapped

COMPACT_AFTER_BYTES = 64 << 20
"""The default of `compact_after_bytes`: what a reopened store replays at most, about a second's work."""

logger = logging.getLogger("walstore")


@attrs.frozen(kw_only=True)
class StandaloneStatistics:
    """What a standalone store has done since it was opened, and the statistics of the storage below."""

    executed: int
    """Commands that were applied and answered."""
    batches: int
    """Calls to the log in which they were logged."""
    waiting: int
    """Commands that are on their way to no disk yet."""
    bytes_since_snapshot: int
    """Bytes of commands that were logged since the last snapshot; a reopened store has to replay them."""
    compactions: int
    """Snapshots that were made."""
    failed_compactions: int
    """Automatic compactions that came to nothing."""
    last_compaction_error: str | None
    """Why the newest of them did; None once a compaction has succeeded."""
    storage: Statistics


class Standalone(Generic[D, R]):
    """An open store.  `open_standalone` makes it; leaving the `async with` block closes it."""

    def __init__(
        self,
        storage: Storage[D, R],
        executor: Executor[D, R],
        *,
        compact_after_bytes: int | None,
        bytes_since_snapshot: int,
    ) -> None:
        self._storage = storage
        self._executor = executor
        self._compact_after = compact_after_bytes
        self._compacting = False
        self._covered = -bytes_since_snapshot  # of executor.logged_bytes, by the last snapshot
        self._compactions = 0
        self._failed_compactions = 0
        self._compaction_error: Exception | None = None

    @property
    def machine(self) -> StateMachine[D, R]:
        """The application's machine: read it as plain memory.  It holds what is durable, and nothing else."""
        return self._executor.recorder.machine

    @property
    def storage(self) -> Storage[D, R]:
        """The storage below: to follow the log, to read entries, to attest.

        Only `execute` may write to its log.  Its machine is a wrapper; the application's is `machine`.
        """
        return self._storage

    @property
    def recovery(self) -> RecoveryReport:
        """What the open of this store found and did."""
        return self._storage.recovery

    @property
    def _bytes_since_snapshot(self) -> int:
        return self._executor.logged_bytes - self._covered

    def statistics(self) -> StandaloneStatistics:
        """The figures of the moment.  Not a checkpoint."""
        error = self._compaction_error
        return StandaloneStatistics(
            executed=self._executor.executed,
            batches=self._executor.batches,
            waiting=self._executor.waiting,
            bytes_since_snapshot=self._bytes_since_snapshot,
            compactions=self._compactions,
            failed_compactions=self._failed_compactions,
            last_compaction_error=None if error is None else f"{type(error).__name__}: {error}",
            storage=self._storage.statistics(),
        )

    async def execute(self, command: D) -> R:
        """Logs the command, makes it durable, applies it, and returns the machine's answer.

        Any number of tasks may call; they share barriers, and commands are applied in the order in which they were
        logged.  The command is encoded and decoded once before it is logged, and what was decoded is applied: live and
        after a reopen the machine sees the same, and what cannot be read is never stored.

        The call that brings the log over `compact_after_bytes` makes a snapshot before it returns; whatever becomes of
        that, the command has been done and its answer is returned.

        Cancelled means that the command did not happen and never will: a call that can no longer be withdrawn, because
        it is on its way to the disk, goes on to its answer (as does its compaction), and the next checkpoint raises.

        Raises `EntryTooLargeError`, what the codec raises, `UsageError` if the codec does not give back what it was
        given, or `StorageFullError`, all with nothing logged.  `StorageFailedError` and `trio.ClosedResourceError` mean
        that the outcome is unknown until the store is opened again.

        Raises `ApplyError` if the machine raised.  The command is in the log all the same, and what follows has to be
        what a reopened store would do.  With `on_apply_error="skip"` the command is passed over, now as at the next
        open, and the store goes on.  With "raise" an open refuses to go past it, and so does this handle: this call,
        those whose commands were logged after it, and every later one (which logs nothing) raise this error, until the
        store is opened with a machine that was mended, which applies them all, or with "skip".
        """
        answer = await self._executor.execute(command)
        if self._compact_after is not None and self._bytes_since_snapshot >= self._compact_after:
            await self._compact_shielded()
        return answer

    async def compact(self) -> SnapshotHeader:
        """Makes a snapshot of the state as of now and lets the log up to there go, while writing goes on.

        Raises `NothingToCompact` or `CompactionSuperseded`, both harmless.  Cancelled: the old snapshot is intact.
        """
        covered = self._executor.logged_bytes
        done = await self._storage.do_log_compaction()
        self._covered = max(self._covered, covered)
        self._compactions += 1
        self._compaction_error = None
        await done.snapshot.aclose()
        return done.snapshot.header

    async def _compact_shielded(self) -> None:
        """Shielded, since a call that is Cancelled has done nothing, and this one has.

        To give the compaction up instead when its caller is cancelled would mean that a store all of whose callers
        have short deadlines is never compacted.
        """
        if self._compacting:
            return
        self._compacting = True
        logged = self._executor.logged_bytes
        try:
            with trio.CancelScope(shield=True):
                await self.compact()
        except (NothingToCompact, CompactionSuperseded):
            pass
        except Exception as error:  # noqa: BLE001  # whatever it is, the command has been done
            self._failed_compactions += 1
            self._compaction_error = error
            self._covered = max(self._covered, logged)  # tried again after as many bytes, not by each call from now on
            logger.warning("automatic compaction failed, so the log goes on growing: %r", error)
        finally:
            self._compacting = False

    async def backup(self, to: str | os.PathLike[str]) -> None:
        """Copies the store into the new directory `to` while writing goes on.  See `Storage.backup`."""
        await self._storage.backup(to)


class StandaloneKeyValue(Standalone[Command, Answer]):
    """What `open_standalone` gives if no machine is named: the same, with the types of `walstore.kv`."""

    @property
    def machine(self) -> KeyValue:
        """The key-value machine: read it as a mapping."""
        return cast("KeyValue", super().machine)

    @overload
    async def execute(self, command: Put | Delete) -> bytes | None: ...
    @overload
    async def execute(self, command: CompareAndSet) -> Swapped: ...
    @overload
    async def execute(self, command: Command) -> Answer: ...
    async def execute(self, command: Command) -> Answer:
        """See `Standalone.execute`."""
        return await super().execute(command)


_KEY_VALUE_CODEC = KeyValueCodec()


@overload
def open_standalone(
    path: str | os.PathLike[str],
    *,
    node_id: int = ...,
    config: StorageConfig | None = ...,
    compact_after_bytes: int | None = ...,
    expect_durable: int | DurablePoint | None = ...,
    filesystem: FileSystem | None = ...,
) -> AbstractAsyncContextManager[StandaloneKeyValue]: ...
@overload
def open_standalone(
    path: str | os.PathLike[str],
    machine: type[KeyValue],
    codec: KeyValueCodec = ...,
    *,
    node_id: int = ...,
    config: StorageConfig | None = ...,
    compact_after_bytes: int | None = ...,
    expect_durable: int | DurablePoint | None = ...,
    filesystem: FileSystem | None = ...,
) -> AbstractAsyncContextManager[StandaloneKeyValue]: ...
@overload
def open_standalone(
    path: str | os.PathLike[str],
    machine: Callable[[], StateMachine[D, R]],
    codec: Codec[D],
    *,
    node_id: int = ...,
    config: StorageConfig | None = ...,
    compact_after_bytes: int | None = ...,
    expect_durable: int | DurablePoint | None = ...,
    filesystem: FileSystem | None = ...,
) -> AbstractAsyncContextManager[Standalone[D, R]]: ...
@asynccontextmanager
async def open_standalone(
    path: str | os.PathLike[str],
    machine: Callable[[], StateMachine[Any, Any]] = KeyValue,
    codec: Codec[Any] = _KEY_VALUE_CODEC,
    *,
    node_id: int = 1,
    config: StorageConfig | None = None,
    compact_after_bytes: int | None = COMPACT_AFTER_BYTES,
    expect_durable: int | DurablePoint | None = None,
    filesystem: FileSystem | None = None,
) -> AsyncIterator[Any]:  # the overloads say what
    """Opens the store of one application in the directory `path`, which is created if need be.

    `machine` makes the state machine, `codec` makes its commands bytes.  An automatic snapshot is made after each
    `compact_after_bytes` bytes of commands; None: only `compact` makes any.  `config.replay` is always "all".  The
    rest is as in `open_storage`.  Both ends of the `async with` block are checkpoints; an exception of the block
    leaves it as itself.

    Raises what `open_storage` raises, and `UsageError` if the directory is that of a member of a cluster.
    """
    if compact_after_bytes is not None and compact_after_bytes < 1:
        msg = f"compact_after_bytes must be at least 1, or None, not {compact_after_bytes}"
        raise ValueError(msg)
    config = attrs.evolve(config or StorageConfig(), replay="all")
    async with open_storage(
        path,
        node_id=node_id,
        machine=lambda: Recorder(machine()),
        codec=codec,
        config=config,
        expect_durable=expect_durable,
        filesystem=filesystem,
    ) as storage:
        term = await _take_office(storage, node_id)
        executor = Executor(storage, codec, term=term, skip_apply_errors=config.on_apply_error == "skip")
        kind = StandaloneKeyValue if isinstance(machine, type) and issubclass(machine, KeyValue) else Standalone
        yield kind(
            storage,
            executor,
            compact_after_bytes=compact_after_bytes,
            bytes_since_snapshot=storage.statistics().payload_bytes_since_snapshot,
        )


async def _take_office(storage: Storage[Any, Any], node_id: int) -> int:
    """Makes a new store a cluster of one.  The term of what it will log."""
    alone = MembershipConfig.new_initial(node_id)
    state = await storage.get_initial_state()
    if state.membership != alone:
        msg = (
            f"node {node_id} is a member of {sorted(state.membership.all_nodes())}: open its storage, not a standalone"
        )
        raise UsageError(msg)
    if state.last_log_index == 0:
        await storage.bootstrap(alone)
        return 1
    return max(state.hard_state.current_term, state.last_log_term)
