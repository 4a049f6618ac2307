"""A disk that is held up and let go by a test: no sleeps, no luck."""

import threading
from fnmatch import fnmatchcase
from types import TracebackType

import trio

from walstore._log.frame import Header
from walstore._log.page import Page
from walstore._log.scan import Scanner
from walstore.testing.faults import Call, FaultyFileSystem
from walstore.testing.operations import Operation
from walstore.testing.simulated import SimulatedFileSystem

from .stores import names, read

PATIENCE = 60
"""Seconds after which a held thread gives up: a test that hangs fails instead."""


class Gate:
    """Within `with`, each matching call of the disk stops before it is done, until it is let through.

    By default these are the barriers of segments that have their names: those that commit.
    """

    def __init__(self, disk: FaultyFileSystem, operation: str = "datasync", name: str = "wal-*") -> None:
        self.passed = 0
        """How many calls were let through or came when the gate was open."""
        self._disk = disk
        self._operation = operation
        self._name = name
        self._changed = threading.Condition()
        self._waiting = 0
        self._permits = 0
        self._open = False

    def __enter__(self) -> "Gate":
        self._disk.hook = self._hook
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.open()

    def _hook(self, call: Call) -> None:
        if call.operation != self._operation or not fnmatchcase(call.name, self._name):
            return
        with self._changed:
            if not self._open:
                self._waiting += 1
                self._changed.notify_all()
                if not self._changed.wait_for(lambda: self._open or self._permits > 0, PATIENCE):
                    raise OSError("nobody opened the gate")
                self._waiting -= 1
                self._permits -= not self._open
            self.passed += 1
            self._changed.notify_all()

    @property
    def held(self) -> bool:
        """Whether a call stands at the gate and may not pass."""
        with self._changed:
            return self._waiting > self._permits

    def open(self) -> None:
        """Lets everybody through from now on."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def let_one(self) -> None:
        """Lets one call through, now or when it comes."""
        with self._changed:
            self._permits += 1
            self._changed.notify_all()

    async def arrival(self) -> None:
        """Returns when a call stands at the gate and may not pass."""

        def wait() -> None:
            with self._changed:
                if not self._changed.wait_for(lambda: self._waiting > self._permits, PATIENCE):
                    raise AssertionError("nobody came to the gate")

        await trio.to_thread.run_sync(wait, abandon_on_cancel=True)


def changes(disk: SimulatedFileSystem, start: int = 0) -> list[str]:
    """The kinds of the operations from the `start`-th on."""
    return [operation.kind for operation in disk.operations[start:]]


def named(operations: list[Operation]) -> list[tuple[str, str]]:
    """Kind and present name of each operation: a file goes by its name at that time, not by that of its opening."""
    present: dict[int, str] = {}
    found = []
    for operation in operations:
        if operation.kind in {"create", "rename"}:
            present[operation.file] = operation.target or operation.name
        found.append((operation.kind, present.get(operation.file, operation.name)))
    return found


def frames(disk: SimulatedFileSystem, name: str = "") -> list[Header]:
    """The headers of the frames in a segment (the newest one), apart from the STATE that opens it."""
    data = read(disk, name or names(disk, "wal-")[-1])
    scanner = Scanner(lambda offset, length: data[offset : offset + length], len(data), Page.decode(data[:4096]))
    return [header for span in scanner for header in span.headers][1:]
