"""Wanted: torn and rotten bytes, leftovers of other lives, formats of the future."""

from collections.abc import Callable, Mapping
from functools import partial

import attrs

from ..._log.draft import Draft, Place, assemble
from ..._log.frame import IGNORABLE, Kind
from ..._log.identity import Identity
from ..._log.version import Version
from ...errors import CorruptionError, UnsupportedFormatError
from ._cancel import observe
from ._image import SMALL, ZEROED, Image
from ._kit import (
    Lab,
    blanks,
    case,
    expect,
    expect_true,
    log_and_apply,
    n,
    normals,
    r,
)


async def _two_states(lab: Lab, config: Mapping[str, object] = SMALL) -> tuple[Image, list[tuple[object, ...]]]:
    """A killed store whose last call was one small append, and what could be seen before and after that call."""
    store = await lab.open(config=config)
    await log_and_apply(store, normals(1, 1, 4))
    before = await observe(lab)
    await store.append_entry_to_log(n(1, 4, r(4, "last")))
    return Image.of(lab), [before, await observe(lab)]


async def _found(lab: Lab, image: Image, **options: object) -> tuple[object, ...]:
    async with image.opened(lab, **options) as node:
        return await observe(node)


@case("M-69", reads=True, needs={"disk"})
async def torn_at_every_byte(lab: Lab) -> None:
    """A log cut at each byte of its last record opens in the state before the call, or whole if nothing is missing."""
    image, (before, after) = await _two_states(lab)
    name = image.segments()[-1]
    last = image.frames(name)[-1]
    for size in range(last.offset, last.end):
        expect(await _found(lab, image.copy().cut(name, size)), before, f"the store whose log was cut at {size}")
    expect(await _found(lab, image.copy().cut(name, last.end)), after, "the store that lost only the padding")


@case("M-70", reads=True, needs={"disk"})
async def rotten_at_every_byte(lab: Lab) -> None:
    """A bit that turns in any byte of an acknowledged record is damage with its place, never a shorter log."""
    image, _ = await _two_states(lab)
    name = image.segments()[-1]
    rotten = image.frames(name)[-2]
    for offset in range(rotten.offset, rotten.next_offset):
        error = await image.copy().flip(name, offset).refused(lab, CorruptionError, what=f"a bit of byte {offset}")
        expect_true(error.path is not None and error.path.endswith(name), "the error names the file")
        expect_true(error.offset is not None and error.evidence, "the error names the place and the evidence")


@case("M-74", reads=True, needs={"disk"})
async def zeros_are_the_end(lab: Lab) -> None:
    """The zeros of a segment that was filled ahead are neither entries nor damage."""
    image, (_, after) = await _two_states(lab, ZEROED)
    name = image.segments()[-1]
    data = image.read(name)
    end = image.frames(name)[-1].next_offset
    expect_true(len(data) > end, "the segment reaches beyond the last frame")
    expect(data[end:].strip(b"\0"), b"", "what is behind the last frame")
    expect(await _found(lab, image.copy(), config=ZEROED), after, "the store after a kill")
    longer = image.copy().write(name, data + bytes(8192))
    expect(await _found(lab, longer, config=ZEROED), after, "the store with more zeros than it made")


@case("M-76", reads=True, needs={"disk"})
async def leftovers_are_not_replayed(lab: Lab) -> None:
    """Valid frames of another segment, and segments of another store, are never taken for this log's own."""
    store = await lab.open(config=SMALL)
    await store.replicate_to_log([n(1, index, r(index, "x" * 600)) for index in range(1, 60)])
    await store.replicate_to_log(normals(1, 60, 62))
    await lab.close()
    image = Image.of(lab)
    async with image.opened(lab) as node:
        await node.store.replicate_to_log(normals(1, 62, 64))
        after = await observe(node)
    image = Image.of(node)
    newest, oldest = image.segments()[-1], image.segments()[0]
    frame = next(header for header in image.frames(oldest) if header.kind == Kind.ENTRIES)
    stale = image.read(oldest)[frame.offset : frame.next_offset]
    open_end = image.copy().cut(newest, image.frames(newest)[-2].next_offset)
    try:
        found = await _found(lab, open_end.write(newest, open_end.read(newest) + stale))
    except CorruptionError:
        found = after
    expect(found, after, "the store with a frame of an older segment behind its last one")
    foreign = lab.another()
    store = await foreign.open(config=SMALL)
    await store.replicate_to_log(blanks(1, 1, 9))
    await foreign.close()
    other = Image.of(foreign)
    name = other.segments()[-1]
    mixed = image.copy().write(f"wal-{99:016x}-{1:020d}.wal", other.read(name))
    await mixed.refused(lab, CorruptionError, what="a segment of another store")
    replaced = image.copy().write(newest, other.read(name))
    await replaced.refused(lab, CorruptionError, what="another store's segment in the place of one")


def _append_frame(image: Image, draft: Draft) -> Image:
    """Puts a valid frame behind the last one of the newest segment."""
    name = image.segments()[-1]
    page, last = image.page(name), image.frames(name)[-1]
    place = Place(last.next_offset, last.sequence, last.crc, last.sequence)
    group = assemble((draft,), page.tag, place, page.commit_align)
    return image.write(name, image.read(name)[: last.next_offset] + b"".join(map(bytes, group.buffers)))


@case("M-77", reads=True, needs={"disk"})
async def formats_of_the_future(lab: Lab) -> None:
    """Frames of unknown kinds and files of newer versions are refused; a kind that may be ignored is passed over."""
    image, (_, after) = await _two_states(lab)
    name = image.segments()[-1]
    page = image.page(name)
    identity = Identity.decode(image.read("IDENTITY"))
    versions = (Version(major=2), Version(incompat=1 << 40))
    unknown: list[tuple[str, Callable[[Image], Image]]] = [
        ("a frame of kind 0x33", lambda copy: _append_frame(copy, Draft(0x33, (b"?" * 100,)))),
        ("an unknown flag", lambda copy: _append_frame(copy, Draft(Kind.SYNC, (bytes(8),), flags=0x40))),
    ]
    for version in versions:
        newer_page = attrs.evolve(page, version=version).encode()
        newer_identity = attrs.evolve(identity, version=version).encode()
        unknown += [
            (f"a header page of {version}", partial(Image.patch, name=name, offset=0, data=newer_page)),
            (f"an identity of {version}", partial(Image.write, name="IDENTITY", data=newer_identity)),
        ]
    for what, change in unknown:
        await change(image.copy()).refused(lab, UnsupportedFormatError, what=what)
    passed_over = _append_frame(image.copy(), Draft(IGNORABLE | 0x33, (b"?" * 100,)))
    expect(await _found(lab, passed_over), after, "the store with a frame that may be ignored")
