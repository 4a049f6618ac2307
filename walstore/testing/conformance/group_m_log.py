"""Wanted: reads as a Raft core makes them, overwrites, deletions, and entries of unusual sizes."""

import trio

from ..._types import Entry, Normal, SnapshotPointer
from ...abc import Codec
from ...errors import InvalidRangeError, LogGapError, UsageError
from ._kit import (
    ClientRequest,
    Lab,
    Store,
    any_of,
    blanks,
    case,
    e,
    expect,
    expect_log,
    expect_pointer,
    expect_snapshot,
    expect_state,
    expect_true,
    identities,
    log_and_apply,
    m,
    members,
    n,
    normals,
    r,
    refused,
)
from ._machines import Gate, expect_machine
from .group_f_building import compact

TOP = 2**64 - 1


@case("M-01")
async def range_over_the_pointer(lab: Lab) -> None:
    """After a compaction at 500 a read from 1 gives the pointer and what lies above it, without an exception."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 501))
    await compact(store)
    await store.replicate_to_log(blanks(1, 501, 521))
    store = await lab.turn()
    expect(identities(await store.get_log_entries(1, 521)), [(1, i) for i in range(500, 521)], "the range [1, 521)")
    await expect_pointer(store, 1, 500)


@case("M-02", reads=True)
async def range_whose_start_is_above_its_stop(lab: Lab) -> None:
    """With 10 applied and nothing known to be committed a core asks for [11, 1): an empty answer."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 11))
    expect(await store.get_log_entries(11, 1), [], "the range [11, 1)")


@case("M-03", reads=True)
async def ranges_are_clipped(lab: Lab) -> None:
    """Ranges at either end of the numbers are clipped, never refused."""
    store = await lab.log10()
    expect(identities(await store.get_log_entries(0, 4)), [(1, 1), (1, 2), (1, 3)], "the range [0, 4)")
    expect(await store.get_log_entries(0, 0), [], "the range [0, 0)")
    expect(await store.get_log_entries(TOP - 1, TOP), [], "the range at the top")
    expect(len(await store.get_log_entries(0, TOP)), 10, "the number of entries in all")


@case("M-04", reads=True)
async def entry_far_ahead(lab: Lab) -> None:
    """An entry far beyond the end is an empty answer."""
    store = await lab.log10()
    expect(await store.get_log_entries(5000, 5001), [], "the range [5000, 5001)")


@case("M-05")
async def reads_during_a_compaction(lab: Lab) -> None:
    """A read while a compaction runs gives the old range or the pointer's form, never a mixture with a hole."""
    gate = Gate()
    store = await lab.open(machine=gate.machine)
    await log_and_apply(store, normals(1, 1, 9))
    await store.replicate_to_log(normals(1, 9, 11))
    old, new = [(1, i) for i in range(1, 11)], [(1, 8), (1, 9), (1, 10)]
    finished = False

    async def compacting() -> None:
        nonlocal finished
        await compact(store)
        finished = True

    async with trio.open_nursery() as nursery:
        with gate.shut():
            nursery.start_soon(compacting)
            await gate.wait_for_arrival()
            expect(identities(await store.get_log_entries(1, 11)), old, "the log while the snapshot is written")
        while not finished:
            any_of(identities(await store.get_log_entries(1, 11)), old, new, what="the log meanwhile")
    store = await lab.turn()
    expect(identities(await store.get_log_entries(1, 11)), new, "the log afterwards")


@case("M-06")
async def same_entries_again_keep_the_tail(lab: Lab) -> None:
    """Entries 1 to 3 sent again over LOG10 leave all ten where they are."""
    store = await lab.log10()
    await store.replicate_to_log(blanks(1, 1, 4))
    store = await lab.turn()
    await expect_log(store, blanks(1, 1, 11))


@case("M-07")
async def other_term_drops_the_tail(lab: Lab) -> None:
    """A batch whose second entry has another term replaces from there and drops everything after it."""
    store = await lab.log10()
    await store.replicate_to_log([e(1, 1), e(2, 2)])
    store = await lab.turn()
    await expect_log(store, [e(1, 1), e(2, 2)])


