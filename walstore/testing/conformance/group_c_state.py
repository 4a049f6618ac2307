"""Group C, openraft's suite: the initial state."""

from ..._types import HardState, InitialState
from ...errors import InvertedLogError
from ._kit import (
    Lab,
    LogEntry,
    Store,
    apply_all,
    case,
    compact,
    content_after,
    e,
    expect,
    expect_log,
    expect_pointer,
    expect_snapshot,
    expect_state,
    identities,
    install,
    log_and_apply,
    m,
    make_snapshot,
    members,
    n,
    normals,
    r,
    read_log,
    refused,
)


@case("C-10")
async def initial_state_of_a_new_store(lab: Lab) -> None:
    """The state of a new store is the pristine one of its node."""
    await lab.open(node_id=3)
    store = await lab.turn()
    expect(await store.get_initial_state(), InitialState.new_initial(3), "initial state")


@case("C-11")
async def state_membership_from_snapshot(lab: Lab) -> None:
    """With nothing but a snapshot the state has the snapshot's membership."""
    data = await make_snapshot(lab, 1, 1, {3, 4, 5}, membership_index=1)
    store = await lab.open()
    await install(store, data, 1, 1, None)
    store = await lab.turn()
    expect(await store.get_initial_state(), InitialState(1, 1, 1, HardState(), members({3, 4, 5})), "initial state")


@case("C-12")
async def state_membership_from_later_snapshot(lab: Lab) -> None:
    """A config entry below the snapshot's gives way to the snapshot's membership."""
    data = await make_snapshot(lab, 2, 1, {3, 4, 5}, membership_index=2)
    store = await lab.open()
    await store.replicate_to_log([m(1, 1, {1, 2, 3}), e(1, 2), e(1, 3)])
    await install(store, data, 2, 1, 2)
    store = await lab.turn()
    await expect_log(store, [(1, 2), e(1, 3)])
    await expect_state(store, last=(1, 3), applied=2, membership={3, 4, 5})


@case("C-13")
async def state_membership_from_later_log(lab: Lab) -> None:
    """A config entry above the boundary counts, although the snapshot has another membership."""
    store = await lab.open()
    await log_and_apply(store, [m(1, 1, {3, 4, 5}), n(1, 2)])
    await compact(store)
    await store.append_entry_to_log(m(1, 3, {1, 2, 3}))
    store = await lab.turn()
    await expect_state(store, last=(1, 3), applied=2, membership={1, 2, 3})
    await expect_snapshot(store, 1, 2, {3, 4, 5})


@case("C-14")
async def state_with_all_parts(lab: Lab) -> None:
    """Hard state, last entry and applied index come from three calls, and stand in one state."""
    store = await lab.open()
    await store.save_hard_state(HardState(1, 0))
    await store.replicate_to_log([n(1, 1), e(3, 2)])
    await store.apply_entry_to_state_machine(1, r(1))
    store = await lab.turn()
    await expect_state(store, last=(3, 2), applied=1, hard=HardState(1, 0))


@case("C-15")
async def log_shorter_than_what_is_applied(lab: Lab) -> None:
    """After a truncation below the applied index the last entry is the log's; the applied index is what the machine
    really holds: both entries while the store lives, none once it was rebuilt from the log."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 3))
    await store.delete_logs_from(1, None)
    await store.append_entry_to_log(e(2, 1))
    store = await lab.turn()
    await expect_state(store, last=(2, 1), applied=2 if lab.live else 0)
    expect(lab.machine.history, [1, 2] if lab.live else [], "applied indexes")


@case("C-16")
async def snapshot_beyond_the_log(lab: Lab) -> None:
    """A snapshot beyond the end of the log is the log's end, and nothing below it is readable."""
    data = await make_snapshot(lab, 3, 3, {0})
    store = await lab.open()
    await store.replicate_to_log([e(1, 1), e(1, 2)])
    await install(store, data, 3, 3, None)
    store = await lab.turn()
    await expect_state(store, last=(3, 3), applied=3)
    await expect_pointer(store, 3, 3)
    expect(await store.get_log_entries(0, 3), [], "what is below the boundary")


@case("C-17", reads=True, needs={"disk"})
async def inverted_log_is_refused(lab: Lab) -> None:
    """A directory whose snapshot is below the log's end and of a higher term is refused."""
    await _refused_when_forged(lab, log_last=(1, 2), snapshot=(3, 1))


@case("C-18", reads=True, needs={"disk"})
async def conflict_at_the_same_index_is_refused(lab: Lab) -> None:
    """A directory whose snapshot and log end at one index with two terms is refused."""
    await _refused_when_forged(lab, log_last=(1, 2), snapshot=(3, 2))


