"""The interfaces: the storage, its snapshots as streams, the state machine, the codec and the file system.

`RaftStorage` is the trait `async_raft::storage::RaftStorage` (0.6.0-alpha.1) in Python: the same 13 methods in snake
case with the arguments in the trait's order.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic

import trio

from ._disk.seam import Buffer, Directory, File, FileSystem
from ._types import (
    CurrentSnapshotData,
    D,
    Entry,
    HardState,
    InitialState,
    MembershipConfig,
    R,
    SnapshotHeader,
)

__all__ = [
    "Buffer",
    "Codec",
    "Directory",
    "File",
    "FileSystem",
    "RaftStorage",
    "SnapshotReader",
    "SnapshotView",
    "SnapshotWriter",
    "StateMachine",
]


class Codec(ABC, Generic[D]):
    """How the application's data becomes bytes."""

    __slots__ = ()

    @abstractmethod
    def encode(self, data: D) -> bytes:
        """The bytes of `data`; the same bytes for equal data."""

    @abstractmethod
    def decode(self, buffer: bytes) -> D:
        """The inverse.  Raises ValueError on bytes that `encode` did not make."""


class SnapshotView(ABC):
    """A point-in-time view of a state machine: what it held when `capture` returned, whatever is applied later."""

    __slots__ = ()

    @abstractmethod
    def chunks(self) -> Iterator[bytes]:
        """The state as bytes in pieces of any size, for `StateMachine.restore`.  Iterated in a worker thread."""

    def close(self) -> None:
        """The view is no longer needed.  Called in the event loop, always, once."""
        return


class StateMachine(ABC, Generic[D, R]):
    """The application's state: in memory, deterministic, rebuilt at each open.  Given to a store as a factory."""

    __slots__ = ()

    @abstractmethod
    def apply(self, index: int, data: D) -> R:
        """Takes one entry and answers.  Plain function; may not block.  If it raises, it must have changed nothing."""

    @abstractmethod
    def capture(self) -> SnapshotView:
        """A view of the state as of now.  Must be cheap at any size: it runs in the event loop."""

    @abstractmethod
    def restore(self, chunks: Iterable[bytes]) -> None:
        """Fills this fresh machine from the bytes of a view, which arrive in pieces of any size.  Runs in a thread.

        Raises ValueError on bytes that are not such a state; the machine is then thrown away.
        """


class SnapshotReader(trio.abc.ReceiveStream):
    """The bytes of one snapshot, the container included.  They stay the same for the reader's whole life."""

    @property
    @abstractmethod
    def header(self) -> SnapshotHeader:
        """What the snapshot says of itself."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of bytes in all."""

    @abstractmethod
    def seek(self, offset: int) -> None:
        """The next `receive_some` reads from `offset` (at or beyond the end: nothing).  Not a checkpoint."""

    @abstractmethod
    def tell(self) -> int:
        """The offset of the next byte."""


class SnapshotWriter(trio.abc.SendStream):
    """Takes the bytes of a snapshot that a peer sends; hand it to `finalize_snapshot_installation`.

    `aclose` shuts the stream and keeps what was written, because a Raft core shuts the handle before it finalizes.
    `discard` removes it, as do the next `create_snapshot`, finalize, and the close and the open of the store.
    """

    @property
    @abstractmethod
    def id(self) -> str:
        """The id that `create_snapshot` gave."""

    @abstractmethod
    def seek(self, offset: int) -> None:
        """The next `send_all` writes at `offset`; beyond the end leaves a hole of zeros.  Not a checkpoint."""

    @abstractmethod
    def tell(self) -> int:
        """The offset of the next byte."""

    @abstractmethod
    async def discard(self) -> None:
        """Closes the stream and removes what was written."""


class RaftStorage(ABC, Generic[D, R]):
    """What a Raft node keeps: hard state, log, state machine, snapshot.

    Ranges are half-open.  When a mutating method returns, its effect survives power loss (apply excepted: see there).
    `trio.Cancelled` means that the call did not happen.  Absence is never an exception here.  Every method is a
    checkpoint, and raises `trio.ClosedResourceError` once the store is closed.
    """

    @abstractmethod
    async def get_membership_config(self) -> MembershipConfig:
        """The latest membership in the log (uncommitted entries and the pointer included), else the snapshot's, else
        this node alone."""

    @abstractmethod
    async def get_initial_state(self) -> InitialState:
        """What is stored, put together; the pristine state only if nothing at all is.  Reads only."""

    @abstractmethod
    async def save_hard_state(self, hs: HardState) -> None:
        """Saves term and vote, durably and in order with the log.

        Raises `HardStateRegressionError` if the term falls or the vote changes within its term.
        """

    @abstractmethod
    async def get_log_entries(self, start: int, stop: int) -> list[Entry[D]]:
        """The entries with start <= index < stop that exist, ascending; clipped at both ends, possibly none."""

    @abstractmethod
    async def delete_logs_from(self, start: int, stop: int | None = None) -> None:
        """Deletes [start, stop), or to the end: a suffix, or a prefix that nothing needs (else `InvalidRangeError`)."""

    @abstractmethod
    async def append_entry_to_log(self, entry: Entry[D]) -> None:
        """`replicate_to_log` of one entry."""

    @abstractmethod
    async def replicate_to_log(self, entries: Sequence[Entry[D]]) -> None:
        """Puts the entries in the log at their indexes, all or none.

        What is there with the same term is kept, with the tail after it; another term replaces it and drops
        everything after it, in the same atomic write.  Raises `LogGapError`, `EntryTooLargeError` or another
        `UsageError` before anything is written.
        """

    @abstractmethod
    async def apply_entry_to_state_machine(self, index: int, data: D) -> R | None:
        """Applies one entry and returns the machine's answer.

        An index that was applied already is skipped: the remembered answer if it was the last one, else None.
        Gaps are normal.  Survives a crash once a later frame of the log is durable (`sync_apply`: on return).
        Raises `ApplyError` if the machine raised; the entry is then not applied.
        """

    @abstractmethod
    async def replicate_to_state_machine(self, entries: Sequence[tuple[int, D]]) -> None:
        """Applies `(index, data)` pairs in order, skipping what was applied.  On `ApplyError` the earlier ones stay."""

    @abstractmethod
    async def do_log_compaction(self) -> CurrentSnapshotData[SnapshotReader]:
        """Writes a snapshot of what is applied now and lets the log up to there go, while appends and applies go on.

        Raises `NothingToCompact` or `CompactionSuperseded`, both harmless.
        """

    @abstractmethod
    async def create_snapshot(self) -> tuple[str, SnapshotWriter]:
        """A new id, and a blank writer for the bytes of a peer's snapshot."""

    @abstractmethod
    async def finalize_snapshot_installation(
        self, index: int, term: int, delete_through: int | None, id: str, snapshot: SnapshotWriter
    ) -> None:
        """Makes the received bytes the current snapshot and the machine's state, in one atomic step.

        The log up to and including `delete_through` (None: all of it) gives way to a pointer at `index`.  Raises
        `SnapshotInvalidError` or `SnapshotMismatchError` with the old state intact; a repeated or stale install is a
        success that changes nothing.
        """

    @abstractmethod
    async def get_current_snapshot(self) -> CurrentSnapshotData[SnapshotReader] | None:
        """The current snapshot with a fresh reader, or None if there never was one."""
