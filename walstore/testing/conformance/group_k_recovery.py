"""hashicorp/raft-wal: opening what a crash, a fault or a vandal left; recovery and verification."""

from collections.abc import Awaitable, Callable
from functools import partial

import attrs

from ..._log.identity import Identity
from ..._log.version import Version
from ...errors import CorruptionError, StorageFailedError, UnsupportedFormatError
from ._cancel import observe
from ._image import SMALL, ZEROED, Image, disk_of, faulty
from ._kit import (
    CaseFailure,
    Lab,
    LogEntry,
    any_of,
    case,
    expect,
    expect_log,
    expect_state,
    expect_true,
    n,
    normals,
    r,
    read_log,
)
from .group_k_log import append_by_tens, wide


async def _expect_works(node: Lab, first: int, last: int) -> None:
    """Every entry of first..last can be read, their neighbours are absent, and an append works and survives."""
    store = node.store
    await expect_log(store, wide(first, last + 1) if last else [])
    expect(await store.get_log_entries(last + 1, last + 2), [], "the entry after the last")
    await store.append_entry_to_log(wide(last + 1, last + 2)[0])
    store = await node.reopen()
    await expect_log(store, wide(first, last + 2) if last else wide(1, 2))


async def _killed(lab: Lab, last: int) -> Image:
    """What the death of a process leaves of a store with the entries 1 to `last`."""
    node = lab.another()
    store = await node.open(config=SMALL)
    await append_by_tens(store, 1, last + 1)
    return Image.of(node)


