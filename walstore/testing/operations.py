"""What a store asked of a disk, in order: enough to do it again, and to read off whether the barriers are in place.

A crash test finds a missing barrier if the workload and the cut happen to show it; `lint` reads it off the list of
operations (CRASH 3.1, I16).  Each finding begins with the rule that it breaks:

    unsynced-rename   a file was renamed while its bytes were not durable
    unsynced-name     bytes were made durable, as an acknowledgement does it, while a name that they need was not
    early-unlink      a name was removed while another one, which may replace it, was not durable
    rewrite           durable bytes, or a block of `align` bytes that holds some, were written again
    cut               durable bytes were cut off
    old-file          a file that is older than the list was written to
    after-failure     a file was written or synced again after its sync had failed
"""

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

RULES = frozenset(
    {"unsynced-rename", "unsynced-name", "early-unlink", "rewrite", "cut", "old-file", "after-failure"},
)


class Operation(NamedTuple):
    """One operation that changes files, names, or what of them is durable."""

    kind: str
    """mkdir, create, rename, unlink, sync, write, truncate, allocate, datasync, or lose (a datasync that failed)."""
    directory: str
    name: str = ""
    """The file's name; for a change of bytes, the name under which it was opened."""
    file: int = 0
    """Which file, apart from its names; numbers start at 1 and are never used again."""
    offset: int = 0
    data: bytes = b""
    """What was written."""
    size: int = 0
    """The new length of truncate and allocate."""
    target: str = ""
    """The new name of a rename."""

    @property
    def length(self) -> int:
        """How many bytes were written."""
        return len(self.data)

    def __str__(self) -> str:
        what = f"{self.kind} {self.directory}"
        if self.name:
            what += f"/{self.name}"
        if self.target:
            what += f" -> {self.target}"
        if self.file:
            what += f" #{self.file}"
        if self.kind == "write":
            what += f" [{self.offset}, {self.offset + self.length})"
        if self.kind in {"truncate", "allocate"}:
            what += f" {self.size}"
        return what


def lint(
    operations: Iterable[Operation],
    *,
    align: int = 1,
    temporary: Collection[str] = ("*.tmp",),
    exempt: Collection[str] = ("LOCK",),
    ignore: Collection[str] = (),
) -> list[str]:
    """What breaks the rules, in order; an empty list if nothing does.

    Nothing is relied on while it has a `temporary` name; files with `exempt` names hold nothing that must survive.
    `ignore` names rules that are not asked.
    """
    linter = _Linter(align, tuple(temporary), tuple(exempt))
    for number, operation in enumerate(operations):
        linter.see(number, operation)
    return [finding for finding in linter.findings if finding.partition(":")[0] not in ignore]


class _FileState:
    """What the lint remembers of one file."""

    __slots__ = ("born", "claimed", "failed", "name", "pending", "renamed", "synced_once", "unsynced_name")

    def __init__(self, name: str, *, born: bool) -> None:
        self.name = name
        self.born = born
        """Whether the list itself created it."""
        self.pending: list[tuple[int, int]] = []
        """Ranges that were written and not synced; (0, 0) for a change of length."""
        self.claimed: list[tuple[int, int]] = []
        """Durable ranges, zero fill left out."""
        self.failed = False
        self.unsynced_name = born
        self.renamed = False
        self.synced_once = False


