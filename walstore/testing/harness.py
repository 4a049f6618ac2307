"""walstore's own harness for the conformance kit: a store on a simulated disk.

Segments are small and everything is done where it is asked for (`prepare_ahead=False`), so that a run is deterministic
and a crash drops exactly what was not synced.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import trio

from .._config import StorageConfig
from .._disk.seam import Directory, FileSystem
from .._log.batch import EntryKind, encode_batch
from .._log.checksum import crc
from .._log.container import pack
from .._log.control import SnapshotBody, SnapshotRecord
from .._log.draft import Draft
from .._log.frame import Kind
from .._log.identity import Identity
from .._log.names import snapshot_name
from .._log.state import LogState
from .._open import write_identity
from .._opener import open_storage
from .._segments import SegmentMaker
from .._storage import Storage
from .._types import MembershipConfig, SnapshotHeader
from ..abc import Codec
from .kit import (
    KIT_CODEC,
    NO_CONFIG,
    ClientRequest,
    ClientResponse,
    Harness,
    KitMachine,
    MachineFactory,
    Store,
)
from .simulated import SimulatedFileSystem

_SMALL: Mapping[str, object] = {
    "first_segment_size": 16384,
    "segment_size": 65536,
    "commit_align": 512,
    "prepare_ahead": False,
}

_Opened: TypeAlias = AbstractAsyncContextManager[Storage[ClientRequest, ClientResponse]]


class WalstoreHarness(Harness):
    """A walstore directory on a simulated disk."""

    can = frozenset({"reopen", "crash", "disk"})

    disk: SimulatedFileSystem

    def __init__(self) -> None:
        self.disk = SimulatedFileSystem()
        self._open: list[_Opened] = []

    async def open(
        self,
        *,
        node_id: int = 0,
        machine: MachineFactory = KitMachine,
        codec: Codec[ClientRequest] = KIT_CODEC,
        config: Mapping[str, object] = NO_CONFIG,
        expect_durable: int | None = None,
        filesystem: FileSystem | None = None,
    ) -> Store:
        """Opens a store in the directory."""
        manager = open_storage(
            self.path,
            node_id=node_id,
            machine=machine,
            codec=codec,
            config=StorageConfig(**{**_SMALL, **config}),  # type: ignore[arg-type]  # settings by name
            expect_durable=expect_durable,
            filesystem=filesystem or self.filesystem or self.disk,
        )
        store = await manager.__aenter__()
        self._open.append(manager)
        return store

    async def close(self) -> None:
        """Closes what is open, the latest first."""
        while self._open:
            await self._open.pop().__aexit__(None, None, None)

    async def crash(self) -> None:
        """Goes on with what of the disk was synced.  The old handle goes on with the old disk, and is closed there."""
        self.disk = self.disk.crash_keeping_nothing()
        self.filesystem = None
        await self.close()

    async def forge_inverted(self, *, log_last: tuple[int, int], snapshot: tuple[int, int]) -> None:
        """Writes a directory whose log and snapshot contradict each other."""
        await trio.to_thread.run_sync(self._forge, log_last, snapshot)

    def _forge(self, log_last: tuple[int, int], snapshot: tuple[int, int]) -> None:
        directory = self.disk.open_directory(self.path, create=True)
        try:
            uuid = self.disk.random_bytes(16)
            maker = SegmentMaker(self.disk, directory, StorageConfig(prepare_ahead=False), 0, uuid)
            last_term, last_index = log_last
            terms = [1] * (last_index - 1) + [last_term]
            entries, _ = encode_batch(
                1, terms, bytes([EntryKind.BLANK]) * last_index, [b""] * last_index, mark=None, overwrite=False
            )
            record = _write_snapshot(directory, *snapshot)
            body = SnapshotBody(
                record=record,
                first_index=record.header.index,
                last_index=max(last_index, record.header.index),
                last_term=last_term,
                keep_suffix=True,
                mark=record.header.index,
                first_needed=1,
            )
            taken = Draft(Kind.SNAPSHOT, (body.encode(),), first_index=record.header.index, term=record.header.term)
            file = maker.blank("spare-0.tmp", 1 << 20)
            maker.bear(
                file,
                "spare-0.tmp",
                1 << 20,
                sequence=1,
                start=0,
                summary=LogState(0).summary(),
                predecessor=None,
                drafts=(entries, taken),
            ).file.close()
            write_identity(directory, Identity(node_id=0, store_uuid=uuid, created_ns=0))
        finally:
            directory.close()


def _write_snapshot(directory: Directory, term: int, index: int) -> SnapshotRecord:
    header = SnapshotHeader(f"{term}-{index}", term, index, MembershipConfig({3, 4, 5}))
    state = b"".join(KitMachine().capture().chunks())
    data = b"".join(pack(header, [state]))
    file = directory.create(snapshot_name(term, index))
    file.pwritev(0, (data,))
    file.datasync()
    file.close()
    directory.sync()
    return SnapshotRecord(header, len(data), crc(data))
