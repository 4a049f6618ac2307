"""What the parts of an open store share."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Generic

import attrs
import trio

from ._commit import GroupCommit
from ._config import StorageConfig
from ._disk.seam import Directory, FileSystem
from ._log.state import LogState
from ._machine import Machine
from ._report import RecoveryReport
from ._segments import SegmentMaker
from ._types import D, R
from .abc import StateMachine
from .errors import StorageLockedError

_SLICE_SECONDS = 0.001


class Pace:
    """Lets the event loop run after each millisecond of Python (PROTOCOL P12): `if pace.due: await pace.rest()`."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    @property
    def due(self) -> bool:
        """Whether the millisecond is over."""
        return time.perf_counter() - self._since > _SLICE_SECONDS

    async def rest(self) -> None:
        """A checkpoint; then the next millisecond begins."""
        await trio.lowlevel.checkpoint()
        self._since = time.perf_counter()


@attrs.define(eq=False)
class Core(Generic[D, R]):
    """One open store, as the event loop sees it.

    Locks are taken in this order: `compacting`, `publishing`, `applying`.  `applying` is held while the machine and
    `last_applied` move, `publishing` while a snapshot gets its name and its frame (PROTOCOL A13).
    """

    filesystem: FileSystem
    directory: Directory
    node_id: int
    config: StorageConfig
    factory: Callable[[], StateMachine[D, R]]
    maker: SegmentMaker
    state: LogState
    machine: Machine[D, R]
    commit: GroupCommit
    report: RecoveryReport
    log_limiter: trio.CapacityLimiter
    file_limiter: trio.CapacityLimiter
    compacting: trio.Lock = attrs.field(factory=trio.Lock)
    publishing: trio.Lock = attrs.field(factory=trio.Lock)
    applying: trio.Lock = attrs.field(factory=trio.Lock)
    closed: bool = False
    users: int = 0
    payload_since_snapshot: int = 0
    _left: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _process: int = attrs.field(factory=os.getpid)
    _temporary: int = 0

    def check(self) -> None:
        """Raises `trio.ClosedResourceError` after close, and `StorageLockedError` in a forked child (PROTOCOL B10)."""
        if self.closed:
            msg = f"the store in {self.directory.path} is closed"
            raise trio.ClosedResourceError(msg)
        if self.forked:
            msg = f"{self.directory.path} was opened by process {self._process}; a forked child may not use the handle"
            raise StorageLockedError(msg)

    @property
    def forked(self) -> bool:
        """Whether this is a child that the owner forked: the directory is not its own."""
        return os.getpid() != self._process

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Within it the directory stays open: a close waits for the end of it, which is due when `check` raises."""
        self.check()
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1
            self._left.unpark_all()

    async def unused(self) -> None:
        """Returns when nobody uses the directory.  Not a checkpoint if that is so."""
        while self.users:
            await self._left.park()

    def check_writable(self) -> None:
        """`check`, and raises `StorageFailedError` once a write has failed."""
        self.check()
        self.commit.check()

    def check_appliable(self) -> None:
        """`check`; an apply goes on in memory when a write has failed, unless it would have to be durable."""
        if self.config.sync_apply:
            self.check_writable()
        else:
            self.check()

    def next_temporary(self) -> int:
        """A number for the name of a temporary file."""
        self._temporary += 1
        return self._temporary
