"""Group D, openraft 0.6: its defensive tests, each with the answer of this interface.

Whatever is refused here has changed nothing, in the store that refused and after a turn.
"""

from collections.abc import Sequence

from ..._types import HardState
from ...errors import (
    HardStateRegressionError,
    InvertedLogError,
    LogGapError,
    SnapshotMismatchError,
    UsageError,
)
from ._kit import (
    ClientRequest,
    ClientResponse,
    Lab,
    LogEntry,
    Store,
    case,
    compact,
    e,
    expect,
    expect_log,
    expect_snapshot,
    expect_state,
    identities,
    install,
    log_and_apply,
    m,
    make_snapshot,
    n,
    normals,
    r,
    read_log,
    refused,
)

LOG10 = [(1, index) for index in range(1, 11)]


async def _expect_refusal(lab: Lab, batch: Sequence[LogEntry], error: type[UsageError] = UsageError) -> Store:
    """The batch is refused, nothing of it is stored, and the store goes on."""
    before = await read_log(lab.store)
    with refused(error):
        await lab.store.replicate_to_log(batch)
    expect(await read_log(lab.store), before, "the log after the refusal")
    store = await lab.turn()
    expect(await read_log(store), before, "the log after the turn")
    return store


@case("D-25")
async def snapshot_over_a_dirty_log(lab: Lab) -> None:
    """A snapshot of a later term within the log drops what is above it: that is of another history.  Where the other
    history was applied, or is the current snapshot's, it is refused."""
    data = await make_snapshot(lab, 2, 2, {3, 4, 5}, membership_index=2)
    store = await lab.open()
    await store.replicate_to_log([e(1, 1), e(1, 2), m(1, 3, {1, 2, 3})])
    await install(store, data, 2, 2, 2)
    store = await lab.turn()
    await expect_log(store, [(2, 2)])
    await expect_state(store, last=(2, 2), applied=2, membership={3, 4, 5})
    older = await make_snapshot(lab, 2, 1, {6})
    await _expect_contradiction(lab, older, 2, 1)
    applied = lab.another()
    store = await applied.open()
    await log_and_apply(store, [m(1, 1, {1, 2, 3}), *normals(1, 2, 4)])
    await _expect_contradiction(applied, data, 2, 2)


async def _expect_contradiction(lab: Lab, data: bytes, index: int, term: int) -> None:
    """A snapshot that contradicts what was applied is refused, and has changed nothing."""
    state, log, machine = await lab.store.get_initial_state(), await read_log(lab.store), lab.machine.content()
    with refused(SnapshotMismatchError):
        await install(lab.store, data, index, term, index)
    for _ in range(2):
        expect(await lab.store.get_initial_state(), state, "initial state")
        expect(await read_log(lab.store), log, "the log")
        expect(lab.machine.content(), machine, "the machine")
        await lab.turn()


@case("D-26", reads=True, needs={"disk"})
async def dirty_log_on_disk(lab: Lab) -> None:
    """A directory in which an older history stands above the snapshot is refused."""
    await lab.harness.forge_inverted(log_last=(1, 3), snapshot=(2, 2))
    with refused(InvertedLogError):
        await lab.open()


@case("D-27")
async def hard_state_never_falls(lab: Lab) -> None:
    """A lower term, a vote taken back and another vote in the same term are refused."""
    store = await lab.open()
    await store.save_hard_state(HardState(10, 0))
    for wrong in (HardState(9, 0), HardState(10, None), HardState(10, 1000)):
        with refused(HardStateRegressionError):
            await store.save_hard_state(wrong)
        await expect_state(store, hard=HardState(10, 0))
        store = await lab.turn()
        await expect_state(store, hard=HardState(10, 0))
    await store.save_hard_state(HardState(11, None))
    await store.save_hard_state(HardState(11, 1000))
    store = await lab.turn()
    await expect_state(store, hard=HardState(11, 1000))


@case("D-28")
async def read_any_range(lab: Lab) -> None:
    """No range is an error: each gives what exists of it."""
    await lab.log10()
    store = await lab.turn()
    for start, stop, found in (
        (0, 2**64 - 1, LOG10),
        (5, 2**64 - 1, LOG10[4:]),
        (0, 5, LOG10[:4]),
        (5, 7, LOG10[4:6]),
        (11, 2**64 - 1, []),
        (1, 1, []),
        (0, 1, []),
        (0, 2, LOG10[:1]),
        (10, 12, LOG10[9:]),
    ):
        expect(identities(await store.get_log_entries(start, stop)), found, f"read({start}, {stop})")


@case("D-29")
async def delete_any_prefix(lab: Lab) -> None:
    """An empty range deletes nothing; a range with a stop deletes a prefix."""
    store = await lab.log10()
    await store.delete_logs_from(10, 10)
    store = await lab.turn()
    await expect_log(store, LOG10)
    await store.delete_logs_from(1, 5)
    store = await lab.turn()
    await expect_log(store, LOG10[4:])
    store = await _expect_refusal(lab, [e(2, 4)])  # below the log's first entry: what was deleted does not come back
    await store.append_entry_to_log(e(1, 11))
    store = await lab.turn()
    await expect_log(store, [*LOG10[4:], e(1, 11)])


@case("D-30")
async def append_nothing(lab: Lab) -> None:
    """An empty batch is a success that changes nothing, on a new store and on a log."""
    store = await lab.open()
    await store.replicate_to_log([])
    store = await lab.turn()
    await expect_state(store, last=(0, 0), hard=HardState(0, None))
    await store.append_entry_to_log(e(1, 1))
    await store.replicate_to_log([])
    store = await lab.turn()
    await expect_log(store, [e(1, 1)])


