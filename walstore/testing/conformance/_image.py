"""For cases about walstore's own files: a disk to look into, to damage, and to open again.

An image is a copy of what the lab's store has written so far.  Changes to it are durable at once; the lab's own disk
never sees them.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from ..._disk.seam import Directory
from ..._log.frame import Header
from ..._log.page import Page
from ..._log.scan import Scanner
from ..faults import FaultyFileSystem
from ..simulated import SimulatedFileSystem
from ._helpers import CaseFailure, expect, expect_true
from ._lab import Lab

__all__ = ["SMALL", "ZEROED", "Image", "disk_of", "faulty"]

E = TypeVar("E", bound=BaseException)

SMALL: Mapping[str, object] = {
    "first_segment_size": 4096,
    "segment_size": 4096,
    "commit_align": 64,
    "preallocate": "none",
    "prepare_ahead": False,
    "sync_apply": True,
}
"""The smallest segments there are, nothing made ahead, no second thread: every byte on the disk is meant."""

ZEROED: Mapping[str, object] = {**SMALL, "preallocate": "zero"}
"""The same with segments that were filled with zeros."""


def disk_of(lab: Lab) -> SimulatedFileSystem:
    """The disk that the lab's store is on."""
    if lab.harness.disk is None:
        msg = "the harness has no simulated disk"
        raise RuntimeError(msg)
    return lab.harness.disk


def faulty(lab: Lab) -> FaultyFileSystem:
    """Puts a wrapper that fails on demand around the lab's disk, for the opens that follow."""
    wrapper = FaultyFileSystem(disk_of(lab))
    lab.harness.filesystem = wrapper
    return wrapper


class Image:
    """A disk with the store's directory at `path`."""

    def __init__(self, disk: SimulatedFileSystem, path: str) -> None:
        self.disk = disk
        self.path = path

    @classmethod
    def of(cls, lab: Lab) -> "Image":
        """A copy of all that the lab's store has written so far, as after a kill of the process."""
        return cls(disk_of(lab).crash_keeping_everything(), lab.harness.path)

    def copy(self) -> "Image":
        """Another one with the same bytes."""
        return Image(self.disk.crash_keeping_everything(), self.path)

    @contextmanager
    def _directory(self) -> Iterator[Directory]:
        directory = self.disk.open_directory(self.path, create=True)
        try:
            yield directory
            directory.sync()
        finally:
            directory.close()

    def names(self, pattern: str = "*") -> list[str]:
        """The names that match, sorted."""
        with self._directory() as directory:
            return [name for name in directory.names() if fnmatchcase(name, pattern)]

    def segments(self) -> list[str]:
        """The segments, oldest first."""
        return self.names("wal-*.wal")

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        with self._directory() as directory:
            file = directory.open(name)
            data = file.pread(0, file.size())
            file.close()
            return data

    def write(self, name: str, data: bytes) -> "Image":
        """Makes a file, or replaces it."""
        with self._directory() as directory:
            if name in directory.names():
                directory.unlink(name)
            file = directory.create(name)
            file.pwritev(0, [data])
            file.datasync()
            file.close()
        return self

    def patch(self, name: str, offset: int, data: bytes) -> "Image":
        """Writes over a part of a file."""
        old = self.read(name)
        return self.write(name, old[:offset] + data + old[offset + len(data) :])

    def flip(self, name: str, offset: int, mask: int = 1) -> "Image":
        """Turns bits of one byte."""
        return self.patch(name, offset, bytes([self.read(name)[offset] ^ mask]))

    def cut(self, name: str, size: int) -> "Image":
        """Cuts a file."""
        return self.write(name, self.read(name)[:size])

    def remove(self, name: str) -> "Image":
        """Removes a file."""
        with self._directory() as directory:
            directory.unlink(name)
        return self

    def page(self, name: str) -> Page:
        """The header page of a segment."""
        return Page.decode(self.read(name))

    def frames(self, name: str) -> list[Header]:
        """The headers of the valid frames of a segment, in order."""
        data = self.read(name)
        scanner = Scanner(lambda offset, length: data[offset : offset + length], len(data), Page.decode(data))
        return [header for span in scanner for header in span.headers]

    @asynccontextmanager
    async def opened(self, lab: Lab, **options: Any) -> AsyncIterator[Lab]:
        """A lab with an open store on this image, closed at the end."""
        node = lab.another()
        node.harness.disk, node.harness.path = self.disk, self.path
        await node.open(**{"config": SMALL, **options})
        try:
            yield node
        finally:
            await node.close()

    async def refused(self, lab: Lab, *errors: type[E], what: str = "the damage", **options: Any) -> E:
        """The store on this image does not open but raises one of `errors`, and nothing on the disk was changed."""
        before = {name: self.read(name) for name in self.names()}
        count = len(self.disk.operations)
        try:
            async with self.opened(lab, **options):
                pass
        except errors as error:
            changes = {operation.kind for operation in self.disk.operations[count:]} - {"datasync", "sync"}
            expect(changes, set(), f"what the open that was refused because of {what} changed")
            expect_true(before == {name: self.read(name) for name in self.names()}, "the directory is as it was")
            return error
        msg = f"{what}: the store opened; expected {' or '.join(error.__name__ for error in errors)}"
        raise CaseFailure(msg)
