"""Cutting the power at every operation of a workload, and what may be found afterwards.

A call that has returned before the cut must be there, wholly; the one that was under way may be there, wholly, or not
at all; nothing else (PRODUCT P1 and P2).
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from random import Random

from ..crashes import enumerate_crashes
from ..simulated import SimulatedFileSystem
from ._cancel import observe
from ._helpers import CaseFailure, expect, expect_true
from ._image import SMALL, Image, disk_of
from ._lab import Lab

__all__ = ["Workload"]

Judge = Callable[[Lab, int], Awaitable[None]]


class Workload:
    """Notes what can be seen of a store after each call, and how many operations the disk had done by then."""

    def __init__(self, lab: Lab, *, config: Mapping[str, object] = SMALL) -> None:
        self.lab = lab
        self.config = config
        self.rows: list[tuple[int, tuple[object, ...]]] = []

    async def note(self) -> None:
        """A call has returned: this is what it must have left."""
        self.rows.append((len(disk_of(self.lab).operations), await observe(self.lab)))

    @property
    def start(self) -> int:
        """The number of operations when the first note was taken."""
        return self.rows[0][0]

    def allowed(self, operations: int) -> list[tuple[object, ...]]:
        """What may be found after a cut behind so many operations."""
        done = max(place for place, (count, _) in enumerate(self.rows) if count <= operations)
        return [state for _, state in self.rows[done : done + 2]]

    def cuts(self, per_operation: int, seed: int = 0) -> Iterator[tuple[int, SimulatedFileSystem]]:
        """(n, disk) for cuts after each n operations: nothing pending kept, everything kept, and some by chance."""
        random = Random(seed)
        for count, now in disk_of(self.lab).prefixes():
            if count < self.start:
                continue
            yield count, now.crash_keeping_nothing()
            if per_operation > 1:
                yield count, now.crash_keeping_everything()
            for _ in range(per_operation - 2):
                yield count, now.crash(random)

    def every_state(self, operations: int, bound: int) -> Iterator[SimulatedFileSystem]:
        """All that a cut after so many operations may leave, or `bound` of them."""
        yield from enumerate_crashes(disk_of(self.lab).at(operations), bound)

    async def check(self, per_operation: int = 3, judge: Judge | None = None) -> int:
        """Opens the store after every cut and compares; returns how many there were."""
        states = 0
        for count, disk in self.cuts(per_operation):
            await self.check_one(disk, count, judge)
            states += 1
        expect_true(states > len(self.rows), "there were cuts to look at")
        return states

    async def check_one(self, disk: SimulatedFileSystem, count: int, judge: Judge | None = None) -> None:
        """Opens the store on this disk, which was cut after `count` operations, and compares."""
        async with Image(disk, self.lab.harness.path).opened(self.lab, config=self.config) as node:
            if judge is not None:
                await judge(node, count)
                return
            found = await observe(node)
            image = Image(disk, node.harness.path)
            expect(image.names("snap-*.tmp"), [], "temporary snapshots after an open")
            expect_true(len(image.names("snap-*")) <= 1, "one snapshot is kept")
        if found not in self.allowed(count):
            msg = f"{disk.birth}: found {found!r}, which is neither what was acknowledged nor what was under way"
            raise CaseFailure(msg)