@case("D-31")
async def append_with_a_hole_inside(lab: Lab) -> None:
    """A batch that is not consecutive is refused whole: one with a gap, one that repeats, one that goes back.  So is
    one that begins with index 0, which means none."""
    await lab.open()
    await _expect_refusal(lab, [e(0, 0), e(1, 1)])
    await _expect_refusal(lab, [e(1, 1), e(1, 3)], LogGapError)
    await _expect_refusal(lab, [e(1, 1), e(1, 1)])
    store = await _expect_refusal(lab, [e(1, 2), e(1, 1)])
    await expect_state(store, last=(0, 0))
    await store.replicate_to_log([e(1, 1), e(1, 2)])
    store = await lab.turn()
    await expect_log(store, [e(1, 1), e(1, 2)])


@case("D-32")
async def append_beyond_the_end(lab: Lab) -> None:
    """An entry that does not follow the last one is refused, and the one that does is taken."""
    store = await lab.open()
    await store.replicate_to_log([e(1, 1), e(1, 2)])
    store = await _expect_refusal(lab, [e(3, 4)], LogGapError)
    await store.append_entry_to_log(e(3, 3))
    store = await lab.turn()
    await expect_log(store, [e(1, 1), e(1, 2), e(3, 3)])


@case("D-33")
async def append_above_what_is_applied(lab: Lab) -> None:
    """Above a snapshot at 2 the next entry is 3, also where the pointer was deleted; without a snapshot an empty log
    takes any index."""
    store = await lab.open()
    await log_and_apply(store, [n(1, 1), n(1, 2)])
    await compact(store)
    store = await _expect_refusal(lab, [e(1, 4)], LogGapError)
    bare = lab.another()
    store = await bare.open()
    await log_and_apply(store, [n(1, 1), n(1, 2)])
    await compact(store)
    await store.delete_logs_from(0, None)
    store = await _expect_refusal(bare, [e(1, 4)], LogGapError)
    await store.append_entry_to_log(e(1, 3))
    store = await bare.turn()
    await expect_log(store, [e(1, 3)])
    await expect_snapshot(store, 1, 2)
    store = lab.store
    await store.append_entry_to_log(e(1, 3))
    store = await lab.turn()
    await expect_log(store, [(1, 2), e(1, 3)])
    other = lab.another()
    store = await other.open()
    await log_and_apply(store, [n(1, 1), n(1, 2)])
    await store.delete_logs_from(0, None)
    await store.append_entry_to_log(e(1, 4))
    store = await other.turn()
    await expect_log(store, [e(1, 4)])


@case("D-34")
async def append_of_an_earlier_term(lab: Lab) -> None:
    """Terms never fall along the log: after the last entry, and inside a batch."""
    store = await lab.open()
    await store.replicate_to_log([e(2, 1), e(2, 2)])
    await _expect_refusal(lab, [e(1, 3)])
    store = await _expect_refusal(lab, [e(3, 3), e(2, 4)])
    await store.replicate_to_log([e(2, 3), e(3, 4)])
    store = await lab.turn()
    await expect_log(store, [e(2, 1), e(2, 2), e(2, 3), e(3, 4)])


@case("D-35")
async def append_below_the_boundary_term(lab: Lab) -> None:
    """Above the boundary an entry of an earlier term than the boundary's is refused, with the pointer and without."""
    for with_pointer in (True, False):
        one = lab.another()
        store = await one.open()
        await log_and_apply(store, [n(2, 1), n(2, 2)])
        await compact(store)
        if not with_pointer:
            await store.delete_logs_from(0, None)
        store = await _expect_refusal(one, [e(1, 3)])
        await store.append_entry_to_log(e(2, 3))
        store = await one.turn()
        await expect_log(store, [(2, 2), e(2, 3)] if with_pointer else [e(2, 3)])


@case("D-36")
async def apply_nothing(lab: Lab) -> None:
    """An empty batch applies nothing, and is a success."""
    store = await lab.open()
    await store.replicate_to_state_machine([])
    store = await lab.turn()
    await expect_state(store, last=(0, 0), applied=0)
    expect(lab.machine.history, [], "applied indexes")


@case("D-37")
async def apply_with_repeats_and_gaps(lab: Lab) -> None:
    """An index that was applied is skipped, with the remembered answer if it was the last; a gap, where the log has a
    blank entry, is not an error; other data than the log's is."""
    store = await lab.open()
    await store.replicate_to_log([n(1, 1), e(1, 2), n(1, 3)])
    await store.apply_entry_to_state_machine(1, r(1))
    repeated = await store.apply_entry_to_state_machine(1, ClientRequest("c", 99, "not executed again"))
    expect(repeated, ClientResponse(None), "the remembered answer")
    await store.replicate_to_state_machine([(1, r(1))])
    with refused(ValueError):
        await store.apply_entry_to_state_machine(3, ClientRequest("c", 3, "not what the log has"))
    with refused(ValueError):
        await store.replicate_to_state_machine([(3, ClientRequest("c", 3, "not what the log has"))])
    expect(await store.apply_entry_to_state_machine(3, r(3)), ClientResponse("at 1"), "the answer")
    expect(await store.apply_entry_to_state_machine(1, r(1)), None, "the answer to what was not the last")
    store = await lab.turn()
    await expect_state(store, last=(1, 3), applied=3)
    expect(lab.machine.history, [1, 3], "applied indexes")
    expect(lab.machine.status, {"c": "at 3"}, "statuses")
    await store.replicate_to_state_machine([(1, r(1)), (3, r(3))])
    await store.replicate_to_log(normals(1, 4, 5))
    await store.replicate_to_state_machine([(3, r(3)), (4, r(4))])
    store = await lab.turn()
    expect(lab.machine.history, [1, 3, 4], "applied indexes")
