"""What a store asked of a disk, in order: enough to do it again, and to check the discipline of it."""

from typing import NamedTuple


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
