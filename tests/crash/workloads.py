"""The workloads whose crash points are explored.

Together they cover every mutating method, rotation, purge, compaction, install, overwrite, truncation, group commit,
close and reopen.
"""

from collections.abc import Awaitable, Callable

from walstore import (
    Blank,
    ConfigChange,
    Entry,
    HardState,
    MembershipConfig,
    Normal,
    SnapshotHeader,
    StorageConfig,
)
from walstore._log.container import pack
from walstore.kv import Command, KeyValue, Put

from .explorer import Driver

Workload = Callable[[Driver], Awaitable[None]]

TINY = StorageConfig(
    first_segment_size=4096, segment_size=4096, commit_align=64, preallocate="none", prepare_ahead=False
)
"""Small segments in growing files: few sectors, so that most crash states are gone through without sampling."""

ZEROED = StorageConfig(
    first_segment_size=4096, segment_size=4096, commit_align=512, preallocate="zero", prepare_ahead=False
)
"""The same with segments filled with zeros, as by default."""

APPLYING = StorageConfig(
    first_segment_size=4096,
    segment_size=4096,
    commit_align=512,
    preallocate="fallocate",
    prepare_ahead=False,
    sync_apply=True,
)
"""Applies that are durable on return, in segments that were allocated and not written."""

DEFAULT = StorageConfig(first_segment_size=4096, segment_size=4096)
"""Pages of 4096 bytes, and the thread that makes segments ahead: as by default, but small."""


def put(term: int, index: int, size: int = 8) -> Entry[Command]:
    """An entry that sets a key."""
    return Entry(term, index, Normal(Put(b"k%d" % index, b"%d" % term * size)))


def puts(term: int, start: int, stop: int, size: int = 8) -> list[Entry[Command]]:
    """Such entries at [start, stop)."""
    return [put(term, index, size) for index in range(start, stop)]


def config(term: int, index: int, *members: int) -> Entry[Command]:
    """An entry that sets the membership."""
    return Entry(term, index, ConfigChange(MembershipConfig(members)))


async def applied(driver: Driver, start: int, stop: int) -> None:
    """Applies the Normal entries at [start, stop)."""
    entries = await driver.store.get_log_entries(start, stop)
    normal = [(entry.index, entry.payload.data) for entry in entries if isinstance(entry.payload, Normal)]
    await driver.store.replicate_to_state_machine(normal)


def snapshot_bytes(term: int, index: int) -> bytes:
    """The bytes of a peer's snapshot."""
    machine = KeyValue()
    machine.apply(index, Put(b"peer", b"%d" % index))
    header = SnapshotHeader(f"{term}-{index}", term, index, MembershipConfig({1, 2, 3}), 1)
    return b"".join(pack(header, machine.capture().chunks()))


async def _install(driver: Driver, term: int, index: int, through: int | None) -> None:
    id, writer = await driver.store.create_snapshot()
    await writer.send_all(snapshot_bytes(term, index))
    await writer.aclose()
    await driver.do(
        f"install {index}",
        lambda: driver.store.finalize_snapshot_installation(index, term, through, id, writer),
    )


async def votes(driver: Driver) -> None:
    """Terms and votes, with entries between them."""
    await driver.open()
    for term in (1, 2, 3):
        await driver.do("vote", lambda term=term: driver.store.save_hard_state(HardState(term)))  # type: ignore[misc]  # the loop's value, kept
        await driver.do("vote", lambda term=term: driver.store.save_hard_state(HardState(term, 0)))  # type: ignore[misc]  # the loop's value, kept
        await driver.do("append", lambda term=term: driver.store.append_entry_to_log(put(term, term)))  # type: ignore[misc]  # the loop's value, kept


async def appends(driver: Driver) -> None:
    """Single entries and batches, of every payload."""
    await driver.open()
    await driver.do("config", lambda: driver.store.append_entry_to_log(config(1, 1, 1, 2)))
    await driver.do("batch", lambda: driver.store.replicate_to_log(puts(1, 2, 8)))
    await driver.do("blank", lambda: driver.store.append_entry_to_log(Entry(2, 8, Blank())))
    await driver.do("wide", lambda: driver.store.replicate_to_log(puts(2, 9, 12, size=700)))


async def overwrites(driver: Driver) -> None:
    """A suffix is replaced by another term's, twice, the membership in it too."""
    await driver.open()
    await driver.do("batch", lambda: driver.store.replicate_to_log([*puts(1, 1, 5), config(1, 5, 1, 2)]))
    await driver.do("replace", lambda: driver.store.replicate_to_log(puts(2, 4, 6)))
    await driver.do("replace", lambda: driver.store.append_entry_to_log(config(3, 2, 1, 3)))
    await driver.do("append", lambda: driver.store.append_entry_to_log(put(3, 3)))


async def truncations(driver: Driver) -> None:
    """A suffix goes, other entries come, a prefix goes, everything goes, and the log begins elsewhere."""
    await driver.open()
    await driver.do("batch", lambda: driver.store.replicate_to_log(puts(1, 1, 8)))
    await driver.do("suffix", lambda: driver.store.delete_logs_from(5))
    await driver.do("append", lambda: driver.store.replicate_to_log(puts(2, 5, 7)))
    await driver.do("prefix", lambda: driver.store.delete_logs_from(0, 3))
    await driver.do("all", lambda: driver.store.delete_logs_from(0))
    await driver.do("elsewhere", lambda: driver.store.append_entry_to_log(put(2, 100)))


