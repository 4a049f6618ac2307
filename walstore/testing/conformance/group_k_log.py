"""hashicorp/raft-wal: wal_test.go and integration_test.go, on the smallest segments there are."""

from collections.abc import Sequence
from functools import partial
from random import Random

import trio

from ..._types import HardState
from ...errors import InvalidRangeError, LogGapError
from ._cancel import every_method
from ._image import SMALL
from ._kit import (
    ClientRequest,
    Lab,
    LogEntry,
    Store,
    attribute,
    case,
    e,
    expect,
    expect_log,
    expect_state,
    expect_true,
    has,
    m,
    make_snapshot,
    n,
    normals,
    r,
    refused,
)

TOP = 2**64 - 1


def wide_request(index: int) -> ClientRequest:
    """A request of some four hundred bytes."""
    return r(index, f"entry {index} ".ljust(400, "."))


def wide(start: int, stop: int, term: int = 1) -> list[LogEntry]:
    """Entries of which a few dozen fill one of the smallest segments."""
    return [n(term, index, wide_request(index)) for index in range(start, stop)]


async def append_by_tens(store: Store, start: int, stop: int) -> None:
    """Appends wide entries, ten in a call."""
    for low in range(start, stop, 10):
        await store.replicate_to_log(wide(low, min(low + 10, stop)))


