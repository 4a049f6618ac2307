"""Small stores at rest, to be damaged: with a snapshot, several segments, and entries of every kind of frame."""

from walstore import HardState, StorageConfig
from walstore.testing.simulated import SimulatedFileSystem

from .explorer import Driver
from .rot import Files, files_of
from .workloads import applied, compacted, put, puts


async def small_store(config: StorageConfig) -> tuple[Files, Files]:
    """The files of a store with two or more segments and a snapshot: as a kill leaves them, and after a clean close."""
    disk = SimulatedFileSystem()
    driver = Driver(disk, config)
    await driver.open()
    store = driver.store
    await store.save_hard_state(HardState(1, 1))
    await store.replicate_to_log(puts(1, 1, 5))
    await applied(driver, 1, 4)
    await compacted(driver)
    for start in range(5, 17, 2):
        await store.replicate_to_log(puts(1, start, start + 2, size=400))
    await store.delete_logs_from(16)
    await store.append_entry_to_log(put(2, 16))
    await applied(driver, 4, 12)
    await store.append_entry_to_log(put(2, 17))
    killed = files_of(disk.crash_keeping_everything())
    await driver.close()
    return killed, files_of(disk.crash_keeping_everything())


def segments(files: Files) -> list[str]:
    """The names of the segments, oldest first."""
    return sorted(name for name in files if name.startswith("wal-"))


def judged(files: Files) -> list[str]:
    """The names of the files that an open reads and believes."""
    return [name for name in files if name not in ("LOCK", "EMERGENCY")]
