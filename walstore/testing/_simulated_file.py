"""One simulated file: what a reader sees now, and everything that a power cut may leave of it.

The model is the weakest that POSIX allows an ordinary disk to be.  Until `datasync` returns,

- each 512-byte sector is written back on its own, in any order, and each write to a sector may be the last one that
  reached the disk: a sector holds its durable bytes or those after any later write, never a mixture;
- the length is written back on its own too: it may be the durable one, the one after any later change, or, where a
  write made the file longer, one in the middle of it on a page boundary; where the length came and the data did not,
  there are zeros.

Nothing is copied while a file is only read or written: a change keeps the bytes that it replaced, and a crash takes
them back.  Sectors are looked at only when a crash asks.
"""

from collections.abc import Iterator
from itertools import product
from random import Random
from typing import NamedTuple

SECTOR = 512
PAGE = 4096
CHANCES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""How likely a pending change is to survive, in one file or directory of one sampled crash."""

_CUTS = 8
"""Lengths in the middle of one write that are considered: evenly spread page boundaries."""


class Change(NamedTuple):
    """One write or change of length that is not durable: enough to undo it and to do it again."""

    offset: int
    before: bytes
    after: bytes
    old_size: int
    new_size: int
    gradual: bool
    """Whether the length may have grown in steps."""

    def undo(self, content: bytearray) -> None:
        """Makes what was the file after this change what it was before."""
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(self.before)] = self.before
        _fit(content, self.old_size)


class FilePlan(NamedTuple):
    """The choices that a power cut has: one of `sizes`, and one version of each sector in `sectors`."""

    base: bytes
    """The durable bytes, padded with zeros to whole sectors and to the greatest of `sizes`."""
    sizes: list[int]
    """Distinct lengths, the durable one first."""
    newest: int
    """The length that readers see."""
    sectors: list[tuple[int, list[bytes]]]
    """(offset, versions): the durable version first, the newest last, at least two of them."""

    def build(self, size: int, picks: list[int]) -> bytes:
        """The file of this length with the picked version of each sector."""
        if not any(picks):
            return self.base[:size]
        content = bytearray(self.base)
        for (offset, versions), pick in zip(self.sectors, picks, strict=True):
            if pick:
                content[offset : offset + SECTOR] = versions[pick]
        return bytes(memoryview(content)[:size])

    def sample(self, random: Random) -> bytes:
        """A file at random: often with little of what was pending, or nearly all, or a half."""
        chance = random.choice(CHANCES)
        draw = random.random
        picks = [
            0 if draw() >= chance else len(versions) - 1 if len(versions) == 2 else random.randrange(1, len(versions))
            for _, versions in self.sectors
        ]
        kind = draw()
        size = self.newest if kind < 0.5 else self.sizes[0] if kind < 0.75 else random.choice(self.sizes)
        return self.build(size, picks)

    def combinations(self) -> int:
        """How many combinations there are; some may come out as equal bytes."""
        total = 0
        for size in self.sizes:
            ways = 1
            for offset, versions in self.sectors:
                if offset < size:
                    ways *= len(versions)
            total += ways
        return total

    def every(self) -> list[bytes]:
        """All distinct files; only for few `combinations`."""
        seen: dict[bytes, None] = {}
        for size in self.sizes:
            ways = [range(len(versions)) if offset < size else range(1) for offset, versions in self.sectors]
            for picks in product(*ways):
                seen[self.build(size, list(picks))] = None
        return list(seen)


class SimulatedInode:
    """A file apart from its names."""

    __slots__ = ("_plan", "_shared", "data", "device", "number", "pending")

    def __init__(self, number: int, data: bytes | bytearray = b"", *, shared: bool = True) -> None:
        self.number = number
        self.data = data
        self.pending: list[Change] = []
        self.device: bytearray | None = None
        """What the disk holds, where a failed sync has parted it from what readers see; None: no such place."""
        self._shared = shared
        self._plan: FilePlan | None = None

    def _own(self) -> bytearray:
        """The bytes to change: a copy of their own if a crash, or the start, holds them too."""
        self._plan = None
        if self._shared or not isinstance(self.data, bytearray):
            self.data = bytearray(self.data)
            self._shared = False
        return self.data

    def share(self) -> bytes | bytearray:
        """The bytes as they are, for someone who will not change them."""
        self._shared = True
        return self.data

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at [offset, offset + length), as far as there are any."""
        if isinstance(self.data, bytes):
            return self.data[offset : offset + length]
        with memoryview(self.data) as view:
            return bytes(view[offset : offset + length])

    def write(self, offset: int, after: bytes) -> None:
        """Puts bytes; a gap before them is zeros."""
        if not after:
            return
        data = self._own()
        old_size, end = len(data), offset + len(after)
        self.pending.append(Change(offset, bytes(data[offset:end]), after, old_size, max(old_size, end), gradual=True))
        if offset > old_size:
            data.extend(bytes(offset - old_size))
        data[offset:end] = after

    def resize(self, size: int, *, gradual: bool = False) -> None:
        """Cuts the file, or lengthens it with zeros."""
        old_size = len(self.data)
        if size == old_size:
            return
        data = self._own()
        offset = min(size, old_size)
        self.pending.append(Change(offset, bytes(data[offset:]), b"", old_size, size, gradual))
        if size < old_size:
            del data[size:]
        else:
            data.extend(bytes(size - old_size))

    def datasync(self) -> None:
        """All that is pending becomes durable."""
        if self.device is not None:
            for start in self._dirty_pages():
                self.device.extend(bytes(max(0, start - len(self.device))))
                self.device[start : start + PAGE] = self.data[start : start + PAGE]
            _fit(self.device, len(self.data))
        self.pending.clear()

    def lose(self) -> None:
        """A sync that fails as ext4 and XFS fail it: the pages are clean, readable and not on the disk (CRASH 2c.4)."""
        self.device = self.durable()
        self.pending.clear()

    def drop_cache(self) -> None:
        """Readers see what the disk holds, unless something is still waiting to be written."""
        if self.device is not None and not self.pending:
            self.data, self._shared, self.device = self.device, False, None

    def durable(self) -> bytearray:
        """A copy of what a power cut cannot take away."""
        return bytearray(self.device) if self.device is not None else self._cached_before()

    def _cached_before(self) -> bytearray:
        """What readers saw before the first pending change."""
        data = bytearray(self.data)
        for change in reversed(self.pending):
            change.undo(data)
        return data

    def _dirty_pages(self) -> list[int]:
        """The offsets of pages that a pending change touched, and that are still there."""
        starts = {
            start
            for change in self.pending
            for start in range(change.offset // PAGE * PAGE, change.offset + _touched(change), PAGE)
        }
        return sorted(start for start in starts if start < len(self.data))

    def plan(self) -> FilePlan | None:
        """The choices of a power cut now; None if it has none."""
        if not self.pending:
            return None
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def survivor(self) -> bytes | bytearray:
        """What is left where a power cut has no choice."""
        return self.share() if self.device is None else bytes(self.device)

    def _make_plan(self) -> FilePlan:
        durable = self.durable()
        cache = self._cached_before()
        sizes: dict[int, None] = {len(durable): None}
        room = max([len(durable), len(cache), *(change.new_size for change in self.pending)])
        room = (room + SECTOR - 1) // SECTOR * SECTOR
        _fit(durable, room)
        _fit(cache, room)
        versions: dict[int, list[bytes]] = {}
        for change in self.pending:
            for size in _sizes(change):
                sizes.setdefault(size)
            changed = set(_changed_sectors(cache, change))
            _redo(cache, change)
            if self.device is not None:
                changed.update(_sectors_of_pages(change, room))
            for offset in changed:
                chain = versions.setdefault(offset, [bytes(durable[offset : offset + SECTOR])])
                version = bytes(cache[offset : offset + SECTOR])
                if version != chain[-1]:
                    chain.append(version)
        sectors = sorted((offset, chain) for offset, chain in versions.items() if len(chain) > 1)
        return FilePlan(bytes(durable), list(sizes), len(self.data), sectors)


def _fit(data: bytearray, size: int) -> None:
    if len(data) > size:
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


def _touched(change: Change) -> int:
    return max(len(change.before), len(change.after))


def _redo(content: bytearray, change: Change) -> None:
    """Does a change again in a buffer that is long enough for every length of the file."""
    end = change.offset + len(change.after)
    content[change.offset : end] = change.after
    if change.new_size < change.old_size:
        content[change.new_size : change.old_size] = bytes(change.old_size - change.new_size)


def _changed_sectors(content: bytearray, change: Change) -> Iterator[int]:
    """Offsets of the sectors that `change` makes different, found by halves: most of a large write is often zeros."""
    length = _touched(change)
    after = change.after.ljust(length, b"\0")
    stack = [(0, length)]
    while stack:
        low, high = stack.pop()
        if content[change.offset + low : change.offset + high] == after[low:high]:
            continue
        first = (change.offset + low) // SECTOR
        last = (change.offset + high - 1) // SECTOR
        if first == last:
            yield first * SECTOR
            continue
        middle = (first + last + 1) // 2 * SECTOR - change.offset
        stack += [(low, middle), (middle, high)]


def _sectors_of_pages(change: Change, room: int) -> range:
    start = change.offset // PAGE * PAGE
    end = min(room, (change.offset + _touched(change) + PAGE - 1) // PAGE * PAGE)
    return range(start, end, SECTOR)


def _sizes(change: Change) -> Iterator[int]:
    """The lengths that the file may have because of this change."""
    if change.gradual and change.new_size > change.old_size:
        first = change.old_size // PAGE + 1
        last = (change.new_size - 1) // PAGE
        step = max(1, (last - first + _CUTS) // _CUTS)
        yield from range(first * PAGE, last * PAGE + 1, step * PAGE)
    yield change.new_size
