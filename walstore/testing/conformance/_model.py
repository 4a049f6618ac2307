"""A store in plain dicts, and random runs of a real one beside it."""

from random import Random

from ..._types import ConfigChange, HardState, MembershipConfig, Normal
from ...errors import HardStateRegressionError, InvalidRangeError, LogGapError, NothingToCompact
from ._helpers import (
    LogEntry,
    as_membership,
    e,
    expect,
    expect_snapshot,
    expect_state,
    identities,
    m,
    n,
    read_log,
    refused,
)
from ._image import SMALL
from ._lab import Lab
from ._machine import ClientRequest
from ._machines import expect_machine

__all__ = ["Run"]

_TURN = 0.15


class Run:
    """One random run.  The model is written from SEMANTICS alone, and knows nothing of any store."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab = lab
        self.random = Random(seed)
        self.hard = HardState()
        self.log: dict[int, LogEntry] = {}
        self.floor: tuple[int, int] | None = None  # (term, index) of the snapshot
        self.floor_membership = MembershipConfig.new_initial(0)
        self.applied: dict[int, ClientRequest] = {}

    @property
    def last(self) -> tuple[int, int]:
        """(term, index) of the last entry, else of the snapshot, else zeros."""
        if self.log:
            entry = self.log[max(self.log)]
            return entry.term, entry.index
        return self.floor or (0, 0)

    @property
    def last_applied(self) -> int:
        """The highest index that was applied."""
        return max(self.applied, default=0)

    def membership_at(self, index: int) -> MembershipConfig:
        """The latest membership at or below `index`."""
        for position in sorted(self.log, reverse=True):
            payload = self.log[position].payload
            if position <= index and isinstance(payload, ConfigChange):
                return payload.membership
        return self.floor_membership

    async def go(self, steps: int) -> None:
        """Makes random calls and compares after each."""
        await self.lab.open(config=SMALL)
        moves = [self._append, self._append, self._replace, self._send_again, self._cut, self._vote]
        moves += [self._apply, self._apply, self._compact, self._misuse]
        for _ in range(steps):
            await self.random.choice(moves)()
            if self.random.random() < _TURN:
                await self.lab.turn()
            await self._compare()
        await self.lab.turn()
        await self._compare()

    def _entry(self, term: int, index: int) -> LogEntry:
        kind = self.random.randrange(6)
        if kind == 0:
            return e(term, index)
        if kind == 1:
            return m(term, index, self.random.sample(range(9), 3), self.random.choice((None, [1, 2])))
        text = f"{index} of {term}" * self.random.choice((1, 1, 40))
        return n(term, index, ClientRequest(f"client {index % 7}", index, text))

    async def _append(self) -> None:
        term, last = self.last
        entries = []
        for index in range(last + 1, last + 1 + self.random.choice((1, 1, 2, 20))):
            term += self.random.choice((0, 0, 0, 1))
            entries.append(self._entry(term, index))
        await self.lab.store.replicate_to_log(entries)
        self.log.update((entry.index, entry) for entry in entries)

    def _some_index(self) -> int | None:
        """An entry that was not applied and may go."""
        choices = [index for index in self.log if index > self.last_applied]
        return self.random.choice(choices) if choices else None

    async def _replace(self) -> None:
        if (start := self._some_index()) is None:
            return
        term = self.last[0] + 1
        entries = [self._entry(term, index) for index in range(start, start + self.random.randrange(1, 4))]
        await self.lab.store.replicate_to_log(entries)
        self._forget_from(start)
        self.log.update((entry.index, entry) for entry in entries)

    def _forget_from(self, start: int) -> None:
        self.log = {index: entry for index, entry in self.log.items() if index < start}

    async def _send_again(self) -> None:
        indexes = sorted(self.log)
        if indexes:
            low = self.random.choice(indexes)
            await self.lab.store.replicate_to_log([self.log[i] for i in indexes if low <= i < low + 5])

    async def _cut(self) -> None:
        if (start := self._some_index()) is not None:
            await self.lab.store.delete_logs_from(start)
            self._forget_from(start)

    async def _vote(self) -> None:
        hard = HardState(self.hard.current_term + self.random.randrange(1, 3), self.random.choice((None, 0, 5)))
        await self.lab.store.save_hard_state(hard)
        self.hard = hard

    async def _apply(self) -> None:
        upper = self.random.randint(self.last_applied, max(self.last[1], self.last_applied))
        batch = [
            (index, entry.payload.data)
            for index, entry in sorted(self.log.items())
            if self.last_applied < index <= upper and isinstance(entry.payload, Normal)
        ]
        again = [pair for pair in self.applied.items() if self.random.random() < 0.1 and pair[0] in self.log]
        await self.lab.store.replicate_to_state_machine(sorted(again) + batch)
        self.applied.update(batch)

    async def _compact(self) -> None:
        if not self.applied:
            with refused(NothingToCompact):
                await self.lab.store.do_log_compaction()
            return
        index = self.last_applied
        await (await self.lab.store.do_log_compaction()).snapshot.aclose()
        if index in self.log:
            self.floor_membership = self.membership_at(index)
            self.floor = (self.log[index].term, index)
            self.log = {i: entry for i, entry in self.log.items() if i > index}

    async def _misuse(self) -> None:
        term, last = self.last
        store = self.lab.store
        if last:
            with refused(LogGapError):
                await store.replicate_to_log([e(term, last + 2)])
        if self.hard.current_term:
            with refused(HardStateRegressionError):
                await store.save_hard_state(HardState(self.hard.current_term - 1, None))
        if len(self.log) > 2:
            middle = sorted(self.log)[1]
            with refused(InvalidRangeError):
                await store.delete_logs_from(middle, middle + 1)

    async def _compare(self) -> None:
        store = self.lab.store
        await expect_state(
            store,
            last=self.last,
            applied=self.last_applied,
            hard=self.hard,
            membership=as_membership(self.membership_at(self.last[1])),
        )
        found = await read_log(store)
        floor = [self.floor] if self.floor else []
        expect(identities(found), floor + [(x.term, x.index) for _, x in sorted(self.log.items())], "the log")
        expect(found[len(floor) :], [entry for _, entry in sorted(self.log.items())], "the entries")
        if self.floor:
            await expect_snapshot(store, *self.floor, self.floor_membership)
        expect_machine(self.lab, self.applied)
