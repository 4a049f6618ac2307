"""The power cut itself: a part of what a journal says was not synced is undone in a real directory."""

import os
import stat
from random import Random

import attrs

from walstore.testing._before_images import numbers, place_of, read_file, read_names, unpack_names
from walstore.testing._journal import Journal
from walstore.testing._simulated_crash import Choose, chosen, sampled
from walstore.testing._simulated_file import SECTOR, SimulatedInode
from walstore.testing._simulated_names import SimulatedFolder


@attrs.frozen
class RollbackReport:
    """What was not synced, and how much of it is gone now."""

    files: int = 0
    """Files with bytes or a length that were not synced."""
    sectors: int = 0
    """Sectors of 512 bytes that were not synced."""
    sectors_lost: int = 0
    lengths: int = 0
    """Files whose length was not synced."""
    lengths_lost: int = 0
    names: int = 0
    """Names that were not synced: new, moved or gone."""
    names_lost: int = 0

    @property
    def lost(self) -> int:
        """How many things were taken back."""
        return self.sectors_lost + self.lengths_lost + self.names_lost


def roll_back(store: str, journal: str, choice: Random | Choose) -> RollbackReport:
    """Undoes a part of what was not synced in `store`, as a power cut might, and makes the rest count as durable.

    `choice` is as for `SimulatedFileSystem.crash`.  No process may have the store open.  A store without a journal is
    left as it is.
    """
    store = os.path.realpath(store)
    place = place_of(store, os.path.realpath(journal))
    if not os.path.isdir(place):
        return RollbackReport()
    cut = _Cut(store, place)
    report = cut.perform(choice)
    for name in os.listdir(place):
        os.unlink(os.path.join(place, name))
    os.rmdir(place)
    return report


class _Cut:
    """One power cut of a real directory."""

    def __init__(self, store: str, place: str) -> None:
        self._store = store
        self._place = place
        self._names = _regular_files(store)
        self._paths = {number: os.path.join(place, f"keep-{number}") for number in numbers(place, "keep-")}
        self._paths |= {number: os.path.join(store, name) for name, number in self._names.items()}
        self._files: dict[int, SimulatedInode] = {}
        for number in numbers(place, "file-"):
            if number in self._paths:
                self._files[number] = self._read(number)
        names = Journal(os.path.join(place, "names"))
        records = [unpack_names(payload) for _, payload in names.records()]
        names.close()
        self._folder: SimulatedFolder = read_names(store, self._names, records, self._files)

    def _read(self, number: int) -> SimulatedInode:
        journal = Journal(os.path.join(self._place, f"file-{number}"))
        with open(self._paths[number], "rb") as file:
            inode = read_file(number, file.read(), journal)
        journal.close()
        return inode

    def perform(self, choice: Random | Choose) -> RollbackReport:
        """Chooses, and does it."""
        contents = sampled([self._folder], choice) if isinstance(choice, Random) else chosen([self._folder], choice)
        image = contents[self._store]
        report = self._put_names({name: number for name, (number, _) in image.items()})
        for number, data in dict(image.values()).items():
            plan = self._files[number].plan() if number in self._files else None
            if plan is not None:
                lost = _put_bytes(self._paths[number], plan.sectors, bytes(data))
                report = attrs.evolve(
                    report,
                    files=report.files + 1,
                    sectors=report.sectors + len(plan.sectors),
                    sectors_lost=report.sectors_lost + lost,
                    lengths=report.lengths + (len(plan.sizes) > 1),
                    lengths_lost=report.lengths_lost + (len(data) != plan.newest),
                )
        return report

    def _put_names(self, names: dict[str, int]) -> RollbackReport:
        """Gives the directory these names, and every file in it a path."""
        changed = [name for name in {**self._names, **names} if self._names.get(name) != names.get(name)]
        for number in {names.get(name, 0) for name in changed} | {self._names.get(name, 0) for name in changed}:
            keep = os.path.join(self._place, f"keep-{number}")
            if number and not os.path.exists(keep):
                os.link(self._paths[number], keep)
            self._paths[number] = keep
        for name in changed:
            if name in self._names:
                os.unlink(os.path.join(self._store, name))
            if name in names:
                os.link(self._paths[names[name]], os.path.join(self._store, name))
        plan = self._folder.plan()
        return RollbackReport(names=0 if plan is None else len(plan.chains), names_lost=len(changed))


def _put_bytes(path: str, sectors: list[tuple[int, list[bytes]]], data: bytes) -> int:
    """Gives a file these bytes; how many of its pending sectors are not the newest."""
    lost = 0
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for offset, versions in sectors:
            sector = data[offset : offset + SECTOR]
            if sector != versions[-1][: len(sector)]:
                lost += 1
                os.pwrite(descriptor, sector, offset)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
    return lost


def _regular_files(store: str) -> dict[str, int]:
    with os.scandir(store) as entries:
        return {
            entry.name: entry.inode() for entry in entries if stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)
        }
