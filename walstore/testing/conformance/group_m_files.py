"""Wanted: what lies in the directory: leftovers, strangers, damaged and missing snapshots."""

from ...errors import CorruptionError
from ._image import SMALL, Image, disk_of
from ._kit import (
    Lab,
    attribute,
    case,
    e,
    expect,
    expect_log,
    expect_snapshot,
    expect_state,
    expect_true,
    has,
    install,
    log_and_apply,
    m,
    make_snapshot,
    normals,
    refused,
    send,
    snapshot_bytes,
)
from ._machines import expect_machine
from .group_f_building import compact


async def _compacted(lab: Lab) -> Image:
    """A closed store with a snapshot at 3 and two entries above it."""
    store = await lab.open(config=SMALL)
    await log_and_apply(store, [m(1, 1, {0, 1}), *normals(1, 2, 4)])
    await compact(store)
    await log_and_apply(store, normals(1, 4, 6))
    await lab.close()
    return Image.of(lab)


async def _expect_compacted(lab: Lab) -> None:
    await expect_log(lab.store, [(1, 3), *normals(1, 4, 6)])
    await expect_snapshot(lab.store, 1, 3, {0, 1})
    expect_machine(lab, range(2, 6))


@case("M-44", reads=True, needs={"disk"})
async def orphans_of_earlier_attempts(lab: Lab) -> None:
    """Temporary files of earlier lives are removed by an open, and do not keep a new snapshot from being received."""
    image = await _compacted(lab)
    for name in ("snap-1.tmp", "snap-77.tmp", "spare-3.tmp", "wal-9.tmp", "IDENTITY.tmp"):
        image.write(name, b"left over")
    data = await make_snapshot(lab, 9, 2)
    async with image.opened(lab) as node:
        expect(image.names("*.tmp"), [], "temporary files after the open")
        await _expect_compacted(node)
        for number in range(5):
            image.write(f"snap-{number}.tmp", b"left over")
        await install(node.store, data, 9, 2)
        expect(await snapshot_bytes(node.store), data, "the bytes of the current snapshot")
    async with image.opened(lab) as node:
        expect(image.names("*.tmp"), [], "temporary files after the next open")
        await expect_state(node.store, last=(2, 9), applied=9)


@case("M-58", reads=True, needs={"disk"})
async def one_snapshot_and_no_temporary_file(lab: Lab) -> None:
    """After an install the directory holds that snapshot's file, no other and no temporary one."""
    image = await _compacted(lab)
    first, second = await make_snapshot(lab, 9, 2), await make_snapshot(lab, 20, 3)
    async with image.opened(lab) as node:
        await send(node.store, second)
        await send(node.store, first)
        for data, index, term in ((first, 9, 2), (second, 20, 3), (first, 9, 2)):
            await install(node.store, data, index, term)
            expect(len(image.names("snap-*")), 1, "the number of snapshot files")
            expect(image.names("*.tmp"), [], "temporary files")
        expect(image.names("snap-*"), ["snap-3-20"], "the snapshot file")
        expect(image.read("snap-3-20"), second, "its bytes, which are those that were sent")


@case("M-66", reads=True, needs={"disk"})
async def damaged_snapshot(lab: Lab) -> None:
    """A bit that turns anywhere in the current snapshot is an error at open, and when it is read; never None."""
    image = await _compacted(lab)
    (name,) = image.names("snap-*")
    size = len(image.read(name))
    for offset in (0, 20, 64, 90, 4000, 4096, 4100, 4112, 4130, size - 40, size - 30, size - 1):
        await image.copy().flip(name, offset).refused(lab, CorruptionError, what=f"a bit of byte {offset}")
    for length in (0, 100, 4096, size - 1):
        await image.copy().cut(name, length).refused(lab, CorruptionError, what=f"a cut at {length}")
    async with image.opened(lab) as node:
        image.flip(name, size - 50)
        with refused(CorruptionError):
            await node.store.get_current_snapshot()
        await node.store.append_entry_to_log(e(1, 6))


@case("M-67", reads=True, needs={"disk"})
async def missing_snapshot(lab: Lab) -> None:
    """A current snapshot whose file is gone is an error at open, and when it is asked for."""
    image = await _compacted(lab)
    (name,) = image.names("snap-*")
    error = await image.copy().remove(name).refused(lab, CorruptionError, what="a missing snapshot")
    expect_true(error.path is not None and error.path.endswith(name), "the error names the file")
    async with image.opened(lab) as node:
        image.remove(name)
        with refused(CorruptionError):
            await node.store.get_current_snapshot()


@case("M-68", reads=True, needs={"disk"})
async def foreign_files(lab: Lab) -> None:
    """Foreign files, and snapshots that the log does not speak of, change nothing; foreign files are left alone."""
    image = await _compacted(lab)
    strangers = {"blah.txt": b"hello", "core.1234": b"\0" * 100, "notes": b"", "wal": b"x", "snapshot": b"y"}
    for name, data in strangers.items():
        image.write(name, data)
    image.write("snap-99-9999", b"newer by its name, and never heard of")
    async with image.opened(lab) as node:
        await _expect_compacted(node)
        for name, data in strangers.items():
            expect(image.read(name), data, f"the stranger {name}")
        if has(node.store, "recovery"):
            expect_true(not attribute(node.store, "recovery").torn, "strangers are no damage to the log")
    expect_true(disk_of(lab) is not image.disk, "the image is a copy")