class _Linter:
    def __init__(self, align: int, temporary: tuple[str, ...], exempt: tuple[str, ...]) -> None:
        self.findings: list[str] = []
        self._align = align
        self._temporary = temporary
        self._exempt = exempt
        self._files: dict[int, _FileState] = {}
        self._directories: dict[int, str] = {}

    def see(self, number: int, operation: Operation) -> None:
        """Judges one operation and remembers it."""
        self._at = f"operation {number}: {operation}"
        if operation.kind == "sync":
            for file, other in self._files.items():
                if self._directories[file] == operation.directory:
                    other.unsynced_name = other.renamed = False
        if not operation.file:
            return
        state = self._files.get(operation.file)
        if state is None:
            state = self._files[operation.file] = _FileState(operation.name, born=operation.kind == "create")
            self._directories[operation.file] = operation.directory
        if not _matches(state.name, self._exempt):
            self._judge(operation, state)

    def _judge(self, operation: Operation, state: _FileState) -> None:
        match operation.kind:
            case "write":
                self._write(operation, state)
            case "truncate" | "allocate":
                self._resize(operation, state)
            case "datasync":
                self._datasync(operation, state)
            case "lose":
                self._refuse_after_failure(state)
                state.failed = True
            case "rename":
                self._rename(operation, state)
            case "unlink":
                self._unlink(operation, state)
            case _:
                pass

    def _find(self, rule: str, why: str) -> None:
        self.findings.append(f"{rule}: {why} ({self._at})")

    def _write(self, operation: Operation, state: _FileState) -> None:
        self._refuse_after_failure(state)
        if not state.born:
            self._find("old-file", f"{state.name} was there before, and is written to")
        low, high = operation.offset, operation.offset + operation.length
        block_low, block_high = self._blocks(low, high)
        again = any(start < block_high and block_low < end for start, end in state.claimed)
        if again and not _matches(state.name, self._temporary):
            self._find("rewrite", f"{state.name} holds durable bytes in [{block_low}, {block_high})")
        end = low + len(operation.data.rstrip(b"\0"))
        state.pending.append(self._blocks(low, end) if end > low else (0, 0))

    def _resize(self, operation: Operation, state: _FileState) -> None:
        self._refuse_after_failure(state)
        if not state.born:
            self._find("old-file", f"{state.name} was there before, and its length is changed")
        cuts = operation.kind == "truncate" and any(end > operation.size for _, end in state.claimed)
        if cuts and not _matches(state.name, self._temporary):
            self._find("cut", f"{state.name} has durable bytes beyond {operation.size}")
        if operation.kind == "truncate":
            state.claimed = _clipped(state.claimed, operation.size)
            state.pending = _clipped(state.pending, operation.size)
        state.pending.append((0, 0))

    def _datasync(self, operation: Operation, state: _FileState) -> None:
        self._refuse_after_failure(state)
        if not _matches(state.name, self._temporary):
            if state.unsynced_name and (state.renamed or state.synced_once):
                self._find("unsynced-name", f"{state.name} is synced again, and its own name is not durable")
            self._find_names_relied_on(operation, state)
        state.synced_once = True
        state.claimed += [claim for claim in state.pending if claim != (0, 0)]
        state.claimed = _merged(state.claimed)
        state.pending = []

    def _find_names_relied_on(self, operation: Operation, state: _FileState) -> None:
        for file, other in self._files.items():
            if other.renamed and other is not state and self._directories[file] == operation.directory:
                self._find("unsynced-name", f"{state.name} is synced, and the name of {other.name} is not durable")

    def _rename(self, operation: Operation, state: _FileState) -> None:
        for file, other in self._files.items():
            if other.name == operation.target and self._directories[file] == operation.directory:
                other.unsynced_name = other.renamed = False  # replaced, and so nobody's name any more
        state.name = operation.target
        if _matches(operation.target, (*self._temporary, *self._exempt)):
            return
        if state.pending or (state.born and not state.synced_once):
            self._find("unsynced-rename", f"{operation.name} is renamed, and its bytes are not durable")
        state.unsynced_name = state.renamed = True

    def _unlink(self, operation: Operation, state: _FileState) -> None:
        if not _matches(operation.name, self._temporary):
            for file, other in self._files.items():
                pending = other.unsynced_name and not _matches(other.name, (*self._temporary, *self._exempt))
                if pending and other is not state and self._directories[file] == operation.directory:
                    self._find("early-unlink", f"{operation.name} goes, and the name of {other.name} is not durable")
        state.unsynced_name = state.renamed = False

    def _refuse_after_failure(self, state: _FileState) -> None:
        if state.failed:
            self._find("after-failure", f"a sync of {state.name} had failed")

    def _blocks(self, low: int, high: int) -> tuple[int, int]:
        align = self._align
        return low // align * align, -(-high // align) * align


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _clipped(ranges: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """What of them lies below `size`."""
    return [(low, min(high, size)) for low, high in ranges if low < size]


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes in as few ranges as will do."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged
