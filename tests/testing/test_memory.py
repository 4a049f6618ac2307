"""What of `MemoryStorage` no conformance case asks for: its streams, its strict reads, misuse and races."""

from collections.abc import AsyncIterator

import pytest
import trio

from walstore import (
    CompactedError,
    CompactionSuperseded,
    Entry,
    EntryTooLargeError,
    HardState,
    Normal,
    SnapshotInvalidError,
    UnavailableError,
    UsageError,
)
from walstore._log.limits import MAX_ENTRY_BYTES
from walstore.testing.conformance._kit import (
    compact,
    e,
    install,
    log_and_apply,
    m,
    n,
    normals,
    r,
    read_all,
    snapshot_bytes,
)
from walstore.testing.conformance._machines import Gate
from walstore.testing.kit import ClientRequest, ClientResponse, KitCodec, KitMachine
from walstore.testing.memory import MemoryStorage

Store = MemoryStorage[ClientRequest, ClientResponse]


def make_store(node_id: int = 0) -> Store:
    return MemoryStorage(node_id, KitMachine, KitCodec())


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with make_store() as store:
        yield store


async def peer_snapshot(index: int, term: int = 1) -> bytes:
    """The bytes of a snapshot that another store made."""
    async with make_store() as peer:
        await log_and_apply(peer, [m(term, 1, {1, 2}), *normals(term, 2, index + 1)])
        await compact(peer)
        return await snapshot_bytes(peer)


@pytest.mark.parametrize("node_id", [-1, 2**64])
def test_node_id_is_an_unsigned_64_bit_number(node_id: int) -> None:
    """A node id out of range is refused."""
    with pytest.raises(ValueError, match="node_id"):
        make_store(node_id)


async def test_entries_are_copies(store: Store) -> None:
    """Each read decodes anew: two reads share no data object, and what was appended is not what is read."""
    data = r(1)
    await store.append_entry_to_log(Entry(1, 1, Normal(data)))
    (first,) = await store.get_log_entries(1, 2)
    (second,) = await store.get_log_entries(1, 2)
    assert isinstance(first.payload, Normal)
    assert isinstance(second.payload, Normal)
    assert first.payload.data == data
    assert first.payload.data is not data
    assert first.payload.data is not second.payload.data


async def test_strict_reads(store: Store) -> None:
    """Strict reads give all that was asked for, within the limit of bytes at least one entry, or raise."""
    assert store.term_of(0) == 0
    await log_and_apply(store, [*normals(1, 1, 4), *normals(2, 4, 7)])
    assert [entry.index for entry in await store.entries(2, 5)] == [2, 3, 4]
    assert [entry.index for entry in await store.entries(2, 5, max_bytes=1)] == [2]
    assert await store.entries(5, 2) == []
    assert (store.first_index, store.last_index, store.durable_index, store.last_applied) == (1, 6, 6, 6)
    with pytest.raises(UnavailableError):
        await store.entries(5, 8)
    await store.append_entry_to_log(e(2, 7))
    await compact(store)
    assert store.first_index == 6
    assert (store.term_of(6), store.term_of(7)) == (2, 2)
    with pytest.raises(CompactedError):
        store.term_of(5)
    with pytest.raises(CompactedError):
        await store.entries(5, 7)
    with pytest.raises(UnavailableError):
        store.term_of(8)


async def test_limits_are_kept(store: Store) -> None:
    """An entry above the limit and an index that nothing could follow are refused before anything is stored."""
    big = ClientRequest("c", 1, "x" * MAX_ENTRY_BYTES)
    with pytest.raises(EntryTooLargeError):
        await store.replicate_to_log([n(1, 1), n(1, 2, big)])
    with pytest.raises(UsageError):
        await store.append_entry_to_log(e(1, 2**64 - 1))
    assert store.last_index == 0


