"""The log of `MemoryStorage`: a dict of entries, and the snapshot that stands for what is below it.

Plain code without awaits: each method either raises and has changed nothing, or does all that it says.
"""

from collections.abc import Sequence
from itertools import pairwise

import attrs

from .._log.limits import MAX_ENTRY_BYTES, MAX_FRAME_BODY
from .._types import U64_MAX, ConfigChange, Entry, MembershipConfig, Normal, SnapshotHeader
from ..errors import CompactedError, EntryTooLargeError, InvalidRangeError, LogGapError, UnavailableError, UsageError


@attrs.frozen
class MemorySnapshot:
    """A whole snapshot: what it says of itself, and all its bytes."""

    header: SnapshotHeader
    data: bytes


class MemoryLog:
    """Entries by index: consecutive, ascending, Normal payloads as encoded bytes."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self.entries: dict[int, Entry[bytes]] = {}
        self.snapshot: MemorySnapshot | None = None

    def boundary(self) -> tuple[int, int]:
        """(index, term) of the last entry that the snapshot covers; (0, 0) without one."""
        return (self.snapshot.header.index, self.snapshot.header.term) if self.snapshot else (0, 0)

    def last(self) -> tuple[int, int]:
        """(index, term) of the last entry, else of the snapshot."""
        if self.entries:
            last = self.entries[next(reversed(self.entries))]
            return last.index, last.term
        return self.boundary()

    def first_index(self) -> int:
        """The index of the first entry, the pointer included; 0 for an empty log."""
        return next(iter(self.entries), 0)

    def term_of(self, index: int) -> int:
        """The term of an entry, or of the snapshot's last one; 0 below entry 1.  Strict: `CompactedError`,
        `UnavailableError`."""
        if index in self.entries:
            return self.entries[index].term
        if self.snapshot is not None and index == self.boundary()[0]:
            return self.boundary()[1]
        if index == 0 and self.first_index() <= 1 and self.snapshot is None:
            return 0
        raise self._absent(index)

    def slice(self, low: int, high: int) -> list[Entry[bytes]]:
        """The entries [low, high), all of them, the pointer included.  Strict like `term_of`."""
        for index in range(low, high):
            if index not in self.entries:
                raise self._absent(index)
        return [self.entries[index] for index in range(low, high)]

    def _absent(self, index: int) -> CompactedError | UnavailableError:
        last = self.last()[0]
        if index > last:
            return UnavailableError(f"there is no entry {index}: the last index is {last}")
        return CompactedError(f"entry {index} is gone: the log begins at {self.first_index()}")

    def membership_at(self, index: int) -> tuple[MembershipConfig, int]:
        """The latest membership at or below `index`, and the index of the entry that set it (SEMANTICS 4)."""
        for entry in reversed(self.entries.values()):
            if entry.index <= index and isinstance(entry.payload, ConfigChange):
                return entry.payload.membership, entry.index
        if self.snapshot is not None:  # what the pointer says, also when the pointer itself was deleted
            return self.snapshot.header.membership, self.snapshot.header.membership_index
        return MembershipConfig.new_initial(self._node_id), 0

    def append(self, batch: Sequence[Entry[bytes]]) -> None:
        """Puts the batch in its place (SEMANTICS 6)."""
        _check_batch(batch)
        new = self._beyond_what_is_there(batch)
        if not new:
            return
        self._check_place(new[0])
        for index in range(new[0].index, self.last()[0] + 1):
            self.entries.pop(index, None)
        self.entries.update((entry.index, entry) for entry in new)

    def _beyond_what_is_there(self, batch: Sequence[Entry[bytes]]) -> Sequence[Entry[bytes]]:
        """The batch from its first entry on that is neither covered by the snapshot nor in the log already."""
        floor, floor_term = self.boundary()
        for place, entry in enumerate(batch):
            if entry.index == floor and entry.term != floor_term:
                msg = f"entry {floor} of term {entry.term} would rewrite the compacted one of term {floor_term}"
                raise UsageError(msg)
            known = self.entries.get(entry.index)
            if entry.index > floor and (known is None or known.term != entry.term):
                return batch[place:]
        return []

    def _check_place(self, entry: Entry[bytes]) -> None:
        """`entry`, which no snapshot covers, leaves no hole at its index, and its term is not below the one before."""
        floor, floor_term = self.boundary()
        if self.entries:
            lowest, highest = next(iter(self.entries)), self.last()[0] + 1
        elif self.snapshot is not None:
            lowest, highest = floor + 1, floor + 1
        else:
            lowest, highest = 1, entry.index  # the first entry of all may have any index
        if not lowest <= entry.index <= highest:
            msg = f"entry {entry.index} does not follow: the log begins at {lowest} and the next index is {highest}"
            raise LogGapError(msg)
        before = self.entries.get(entry.index - 1)
        term = before.term if before is not None else floor_term if entry.index - 1 == floor else 0
        if entry.term < term:
            msg = f"the term would fall from {term} to {entry.term} at entry {entry.index}"
            raise UsageError(msg)

    def delete(self, start: int, stop: int | None, last_applied: int) -> None:
        """Deletes [start, stop) (SEMANTICS 8, PROTOCOL B6)."""
        doomed = [index for index in self.entries if start <= index and (stop is None or index < stop)]
        if not doomed:
            return
        is_suffix = doomed[-1] == next(reversed(self.entries))
        is_prefix = doomed[0] == next(iter(self.entries))
        if not is_suffix and not is_prefix:
            msg = f"[{start}, {stop}) is in the middle of the log: only a prefix or a suffix may be deleted"
            raise InvalidRangeError(msg)
        floor = self.boundary()[0]
        if not is_suffix and any(floor < index <= last_applied for index in doomed):
            msg = f"entries up to {last_applied} are applied and the snapshot ends at {floor}: compact first"
            raise InvalidRangeError(msg)
        for index in doomed:
            del self.entries[index]

    def commit_snapshot(self, snapshot: MemorySnapshot, *, keep_above: bool) -> None:
        """The snapshot is the current one; a pointer stands where the entries that it covers were."""
        header = snapshot.header
        above = {index: entry for index, entry in self.entries.items() if index > header.index} if keep_above else {}
        pointer: Entry[bytes] = Entry.new_snapshot_pointer(header.index, header.term, header.id, header.membership)
        self.entries = {header.index: pointer, **above}
        self.snapshot = snapshot


def size_of(entry: Entry[bytes]) -> int:
    """The bytes of its data."""
    return len(entry.payload.data) if isinstance(entry.payload, Normal) else 0


def _check_batch(batch: Sequence[Entry[bytes]]) -> None:
    """The entries of one call follow each other, begin above 0, and keep within the limits."""
    for entry in batch:
        if entry.index == 0:
            msg = "index 0 means none: no entry can have it"
            raise UsageError(msg)
        if entry.index == U64_MAX:
            msg = f"nothing could follow entry {U64_MAX}"
            raise UsageError(msg)
        if size_of(entry) > MAX_ENTRY_BYTES:
            msg = f"entry {entry.index} has {size_of(entry)} bytes; at most {MAX_ENTRY_BYTES} are allowed"
            raise EntryTooLargeError(msg)
    if sum(map(size_of, batch)) > MAX_FRAME_BODY:
        msg = f"one call may have at most {MAX_FRAME_BODY} bytes"
        raise EntryTooLargeError(msg)
    for one, two in pairwise(batch):
        if two.index != one.index + 1:
            msg = f"entry {two.index} comes after entry {one.index} in one call"
            raise LogGapError(msg)
        if two.term < one.term:
            msg = f"the term would fall from {one.term} to {two.term} at entry {two.index}"
            raise UsageError(msg)