@case("K-01", reads=True, needs={"disk"})
async def open_what_is_there(lab: Lab) -> None:
    """An empty directory, one segment, several: all open.  Unknown formats, lost and doubled segments do not."""
    for last in (0, 10, 210):
        image = await _killed(lab, last)
        expect_true(len(image.segments()) > last // 100, "there are as many segments as it takes")
        async with image.opened(lab) as node:
            await _expect_works(node, 1, last)
    image = await _killed(lab, 110)
    names = image.segments()
    identity = Identity.decode(image.read("IDENTITY"))
    newer = attrs.evolve(identity, version=Version(incompat=2)).encode()
    await image.copy().write("IDENTITY", newer).refused(lab, UnsupportedFormatError, what="an unknown feature")
    page = attrs.evolve(image.page(names[-1]), version=Version(incompat=2)).encode()
    await image.copy().patch(names[-1], 0, page).refused(lab, UnsupportedFormatError, what="an unknown feature")
    second = image.frames(names[-1])[1]
    rotten = image.copy().flip(names[0], image.frames(names[0])[1].offset + 70)
    await rotten.refused(lab, CorruptionError, what="rot in the first segment")
    expect_true(second.offset > 0, "the newest segment has a frame of entries")
    doubled = image.copy().write(f"wal-{len(names) + 1:016x}-{111:020d}.wal", image.read(names[-1]))
    await doubled.refused(lab, CorruptionError, what="the newest segment under two names")
    await image.copy().remove(names[-1]).refused(lab, CorruptionError, what="a newest segment that is gone")
    await image.copy().remove(names[1]).refused(lab, CorruptionError, what="a segment in the middle that is gone")
    await _faults_at_open(lab, image)


async def _faults_at_open(lab: Lab, image: Image) -> None:
    """What fails while a store is opened is raised, and the next open finds everything as it was."""
    async with image.copy().opened(lab) as node:
        whole = await observe(node)
    faults = {
        "the identity cannot be opened": ("open", "IDENTITY"),
        "the directory cannot be listed": ("names", "*"),
        "a segment cannot be opened": ("open", "wal-*"),
        "a segment cannot be read": ("pread", "wal-*"),
        "a new segment cannot be made": ("create", "spare-*"),
        "a new segment cannot be written": ("pwritev", "spare-*"),
        "a new segment cannot be synced": ("datasync", "spare-*"),
        "a new segment cannot be named": ("rename", "spare-*"),
        "the directory cannot be synced": ("sync", "*"),
    }
    for what, (operation, name) in faults.items():
        copy = image.copy().remove("EMERGENCY")
        node = lab.another()
        node.harness.disk, node.harness.path = copy.disk, copy.path
        faulty(node).fail(operation, name=name, once=False)
        surfaced = False
        try:
            await node.open(config=SMALL)
        except OSError:
            surfaced = True
        expect_true(surfaced, f"an open raises when {what}")
        async with copy.opened(lab) as again:
            expect(await observe(again), whole, f"the store after an open in which {what}")


@case("K-10", reads=True, needs={"disk"})
async def recovery(lab: Lab) -> None:
    """Each commit survives; a torn last one is gone wholly; what a name or a later commit proves is not given up."""
    store = await lab.open(config=SMALL)
    states = [await observe(lab)]
    images = [Image.of(lab)]
    for batch in (wide(1, 2), wide(2, 3), wide(3, 8), [n(1, 8, r(8, "B" * 200_000))], wide(9, 10)):
        await store.replicate_to_log(batch)
        states.append(await observe(lab))
        images.append(Image.of(lab))
    for state, image in zip(states, images, strict=True):
        async with image.copy().opened(lab) as node:
            expect(await observe(node), state, "what is there after a kill")
    for place in (1, 2, 3):
        await _torn_last(lab, images[place], states[place - 1])
    for place in (1, 3):
        await _damaged_for_good(lab, images[place])
    await lab.close()
    async with Image.of(lab).opened(lab) as node:
        expect(await observe(node), states[-1], "what is there after a clean close")


async def _torn_last(lab: Lab, image: Image, before: tuple[object, ...]) -> None:
    """The last commit is as a power cut may leave it, or nearly so: it is gone, and nothing else is."""
    name = image.segments()[-1]
    last = image.frames(name)[-1]
    middle = (last.body_offset + last.end) // 2
    torn: dict[str, Image] = {
        "zeros in its place": image.copy().patch(name, last.offset, bytes(last.next_offset - last.offset)),
        "zeros from its middle on": image.copy().patch(name, middle, bytes(last.next_offset - middle)),
        "a header of zeros": image.copy().patch(name, last.offset, bytes(64)),
        "a cut behind its header": image.copy().cut(name, last.body_offset),
    }
    for what, copy in torn.items():
        async with copy.opened(lab) as node:
            expect(await observe(node), before, f"what is there after a kill that left {what}")
            last_index = (await node.store.get_initial_state()).last_log_index
            await node.store.append_entry_to_log(n(2, last_index + 1))
            store = await node.reopen()
            await expect_state(store, last=(2, last_index + 1))
    # One bit turned is not what a power cut does.  To take it for a tear all the same is the operator's choice.
    for what, offset in (("header", last.offset + 9), ("body", middle)):
        rotten = image.copy().flip(name, offset)
        await rotten.refused(lab, CorruptionError, what=f"one bit in the {what} of the last commit")
        async with rotten.opened(lab, config={**SMALL, "policy": "tolerate_suspect_tail"}) as node:
            expect(await observe(node), before, "what is there when a suspect tail is tolerated")


async def _damaged_for_good(lab: Lab, image: Image) -> None:
    """A segment's name proves its header page, whatever few commits are in it."""
    name = image.segments()[-1]
    page = image.page(name)
    other = f"wal-{page.segment_sequence:016x}-{page.first_index + 7:020d}.wal"
    damaged: dict[str, Image] = {
        "a bad magic": image.copy().flip(name, 1),
        "a bad header page": image.copy().flip(name, 60),
        "another base index": image.copy().write(other, image.read(name)).remove(name),
        "an empty file": image.copy().cut(name, 0),
        "no opening frame": image.copy().cut(name, 4096),
    }
    for what, copy in damaged.items():
        await copy.refused(lab, CorruptionError, what=what)


@case("K-12", reads=True, needs={"disk"})
async def listing_edge_cases(lab: Lab) -> None:
    """Foreign names are ignored; a name that looks like a segment and is none may be lost data, and is refused."""
    async with Image(disk_of(lab), "/empty").opened(lab) as node:
        await expect_state(node.store, last=(0, 0))
    image = await _killed(lab, 5)
    image.write("blah.txt", b"nothing to do with a log")
    async with image.copy().opened(lab) as node:
        await _expect_works(node, 1, 5)
    malformed = (
        "wal-00000001-00000000000000000001.wal",
        "wal-0000000000000001-zxcv.wal",
        "wal-zxcv.wal",
        "0000000000100000000001.wal",
        "wal-000000000000000A-00000000000000000001.wal",
        "wal-0000000000000000-00000000000000000001.wal",
        "wal-0000000000000002-99999999999999999999.wal",
        "snap-01-1",
        "snap-1",
    )
    for name in malformed:
        error = await image.copy().write(name, b"?").refused(lab, CorruptionError, what=name)
        expect_true(error.path is not None and error.path.endswith(name), "the error names the file")


@case("K-16", reads=True, needs={"disk"})
async def write_failures(lab: Lab) -> None:
    """A refused index can be corrected at once; after a failed write or barrier only a new open goes on, soundly."""
    for entries in (0, 3):
        for operation in ("pwritev", "datasync"):
            node = lab.another()
            disk = faulty(node)
            store = await node.open(config=SMALL)
            if entries:
                await store.replicate_to_log(normals(1, 1, entries + 1))
                with_gap = normals(1, entries + 2, entries + 4)
            else:
                with_gap = [*normals(1, 1, 3), *normals(1, 4, 5)]
            await _refused_and_retried(node, with_gap)
            last = (await store.get_initial_state()).last_log_index
            fault = disk.fail(operation, name="wal-*")
            batch = normals(1, last + 1, last + 4)
            await _fails(node, partial(store.replicate_to_log, batch))
            expect(fault.fired, 1, "how often the disk failed")
            await expect_log(store, normals(1, 1, last + 1))
            await _fails(node, partial(store.replicate_to_log, batch))
            store = await node.reopen()
            any_of(await read_log(store), normals(1, 1, last + 1), normals(1, 1, last + 4), what="the log after it")
            await store.replicate_to_log(batch)
            store = await node.reopen()
            await expect_log(store, normals(1, 1, last + 4))


async def _refused_and_retried(node: Lab, with_gap: list[LogEntry]) -> None:
    store = node.store
    before = await read_log(store)
    refused = False
    try:
        await store.replicate_to_log(with_gap)
    except ValueError:
        refused = True
    expect_true(refused, "a batch with a gap is refused")
    expect(await read_log(store), before, "the log after a refused batch")
    last = (await store.get_initial_state()).last_log_index
    await store.append_entry_to_log(normals(1, last + 1, last + 2)[0])


async def _fails(node: Lab, write: Callable[[], Awaitable[object]]) -> None:
    try:
        await write()
    except StorageFailedError:
        return
    msg = f"a write on a failed handle of {node.harness.path} raises StorageFailedError"
    raise CaseFailure(msg)


@case("K-22", reads=True, needs={"disk"})
async def identity(lab: Lab) -> None:
    """A missing directory is made; one without its identity, with another's, or with nothing but it, is refused."""
    store = await lab.open(config=SMALL)
    fresh = Image.of(lab)
    await store.replicate_to_log(wide(1, 6))
    await lab.close()
    image = Image.of(lab)
    await image.copy().remove("IDENTITY").refused(lab, CorruptionError, what="a missing identity")
    await image.copy().cut("IDENTITY", 100).refused(lab, CorruptionError, what="a short identity")
    for offset in (0, 17, 50, 60, 127):
        await image.copy().flip("IDENTITY", offset).refused(lab, CorruptionError, what=f"a bit of byte {offset}")
    bare = image.copy()
    for name in bare.segments():
        bare.remove(name)
    await bare.refused(lab, CorruptionError, what="an identity without a log")
    other = lab.another()
    await other.open(config=SMALL)
    await other.close()
    swapped = image.copy().write("IDENTITY", Image.of(other).patch("LOCK", 0, b"").read("IDENTITY"))
    async with image.copy().opened(lab) as node:
        await expect_log(node.store, wide(1, 6))
    if swapped.read("IDENTITY") != image.read("IDENTITY"):
        await swapped.refused(lab, CorruptionError, what="the identity of another store")
    begun = fresh.copy().remove("IDENTITY")  # a creation that was cut before its last step
    async with begun.opened(lab) as node:
        await expect_log(node.store, [])
        await node.store.replicate_to_log(wide(1, 3))
        await expect_log(await node.reopen(), wide(1, 3))


@case("K-27", reads=True, needs={"disk"})
async def verification(lab: Lab) -> None:
    """One turned bit of any stored entry is found, with its file, place and index, in old segments and the newest."""
    store = await lab.open(config=ZEROED)
    await append_by_tens(store, 1, 61)
    await store.append_entry_to_log(wide(61, 62)[0])
    await lab.close()
    image = Image.of(lab)
    looked_at = 0
    for name in image.segments():
        for header in image.frames(name):
            if not header.count:
                continue
            for offset in (header.body_offset + 5, header.end - 1):
                error = await image.copy().flip(name, offset).refused(lab, CorruptionError, what=f"{name} at {offset}")
                expect_true(error.path is not None and error.path.endswith(name), "the error names the file")
                expect(error.offset, header.offset, "the offset in the error")
                looked_at += 1
    expect_true(looked_at >= 12, "there are entries in several segments")
    footer = image.frames(image.segments()[0])[-1]
    async with image.copy().flip(image.segments()[0], footer.body_offset + 30).opened(lab) as node:
        await expect_log(node.store, wide(1, 62))
