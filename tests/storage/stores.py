"""Opening stores on simulated disks, and the few words that the tests of the roof share."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from walstore import (
    Entry,
    MembershipConfig,
    Normal,
    SnapshotHeader,
    StateMachine,
    Storage,
    StorageConfig,
    open_storage,
)
from walstore._log.container import pack
from walstore.abc import FileSystem
from walstore.kv import Command, KeyValue, KeyValueCodec, Put
from walstore.testing.simulated import SimulatedFileSystem

PATH = "/store"
SMALL: dict[str, Any] = {
    "first_segment_size": 4096,
    "segment_size": 4096,
    "commit_align": 512,
    "prepare_ahead": False,
}
Store = Storage[Command, Any]


@asynccontextmanager
async def opened(
    filesystem: FileSystem,
    *,
    node_id: int = 1,
    machine: Callable[[], StateMachine[Command, Any]] = KeyValue,
    expect_durable: Any = None,
    **config: Any,
) -> AsyncIterator[Store]:
    """The store on that disk, with small segments and nothing done behind the test's back."""
    async with open_storage(
        PATH,
        node_id=node_id,
        machine=machine,
        codec=KeyValueCodec(),
        config=StorageConfig(**{**SMALL, **config}),
        expect_durable=expect_durable,
        filesystem=filesystem,
    ) as store:
        yield store


def put(term: int, index: int, size: int = 8) -> Entry[Command]:
    """An entry that sets the key of its index to its term."""
    return Entry(term, index, Normal(Put(b"k%d" % index, b"%d" % term * size)))


def puts(term: int, start: int, stop: int, size: int = 8) -> list[Entry[Command]]:
    """Such entries at [start, stop)."""
    return [put(term, index, size) for index in range(start, stop)]


async def apply(store: Store, start: int, stop: int) -> None:
    """Applies the Normal entries of the log at [start, stop)."""
    entries = await store.get_log_entries(start, stop)
    pairs = [(entry.index, entry.payload.data) for entry in entries if isinstance(entry.payload, Normal)]
    await store.replicate_to_state_machine(pairs)


async def compact(store: Store) -> None:
    """One compaction."""
    await (await store.do_log_compaction()).snapshot.aclose()


def snapshot_bytes(term: int, index: int, key: bytes = b"peer") -> bytes:
    """The bytes of a peer's snapshot."""
    machine = KeyValue()
    machine.apply(index, Put(key, b"%d" % index))
    header = SnapshotHeader(f"{term}-{index}", term, index, MembershipConfig({1, 2, 3}), 1)
    return b"".join(pack(header, machine.capture().chunks()))


async def install(store: Store, term: int, index: int, through: int | None, data: bytes | None = None) -> None:
    """Receives and installs a peer's snapshot."""
    id, writer = await store.create_snapshot()
    await writer.send_all(snapshot_bytes(term, index) if data is None else data)
    await writer.aclose()
    await store.finalize_snapshot_installation(index, term, through, id, writer)


async def identities(store: Store) -> list[tuple[int, int]]:
    """(term, index) of all entries, the pointer included."""
    return [(entry.term, entry.index) for entry in await store.get_log_entries(0, 2**64 - 1)]


def names(disk: SimulatedFileSystem, prefix: str = "") -> list[str]:
    """The names in the store's directory."""
    directory = disk.open_directory(PATH, create=False)
    found = [name for name in directory.names() if name.startswith(prefix)]
    directory.close()
    return found


def read(disk: SimulatedFileSystem, name: str) -> bytes:
    """The bytes of a file."""
    directory = disk.open_directory(PATH, create=False)
    file = directory.open(name)
    data = file.pread(0, file.size())
    file.close()
    directory.close()
    return data


def write(disk: SimulatedFileSystem, name: str, data: bytes) -> None:
    """Puts a file in the place of what had the name, durably."""
    directory = disk.open_directory(PATH, create=True)
    if name in directory.names():
        directory.unlink(name)
    file = directory.create(name)
    file.pwritev(0, [data])
    file.datasync()
    file.close()
    directory.sync()
    directory.close()


def remove(disk: SimulatedFileSystem, name: str) -> None:
    """Removes a file, durably."""
    directory = disk.open_directory(PATH, create=False)
    directory.unlink(name)
    directory.sync()
    directory.close()
