"""openraft, tests/tests/append_entries, log_store and life_cycle: conflicts in the log, and what a restart keeps."""

from ..._types import HardState
from ._kit import (
    Lab,
    LogEntry,
    Store,
    blanks,
    case,
    e,
    expect,
    expect_log,
    expect_snapshot,
    expect_state,
    log_and_apply,
    m,
    n,
    normals,
    r,
)
from ._machines import expect_machine
from .group_f_building import compact


@case("F-25")
async def applied_mark_is_durable(lab: Lab) -> None:
    """The applied mark survives once a later frame of the log is durable, also without `sync_apply`."""
    store = await lab.open(config={"sync_apply": False})
    await store.replicate_to_log(normals(1, 1, 6))
    await store.replicate_to_state_machine([(index, r(index)) for index in range(1, 4)])
    await store.save_hard_state(HardState(2, None))
    store = await lab.turn()
    await expect_state(store, last=(1, 5), applied=3, hard=HardState(2, None))
    expect_machine(lab, range(1, 4))


@case("F-26")
async def restart_brings_the_machine_back(lab: Lab) -> None:
    """A machine that lives in memory holds the same after a restart as before it."""
    store = await lab.open()
    await log_and_apply(store, [m(1, 1, {0}), *normals(1, 2, 12)])
    before = lab.machine.content()
    await lab.turn()
    expect(lab.machine.content(), before, "what the machine holds")
    expect_machine(lab, range(2, 12))


@case("F-27")
async def restart_keeps_vote_log_and_membership(lab: Lab) -> None:
    """Hard state, last entry and membership are what they were before a restart."""
    store = await lab.open(node_id=1)
    await store.save_hard_state(HardState(3, 2))
    await store.replicate_to_log([m(1, 1, {1, 2}), e(2, 2), e(3, 3)])
    store = await lab.turn()
    await expect_state(store, last=(3, 3), applied=0, hard=HardState(3, 2), membership={1, 2})


@case("F-28")
async def machine_is_snapshot_and_replay(lab: Lab) -> None:
    """A machine that starts empty is filled from the snapshot and from the applied entries behind it."""
    store = await lab.open()
    await log_and_apply(store, normals(1, 1, 6))
    await compact(store)
    await log_and_apply(store, [n(1, 6), e(1, 7), n(1, 8)])
    await store.replicate_to_log(normals(1, 9, 11))
    store = await lab.turn()
    await expect_snapshot(store, 1, 5)
    await expect_state(store, last=(1, 10), applied=8)
    expect_machine(lab, [1, 2, 3, 4, 5, 6, 8])


async def expect_terms(store: Store, terms: list[int]) -> None:
    """The log begins at 1 and has these terms."""
    await expect_log(store, [(term, index) for index, term in enumerate(terms, 1)])


@case("F-30")
async def conflicting_appends(lab: Lab) -> None:
    """Entries that are sent again change nothing; a conflict cuts the log where it is, and only there."""
    store = await lab.open()
    log: list[LogEntry] = [e(0, 1), *blanks(1, 2, 6)]
    await store.replicate_to_log(log)
    await store.replicate_to_log(log)
    await expect_terms(store, [0, 1, 1, 1, 1])
    await store.replicate_to_log([e(1, 3)])
    await expect_terms(store, [0, 1, 1, 1, 1])
    await store.replicate_to_log([e(2, 4)])
    await expect_terms(store, [0, 1, 1, 2])
    await store.delete_logs_from(4)  # the entry before the sent ones had another term
    await expect_terms(store, [0, 1, 1])
    await store.replicate_to_log([e(2, 4), e(2, 5), e(2, 6)])
    await store.replicate_to_log([e(3, 5)])
    await expect_terms(store, [0, 1, 1, 2, 3])
    expect(await store.get_log_entries(5000, 5001), [], "an entry far beyond the end")
    store = await lab.turn()
    await expect_terms(store, [0, 1, 1, 2, 3])
    await expect_state(store, last=(3, 5))


@case("F-31")
async def replaces_a_long_conflicting_suffix(lab: Lab) -> None:
    """Ninety-nine entries of an old term give way to two of a new one: none of them is left."""
    store = await lab.open()
    await store.replicate_to_log([e(1, 1), *blanks(2, 2, 101)])
    await store.replicate_to_log([e(3, 2), n(3, 3)])
    store = await lab.turn()
    await expect_log(store, [e(1, 1), e(3, 2), n(3, 3)])
    await expect_state(store, last=(3, 3))


@case("F-32")
async def conflict_reverts_the_membership(lab: Lab) -> None:
    """A membership entry that a conflict removed no longer counts; the one before it does."""
    store = await lab.open()
    await store.replicate_to_log([e(1, 1), m(1, 2, {1, 2}), e(1, 3), m(1, 4, {1, 2, 3, 4}), e(1, 5)])
    await expect_state(store, membership={1, 2, 3, 4})
    await store.replicate_to_log([e(2, 3)])
    store = await lab.turn()
    await expect_state(store, last=(2, 3), membership={1, 2})


@case("F-34")
async def last_entry_is_never_stale(lab: Lab) -> None:
    """After a truncation the last entry is the one that is left, and the next append follows it."""
    store = await lab.log10()
    await store.delete_logs_from(6)
    await expect_state(store, last=(1, 5))
    await store.append_entry_to_log(e(2, 6))
    await expect_state(store, last=(2, 6))
    await store.delete_logs_from(3)
    store = await lab.turn()
    await expect_state(store, last=(1, 2))
    await store.append_entry_to_log(e(3, 3))
    await expect_log(store, [(1, 1), (1, 2), (3, 3)])
