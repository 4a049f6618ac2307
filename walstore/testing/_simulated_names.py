"""One simulated directory: its names now, and every set of names that a power cut may leave.

Until `sync` returns, each name is written back on its own and may be as it was, or as after any later change of it.
So a file that was created, and even synced, may have no name; one that was unlinked may be back.  POSIX calls rename
atomic for those who look, and says nothing of a crash; what is allowed here is

- the old name only (the rename was lost; a replaced target is still there),
- the new name only (it was done),
- both, for the same file (the new name was written back, the old one not yet removed), as on disks without a journal;
- never neither: the old name goes only when the new one is there.
"""

from collections.abc import Callable, Iterator
from itertools import product
from random import Random
from typing import NamedTuple

from walstore.testing._simulated_file import CHANCES, SimulatedInode


class Move(NamedTuple):
    """A rename's law: if `old` is at version `gone` or later, `new` is at version `there` or later."""

    old: str
    gone: int
    new: str
    there: int


class NamePlan(NamedTuple):
    """The choices that a power cut has in one directory: a version of each name in `chains`, within `moves`."""

    fixed: dict[str, SimulatedInode]
    chains: dict[str, list[SimulatedInode | None]]
    """The durable version first, the newest last; None: no such name."""
    moves: list[Move]

    def build(self, picks: dict[str, int]) -> dict[str, SimulatedInode]:
        """The names with the picked version of each."""
        names = dict(self.fixed)
        for name, pick in picks.items():
            inode = self.chains[name][pick]
            if inode is not None:
                names[name] = inode
        return names

    def allowed(self, picks: dict[str, int]) -> bool:
        """Whether no renamed file has lost both of its names."""
        return all(picks[move.old] < move.gone or picks[move.new] >= move.there for move in self.moves)

    def pick(self, choose: Callable[[str, int], int], *, forward: bool) -> dict[str, int]:
        """A choice for each name; where it breaks a rename's law, that rename is done (`forward`) or undone."""
        picks = {name: choose(name, len(chain)) for name, chain in self.chains.items()}
        while not self.allowed(picks):
            for move in self.moves if forward else reversed(self.moves):
                if picks[move.old] >= move.gone and picks[move.new] < move.there:
                    if forward:
                        picks[move.new] = move.there
                    else:
                        picks[move.old] = move.gone - 1
        return picks

    def sample(self, random: Random) -> dict[str, SimulatedInode]:
        """A directory at random: often with little of what was pending, or nearly all, or a half."""
        chance = random.choice(CHANCES)
        picks = self.pick(
            lambda _, count: random.randrange(1, count) if random.random() < chance else 0,
            forward=random.random() < 0.5,
        )
        return self.build(picks)

    def combinations(self) -> int:
        """How many combinations there are, forbidden ones included."""
        total = 1
        for chain in self.chains.values():
            total *= len(chain)
        return total

    def every(self) -> Iterator[dict[str, SimulatedInode]]:
        """All allowed directories; only for few `combinations`."""
        for versions in product(*(range(len(chain)) for chain in self.chains.values())):
            picks = dict(zip(self.chains, versions, strict=True))
            if self.allowed(picks):
                yield self.build(picks)


class SimulatedFolder:
    """The names of one directory."""

    __slots__ = ("_plan", "changes", "durable", "entries", "path")

    def __init__(self, path: str, entries: dict[str, SimulatedInode]) -> None:
        self.path = path
        self.entries = entries
        self.durable = dict(entries)
        self.changes: list[tuple[str, str, SimulatedInode | None]] = []
        """(new name, old name, file): a create has no old name, an unlink no new one."""
        self._plan: NamePlan | None = None

    def create(self, name: str, inode: SimulatedInode) -> None:
        """Adds a name."""
        self._note(name, "", inode)
        self.entries[name] = inode

    def rename(self, old: str, new: str) -> None:
        """Moves a name.  Where both are names of one file, POSIX has rename do nothing, and both stay."""
        inode = self.entries[old]
        if self.entries.get(new) is inode:
            return
        self._note(new, old, inode)
        del self.entries[old]
        self.entries[new] = inode

    def unlink(self, name: str) -> None:
        """Takes a name away."""
        self._note("", name, None)
        del self.entries[name]

    def sync(self) -> None:
        """All changes become durable."""
        if self.changes:
            self.durable = dict(self.entries)
            self.changes = []
            self._plan = None

    def _note(self, new: str, old: str, inode: SimulatedInode | None) -> None:
        self.changes.append((new, old, inode))
        self._plan = None

    def plan(self) -> NamePlan | None:
        """The choices of a power cut now; None if it has none."""
        if not self.changes:
            return None
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _make_plan(self) -> NamePlan:
        chains: dict[str, list[SimulatedInode | None]] = {}
        moves: list[Move] = []
        for new, old, inode in self.changes:
            for name, version in ((new, inode), (old, None)):
                if name:
                    chains.setdefault(name, [self.durable.get(name)]).append(version)
            if new and old:
                moves.append(Move(old, len(chains[old]) - 1, new, len(chains[new]) - 1))
        fixed = {name: inode for name, inode in self.durable.items() if name not in chains}
        return NamePlan(fixed, chains, moves)
