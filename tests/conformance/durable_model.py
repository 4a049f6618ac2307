"""A model that outlives its handle: `MemoryStorage` over state that a harness keeps, by the rules of the applied mark.

With it the kit's cases run reopened and crashed before any byte is on a disk: what a case expects after a turn is held
against PROTOCOL A7 to A9 as directly as they can be written down.  Every call but an apply is durable on return, so
that a crash differs from a close in the mark alone.
"""

from collections.abc import Callable, Mapping, Sequence

from walstore import CurrentSnapshotData, Entry, HardState, NodeIdMismatchError, Normal, StorageLockedError
from walstore._log.container import Verifier
from walstore.abc import Codec, SnapshotReader, SnapshotWriter, StateMachine
from walstore.testing._memory_log import MemoryLog
from walstore.testing.kit import KIT_CODEC, NO_CONFIG, ClientRequest, ClientResponse, Harness, KitMachine, Store
from walstore.testing.memory import MemoryStorage

Factory = Callable[[], StateMachine[ClientRequest, ClientResponse]]


class Kept:
    """What is in the directory."""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.log = MemoryLog(node_id)
        self.hard_state = HardState()
        self.mark = 0  # the effective applied mark, as of the last durable frame


class DurableModel(MemoryStorage[ClientRequest, ClientResponse]):
    """One handle on a `Kept`."""

    def __init__(self, kept: Kept, machine: Factory, codec: Codec[ClientRequest], *, sync_apply: bool) -> None:
        super().__init__(kept.node_id, machine, codec)
        self._kept = kept
        self._sync_apply = sync_apply
        self._log = kept.log
        self._hard_state = kept.hard_state
        self._mark = kept.mark
        self._rebuild()

    def _rebuild(self) -> None:
        """The snapshot, then the Normal entries above it up to the mark (A8: only what was rebuilt is applied)."""
        if self._log.snapshot is not None:
            verifier = Verifier()
            payload = b"".join(verifier.feed(self._log.snapshot.data))
            self._machine.restore([payload])
            self._last_applied = self._log.boundary()[0]
        for index, entry in self._log.entries.items():
            if self._last_applied < index <= self._mark and isinstance(entry.payload, Normal):
                self._machine.apply(index, self._codec.decode(entry.payload.data))
                self._last_applied = index

    def _frame(self, *, cut: int | None = None) -> None:
        """A frame is durable; it carries the mark.  `cut`: what was at and above this index went (A7)."""
        if cut is not None:
            self._mark = min(self._mark, max(cut, 1) - 1)
        self._mark = max(min(self._mark, self.last_index), self._log.boundary()[0])
        self._kept.mark = self._mark
        self._kept.hard_state = self._hard_state

    async def save_hard_state(self, hs: HardState) -> None:
        before = self._hard_state
        await super().save_hard_state(hs)
        if hs != before:
            self._frame()

    async def replicate_to_log(self, entries: Sequence[Entry[ClientRequest]]) -> None:
        before = dict(self._log.entries)
        await super().replicate_to_log(entries)
        changed = [index for index, entry in before.items() if self._log.entries.get(index) is not entry]
        if changed or len(before) != len(self._log.entries):
            self._frame(cut=min(changed, default=None))

    async def delete_logs_from(self, start: int, stop: int | None = None) -> None:
        before = list(self._log.entries)
        await super().delete_logs_from(start, stop)
        gone = [index for index in before if index not in self._log.entries]
        if gone:
            self._frame(cut=gone[0] if gone[-1] == before[-1] else None)

    async def apply_entry_to_state_machine(self, index: int, data: ClientRequest) -> ClientResponse | None:
        try:
            return await super().apply_entry_to_state_machine(index, data)
        finally:
            self._applied()

    async def replicate_to_state_machine(self, entries: Sequence[tuple[int, ClientRequest]]) -> None:
        try:
            await super().replicate_to_state_machine(entries)
        finally:
            self._applied()

    def _apply(self, index: int, data: ClientRequest) -> ClientResponse | None:
        before = self._last_applied
        response = super()._apply(index, data)
        if index > before:
            self._mark = max(self._mark, index)
        return response

    def _applied(self) -> None:
        if self._sync_apply:
            self._frame()

    async def do_log_compaction(self) -> CurrentSnapshotData[SnapshotReader]:
        built = await super().do_log_compaction()
        self._frame()
        return built

    async def finalize_snapshot_installation(
        self, index: int, term: int, delete_through: int | None, id: str, snapshot: SnapshotWriter
    ) -> None:
        await super().finalize_snapshot_installation(index, term, delete_through, id, snapshot)
        self._frame()

    async def aclose(self) -> None:
        if not self._closed:
            self._frame()
        await super().aclose()

    def vanish(self) -> None:
        """The process is gone, and with it what no frame carried."""
        self._closed = True


class DurableHarness(Harness):
    """Keeps what a `DurableModel` holds between its handles."""

    can = frozenset({"reopen", "crash"})
    store: type[DurableModel] = DurableModel

    def __init__(self) -> None:
        self._kept: Kept | None = None
        self._handle: DurableModel | None = None

    async def open(
        self,
        *,
        node_id: int = 0,
        machine: Factory = KitMachine,
        codec: Codec[ClientRequest] = KIT_CODEC,
        config: Mapping[str, object] = NO_CONFIG,
    ) -> Store:
        if self._handle is not None:
            raise StorageLockedError
        if self._kept is None:
            self._kept = Kept(node_id)
        if self._kept.node_id != node_id:
            raise NodeIdMismatchError
        self._handle = self.store(self._kept, machine, codec, sync_apply=config.get("sync_apply") is True)
        return self._handle

    @property
    def is_open(self) -> bool:
        """Whether there is a handle that was neither closed nor lost."""
        return self._handle is not None

    async def close(self) -> None:
        if self._handle is not None:
            await self._handle.aclose()
            self._handle = None

    async def crash(self) -> None:
        if self._handle is not None:
            self._handle.vanish()
            self._handle = None
