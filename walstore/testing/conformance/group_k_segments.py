"""hashicorp/raft-wal: segment and fs tests: names, headers, footers, listing, dumping."""

import re
from collections.abc import Iterator
from itertools import islice
from random import Random

from ..._log.frame import Header, Kind, make_header, parse_header
from ..._log.page import FormatError, Page, Predecessor
from ..._log.sealed import read_sealed
from ...errors import CorruptionError, LogGapError, UnsupportedFormatError
from ._cancel import observe
from ._image import SMALL, Image, disk_of
from ._kit import (
    Lab,
    case,
    expect,
    expect_log,
    expect_state,
    expect_true,
    log_and_apply,
    n,
    r,
    refused,
)
from .group_f_building import compact
from .group_k_log import append_by_tens, wide

_NAME = re.compile(r"wal-([0-9a-f]{16})-([0-9]{20})\.wal")


def _sealed(image: Image, name: str) -> bool:
    data = image.read(name)
    return read_sealed(lambda offset, length: data[offset : offset + length], len(data), image.page(name)) is not None


@case("K-08", reads=True, needs={"disk"})
async def segment_names(lab: Lab) -> None:
    """A segment's name is its number in 16 hexadecimal digits and the index of its next entry in 20 decimal ones."""
    store = await lab.open(config=SMALL)
    await append_by_tens(store, 1, 121)
    image = Image.of(lab)
    names = image.segments()
    expect_true(len(names) >= 3, f"there are several segments: {names}")
    for number, name in enumerate(names, 1):
        match = _NAME.fullmatch(name)
        expect_true(match is not None, f"{name} is the name of a segment")
        page = image.page(name)
        expect(name, f"wal-{page.segment_sequence:016x}-{page.first_index:020d}.wal", "the name")
        expect(page.segment_sequence, number, "the number")


@case("K-09", reads=True, needs={"disk"})
async def segment_basics(lab: Lab) -> None:
    """A new segment is durable before it is used, an append when it returns; a full segment gives way to the next."""
    store = await lab.open(config=SMALL)
    path = lab.harness.path
    async with Image(disk_of(lab).crash_keeping_nothing(), path).opened(lab) as node:
        await expect_state(node.store, last=(0, 0))
    await store.append_entry_to_log(wide(1, 2)[0])
    with refused(LogGapError):
        await store.append_entry_to_log(wide(3, 4)[0])
    expect(await store.get_log_entries(1, 2), wide(1, 2), "the entry, before its segment is sealed")
    await store.replicate_to_log(wide(2, 12))
    async with Image(disk_of(lab).crash_keeping_nothing(), path).opened(lab) as node:
        await expect_log(node.store, wide(1, 12))
    await append_by_tens(store, 12, 102)
    image = Image.of(lab)
    names = image.segments()
    expect([_sealed(image, name) for name in names], [True] * (len(names) - 1) + [False], "which segments are sealed")
    expect_true(len(names) >= 3, "there are several segments")
    await expect_log(store, wide(1, 102))


@case("K-11", reads=True, needs={"disk"})
async def list_and_delete(lab: Lab) -> None:
    """Segments whose entries are all gone, at the head or with a compaction, are gone from the directory too."""
    store = await lab.open(config=SMALL)
    await append_by_tens(store, 1, 221)
    image = Image.of(lab)
    names = image.segments()
    expect_true(len(names) >= 6, f"there are at least six segments: {names}")
    third = image.page(names[2]).first_index
    await store.delete_logs_from(0, third)
    store = await lab.reopen()
    left = Image.of(lab).segments()
    expect([name for name in names if name in left], names[2:], "the segments that were kept")
    await expect_log(store, wide(third, 221))
    await store.delete_logs_from(third + 1)
    await log_and_apply(store, wide(third, third + 1))
    await compact(store)
    store = await lab.reopen()
    expect(len(Image.of(lab).segments()), 1, "the number of segments after a compaction of everything")
    await expect_log(store, [(1, third)])


def _dump(image: Image) -> Iterator[tuple[str, Header, int]]:
    """(segment, frame, index) of every entry in the files, oldest first, without a store."""
    for name in image.segments():
        for header in image.frames(name):
            if header.kind == Kind.ENTRIES:
                for index in range(header.first_index, header.first_index + header.count):
                    yield name, header, index


@case("K-13", reads=True, needs={"disk"})
async def dump_segments(lab: Lab) -> None:
    """The files can be read without a store, sealed ones and the last one, in order, and as far as one likes."""
    store = await lab.open(config=SMALL)
    await append_by_tens(store, 1, 106)
    image = Image.of(lab)
    expect([index for _, _, index in _dump(image)], list(range(1, 106)), "the indexes")
    expect([index for _, _, index in islice(_dump(image), 3)], [1, 2, 3], "the first three indexes")
    name, last, _ = list(_dump(image))[-1]
    image.patch(name, last.offset, bytes(last.next_offset - last.offset))
    expect([index for _, _, index in _dump(image)], list(range(1, 101)), "the indexes without the zeroed frame")


@case("K-14", reads=True, needs={"disk"})
async def dump_a_range(lab: Lab) -> None:
    """Of a log over several segments any range can be picked out of the files, and it is what the store says."""
    store = await lab.open(config=SMALL)
    await append_by_tens(store, 1, 261)
    image = Image.of(lab)
    found = [(name, index) for name, _, index in _dump(image) if 150 < index < 250]
    expect([index for _, index in found], list(range(151, 250)), "the indexes in the range")
    expect_true(len({name for name, _ in found}) >= 3, "the range lies in several segments")
    expect([entry.index for entry in await store.get_log_entries(151, 250)], list(range(151, 250)), "the store's range")