@case("M-08")
async def no_stale_tail(lab: Lab) -> None:
    """After a replacement the last entry is the new one: none of the old tail can win an election."""
    store = await lab.log10()
    await store.replicate_to_log([e(1, 1), e(2, 2)])
    store = await lab.turn()
    await expect_state(store, last=(2, 2))
    expect(await store.get_log_entries(3, TOP), [], "the log above the last entry")
    await store.append_entry_to_log(e(2, 3))
    await expect_log(store, [(1, 1), (2, 2), (2, 3)])


@case("M-09")
async def invalid_last_entry_refuses_the_batch(lab: Lab) -> None:
    """A batch is refused wholly when its last entry leaves a hole, is a pointer, or has a falling term."""
    store = await lab.log10()
    pointer: Entry[ClientRequest] = Entry(1, 12, SnapshotPointer("x", members({0})))
    with refused(LogGapError):
        await store.replicate_to_log([e(1, 11), e(1, 12), e(1, 14)])
    with refused(UsageError):
        await store.replicate_to_log([e(1, 11), pointer])
    with refused(UsageError):
        await store.replicate_to_log([e(2, 11), e(1, 12)])
    with refused(UsageError):
        await store.replicate_to_log([e(2, 9), e(2, 10), e(1, 11)])
    store = await lab.turn()
    await expect_log(store, blanks(1, 1, 11))
    await store.append_entry_to_log(e(1, 11))
    await expect_state(store, last=(1, 11))


@case("M-10")
async def entries_below_the_pointer_are_skipped(lab: Lab) -> None:
    """Entries that the snapshot covers are passed over in silence; what comes after them in the batch is taken."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 11))
    await compact(store)
    await store.replicate_to_log([n(1, 8), n(1, 9)])
    await expect_log(store, [(1, 10)])
    await store.replicate_to_log([n(1, 9), n(1, 10), n(1, 11)])
    store = await lab.turn()
    await expect_log(store, [(1, 10), n(1, 11)])
    await expect_pointer(store, 1, 10)
    await expect_snapshot(store, 1, 10)


@case("M-11")
async def other_term_at_the_pointer(lab: Lab) -> None:
    """An entry at the pointer's index with another term would rewrite a committed entry: it is refused."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 11))
    await compact(store)
    await store.replicate_to_log(normals(1, 11, 13))
    with refused(UsageError):
        await store.replicate_to_log([e(2, 10), e(2, 11)])
    store = await lab.turn()
    await expect_log(store, [(1, 10), n(1, 11), n(1, 12)])
    await expect_snapshot(store, 1, 10)


@case("M-12")
async def next_entry_after_a_snapshot(lab: Lab) -> None:
    """With nothing above the snapshot at S the log refuses S+2 and takes S+1."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 11))
    await compact(store)
    with refused(LogGapError):
        await store.append_entry_to_log(e(1, 12))
    store = await lab.turn()
    with refused(LogGapError):
        await store.append_entry_to_log(e(1, 12))
    await store.append_entry_to_log(e(1, 11))
    await expect_log(store, [(1, 10), (1, 11)])


@case("M-13")
async def applied_entries_may_be_deleted(lab: Lab) -> None:
    """A core may delete entries that were applied: the applied index stays, and what comes again is not executed."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 11))
    await store.replicate_to_state_machine([(index, r(index)) for index in range(1, 9)])
    await store.delete_logs_from(5)
    await expect_state(store, last=(1, 4), applied=8)
    await store.replicate_to_log(normals(2, 5, 11))
    await store.replicate_to_state_machine([(index, r(index)) for index in range(5, 9)])
    await expect_state(store, last=(2, 10), applied=8)
    expect_machine(lab, range(1, 9))
    store = await lab.turn()
    applied = (await store.get_initial_state()).last_applied_log
    any_of(applied, *((8,) if lab.live else (4, 8)), what="last_applied_log")  # what is proven of it: PROTOCOL A7, A8
    expect_machine(lab, range(1, applied + 1))
    await expect_log(store, [*normals(1, 1, 5), *normals(2, 5, 11)])