async def _refused_when_forged(lab: Lab, *, log_last: tuple[int, int], snapshot: tuple[int, int]) -> None:
    await lab.harness.forge_inverted(log_last=log_last, snapshot=snapshot)
    for _ in range(2):  # the first refusal has changed nothing
        with refused(InvertedLogError):
            await lab.open()


async def _expect_keys(store: Store, step: str, boundary: tuple[int, int] | None, keys: list[tuple[int, int]]) -> None:
    """The last ordinary entry of each term is as in `keys`, the pointer at `boundary`, the state's last entry too."""
    log = await read_log(store)
    if boundary is not None:
        expect(identities(log[:1]), [boundary], f"step {step}: the pointer")
        await expect_pointer(store, *boundary)
        log = log[1:]
    last_of_term = {entry.term: entry.index for entry in log}
    expect(list(last_of_term.items()), keys, f"step {step}: the last entry of each term")
    expect([entry.index for entry in log], _indexes(log), f"step {step}: the indexes")
    ends = [(0, 0), *([boundary] if boundary else []), *keys]
    await expect_state(store, last=ends[-1])


def _indexes(log: list[LogEntry]) -> list[int]:
    return list(range(log[0].index, log[0].index + len(log))) if log else []


async def _purge(store: Store, index: int) -> None:
    """The boundary moves up to `index`: all up to there is applied and compacted."""
    await apply_all(store, await store.get_log_entries(1, index + 1))
    await compact(store)


@case("C-19")
async def log_ids(lab: Lab) -> None:
    """Seventeen steps of appends, a truncation and compactions: after each one the boundary and the last entry of each
    term are right, and so is the last entry of the state."""
    store = await lab.open()
    await _expect_keys(store, "a", None, [])

    await store.append_entry_to_log(n(0, 1))
    store = await lab.turn()
    await _expect_keys(store, "b", None, [(0, 1)])

    await store.replicate_to_log(normals(0, 2, 4))
    store = await lab.turn()
    await _expect_keys(store, "c", None, [(0, 3)])

    await store.delete_logs_from(2, None)
    await store.replicate_to_log([*normals(1, 2, 4), n(2, 4)])
    store = await lab.turn()
    await _expect_keys(store, "d", None, [(0, 1), (1, 3), (2, 4)])

    await store.replicate_to_log([n(2, 5), *normals(3, 6, 8)])
    store = await lab.turn()
    await _expect_keys(store, "e", None, [(0, 1), (1, 3), (2, 5), (3, 7)])

    for step, boundary, keys in (
        ("f", (0, 1), [(1, 3), (2, 5), (3, 7)]),
        ("g", (1, 2), [(1, 3), (2, 5), (3, 7)]),
        ("h", (1, 3), [(2, 5), (3, 7)]),
        ("i", (2, 4), [(2, 5), (3, 7)]),
        ("j", (2, 5), [(3, 7)]),
        ("k", (3, 6), [(3, 7)]),
        ("l", (3, 7), []),
    ):
        await _purge(store, boundary[1])
        store = await lab.turn()
        await _expect_keys(store, step, boundary, keys)

    await store.replicate_to_log(normals(3, 8, 10))
    store = await lab.turn()
    await _expect_keys(store, "m", (3, 7), [(3, 9)])

    await store.replicate_to_log(normals(4, 10, 15))
    store = await lab.turn()
    await _expect_keys(store, "n", (3, 7), [(3, 9), (4, 14)])

    await _purge(store, 14)
    await store.replicate_to_log([*normals(5, 15, 18), *normals(6, 18, 20)])
    store = await lab.turn()
    await _expect_keys(store, "o", (4, 14), [(5, 17), (6, 19)])

    await _purge(store, 19)
    await store.replicate_to_log(normals(7, 20, 30))
    store = await lab.turn()
    await _expect_keys(store, "p", (6, 19), [(7, 29)])

    await _purge(store, 29)
    await store.replicate_to_log(normals(8, 30, 35))
    store = await lab.turn()
    await _expect_keys(store, "q", (7, 29), [(8, 34)])


@case("C-20")
async def applied_entries_are_applied_again(lab: Lab) -> None:
    """A rebuilt machine holds the snapshot and what was applied after it, and nothing that was not.  The mark needs no
    barrier of its own: the vote that is saved afterwards carries it."""
    store = await lab.open(config={"sync_apply": False})
    await log_and_apply(store, normals(1, 1, 2))
    await compact(store)
    await store.replicate_to_log(normals(1, 2, 6))
    await store.apply_entry_to_state_machine(2, r(2))
    await store.replicate_to_state_machine([(3, r(3)), (4, r(4))])
    await store.save_hard_state(HardState(2, 0))
    store = await lab.turn()
    await expect_state(store, last=(1, 5), applied=4, hard=HardState(2, 0))
    expect(lab.machine.history, [1, 2, 3, 4], "applied indexes")
    expect(lab.machine.content(), content_after((index, r(index)) for index in range(1, 5)), "the machine")
