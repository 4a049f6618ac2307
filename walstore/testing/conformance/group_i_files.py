"""hashicorp/raft: the file snapshot store's files, and stores whose disk fails."""

import errno
import os

from ...errors import CorruptionError, StorageFailedError
from ._image import SMALL, Image, disk_of, faulty
from ._kit import (
    Lab,
    case,
    current_snapshot,
    expect,
    expect_log,
    expect_no_snapshot,
    expect_snapshot,
    expect_state,
    expect_true,
    log_and_apply,
    n,
    normals,
    read_all,
    refused,
    send,
)
from ._machines import expect_machine
from .group_f_building import compact


@case("I-02", reads=True, needs={"disk"})
async def directory_is_gone(lab: Lab) -> None:
    """Where no file can be made any more, `create_snapshot` is an OSError, and the store itself goes on."""
    disk = faulty(lab)
    store = await lab.open(config=SMALL)
    await log_and_apply(store, normals(1, 1, 4))
    disk.fail("create", name="snap-*", error=OSError(errno.ENOENT, os.strerror(errno.ENOENT)), once=False)
    with refused(OSError):
        await store.create_snapshot()
    with refused(OSError):
        await store.do_log_compaction()
    disk.heal()
    await expect_no_snapshot(store)
    await store.append_entry_to_log(n(1, 4))
    await compact(store)
    await expect_snapshot(store, 1, 3)


@case("I-06", reads=True, needs={"disk"})
async def directory_without_permission(lab: Lab) -> None:
    """A directory that may not be opened, or not be written, is an OSError at open."""
    for operation in ("open_directory", "create"):
        node = lab.another()
        disk = faulty(node)
        disk.fail(operation, error=OSError(errno.EACCES, os.strerror(errno.EACCES)), once=False)
        with refused(OSError):
            await node.open(config=SMALL)
        disk.heal()
        await expect_state(await node.open(config=SMALL), last=(0, 0))


@case("I-07", reads=True, needs={"disk"})
async def missing_parents(lab: Lab) -> None:
    """A store is made at a path of which nothing exists yet."""
    lab.harness.path = "/not/there/yet"
    store = await lab.open(config=SMALL)
    await store.replicate_to_log(normals(1, 1, 4))
    store = await lab.crash()
    await expect_log(store, normals(1, 1, 4))


async def _three_applied(lab: Lab) -> Image:
    store = await lab.open(config=SMALL)
    await log_and_apply(store, normals(1, 1, 4))
    await compact(store)
    await lab.close()
    return Image.of(lab)


@case("I-09", reads=True, needs={"disk"})
async def snapshot_checksum(lab: Lab) -> None:
    """A snapshot whose bytes do not have their checksum is not opened."""
    image = await _three_applied(lab)
    (name,) = image.names("snap-*")
    size = len(image.read(name))
    for offset in range(4096, size, 11):
        await image.copy().flip(name, offset).refused(lab, CorruptionError, what=f"a bit of byte {offset}")


@case("I-10", reads=True, needs={"disk"})
async def listing_skips_what_is_no_snapshot(lab: Lab) -> None:
    """Temporary files, other files and snapshots that nothing vouches for never become the current snapshot."""
    image = await _three_applied(lab)
    (name,) = image.names("snap-*")
    whole = image.read(name)
    strangers = {
        "snap-9-99": whole,
        "snap-8-98": b"\0" * 5000,
        "snap-5.tmp": whole,
        "snapshot-2-2": whole,
        "meta": b"?",
    }
    for stranger, data in strangers.items():
        image.write(stranger, data)
    async with image.opened(lab) as node:
        await expect_snapshot(node.store, 1, 3)
        async with (await current_snapshot(node.store)).snapshot as reader:
            expect(await read_all(reader), whole, "the bytes of the current snapshot")
        expect_machine(node, range(1, 4))


@case("I-12", reads=True, needs={"disk"})
async def leftover_is_removed(lab: Lab) -> None:
    """A temporary file that a dead process left is removed by the next open."""
    store = await lab.open(config=SMALL)
    await log_and_apply(store, normals(1, 1, 4))
    await send(store, b"half of a snapshot" * 100)
    image = Image.of(lab)  # as after a kill
    expect(len(image.names("snap-*.tmp")), 1, "the number of temporary snapshots after a kill")
    async with image.opened(lab) as node:
        expect(image.names("*.tmp"), [], "temporary files after the open")
        await expect_no_snapshot(node.store)


@case("I-19", reads=True, needs={"disk"})
async def failed_append_is_in_no_cache(lab: Lab) -> None:
    """When the append of entry 5 fails, 1 to 4 can be read and 5 cannot."""
    disk = faulty(lab)
    store = await lab.open(config=SMALL)
    await store.replicate_to_log(normals(1, 1, 5))
    disk.fail("pwritev", name="wal-*")
    with refused(StorageFailedError):
        await store.append_entry_to_log(n(1, 5))
    await expect_log(store, normals(1, 1, 5))
    expect(await store.get_log_entries(5, 6), [], "entry 5")
    await expect_state(store, last=(1, 4))


@case("I-33", reads=True, needs={"disk"})
async def restart_after_a_failed_append(lab: Lab) -> None:
    """After an append that the disk refused a restart works, and the entry does not come back as a ghost."""
    disk = faulty(lab)
    store = await lab.open(config=SMALL)
    await log_and_apply(store, normals(1, 1, 5))
    disk.fail("pwritev", name="wal-*")
    with refused(StorageFailedError):
        await store.append_entry_to_log(n(1, 5))
    await lab.close()
    lab.harness.filesystem = None
    store = await lab.reopen()
    await expect_log(store, normals(1, 1, 5))
    await store.append_entry_to_log(n(2, 5))
    store = await lab.crash()
    await expect_log(store, [*normals(1, 1, 5), n(2, 5)])
    expect_true(disk_of(lab) is not disk.inner, "the disk is the one after the crash")
