"""Wanted: compaction beside installs, its membership and term, and the readers of what it replaces."""

import trio

from ...errors import CompactionSuperseded
from ._kit import (
    Lab,
    Store,
    any_of,
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
    members,
    n,
    normals,
    r,
    read_all,
    send,
    snapshot_bytes,
)
from ._machines import Gate, expect_machine
from .group_f_building import compact


@case("M-38")
async def install_overtakes_a_compaction(lab: Lab) -> None:
    """An install of a higher index that commits while a compaction runs stays; the compaction's result is dropped."""
    gate = Gate(restores=False)
    data = await make_snapshot(lab, 9, 2, {0, 1})
    store = await lab.open(machine=gate.machine)
    await log_and_apply(store, normals(1, 1, 6))
    installed = trio.Event()
    outcome: list[str] = []

    async def compacting() -> None:
        overtaken = False
        try:
            await compact(store)
        except CompactionSuperseded:
            overtaken = True
        outcome.append("superseded" if overtaken else "done")

    async def installing() -> None:
        await install(store, data, 9, 2)
        installed.set()

    async with trio.open_nursery() as nursery:
        with gate.shut():
            nursery.start_soon(compacting)
            await gate.wait_for_arrival()
            nursery.start_soon(installing)
            with trio.move_on_after(2):  # a store may also let the install wait for the compaction
                await installed.wait()
            allowed = ["superseded"] if installed.is_set() else ["superseded", "done"]
    any_of(outcome, *([word] for word in allowed), what="the compaction's outcome")
    store = await lab.turn()
    await expect_snapshot(store, 2, 9, {0, 1})
    await expect_log(store, [(2, 9)])
    expect_machine(lab, [9])


@case("M-39")
async def two_compactions_keep_the_membership(lab: Lab) -> None:
    """The membership goes from entry to snapshot to snapshot, through a restart between them as well."""
    store = await lab.open()
    await log_and_apply(store, [m(1, 1, {0, 5, 7}), *normals(1, 2, 6)])
    await compact(store)
    store = await lab.turn()
    await log_and_apply(store, normals(1, 6, 9))
    await compact(store)
    store = await lab.turn()
    await expect_snapshot(store, 1, 8, {0, 5, 7})
    await expect_pointer(store, 1, 8, {0, 5, 7})
    await expect_state(store, membership={0, 5, 7})


@case("M-40")
async def joint_and_uncommitted_memberships(lab: Lab) -> None:
    """A joint membership at or below the applied index is stored joint; one above it is not in the snapshot."""
    joint = members({0, 1}, {1, 2})
    store = await lab.open()
    await store.replicate_to_log([m(1, 1, {0, 1}), m(1, 2, {0, 1}, {1, 2}), n(1, 3), m(1, 4, {1, 2}), n(1, 5)])
    await store.apply_entry_to_state_machine(3, r(3))
    built = await compact(store)
    expect(built.membership, joint, "the membership of the snapshot")
    store = await lab.turn()
    await expect_snapshot(store, 1, 3, joint)
    await expect_pointer(store, 1, 3, joint)
    await expect_state(store, last=(1, 5), membership={1, 2})
    await store.delete_logs_from(4)
    await expect_state(store, membership=joint)


@case("M-41")
async def term_of_the_pointer(lab: Lab) -> None:
    """Where the applied index is the pointer's, a compaction is of the pointer's term and writes nothing new."""
    store = await lab.open()
    await install(store, await make_snapshot(lab, 9, 4, {0}), 9, 4)
    before = await snapshot_bytes(store)
    await store.replicate_to_log(blanks(6, 10, 12))
    built = await compact(store)
    expect((built.term, built.index), (4, 9), "(term, index) of the snapshot")
    store = await lab.turn()
    built = await compact(store)
    expect((built.term, built.index), (4, 9), "(term, index) of the snapshot")
    expect(await snapshot_bytes(store), before, "its bytes")
    await expect_log(store, [(4, 9), (6, 10), (6, 11)])


@case("M-42")
async def compaction_of_the_whole_log(lab: Lab) -> None:
    """A compaction that takes every entry leaves the last entry's index and term what they were."""
    store = await lab.open()
    await log_and_apply(store, [*normals(1, 1, 4), *normals(3, 4, 7)])
    await compact(store)
    store = await lab.turn()
    await expect_state(store, last=(3, 6), applied=6)
    await expect_log(store, [(3, 6)])


async def _replace_snapshots(store: Store, start: int) -> None:
    for first in (start, start + 3):
        await log_and_apply(store, normals(1, first, first + 3))
        await compact(store)


