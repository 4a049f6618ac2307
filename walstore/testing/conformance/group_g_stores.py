"""openraft, stores and examples: the suite on a directory per case, numeric order, the container's own tests."""

from collections.abc import Iterable

from ..._types import InitialState
from ...abc import SnapshotView
from ...errors import SnapshotInvalidError, SnapshotMismatchError
from ._kit import (
    FrozenBytes,
    KitMachine,
    Lab,
    Store,
    case,
    cases,
    expect,
    expect_log,
    expect_no_snapshot,
    expect_snapshot,
    expect_state,
    expect_true,
    install,
    log_and_apply,
    make_snapshot,
    n,
    normals,
    r,
    refused,
    send,
    snapshot_bytes,
)
from ._machines import CompareAndSetMachine, expect_machine
from .left_out import LEFT_OUT
from .numbers import NUMBERS, WANTED_TAGS


@case("G-01")
async def every_case_has_a_directory_of_its_own(lab: Lab) -> None:
    """All of openraft's suite is in the kit, and each run of a case begins with a pristine store of its own."""
    registered = {each.number for each in cases()}
    suite = {number for number, tag in NUMBERS.items() if number[0] == "C" and tag in WANTED_TAGS}
    expect(suite - registered - LEFT_OUT.keys(), set(), "cases of group C that are missing")
    neighbour = lab.another()
    await log_and_apply(await lab.open(), normals(1, 1, 3))
    expect(await (await neighbour.open()).get_initial_state(), InitialState.new_initial(0), "the neighbour's state")
    await neighbour.turn()
    store = await lab.turn()
    await expect_state(store, last=(1, 2), applied=2)
    await expect_state(neighbour.store, last=(0, 0), applied=0)


@case("G-02")
async def newest_position_wins_in_numbers(lab: Lab) -> None:
    """Of the snapshots at 9 and at 10 the later one is current: numbers decide, not the order of letters."""
    ninth = await make_snapshot(lab, 9, 1, {0}, [r(9, "ninth")])
    tenth = await make_snapshot(lab, 10, 1, {0}, [r(10, "tenth")])
    store = await lab.open()
    await install(store, ninth, 9, 1)
    await install(store, tenth, 10, 1)
    store = await lab.turn()
    await expect_snapshot(store, 1, 10)
    expect(await snapshot_bytes(store), tenth, "the bytes of the current snapshot")
    expect_machine(lab, {10: r(10, "tenth")})


@case("G-03")
async def batch_sees_its_own_earlier_writes(lab: Lab) -> None:
    """Of two compare-and-sets in one batch that expect the same value the first wins, and the second sees that."""
    first, second = r(1, ">one", client="key"), r(2, ">two", client="key")
    store = await lab.open(machine=CompareAndSetMachine)
    await store.replicate_to_log([n(1, 1, first), n(1, 2, second)])
    await store.replicate_to_state_machine([(1, first), (2, second)])
    await lab.turn()
    expect(lab.machine.status, {"key": "one"}, "the value")
    expect(lab.machine.serial["key"], (2, "one"), "what the second compare-and-set saw")


class _NothingMachine(KitMachine):
    """A machine whose snapshots are empty, and that takes only such."""

    __slots__ = ()

    def capture(self) -> SnapshotView:
        return FrozenBytes(b"")

    def restore(self, chunks: Iterable[bytes]) -> None:
        expect(b"".join(chunks), b"", "the state of a machine without state")


async def _refuse(store: Store, data: bytes, what: str) -> None:
    id, writer = await send(store, data)
    try:
        await store.finalize_snapshot_installation(9, 2, None, id, writer)
    except (SnapshotInvalidError, SnapshotMismatchError):
        return
    expect(what, "refused", "the stream")


@case("G-05")
async def container_proves_itself(lab: Lab) -> None:
    """Streams that are cut, tampered with, reordered, repeated or not a snapshot at all are refused untouched."""
    data = await make_snapshot(lab, 9, 2, {1, 2}, [r(8), r(9, "x" * 300)])
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 3))
    size = len(data)
    damaged = {
        "empty": b"",
        "wrong beginning": b"\0" + data[1:],
        "no beginning": data[64:],
        "the beginning twice": data[:4096] + data,
        "halves in the wrong order": data[size // 2 :] + data[: size // 2],
        "an end and nothing else": data[-40:],
        "random text": b"not a snapshot\n" * 400,
    }
    cuts = {1, 15, 16, 88, 511, 512, 4095, 4096, 4097, size // 2, size - 41, size - 40, size - 1}
    damaged |= {f"cut at {cut}": data[:cut] for cut in sorted(cuts) if 0 < cut < size}
    places = {0, 17, 20, 24, 64, 72, 88, 100, 4000, 4090, *range(4096, size, max(1, (size - 4096) // 12)), size - 1}
    damaged |= {
        f"a bit of byte {place} turned": data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        for place in sorted(places)
        if place < size
    }
    for place in (3, size // 2, size - 3):
        damaged[f"a byte missing at {place}"] = data[:place] + data[place + 1 :]
        damaged[f"a byte too many at {place}"] = data[:place] + b"\xff" + data[place:]
    for what, stream in damaged.items():
        await _refuse(store, stream, what)
    await expect_no_snapshot(store)
    store = await lab.turn()
    await expect_log(store, normals(1, 1, 3))
    expect_machine(lab, [1, 2])
    for name in ("../evil", "a/b", "", "..", "/etc/passwd", "snap-2-9"):
        _, writer = await send(store, data)
        with refused(ValueError):
            await store.finalize_snapshot_installation(9, 2, None, name, writer)
    await install(store, data + b"left over from a longer stream", 9, 2)
    expect(await snapshot_bytes(store), data, "the snapshot, cut to its own length")
    await _round_trip_of_nothing(lab)


async def _round_trip_of_nothing(lab: Lab) -> None:
    sender, receiver = lab.another(), lab.another()
    store = await sender.open(machine=_NothingMachine)
    await log_and_apply(store, normals(1, 1, 3))
    async with (await store.do_log_compaction()).snapshot as reader:
        expect_true(reader.size > 0, "the snapshot of an empty state is not empty itself")
    data = await snapshot_bytes(store)
    store = await receiver.open(machine=_NothingMachine)
    await install(store, data, 2, 1)
    store = await receiver.turn()
    await expect_state(store, last=(1, 2), applied=2)
