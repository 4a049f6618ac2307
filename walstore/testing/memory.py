"""`MemoryStorage`: the whole interface in dicts.  The model that says what a store must do, and a double for tests.

Nothing is durable.  Every rule is written as directly as SEMANTICS states it, and what the store holds changes only
in straight code between two checkpoints, so that a call happens wholly or not at all.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic

import trio

from .._log.container import ContainerError, Verifier, pack
from .._types import (
    CurrentSnapshotData,
    D,
    Entry,
    HardState,
    InitialState,
    MembershipConfig,
    Normal,
    R,
    SnapshotHeader,
    SnapshotPointer,
    check_u64,
)
from ..abc import Codec, RaftStorage, SnapshotReader, SnapshotWriter, StateMachine
from ..errors import (
    ApplyError,
    CompactionSuperseded,
    HardStateRegressionError,
    InvalidRangeError,
    NothingToCompact,
    SnapshotInvalidError,
    SnapshotMismatchError,
    UsageError,
)
from ._memory_log import MemoryLog, MemorySnapshot, size_of
from ._memory_streams import MemorySnapshotReader, MemorySnapshotWriter


class MemoryStorage(RaftStorage[D, R], trio.abc.AsyncResource, Generic[D, R]):
    """A `RaftStorage` that forgets everything when it is closed."""

    def __init__(self, node_id: int, machine: Callable[[], StateMachine[D, R]], codec: Codec[D]) -> None:
        self._node_id = check_u64("node_id", node_id)
        self._make_machine = machine
        self._codec = codec
        self._machine = machine()
        self._hard_state = HardState()
        self._log = MemoryLog(node_id)
        self._last_applied = 0
        self._last_response: R | None = None
        self._writer: MemorySnapshotWriter | None = None  # the one that create_snapshot gave last
        self._finished: tuple[SnapshotWriter, str, int, int] | None = None  # the last install that succeeded
        self._ids = 0
        self._closed = False
        self._compaction_lock = trio.Lock()
        self._install_lock = trio.Lock()

    # What an engine needs beyond the interface.

    @property
    def machine(self) -> StateMachine[D, R]:
        """The live machine.  Another object after an install."""
        return self._machine

    @property
    def current_snapshot(self) -> SnapshotHeader | None:
        """What the current snapshot says of itself."""
        return self._log.snapshot.header if self._log.snapshot else None

    @property
    def first_index(self) -> int:
        """The index of the first entry, the pointer included; 0 for an empty log."""
        return self._log.first_index()

    @property
    def last_index(self) -> int:
        """The index of the last entry, else the snapshot's, else 0."""
        return self._log.last()[0]

    @property
    def last_applied(self) -> int:
        """The highest index that was applied."""
        return self._last_applied

    @property
    def durable_index(self) -> int:
        """The same as `last_index`: the model's memory is its disk."""
        return self.last_index

    def term_of(self, index: int) -> int:
        """The term of an entry, or of the snapshot's last one.  Strict: `CompactedError`, `UnavailableError`."""
        self._check_open()
        return self._log.term_of(index)

    async def entries(self, low: int, high: int, max_bytes: int | None = None) -> list[Entry[D]]:
        """Entries [low, high), strictly; as many as fit `max_bytes` of payload, but at least one."""
        await self._enter()
        found: list[Entry[D]] = []
        size = 0
        for entry in self._log.slice(low, high):
            size += size_of(entry)
            if found and max_bytes is not None and size > max_bytes:
                break
            found.append(self._decoded(entry))
        return found

    # Closing.

    async def aclose(self) -> None:
        """Closes the store.  Silent twice."""
        self._closed = True
        self._drop_writer()
        await trio.lowlevel.checkpoint()

    async def _enter(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            msg = "this store is closed"
            raise trio.ClosedResourceError(msg)

    # Membership, initial state, hard state (SEMANTICS 4, 5, 9.1).

    async def get_membership_config(self) -> MembershipConfig:
        await self._enter()
        return self._log.membership_at(self.last_index)[0]

    async def get_initial_state(self) -> InitialState:
        await self._enter()
        last_index, last_term = self._log.last()
        membership = self._log.membership_at(last_index)[0]
        return InitialState(last_index, last_term, self._last_applied, self._hard_state, membership)

    async def save_hard_state(self, hs: HardState) -> None:
        await self._enter()
        now = self._hard_state
        if hs.current_term < now.current_term:
            msg = f"the term would fall from {now.current_term} to {hs.current_term}"
            raise HardStateRegressionError(msg)
        if hs.current_term == now.current_term and now.voted_for is not None and hs.voted_for != now.voted_for:
            msg = f"the vote of term {now.current_term} would change from {now.voted_for} to {hs.voted_for}"
            raise HardStateRegressionError(msg)
        self._hard_state = hs

    # The log (SEMANTICS 6 to 8).

    async def get_log_entries(self, start: int, stop: int) -> list[Entry[D]]:
        check_u64("start", start)
        check_u64("stop", stop)
        await self._enter()
        return [self._decoded(entry) for index, entry in self._log.entries.items() if start <= index < stop]

    async def append_entry_to_log(self, entry: Entry[D]) -> None:
        await self.replicate_to_log([entry])

    async def replicate_to_log(self, entries: Sequence[Entry[D]]) -> None:
        await self._enter()
        self._log.append([self._encoded(entry) for entry in entries])

    async def delete_logs_from(self, start: int, stop: int | None = None) -> None:
        check_u64("start", start)
        if stop is not None:
            check_u64("stop", stop)
        await self._enter()
        self._log.delete(start, stop, self._last_applied)

    def _decoded(self, entry: Entry[bytes]) -> Entry[D]:
        if isinstance(entry.payload, Normal):
            return Entry(entry.term, entry.index, Normal(self._codec.decode(entry.payload.data)))
        return Entry(entry.term, entry.index, entry.payload)

    def _encoded(self, entry: Entry[D]) -> Entry[bytes]:
        if isinstance(entry.payload, SnapshotPointer):
            msg = f"entry {entry.index} is a snapshot pointer: these are only read, never appended"
            raise UsageError(msg)
        if isinstance(entry.payload, Normal):
            return Entry(entry.term, entry.index, Normal(bytes(self._codec.encode(entry.payload.data))))
        return Entry(entry.term, entry.index, entry.payload)

    # Applying (SEMANTICS 9.2, PROTOCOL B12).

    async def apply_entry_to_state_machine(self, index: int, data: D) -> R | None:
        await self._enter()
        self._check_logged(index, data)
        return self._apply(index, data)

    async def replicate_to_state_machine(self, entries: Sequence[tuple[int, D]]) -> None:
        await self._enter()
        for index, data in entries:
            self._check_logged(index, data)
        for index, data in entries:
            self._apply(index, data)

    def _check_logged(self, index: int, data: D) -> None:
        """What is about to be applied is what the log has at `index`, if that is a Normal entry."""
        if check_u64("index", index) == 0:
            msg = "index 0 means none: it can not be applied"
            raise UsageError(msg)
        payload = self._log.entries[index].payload if index in self._log.entries else None
        if index > self._last_applied and isinstance(payload, Normal) and payload.data != self._codec.encode(data):
            msg = f"the log has other data at entry {index}"
            raise UsageError(msg)

    def _apply(self, index: int, data: D) -> R | None:
        if index <= self._last_applied:
            return self._last_response if index == self._last_applied else None
        try:
            response = self._machine.apply(index, data)
        except Exception as error:
            raise ApplyError(index, error) from error
        self._last_applied = index
        self._last_response = response
        return response

    # Compaction (SEMANTICS 9.3).

    async def do_log_compaction(self) -> CurrentSnapshotData[SnapshotReader]:
        await self._enter()
        async with self._compaction_lock:
            self._check_open()
            if self._last_applied == 0:
                msg = "nothing has been applied yet"
                raise NothingToCompact(msg)
            current = self._log.snapshot
            if current is None or current.header.index != self._last_applied:
                current = await self._compact(self._last_applied)
            return _opened(current)

    async def _compact(self, index: int) -> MemorySnapshot:
        if index not in self._log.entries:
            msg = f"entry {index}, the last that was applied, is no longer in the log"
            raise CompactionSuperseded(msg)
        term = self._log.entries[index].term
        membership, membership_index = self._log.membership_at(index)
        header = SnapshotHeader(self._new_id(), term, index, membership, membership_index)
        view = self._machine.capture()
        try:
            data = await trio.to_thread.run_sync(lambda: b"".join(pack(header, view.chunks())))
        finally:
            view.close()
        self._check_open()
        if index <= self._log.boundary()[0] or index not in self._log.entries or self._log.term_of(index) != term:
            msg = f"entry {index} was truncated, or a newer snapshot installed, while its snapshot was made"
            raise CompactionSuperseded(msg)
        snapshot = MemorySnapshot(header, data)
        self._log.commit_snapshot(snapshot, keep_above=True)
        return snapshot

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._node_id}-{self._ids}"

    # Snapshots as streams, and their installation (SEMANTICS 10).

    async def get_current_snapshot(self) -> CurrentSnapshotData[SnapshotReader] | None:
        await self._enter()
        return _opened(self._log.snapshot) if self._log.snapshot else None

    async def create_snapshot(self) -> tuple[str, SnapshotWriter]:
        await self._enter()
        self._drop_writer()
        self._writer = MemorySnapshotWriter(self._new_id())
        return self._writer.id, self._writer

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.drop()
            self._writer = None

    async def finalize_snapshot_installation(
        self, index: int, term: int, delete_through: int | None, id: str, snapshot: SnapshotWriter
    ) -> None:
        _check_install(index, term, delete_through)
        await self._enter()
        async with self._install_lock:
            self._check_open()
            call = (snapshot, id, index, term)
            if self._finished == call:
                return  # the first one was slow, and the leader has repeated it
            writer = self._writer
            if writer is None or writer.data is None or snapshot is not writer or id != writer.id:
                msg = "not the id and the writer that create_snapshot gave last"
                raise UsageError(msg)
            try:
                await self._install(index, term, delete_through, bytes(writer.data))
            finally:
                writer.drop()
            self._finished = call

    async def _install(self, index: int, term: int, delete_through: int | None, data: bytes) -> None:
        if not data and self._log.boundary() == (index, term):
            return  # the last, empty chunk of a stream that was installed already
        received, payload = _verified(data)
        if (received.header.index, received.header.term) != (index, term):
            found = (received.header.index, received.header.term)
            msg = f"this snapshot ends at (index, term) {found}, not at {(index, term)}"
            raise SnapshotMismatchError(msg)
        if self._is_stale(index, term):
            return
        machine = self._make_machine()
        await trio.to_thread.run_sync(partial(machine.restore, [payload]))
        self._check_open()
        if self._is_stale(index, term):
            return
        same_history = index in self._log.entries and self._log.term_of(index) == term
        self._log.commit_snapshot(received, keep_above=delete_through is not None and same_history)
        if index > self._last_applied:
            self._machine = machine
            self._last_applied = index
            self._last_response = None

    def _is_stale(self, index: int, term: int) -> bool:
        """Whether the store is that far already; SnapshotMismatchError if it came there by another history."""
        floor, floor_term = self._log.boundary()
        known = floor_term if index == floor else None
        if floor < index <= self._last_applied and index in self._log.entries:
            known = self._log.term_of(index)
        if known is not None and known != term:
            msg = f"entry {index} has term {known} and is applied: a snapshot with term {term} contradicts it"
            raise SnapshotMismatchError(msg)
        return index <= floor


def _opened(snapshot: MemorySnapshot) -> CurrentSnapshotData[SnapshotReader]:
    header = snapshot.header
    reader = MemorySnapshotReader(header, snapshot.data)
    return CurrentSnapshotData(header.term, header.index, header.membership, reader)


def _check_install(index: int, term: int, delete_through: int | None) -> None:
    check_u64("index", index, 1)
    check_u64("term", term)
    if delete_through is not None and check_u64("delete_through", delete_through) > index:
        msg = f"delete_through {delete_through} is above the snapshot's index {index}: that would leave a hole"
        raise InvalidRangeError(msg)


def _verified(data: bytes) -> tuple[MemorySnapshot, bytes]:
    """The snapshot in these bytes, cut at its own end, and the machine's part of it."""
    verifier = Verifier()
    try:
        payload = b"".join(verifier.feed(data))
        verifier.finish()
    except ContainerError as error:
        msg = f"the received snapshot does not prove itself: {error}"
        raise SnapshotInvalidError(msg) from error
    assert verifier.header is not None
    return MemorySnapshot(verifier.header, data[: verifier.size]), payload