async def _expect_range(store: Store, first: int, last: int) -> None:
    """The log is first..last, each entry readable alone at its ends, and nothing beyond; then the next append works."""
    await expect_log(store, wide(first, last + 1))
    for index in (first, (first + last) // 2, last):
        expect(await store.get_log_entries(index, index + 1), wide(index, index + 1), f"entry {index}")
    expect(await store.get_log_entries(max(first - 1, 0), first), [], "the entry before the first")
    expect(await store.get_log_entries(last + 1, last + 2), [], "the entry after the last")
    await expect_state(store, last=(1, last))
    await store.append_entry_to_log(wide(last + 1, last + 2)[0])
    await expect_state(store, last=(1, last + 1))


@case("K-02")
async def store_logs(lab: Lab) -> None:
    """Appends to an empty log, to one that starts high, to one of several segments; gaps are refused."""
    accepted: Sequence[tuple[list[tuple[int, int]], tuple[int, int]]] = (
        ([], (1, 6)),
        ([], (10000, 10005)),
        ([(1, 11)], (11, 16)),
        ([(1, 211)], (211, 216)),
        ([(1, 100)], (100, 105)),
        ([(1, 100), (100, 105)], (105, 110)),
        ([(100, 201)], (201, 206)),
    )
    for before, (start, stop) in accepted:
        node = lab.another()
        store = await node.open(config=SMALL)
        for low, high in before:
            await append_by_tens(store, low, high)
        await store.replicate_to_log(wide(start, stop))
        store = await node.turn()
        await _expect_range(store, min([low for low, _ in before] or [start]), stop - 1)
    store = await lab.open(config=SMALL)
    await store.replicate_to_log(wide(1, 11))
    with refused(LogGapError):
        await store.replicate_to_log(wide(100, 105))
    with refused(LogGapError):
        await store.replicate_to_log([*wide(10, 12), *wide(14, 16)])
    store = await lab.turn()
    await _expect_range(store, 1, 10)


_DELETIONS: Sequence[tuple[str, tuple[int, int | None], tuple[int, int] | None]] = (
    ("an empty range", (1000, 999), (1000, 1109)),
    ("a range below", (0, 101), (1000, 1109)),
    ("a range above", (5000, 5101), (1000, 1109)),
    ("the head, a few", (1000, 1011), (1011, 1109)),
    ("the head, whole segments", (1000, 1102), (1102, 1109)),
    ("the head, everything", (1000, 1110), None),
    ("the tail, two", (1108, 1110), (1000, 1107)),
    ("the tail, whole segments", (1051, None), (1000, 1050)),
    ("everything and more", (1, 1210), None),
)


@case("K-03")
async def delete_range(lab: Lab) -> None:
    """Deletions at the head, at the tail, of all and of nothing; in the middle they are refused."""
    for what, (start, stop), left in _DELETIONS:
        node = lab.another()
        store = await node.open(config=SMALL)
        await append_by_tens(store, 1000, 1110)
        await store.delete_logs_from(start, stop)
        store = await node.turn()
        if left is None:
            expect(await store.get_log_entries(0, TOP), [], f"the log after a deletion of {what}")
            await expect_state(store, last=(0, 0))
            await store.replicate_to_log(wide(1110, 1112))
            await _expect_range(store, 1110, 1111)
        else:
            await _expect_range(store, *left)
    store = await lab.open(config=SMALL)
    await append_by_tens(store, 1000, 1110)
    with refused(InvalidRangeError):
        await store.delete_logs_from(1010, 1021)
    store = await lab.turn()
    await _expect_range(store, 1000, 1109)


@case("K-04")
async def stable_values(lab: Lab) -> None:
    """What was never set is nothing; what was set is found again, again after a second restart too."""
    store = await lab.open()
    await expect_state(store, hard=HardState())
    await store.save_hard_state(HardState(1, 17))
    store = await lab.turn()
    await expect_state(store, hard=HardState(1, 17))
    await store.save_hard_state(HardState(2, None))
    store = await lab.turn()
    store = await lab.turn()
    await expect_state(store, hard=HardState(2, None))


@case("K-05")
async def readers_beside_a_writer(lab: Lab) -> None:
    """Readers beside appends, tail rewrites and head deletions find the right entry or none, and find many."""
    store = await lab.open(config=SMALL)
    finished = False
    hits = 0

    async def write() -> None:
        nonlocal finished
        last, first = 0, 1
        for step in range(1, 121):
            await store.replicate_to_log(wide(last + 1, last + 4))
            last += 3
            if step % 20 == 0:
                await store.delete_logs_from(last - 4)
                await store.replicate_to_log(wide(last - 4, last + 1))
            if step % 15 == 0:
                first = last - 30
                await store.delete_logs_from(0, first)
        await expect_log(store, wide(first, last + 1))
        finished = True

    async def read(seed: int) -> None:
        nonlocal hits
        random = Random(seed)
        while not finished:
            low = random.randrange(1, 370)
            found = await store.get_log_entries(low, low + random.choice((1, 2, 30)))
            if found:
                hits += 1
                expect(found, wide(found[0].index, found[0].index + len(found)), "what a reader found")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for seed in range(3):
                nursery.start_soon(read, seed)
            await write()
    expect_true(hits > 20, f"readers found entries {hits} times")
    store = await lab.turn()
    found = await store.get_log_entries(0, TOP)
    expect(found, wide(found[0].index, 361), "the log at the end")


@case("K-06", reads=True)
async def closed(lab: Lab) -> None:
    """After a close every method, those beyond the interface included, says that the store is closed."""
    store = await lab.open()
    await store.replicate_to_log(normals(1, 1, 4))
    methods = await every_method(store, await make_snapshot(lab, 9, 2))
    beyond = {"entries": (1, 2), "append": ([n(1, 4)],), "attest": (), "bootstrap": (m(1, 1, {0}).payload,)}
    await lab.close()
    for name, arguments in beyond.items():
        if has(store, name):
            methods[name] = partial(attribute(store, name), *arguments)
    for name, method in methods.items():
        refusal = ""
        try:
            await method()
        except trio.ClosedResourceError:
            refusal = "closed"
        expect(refusal, "closed", f"what {name} of a closed store says")
    for name in ("term_of", "follow"):
        if has(store, name):
            with refused(trio.ClosedResourceError):
                attribute(store, name)(1)


@case("K-21")
async def state_and_stable_values(lab: Lab) -> None:
    """The log's ends and the hard state survive together, as they were when the last call returned."""
    store = await lab.open(config=SMALL)
    await store.save_hard_state(HardState(3, 1))
    await append_by_tens(store, 1, 101)
    await store.delete_logs_from(0, 51)
    await store.save_hard_state(HardState(4, None))
    store = await lab.turn()
    await expect_state(store, hard=HardState(4, None), last=(1, 100))
    await _expect_range(store, 51, 100)


def _random_entry(random: Random, term: int, index: int) -> LogEntry:
    kind = random.randrange(5)
    if kind == 0:
        return e(term, index)
    if kind == 1:
        ids = [random.getrandbits(64) for _ in range(random.randrange(9))]
        return m(term, index, ids, random.choice((None, ids[:2], [])))
    length = random.choice((0, 1, 7, 100, 3000))
    text = "".join(chr(random.choice((random.randrange(1, 128), random.randrange(160, 0xD7FF)))) for _ in range(length))
    return n(term, index, ClientRequest(text[:20], random.getrandbits(64), text))


@case("K-23")
async def random_entries(lab: Lab) -> None:
    """Random entries of every kind are read back exactly as they were written."""
    random = Random(23)
    store = await lab.open()
    written: list[LogEntry] = []
    term, index = 0, random.randrange(1, 1 << 40)
    for _ in range(20):
        batch = []
        for _ in range(random.randrange(1, 12)):
            term += random.choice((0, 0, 1, 1 << 20))
            batch.append(_random_entry(random, term, index))
            index += 1
        await store.replicate_to_log(batch)
        written += batch
    store = await lab.turn()
    await expect_log(store, written)


@case("K-24")
async def entries_are_copies(lab: Lab) -> None:
    """Entries that were read stay what they are, whatever is written, deleted and compacted afterwards."""
    store = await lab.open(config=SMALL)
    await append_by_tens(store, 1, 51)
    store = await lab.turn()
    early = await store.get_log_entries(1, 51)
    await store.delete_logs_from(20)
    await store.replicate_to_log(wide(20, 60, term=2))
    late = await store.get_log_entries(1, 60)
    await store.replicate_to_state_machine([(index, wide_request(index)) for index in range(1, 50)])
    await (await store.do_log_compaction()).snapshot.aclose()
    expect(early, wide(1, 51), "what was read first")
    expect(late, [*wide(1, 20), *wide(20, 60, term=2)], "what was read later")
    expect(await store.get_log_entries(50, 60), late[49:], "what is read now")


async def _truncated(store: Store, left: tuple[int, int]) -> None:
    await expect_log(store, wide(left[0], left[1] + 1))


@case("K-28")
async def integration_scenarios(lab: Lab) -> None:
    """Append and rotate, start high, delete at either end with and without whole segments, start over elsewhere."""
    scenarios: Sequence[tuple[tuple[int, int], tuple[int, int | None] | None, tuple[int, int] | None, int, int]] = (
        # appended, then deleted, then appended again, first and last at the end
        ((1, 121), None, None, 1, 120),
        ((1_000_000, 1_000_020), None, None, 1_000_000, 1_000_019),
        ((1, 121), (1, 3), None, 3, 120),
        ((1, 121), (1, 101), None, 101, 120),
        ((1, 121), (120, 121), None, 1, 119),
        ((1, 121), (120, 121), (120, 148), 1, 147),
        ((1, 121), (20, None), None, 1, 19),
        ((1, 121), (20, None), (20, 24), 1, 23),
        ((1, 121), (0, None), (1000, 1005), 1000, 1004),
    )
    for appended, deleted, again, first, last in scenarios:
        node = lab.another()
        store = await node.open(config=SMALL)
        await append_by_tens(store, *appended)
        if deleted is not None:
            await store.delete_logs_from(*deleted)
        if again is not None:
            await append_by_tens(store, *again)
        await _truncated(store, (first, last))
        store = await node.turn()
        await _truncated(store, (first, last))
        await _expect_range(store, first, last)


@case("K-30")
async def benchmark_shapes(lab: Lab) -> None:
    """Entries of several sizes in batches of several sizes are appended and read, one by one and in ranges."""
    store = await lab.open()
    index = 1
    written: list[LogEntry] = []
    for size in (10, 1024, 100_000):
        for count in (1, 10, 64 if size < 100_000 else 3):
            batch = [n(1, at, r(at, "z" * size)) for at in range(index, index + count)]
            await store.replicate_to_log(batch)
            written += batch
            index += count
    store = await lab.turn()
    for place in range(0, len(written), 7):
        expect(await store.get_log_entries(place + 1, place + 2), [written[place]], f"entry {place + 1}")
    expect(await store.get_log_entries(10, 90), written[9:89], "a range")
    await expect_log(store, written)