async def rotations(driver: Driver) -> None:
    """Segments fill and others follow; old ones are purged when a prefix goes."""
    await driver.open()
    for start in range(1, 25, 3):
        await driver.do(
            "batch",
            lambda start=start: driver.store.replicate_to_log(puts(1, start, start + 3, size=500)),  # type: ignore[misc]  # the loop's value, kept
        )
    await driver.do("vote", lambda: driver.store.save_hard_state(HardState(1, 1)))
    await driver.do("prefix", lambda: driver.store.delete_logs_from(0, 15))


async def groups(driver: Driver) -> None:
    """Several calls share a barrier, one of them overwrites."""
    await driver.open()
    barriers = []
    for entries in (puts(1, 1, 3), puts(1, 3, 4, size=600), puts(2, 3, 6), puts(2, 6, 7)):
        barriers.append(await driver.store.append(entries))
        driver.planned("group")
    for barrier in barriers:
        await barrier.wait()
    driver.through(len(barriers))
    await driver.do("append", lambda: driver.store.append_entry_to_log(put(2, 7)))


async def compactions(driver: Driver) -> None:
    """Two compactions, with entries before, between and after."""
    await driver.open()
    await driver.do("batch", lambda: driver.store.replicate_to_log([config(1, 1, 1, 2), *puts(1, 2, 6)]))
    await applied(driver, 1, 5)
    await driver.do("compact", lambda: compacted(driver))
    await driver.do("batch", lambda: driver.store.replicate_to_log(puts(1, 6, 9)))
    await applied(driver, 5, 9)
    await driver.do("compact", lambda: compacted(driver))
    await driver.do("append", lambda: driver.store.append_entry_to_log(put(1, 9)))


async def compacted(driver: Driver) -> None:
    """One compaction, its reader closed."""
    current = await driver.store.do_log_compaction()
    await current.snapshot.aclose()


async def installs(driver: Driver) -> None:
    """A peer's snapshot beyond the log, then one inside it that keeps the suffix, then one that drops it."""
    await driver.open()
    await driver.do("batch", lambda: driver.store.replicate_to_log(puts(1, 1, 4)))
    await _install(driver, 2, 10, None)
    await driver.do("batch", lambda: driver.store.replicate_to_log(puts(2, 11, 16)))
    await _install(driver, 2, 12, 12)
    await _install(driver, 3, 14, 14)
    await driver.do("append", lambda: driver.store.append_entry_to_log(put(3, 15)))


async def applies(driver: Driver) -> None:
    """A first boot, entries applied one by one and together, and an attestation; for `sync_apply` too."""
    await driver.open()
    await driver.do("term", lambda: driver.store.save_hard_state(HardState(1)))  # the first of its two steps
    await driver.do("bootstrap", lambda: driver.store.bootstrap(MembershipConfig({1, 2})))
    await driver.do("batch", lambda: driver.store.replicate_to_log(puts(1, 2, 7)))
    for index in (2, 3):
        entry = put(1, index).payload
        assert isinstance(entry, Normal)
        await driver.do(
            "apply",
            lambda index=index, data=entry.data: driver.store.apply_entry_to_state_machine(index, data),  # type: ignore[misc]  # the loop's values, kept
        )
    await driver.do("apply", lambda: applied(driver, 4, 7))
    await driver.do("attest", driver.store.attest)
    await driver.do("append", lambda: driver.store.append_entry_to_log(put(1, 7)))


async def reopens(driver: Driver) -> None:
    """Clean closes with an open after each, entries and a vote in between."""
    await driver.open()
    await driver.do("batch", lambda: driver.store.replicate_to_log(puts(1, 1, 4)))
    await driver.close()
    await driver.open()
    await driver.do("vote", lambda: driver.store.save_hard_state(HardState(2, 1)))
    await driver.close()
    await driver.open()
    await driver.close()
    await driver.open()
    await driver.do("replace", lambda: driver.store.append_entry_to_log(put(2, 3)))


async def everything(driver: Driver) -> None:
    """A life: rotation, compaction, overwrite, install, truncation, reopen."""
    await driver.open()
    await driver.do("vote", lambda: driver.store.save_hard_state(HardState(1, 1)))
    for start in range(1, 10, 3):
        await driver.do(
            "batch",
            lambda start=start: driver.store.replicate_to_log(puts(1, start, start + 3, size=600)),  # type: ignore[misc]  # the loop's value, kept
        )
    await applied(driver, 1, 8)
    await driver.do("compact", lambda: compacted(driver))
    await driver.do("replace", lambda: driver.store.replicate_to_log(puts(2, 9, 12)))
    await driver.close()
    await driver.open()
    await _install(driver, 2, 11, 11)
    await driver.do("suffix", lambda: driver.store.delete_logs_from(12))
    await driver.do("append", lambda: driver.store.append_entry_to_log(put(2, 12)))


WORKLOADS: dict[str, Workload] = {
    workload.__name__: workload
    for workload in (
        votes,
        appends,
        overwrites,
        truncations,
        rotations,
        groups,
        compactions,
        installs,
        applies,
        reopens,
        everything,
    )
}
