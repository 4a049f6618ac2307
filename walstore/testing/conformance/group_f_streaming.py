"""openraft, tests/tests/snapshot_streaming and snapshot_transport: snapshots on their way to another node."""

from ..._types import ConfigChange, Entry
from ...errors import SnapshotInvalidError
from ._kit import (
    Lab,
    blanks,
    case,
    current_snapshot,
    e,
    expect,
    expect_log,
    expect_no_snapshot,
    expect_pointer,
    expect_snapshot,
    expect_state,
    expect_true,
    install,
    log_and_apply,
    m,
    make_snapshot,
    n,
    normals,
    r,
    read_all,
    refused,
    send,
    snapshot_bytes,
)
from ._machines import expect_machine


@case("F-01")
async def refuses_streams_with_a_hole_or_of_two_snapshots(lab: Lab) -> None:
    """A stream with a hole, or pieced together from two snapshots, is refused whole; a new stream starts clean."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 4))
    data = await make_snapshot(lab, 9, 2, {1, 2})
    other = await make_snapshot(lab, 9, 2, {1, 2}, [r(9, "of another leader")])

    id, writer = await store.create_snapshot()
    await writer.send_all(data[:3])
    writer.seek(8)
    await writer.send_all(data[8:])
    with refused(SnapshotInvalidError):
        await store.finalize_snapshot_installation(9, 2, None, id, writer)

    id, writer = await store.create_snapshot()
    await writer.send_all(data[2:])  # the first chunk was sent for offset 2
    with refused(SnapshotInvalidError):
        await store.finalize_snapshot_installation(9, 2, None, id, writer)

    id, writer = await send(store, data[:-60] + other[-60:])
    with refused(SnapshotInvalidError):
        await store.finalize_snapshot_installation(9, 2, None, id, writer)

    await expect_no_snapshot(store)
    await expect_log(store, normals(1, 1, 4))
    expect_machine(lab, range(1, 4))

    await install(store, data, 9, 2)
    store = await lab.turn()
    await expect_log(store, [(2, 9)])
    expect_machine(lab, [9])
    expect(await snapshot_bytes(store), data, "the bytes of the installed snapshot")


@case("F-04")
async def keeps_no_trailing_entries(lab: Lab) -> None:
    """Compaction and install both leave the pointer and nothing below it."""
    follower = lab.another()
    leader_store = await lab.open()
    await log_and_apply(leader_store, normals(1, 1, 11))
    await (await leader_store.do_log_compaction()).snapshot.aclose()
    data = await snapshot_bytes(leader_store)
    store = await follower.open()
    await store.replicate_to_log(normals(1, 1, 6))
    await install(store, data, 10, 1)
    for each in (lab, follower):
        store = await each.turn()
        await expect_log(store, [(1, 10)])
        await expect_pointer(store, 1, 10)


@case("F-05")
async def installed_membership_overrides_the_log(lab: Lab) -> None:
    """The membership of an installed snapshot replaces one that only the deleted log had."""
    store = await lab.open()
    await store.replicate_to_log([m(1, 1, {2, 3})])
    await install(store, await make_snapshot(lab, 5, 2, {0}), 5, 2)
    store = await lab.turn()
    await expect_state(store, last=(2, 5), membership={0})
    await expect_snapshot(store, 2, 5, {0})
    await expect_pointer(store, 2, 5, {0})


@case("F-06")
async def second_compaction_keeps_the_membership(lab: Lab) -> None:
    """A compaction after which no membership entry came takes the membership from the pointer."""
    store = await lab.open()
    await log_and_apply(store, [m(1, 1, {1, 2, 3}), *normals(1, 2, 4)])
    await (await store.do_log_compaction()).snapshot.aclose()
    await log_and_apply(store, normals(1, 4, 7))
    built = await store.do_log_compaction()
    expect(built.membership.members, {1, 2, 3}, "the members that the second snapshot names")
    await built.snapshot.aclose()
    store = await lab.turn()
    await expect_snapshot(store, 1, 6, {1, 2, 3})
    await expect_state(store, membership={1, 2, 3})


@case("F-07")
async def install_deletes_conflicting_entries(lab: Lab) -> None:
    """A suffix that follows an entry of another term than the snapshot's goes, and its membership with it."""
    store = await lab.open()
    log = blanks(1, 1, 13)
    log[2], log[11] = m(1, 3, {2, 3}), m(1, 12, {4, 5})
    await store.replicate_to_log(log)
    await install(store, await make_snapshot(lab, 10, 5, {0}), 10, 5, delete_through=10)
    store = await lab.turn()
    await expect_log(store, [(5, 10)])
    await expect_pointer(store, 5, 10, {0})
    await expect_state(store, last=(5, 10), applied=10, membership={0})