@case("K-15", reads=True, needs={"disk"})
async def segment_reader(lab: Lab) -> None:
    """Sealed segments and large values are read; one cut below the end that the next one names is damage."""
    store = await lab.open(config=SMALL)
    await append_by_tens(store, 1, 61)
    await store.append_entry_to_log(n(1, 61, r(61, "L" * 300_000)))
    await append_by_tens(store, 62, 72)
    after = await observe(lab)
    await lab.close()
    image = Image.of(lab)
    async with image.copy().opened(lab) as node:
        expect(await observe(node), after, "the store that was opened again")
    name = image.segments()[0]
    before = image.page(image.segments()[1]).predecessor
    end = before.end if before else 0
    async with image.copy().cut(name, end).opened(lab) as node:
        expect(await observe(node), after, "the store whose first segment lost its footer only")
    for size in (0, 100, 4096, image.frames(name)[1].offset, end - 64):
        await image.copy().cut(name, size).refused(lab, CorruptionError, what=f"a sealed segment cut at {size}")


@case("K-17", reads=True, needs={"disk"})
async def closed_segment_is_sealed(lab: Lab) -> None:
    """A clean close seals the newest segment, and what comes after the next open goes into another file."""
    store = await lab.open(config=SMALL)
    await store.replicate_to_log(wide(1, 6))
    expect(_sealed(Image.of(lab), Image.of(lab).segments()[-1]), False, "whether the open store's segment is sealed")
    await lab.close()
    image = Image.of(lab)
    name = image.segments()[-1]
    before = image.read(name)
    expect(_sealed(image, name), True, "whether the closed store's segment is sealed")
    store = await lab.reopen()
    await store.replicate_to_log(wide(6, 11))
    image = Image.of(lab)
    expect(image.read(name), before, "the old segment")
    expect_true(image.segments()[-1] != name, "the new entries are in a new segment")
    await expect_log(store, wide(1, 11))


def _random_page(random: Random) -> Page:
    sequence, start = random.randrange(2, 2**64), random.getrandbits(63)
    size = random.randrange(128, 1 << 20) * 64
    before = Predecessor(
        random.randrange(1, sequence), random.randrange(64, 1 << 20) * 64, start, random.getrandbits(32)
    )
    return Page(
        node_id=random.getrandbits(64),
        store_uuid=random.randbytes(16),
        segment_sequence=sequence,
        salt=random.getrandbits(64),
        segment_size=size,
        commit_align=1 << random.randrange(6, 21),
        zero_filled=random.random() < 0.5,
        first_index=random.getrandbits(64),
        start_sequence=start,
        born_end=random.randrange(64, size // 64 + 1) * 64,
        created_ns=random.getrandbits(64),
        predecessor=random.choice((before, None)),
    )


@case("K-18", reads=True, needs={"disk"})
async def header_page_codec(lab: Lab) -> None:
    """A header page is read as it was written; a short one, or one with any byte changed, is refused."""
    await lab.open(config=SMALL)
    image = Image.of(lab)
    data = image.read(image.segments()[0])[:4096]
    page = Page.decode(data)
    expect(page.encode(), data, "the page, encoded again")
    for size in (0, 16, 168, 4095):
        with refused(FormatError):
            Page.decode(data[:size])
    for offset in [*range(200), *range(200, 4096, 97), *range(4090, 4096)]:
        with refused(FormatError, UnsupportedFormatError):
            Page.decode(data[:offset] + bytes([data[offset] ^ 0x10]) + data[offset + 1 :])


@case("K-19", reads=True, needs={"disk"})
async def codecs_on_random_values(lab: Lab) -> None:
    """Random header pages and frame headers are read as they were written."""
    await lab.open(config=SMALL)
    random = Random(19)
    for _ in range(200):
        page = _random_page(random)
        expect(Page.decode(page.encode()), page, "a header page")
        header = make_header(
            kind=random.choice(list(Kind)),
            sequence=random.getrandbits(64),
            tag=random.getrandbits(32),
            offset=random.randrange(64, 1 << 26) * 64,
            body_len=random.randrange(1 << 28),
            body_crc=random.getrandbits(32),
            prev_link=random.getrandbits(32),
            sync_lag=random.randrange(300),
            first_index=random.getrandbits(64),
            term=random.getrandbits(64),
            count=random.getrandbits(32),
            flags=random.getrandbits(5),
        )
        expect(parse_header(header.pack(), tag=header.tag, offset=header.offset), header, "a frame header")
        expect(parse_header(header.pack(), tag=header.tag ^ 1), None, "a frame header of another segment")


@case("K-26", reads=True, needs={"disk"})
async def file_system(lab: Lab) -> None:
    """The seam: sizes that were set ahead are seen, writes in any order are read, names are listed and removed."""
    disk = disk_of(lab)
    with refused(FileNotFoundError):
        disk.open_directory("/nowhere", create=False)
    directory = disk.open_directory("/files", create=True)
    file = directory.create("one")
    file.allocate(8192)
    expect((file.size(), file.pread(0, 8192)), (8192, bytes(8192)), "a file with space ahead")
    reader = directory.open("one")
    file.pwritev(4096, [b"later"])
    file.pwritev(0, [b"ear", b"lier"])
    expect((reader.pread(0, 7), reader.pread(4096, 5)), (b"earlier", b"later"), "what a reader sees")
    expect(reader.pread(8190, 100), bytes(2), "a read at the end")
    with refused(FileExistsError):
        directory.create("one")
    directory.create("two").close()
    directory.rename("two", "three")
    expect(directory.names(), ["one", "three"], "the names")
    directory.unlink("one")
    expect(directory.names(), ["three"], "the names after a removal")
    expect(reader.pread(0, 3), b"ear", "an open file that was removed")
    with refused(FileNotFoundError):
        directory.open("one")
    directory.close()
