"""Many lives of one store, by seed: random calls, several under way at once, a power cut, and on from what is left.

Each life checks what the one before left: a state between the last one acknowledged and the last one planned.  So an
entry that a truncation had removed does not come back two crashes later, and what a purge took was not needed.
"""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import attrs
import trio

from walstore import (
    CompactionSuperseded,
    HardState,
    InvalidRangeError,
    NothingToCompact,
    SnapshotMismatchError,
    StorageConfig,
    WalstoreError,
)
from walstore.testing.simulated import SimulatedFileSystem

from .explorer import Driver, Seen, Violation, seen
from .workloads import applied, config, puts, snapshot_bytes

HARMLESS = (CompactionSuperseded, NothingToCompact, InvalidRangeError, SnapshotMismatchError)


@attrs.define
class Life:
    """One open store, and what it planned and had acknowledged."""

    driver: Driver
    random: Random
    states: list[Seen]
    acknowledged: int = 0
    waiting: list[tuple[int, Any]] = attrs.field(factory=list)

    @property
    def store(self) -> Any:
        """The open store."""
        return self.driver.store

    def planned(self) -> int:
        """Notes the state after a call that was just planned."""
        self.states.append(seen(self.store._core.state))
        return len(self.states) - 1

    async def acknowledge(self) -> None:
        """Waits for everything planned so far."""
        for number, barrier in self.waiting:
            await barrier.wait()
            self.acknowledged = max(self.acknowledged, number)
        self.waiting.clear()

    async def whole(self, call: Callable[[], Awaitable[object]]) -> None:
        """A call that is awaited: acknowledges all that was planned before it."""
        try:
            await call()
        except HARMLESS:
            return
        self.acknowledged = max(self.acknowledged, self.planned())
        self.waiting.clear()

    async def step(self) -> None:
        """One random call."""
        random, store = self.random, self.store
        last, term = store.last_index, max(store._core.state.last_term, 1)
        match random.choice(("append",) * 6 + ("wide", "replace", "cut", "drop", "vote", "compact", "install", "wait")):
            case "append":
                await self._append(puts(term, last + 1, last + 1 + random.randint(1, 3)))
            case "wide":
                await self._append(puts(term, last + 1, last + 3, size=random.randint(100, 900)))
            case "replace" if last > self._floor():
                start = random.randint(max(self._floor() + 1, last - 4), last)
                entries = puts(term + 1, start, start + random.randint(1, 3))
                await self._append([config(term + 1, start, 1, start), *entries[1:]])
            case "cut" if last > 1:
                await self.whole(lambda: store.delete_logs_from(random.randint(max(last - 3, 1), last)))
            case "drop":
                await self.whole(lambda: store.delete_logs_from(0, random.randint(0, last + 1)))
            case "vote":
                vote = HardState(self._term() + 1, random.choice((None, 0, 1)))
                await self.whole(lambda: store.save_hard_state(vote))
            case "compact":
                await self.whole(self._compact)
            case "install":
                await self.whole(self._install)
            case _:
                await self.acknowledge()

    def _floor(self) -> int:
        """Entries up to here cannot be replaced."""
        return int(max(self.store.first_index, self.store._core.state.snapshot_index, 1))

    def _term(self) -> int:
        term: int = self.store._core.state.facts.hard_state.current_term
        return term

    async def _append(self, entries: list[Any]) -> None:
        barrier = await self.store.append(entries)
        self.waiting.append((self.planned(), barrier))
        if self.random.random() < 0.5:
            await self.acknowledge()

    async def _compact(self) -> None:
        await applied(self.driver, self.store.last_applied + 1, self.store.last_index + 1)
        await (await self.store.do_log_compaction()).snapshot.aclose()

    async def _install(self) -> None:
        store, random = self.store, self.random
        index = store.last_index + random.randint(-3, 4)
        if index <= store._core.state.snapshot_index or index < 1:
            raise NothingToCompact
        term = store._core.state.term_of(index) or store._core.state.last_term + 1
        id, writer = await store.create_snapshot()
        await writer.send_all(snapshot_bytes(term, index))
        await writer.aclose()
        await store.finalize_snapshot_installation(index, term, random.choice((None, index)), id, writer)


async def live(seed: int, settings: StorageConfig, *, lives: int, steps: int) -> int:
    """Some lives of the store of that seed.  Returns how many states were compared."""
    random = Random(seed)
    disk = SimulatedFileSystem(seed)
    legal: list[Seen] | None = None
    compared = 0
    for number in range(lives):
        driver = Driver(disk, settings)
        try:
            await driver.open()
        except WalstoreError as error:
            raise Violation(f"seed {seed}, life {number}: {error}") from error
        now = seen(driver.store._core.state)
        if legal is not None:
            compared += 1
            if now not in legal:
                raise Violation(f"seed {seed}, life {number}: holds {now}, not one of {legal}")
        life = Life(driver, random, [now])
        for _ in range(random.randint(1, steps)):
            await life.step()
        await trio.lowlevel.checkpoint()
        legal = life.states[life.acknowledged :]
        if random.random() < 0.15:
            await driver.close()
            legal = life.states[-1:]
        else:
            cut = disk.crash_keeping_everything() if random.random() < 0.2 else disk.crash(random)
            await driver.close()
            disk = cut
    return compared
