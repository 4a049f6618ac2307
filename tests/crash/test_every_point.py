"""Crash safety on the simulated disk: every crash point of every workload, and that the search would find a mistake."""

from collections.abc import Callable

import pytest

from walstore import StorageConfig
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.operations import lint
from walstore.testing.simulated import SimulatedFileSystem

from .explorer import Driver, Tally, Violation, explore
from .workloads import APPLYING, DEFAULT, TINY, WORKLOADS, ZEROED, Workload

BOUND = 24
"""Crash states a prefix, in the ordinary run; `python -m tests.crash.campaign` goes much further."""

CONFIGS = {"growing": TINY, "zero-filled": ZEROED}
MORE = {"applying": (APPLYING, ("applies", "everything")), "default": (DEFAULT, ("rotations", "compactions"))}


async def driven(workload: Workload, config: StorageConfig, wrap: Callable[[FaultyFileSystem], object]) -> Driver:
    """The workload, done once; `wrap` may leave operations out."""
    disk = SimulatedFileSystem()
    faulty = FaultyFileSystem(disk)
    wrap(faulty)
    driver = Driver(disk, config, faulty)
    await workload(driver)
    await driver.close()
    return driver


def explored(driver: Driver, bound: int = BOUND) -> Tally:
    """All crash points of what was driven."""
    return explore(driver.disk, driver.steps, driver.config, bound=bound, inner_bound=6, inner_every=97)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("workload", WORKLOADS)
async def test_every_crash_point_recovers(workload: str, config: str) -> None:
    """Whatever a power cut leaves: nothing acknowledged is lost, nothing invented, and recovering twice agrees."""
    driver = await driven(WORKLOADS[workload], CONFIGS[config], lambda _: None)

    tally = explored(driver)

    assert tally.prefixes == len(driver.disk.operations) + 1
    assert tally.states > 2 * tally.prefixes


@pytest.mark.parametrize(("config", "workload"), [(config, one) for config in MORE for one in MORE[config][1]])
async def test_every_crash_point_of_other_settings(config: str, workload: str) -> None:
    """The same with `sync_apply`, and with pages and the thread of the default."""
    driver = await driven(WORKLOADS[workload], MORE[config][0], lambda _: None)

    tally = explored(driver, bound=12)

    assert tally.states > tally.prefixes


@pytest.mark.parametrize("workload", WORKLOADS)
async def test_write_discipline(workload: str) -> None:
    """Each rename comes after a sync of its file and before one of the directory, and no durable byte is rewritten."""
    driver = await driven(WORKLOADS[workload], ZEROED, lambda _: None)

    assert lint(driver.disk.operations) == []


async def test_workloads_rotate_and_purge() -> None:
    """The workloads that are there for it do rotate and purge."""
    driver = await driven(WORKLOADS["rotations"], ZEROED, lambda _: None)
    statistics = driver.store.statistics()

    assert statistics.rotations >= 1
    assert statistics.purged_segments >= 1


BARRIERS: dict[str, tuple[str, str, str]] = {
    "a frame is not synced": ("datasync", "wal-*", "appends"),
    "a new segment is not synced before it has its name": ("datasync", "spare-*", "rotations"),
    "a snapshot is not synced before it has its name": ("datasync", "snap-*", "compactions"),
    "an installed snapshot is not synced": ("datasync", "snap-*", "installs"),
    "no directory is synced": ("sync", "*", "rotations"),
    "no directory is synced after a snapshot got its name": ("sync", "*", "compactions"),
    "the identity is not synced": ("datasync", "IDENTITY*", "votes"),
}


@pytest.mark.parametrize("barrier", BARRIERS)
async def test_a_missing_barrier_is_found(barrier: str) -> None:
    """The search reports a store that leaves this barrier out: a search that finds nothing proves nothing."""
    operation, name, workload = BARRIERS[barrier]
    driver = await driven(WORKLOADS[workload], ZEROED, lambda disk: disk.skip(operation, name=name))

    with pytest.raises(Violation):
        explored(driver)