@case("M-43")
async def old_reader_keeps_its_bytes(lab: Lab) -> None:
    """A reader gives the same bytes to its end although two newer snapshots have replaced its own meanwhile."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 4))
    await compact(store)
    store = await lab.turn()
    whole = await snapshot_bytes(store)
    async with (await current_snapshot(store)).snapshot as reader:
        head = bytes(await reader.receive_some(100))
        await _replace_snapshots(store, 4)
        expect(head + await read_all(reader, 512), whole, "what the old reader gave")
        reader.seek(0)
        expect(await read_all(reader), whole, "what it gave from the beginning")
        expect(reader.header.index, 3, "the index in its header")
    await expect_snapshot(store, 1, 9)


@case("M-45")
async def second_writer_replaces_the_first(lab: Lab) -> None:
    """Of two writers the second can be finalized; what the first one wrote is nowhere."""
    data = await make_snapshot(lab, 9, 2)
    store = await lab.open()
    first_id, first = await store.create_snapshot()
    await first.send_all(data[:1000])
    id, writer = await store.create_snapshot()
    expect_true(id and first_id and id != first_id, "every writer has an id of its own")
    await writer.send_all(data)
    await writer.aclose()
    await store.finalize_snapshot_installation(9, 2, None, id, writer)
    await first.aclose()
    store = await lab.turn()
    expect(await snapshot_bytes(store), data, "the bytes of the current snapshot")
    await expect_state(store, last=(2, 9), applied=9)


@case("M-46")
async def chunks_are_sent_and_read_again(lab: Lab) -> None:
    """A chunk that is written again at its offset, and one that is read again, are the same bytes."""
    data = await make_snapshot(lab, 9, 2)
    store = await lab.open()
    id, writer = await store.create_snapshot()
    await writer.send_all(data[:2000])
    writer.seek(1000)
    expect(writer.tell(), 1000, "the writer's position")
    await writer.send_all(data[1000:2000])
    await writer.send_all(data[2000:])
    writer.seek(0)
    await writer.send_all(data[:500])
    await writer.aclose()
    await store.finalize_snapshot_installation(9, 2, None, id, writer)
    store = await lab.turn()
    async with (await current_snapshot(store)).snapshot as reader:
        reader.seek(1000)
        once = bytes(await reader.receive_some(700))
        reader.seek(1000)
        again = bytes(await reader.receive_some(700))
        expect(again, once, "the chunk that was read again")
        expect(once, data[1000 : 1000 + len(once)], "the chunk at offset 1000")
        reader.seek(0)
        expect(await read_all(reader), data, "the whole")


@case("M-47")
async def last_empty_chunk_is_harmless(lab: Lab) -> None:
    """A reader ends with empty reads at its size; a writer takes the empty chunk that a core sends last."""
    data = await make_snapshot(lab, 9, 2)
    store = await lab.open()
    id, writer = await store.create_snapshot()
    await writer.send_all(data)
    writer.seek(len(data))
    await writer.send_all(b"")
    await writer.send_all(b"")
    await writer.aclose()
    await store.finalize_snapshot_installation(9, 2, None, id, writer)
    store = await lab.turn()
    async with (await current_snapshot(store)).snapshot as reader:
        expect(await read_all(reader), data, "the bytes")
        expect([await reader.receive_some(10), await reader.receive_some(10)], [b"", b""], "reads at the end")
        reader.seek(len(data) + 1000)
        expect(await reader.receive_some(10), b"", "a read beyond the end")
        expect(reader.tell() >= len(data), True, "the position")


@case("M-63", reads=True)
async def fresh_store_has_no_snapshot(lab: Lab) -> None:
    """A store that never made or took a snapshot has none."""
    await expect_no_snapshot(await lab.log10())


@case("M-64")
async def unfinished_snapshot_is_not_current(lab: Lab) -> None:
    """A newer snapshot that was received but not finalized is not the current one."""
    newer = await make_snapshot(lab, 20, 2)
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 4))
    await compact(store)
    await send(store, newer)
    await expect_snapshot(store, 1, 3)
    store = await lab.turn()
    await expect_snapshot(store, 1, 3)
    await expect_state(store, last=(1, 3), applied=3)


@case("M-65")
async def readers_have_positions_of_their_own(lab: Lab) -> None:
    """Two readers of one snapshot stand where each of them was left."""
    store = await lab.open()
    await log_and_apply(store, [n(1, 1), e(1, 2), n(1, 3)])
    await compact(store)
    store = await lab.turn()
    first, second = (await current_snapshot(store)).snapshot, (await current_snapshot(store)).snapshot
    async with first, second:
        expect((first.tell(), second.tell()), (0, 0), "where new readers stand")
        first.seek(64)
        await first.receive_some(16)
        expect((first.tell(), second.tell()), (80, 0), "where they stand after a read of the first")
        whole = await read_all(second)
        expect(whole[80:], await read_all(first), "the rest that the first one gives")