@case("M-14")
async def crash_between_delete_and_append(lab: Lab) -> None:
    """A core that dies between the deletion and the append that was to follow starts with a shorter, sound log."""
    store = await lab.log10()
    await store.delete_logs_from(5)
    store = await lab.turn()
    await expect_log(store, blanks(1, 1, 5))
    await expect_state(store, last=(1, 4), applied=0)
    await store.replicate_to_log(blanks(2, 5, 7))
    await expect_state(store, last=(2, 6))


@case("M-15")
async def everything_deleted_above_a_snapshot(lab: Lab) -> None:
    """With the whole log deleted, last entry and membership are those of the snapshot, which is still there."""
    store = await lab.open()
    await log_and_apply(store, [m(1, 1, {0, 1}), *normals(1, 2, 6)])
    await compact(store)
    await store.replicate_to_log([e(2, 6), m(2, 7, {0, 1, 2})])
    await store.delete_logs_from(0)
    store = await lab.turn()
    await expect_state(store, last=(1, 5), applied=5, membership={0, 1})
    await expect_snapshot(store, 1, 5, {0, 1})
    expect(await store.get_log_entries(6, TOP), [], "the log above the snapshot")
    await store.append_entry_to_log(e(3, 6))
    await expect_state(store, last=(3, 6))


@case("M-16")
async def middle_may_not_be_deleted(lab: Lab) -> None:
    """A deletion that would leave entries on both sides is refused and changes nothing."""
    store = await lab.log10()
    with refused(InvalidRangeError):
        await store.delete_logs_from(4, 6)
    store = await lab.turn()
    await expect_log(store, blanks(1, 1, 11))


class _BareCodec(Codec[ClientRequest]):
    """The status alone, so that a request may be no bytes at all."""

    __slots__ = ()

    def encode(self, data: ClientRequest) -> bytes:
        return data.status.encode()

    def decode(self, buffer: bytes) -> ClientRequest:
        return ClientRequest("c", 0, bytes(buffer).decode())


async def _expect_entry(store: Store, index: int, status: str) -> None:
    (entry,) = await store.get_log_entries(index, index + 1)
    expect_true(entry.payload == Normal(ClientRequest("c", 0, status)), f"entry {index} is as it was written")


@case("M-78")
async def unusual_sizes(lab: Lab) -> None:
    """An entry of 16 MiB, one of no bytes at all and a batch of 300 are stored and read like any other."""
    huge = "0123456789abcdef" * (1 << 20)
    store = await lab.open(codec=_BareCodec())
    await store.append_entry_to_log(Entry(1, 1, Normal(ClientRequest("c", 0, huge))))
    await store.append_entry_to_log(Entry(1, 2, Normal(ClientRequest("c", 0, ""))))
    await store.replicate_to_log([Entry(1, i, Normal(ClientRequest("c", 0, f"{i}"))) for i in range(3, 303)])
    store = await lab.turn()
    await _expect_entry(store, 1, huge)
    await _expect_entry(store, 2, "")
    for index in (3, 150, 302):
        await _expect_entry(store, index, f"{index}")
    await expect_state(store, last=(1, 302))


@case("M-79")
async def many_entries(lab: Lab) -> None:
    """A log of sixteen full batches opens whole; how long a million entries take is measured by tools/bench."""
    store = await lab.open()
    for start in range(1, 16 * 512, 512):
        await store.replicate_to_log(normals(1, start, start + 512))
    store = await lab.turn()
    found = await store.get_log_entries(0, TOP)
    expect(len(found), 16 * 512, "the number of entries")
    for place in (0, 511, 512, 5000, -1):
        expect(found[place], n(1, found[place].index), "an entry")
    await expect_state(store, last=(1, 16 * 512))