@case("F-09")
async def chunk_size_does_not_matter(lab: Lab) -> None:
    """Chunks of one byte, of ten, of an exact divisor and of more than everything install the same snapshot."""
    data = await make_snapshot(lab, 9, 2, {1, 2}, [r(8), r(9)])
    divisor = next(size for size in range(64, len(data) + 1) if len(data) % size == 0)
    for size in (1, 10, divisor, len(data) + 1):
        node = lab.another()
        store = await node.open()
        id, writer = await store.create_snapshot()
        dribbled = min(len(data), 40 * size)  # forty chunks of this size show as much as thousands
        step = size
        position = 0
        while position < len(data):
            piece = data[position : position + step]
            await writer.send_all(piece)
            position += len(piece)
            if position >= dribbled:
                step = len(data)
        await writer.send_all(b"")
        await writer.aclose()
        await store.finalize_snapshot_installation(9, 2, None, id, writer)
        store = await node.turn()
        async with (await current_snapshot(store)).snapshot as reader:
            head = b"".join([bytes(await reader.receive_some(size)) for _ in range(3)])
            expect(head + await read_all(reader), data, f"the snapshot sent in chunks of {size}")
        expect_machine(node, [8, 9])
        await expect_log(store, [(2, 9)])


@case("F-10")
async def range_below_the_floor_shows_the_pointer(lab: Lab) -> None:
    """Who asks for a compacted entry sees the pointer in the answer, and finds the snapshot that covers it."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 11))
    await store.replicate_to_state_machine([(index, r(index)) for index in range(1, 9)])
    await (await store.do_log_compaction()).snapshot.aclose()
    store = await lab.turn()
    found = await store.get_log_entries(3, 11)
    expect([(entry.term, entry.index) for entry in found], [(1, 8), (1, 9), (1, 10)], "the answer")
    await expect_pointer(store, 1, 8)
    async with (await current_snapshot(store)).snapshot as reader:
        expect_true(reader.header.index >= 3, "the snapshot covers what was asked for")


@case("F-11")
async def next_entry_follows_an_installed_snapshot(lab: Lab) -> None:
    """After an install at S the log takes S+1, and reads it back behind the pointer."""
    store = await lab.open()
    await install(store, await make_snapshot(lab, 10, 2, {0, 1}), 10, 2)
    await store.append_entry_to_log(n(2, 11))
    store = await lab.turn()
    found = await store.get_log_entries(10, 12)
    expect([(entry.term, entry.index) for entry in found], [(2, 10), (2, 11)], "the pointer and the next entry")
    expect(found[1], n(2, 11), "the next entry")
    await expect_state(store, last=(2, 11), applied=10)


@case("F-13")
async def reader_starts_over_when_told(lab: Lab) -> None:
    """A reader that is sent back to offset 0 in mid-stream yields the same bytes again."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 4))
    built = await store.do_log_compaction()
    await built.snapshot.aclose()
    store = await lab.turn()
    async with (await current_snapshot(store)).snapshot as reader:
        first = [bytes(await reader.receive_some(1)) for _ in range(3)]
        expect(reader.tell(), 3, "the position after three chunks of one byte")
        reader.seek(0)
        second = [bytes(await reader.receive_some(1)) for _ in range(3)]
        expect(second, first, "the chunks at offsets 0, 1, 2")
        reader.seek(0)
        expect(len(await read_all(reader, 7 * 64)), reader.size, "the number of bytes in all")


@case("F-14")
async def follower_goes_on_from_an_installed_snapshot(lab: Lab) -> None:
    """A snapshot is of the applied index; the follower that gets it has applied that much, and then one entry more."""
    follower = lab.another()
    leader = await lab.open()
    await log_and_apply(leader, [m(1, 1, {0, 1}), *normals(1, 2, 21)])
    built = await leader.do_log_compaction()
    expect(built.index, 20, "the index of the snapshot")
    async with built.snapshot as reader:
        data = await read_all(reader)
    store = await follower.open()
    await install(store, data, 20, 1)
    await expect_state(store, last=(1, 20), applied=20, membership={0, 1})
    await log_and_apply(store, normals(1, 21, 22))
    store = await follower.turn()
    await expect_state(store, last=(1, 21), applied=21, membership={0, 1})
    expect_machine(follower, range(2, 22))


@case("F-22")
async def installs_on_an_empty_node(lab: Lab) -> None:
    """An empty node that installs a snapshot holds its data, its membership and its index."""
    store = await lab.open()
    data = await make_snapshot(lab, 7, 3, {1, 2, 3}, [r(6), r(7)])
    await install(store, data, 7, 3)
    store = await lab.turn()
    expect_machine(lab, [6, 7])
    await expect_state(store, last=(3, 7), applied=7, membership={1, 2, 3})
    expect(await snapshot_bytes(store), data, "the bytes of the installed snapshot")
    await store.append_entry_to_log(Entry(3, 8, ConfigChange(await store.get_membership_config())))
    await store.append_entry_to_log(e(3, 9))
    await expect_log(store, [(3, 7), (3, 8), (3, 9)])
