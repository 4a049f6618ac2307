"""Every state that a power cut may leave a simulated disk in, or an honest sample of them.

    for count, disk in disk.prefixes():                       # the power is cut after each operation
        for after in enumerate_crashes(disk, bound=4096):     # and leaves each of these
            ...                                               # recover from `after`, compare with what was acknowledged

Equal states are handed out once.  `CrashStates.exhaustive` says whether that was all of them.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice, product
from math import prod
from random import Random

from walstore.testing._simulated_crash import Choose, Contents, Names, chosen, sampled
from walstore.testing._simulated_file import SimulatedInode
from walstore.testing.simulated import SimulatedFileSystem


class CrashStates:
    """The distinct disks after a power cut, to iterate over while the disk itself does not move on."""

    def __init__(self, system: SimulatedFileSystem, bound: int, seed: int) -> None:
        self.combinations = 0
        """How many outcomes the choices have, some perhaps equal; 0 where there are more than `bound`."""
        self.exhaustive = True
        """Whether all of them are gone through; if not, at most `bound` are: the extreme ones, then some by chance."""
        self.distinct = 0
        """How many distinct disks the last iteration has handed out so far."""
        self._system = system
        self._bound = bound
        self._seed = seed
        self._folders = list(system.folders.values())
        self._namings = self._all_namings()
        for naming in self._namings:
            self.combinations += prod(map(_combinations, _visible(naming)))
            if self.combinations > bound:
                self.exhaustive, self.combinations = False, 0
                break

    def _all_namings(self) -> list[tuple[Names, ...]]:
        """Each set of names, directory by directory; too many of them make this a sample."""
        plans = [folder.plan() for folder in self._folders]
        if prod(plan.combinations() for plan in plans if plan is not None) > self._bound:
            self.exhaustive = False
            return []
        choices = [
            [folder.entries] if plan is None else list(plan.every())
            for folder, plan in zip(self._folders, plans, strict=True)
        ]
        return list(product(*choices))

    def __iter__(self) -> Iterator[SimulatedFileSystem]:
        self.distinct = 0
        for contents, birth in self._every() if self.exhaustive else self._sample():
            self.distinct += 1
            yield self._system.born(contents, birth)

    def _every(self) -> Iterator[tuple[Contents, str]]:
        variants: dict[int, list[bytes | bytearray]] = {}
        kinds: dict[bytes, int] = {}
        seen = set()
        paths = [folder.path for folder in self._folders]
        for naming in self._namings:
            inodes = _visible(naming)
            for inode in inodes:
                if inode.number not in variants:
                    variants[inode.number] = _variants(inode)
            numbers = [inode.number for inode in inodes]
            for picked in product(*(variants[number] for number in numbers)):
                bytes_of = dict(zip(numbers, picked, strict=True))
                contents = {
                    path: {name: (inode.number, bytes_of[inode.number]) for name, inode in names.items()}
                    for path, names in zip(paths, naming, strict=True)
                }
                # A file that nothing is pending for is always the same object, so its identity will do as its value.
                key = frozenset(
                    (path, name, kinds.setdefault(data, len(kinds)) if isinstance(data, bytes) else -number)
                    for path, image in contents.items()
                    for name, (number, data) in image.items()
                )
                if key not in seen:
                    seen.add(key)
                    yield contents, f"crash state {len(seen)} of all"

    def _sample(self) -> Iterator[tuple[Contents, str]]:
        seen = set()
        for contents in islice(self._outcomes(), 2 * self._bound):
            key = _digest(contents)
            if key not in seen:
                seen.add(key)
                yield contents, f"crash state {len(seen)} of a sample (seed {self._seed})"
            if len(seen) == self._bound:
                return

    def _outcomes(self) -> Iterator[Contents]:
        """First the extremes and all that differ from one in a single choice, then by chance without end."""
        for base in (_nothing, _everything, _names_only):
            questions: list[tuple[str, str, int]] = []
            yield chosen(self._folders, _noting(base, questions))
            for question in questions[: self._bound // 8]:
                yield chosen(self._folders, _differing(base, question))
        random = Random(self._seed)
        while True:
            yield sampled(self._folders, random)


def enumerate_crashes(system: SimulatedFileSystem, bound: int = 4096, *, seed: int = 0) -> CrashStates:
    """What a power cut now may leave: all of it if that is at most `bound` outcomes, else a sample by `seed`."""
    with system.mutex:
        return CrashStates(system, bound, seed)


def _visible(naming: tuple[Names, ...]) -> list[SimulatedInode]:
    return list({inode.number: inode for names in naming for inode in names.values()}.values())


def _combinations(inode: SimulatedInode) -> int:
    plan = inode.plan()
    return 1 if plan is None else plan.combinations()


def _variants(inode: SimulatedInode) -> list[bytes | bytearray]:
    plan = inode.plan()
    return [inode.survivor()] if plan is None else [*plan.every()]


def _digest(contents: Contents) -> frozenset[tuple[str, str, bytes]]:
    return frozenset(
        (path, name, hashlib.blake2b(data, digest_size=16).digest())
        for path, image in contents.items()
        for name, (_, data) in image.items()
    )


def _nothing(_kind: str, _path: str, _offset: int, _count: int) -> int:
    return 0


def _everything(_kind: str, _path: str, _offset: int, count: int) -> int:
    return count - 1


def _names_only(kind: str, _path: str, _offset: int, count: int) -> int:
    return count - 1 if kind == "name" else 0


def _noting(base: Choose, questions: list[tuple[str, str, int]]) -> Choose:
    """`base`, and a list of what it was asked."""

    def choose(kind: str, path: str, offset: int, count: int) -> int:
        questions.append((kind, path, offset))
        return base(kind, path, offset, count)

    return choose


def _differing(base: Choose, question: tuple[str, str, int]) -> Choose:
    """`base`, but the other extreme for one question."""

    def choose(kind: str, path: str, offset: int, count: int) -> int:
        pick = base(kind, path, offset, count)
        return count - 1 - pick if (kind, path, offset) == question else pick

    return choose