async def test_cancelled_call_did_not_happen(store: Store) -> None:
    """A call under a cancelled scope changes nothing."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.save_hard_state(HardState(1, 0))
    assert (await store.get_initial_state()).hard_state == HardState(0, None)


async def test_close_is_silent_twice(store: Store) -> None:
    """A second close does nothing; a call after it raises."""
    await store.aclose()
    await store.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await store.get_membership_config()


async def test_reader_seeks_and_ends(store: Store) -> None:
    """A reader gives the same bytes from any offset, nothing at and beyond its end, and nothing once it is closed."""
    await log_and_apply(store, normals(1, 1, 4))
    reader = (await store.do_log_compaction()).snapshot
    data = await read_all(reader, 7)
    assert len(data) == reader.size == reader.tell()
    assert await reader.receive_some() == b""
    reader.seek(3)
    assert await reader.receive_some(5) == data[3:8]
    reader.seek(len(data) + 10)
    assert await reader.receive_some(5) == b""
    with pytest.raises(ValueError):
        await reader.receive_some(0)
    with pytest.raises(ValueError):
        reader.seek(-1)
    await reader.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await reader.receive_some(1)


async def test_writer_takes_bytes_in_any_order(store: Store) -> None:
    """Chunks may be written again, and out of order over a hole; what counts is the bytes in the end."""
    data = await peer_snapshot(4)
    id, writer = await store.create_snapshot()
    await writer.wait_send_all_might_not_block()
    writer.seek(100)
    await writer.send_all(data[100:])
    assert writer.tell() == len(data)
    writer.seek(50)
    await writer.send_all(b"")
    await writer.send_all(data[50:120])
    writer.seek(0)
    await writer.send_all(data[:50])
    await writer.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await writer.send_all(b"more")
    await store.finalize_snapshot_installation(4, 1, None, id, writer)
    assert await snapshot_bytes(store) == data


async def test_hole_is_zeros(store: Store) -> None:
    """What was never written below what was is zeros, so that the rest stands at its own offset."""
    data = await peer_snapshot(4)
    assert data[3500:4096] == bytes(596)  # the padding of the container's header
    id, writer = await store.create_snapshot()
    await writer.send_all(data[:3500])
    writer.seek(4096)
    await writer.send_all(data[4096:])
    await store.finalize_snapshot_installation(4, 1, None, id, writer)
    assert await snapshot_bytes(store) == data


async def test_only_the_latest_writer_counts(store: Store) -> None:
    """A new writer, an install and the close discard the writer before: it is neither written nor installed."""
    data = await peer_snapshot(4)
    old_id, old = await store.create_snapshot()
    new_id, new = await store.create_snapshot()
    assert old_id != new_id
    with pytest.raises(trio.ClosedResourceError):
        await old.send_all(data)
    with pytest.raises(UsageError):
        await store.finalize_snapshot_installation(4, 1, None, old_id, old)
    await new.send_all(b"not a snapshot")
    with pytest.raises(SnapshotInvalidError):
        await store.finalize_snapshot_installation(4, 1, None, new_id, new)
    with pytest.raises(trio.ClosedResourceError):
        await new.send_all(data)
    _, last = await store.create_snapshot()
    await store.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await last.send_all(data)


async def test_writer_of_another_store_is_refused(store: Store) -> None:
    """The id is not enough: the writer has to be the one that this store gave."""
    data = await peer_snapshot(4)
    async with make_store() as other:
        foreign_id, foreign = await other.create_snapshot()
        await foreign.send_all(data)
        id, own = await store.create_snapshot()
        assert foreign_id == id
        with pytest.raises(UsageError):
            await store.finalize_snapshot_installation(4, 1, None, id, foreign)
        with pytest.raises(UsageError):
            await store.finalize_snapshot_installation(4, 1, None, f"{id}x", own)
    assert await store.get_current_snapshot() is None
    await own.send_all(data)  # still good
    await own.discard()
    with pytest.raises(UsageError):
        await store.finalize_snapshot_installation(4, 1, None, id, own)


async def test_compaction_is_superseded() -> None:
    """A truncation, or an install, during a compaction makes its result void; afterwards a compaction works again."""
    data = await peer_snapshot(9)
    gate = Gate(restores=False)
    async with MemoryStorage(0, gate.machine, KitCodec()) as store, trio.open_nursery() as nursery:
        await log_and_apply(store, normals(1, 1, 6))

        async def superseded() -> None:
            with pytest.raises(CompactionSuperseded):
                await store.do_log_compaction()

        with gate.shut():
            nursery.start_soon(superseded)
            await gate.wait_for_arrival()
            await store.delete_logs_from(4)
        async with trio.open_nursery() as inner:
            inner.start_soon(superseded)  # the applied entry is not in the log any more
        await store.replicate_to_log(normals(1, 4, 7))
        await store.apply_entry_to_state_machine(6, r(6))
        with gate.shut():
            nursery.start_soon(superseded)
            await gate.wait_for_arrival()
            await install(store, data, 9, 1)
    assert store.current_snapshot is not None
    assert store.current_snapshot.index == 9


async def test_closed_while_compacting() -> None:
    """A compaction that finds the store closed raises ClosedResourceError and has changed nothing."""
    gate = Gate()
    store = MemoryStorage(0, gate.machine, KitCodec())
    await log_and_apply(store, normals(1, 1, 6))
    async with trio.open_nursery() as nursery:

        async def closed() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await store.do_log_compaction()

        with gate.shut():
            nursery.start_soon(closed)
            await gate.wait_for_arrival()
            await store.aclose()
    assert store.current_snapshot is None


async def test_concurrent_compactions_give_one_snapshot(store: Store) -> None:
    """Two compactions at once of the same applied index give the same snapshot."""
    await log_and_apply(store, normals(1, 1, 6))
    ids: list[str] = []

    async def one() -> None:
        async with (await store.do_log_compaction()).snapshot as reader:
            ids.append(reader.header.id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    assert len(ids) == 2
    assert len(set(ids)) == 1
