"""What the parent knows: which lines were acknowledged, what has become of them, and the figures of the run.

A lost line is noticed at the next start, before the child writes it again: at the end it would be there.  A line whose
acknowledgement was on its way when the child was killed may be found at the next start; from then on it counts as
acknowledged too, for what an open store shows is as durable as what it has answered.
"""

import statistics
import sys
import time
from array import array

import attrs

from walstore._demo.lines import Lines
from walstore._demo.reports import Ready
from walstore.testing.rollback import RollbackReport


class Ledger:
    """The acknowledged lines."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._held = bytearray(len(lines))  # 1 for a line that the store is held to, else 0
        self.count = 0
        """Lines that the store is held to now."""
        self.found = 0
        """Lines that were found at a start without an acknowledgement."""
        self.lost = 0
        self.examples: list[str] = []

    @property
    def complete(self) -> bool:
        """Whether the store is held to every line."""
        return self.count == len(self._lines)

    def acknowledge(self, numbers: "array[int]") -> None:
        """The child says that these survive whatever comes."""
        held = self._held
        for number in numbers:
            self.count += not held[number]
            held[number] = 1

    def compare(self, present: bytes | bytearray, when: str) -> int:
        """Holds what a recovered store has against it; how many acknowledged lines are missing.

        They are forgotten here, so that the child may write and acknowledge them again.
        """
        there = int.from_bytes(present, "little")
        held = int.from_bytes(self._held, "little")
        missing = held & ~there
        self.found += (there & ~held).bit_count()
        self._held = bytearray(present)
        self.count = there.bit_count()
        if missing:
            self._note(missing.to_bytes(len(self._lines), "little"), when)
        return missing.bit_count()

    def _note(self, missing: bytes, when: str) -> None:
        self.lost += missing.count(1)
        at = -1
        while len(self.examples) < 3 and (at := missing.find(1, at + 1)) >= 0:
            self.examples.append(f"{self._lines.key(at).decode(errors='replace')}, missing {when}")

    def lose_all(self, when: str) -> None:
        """The store cannot be opened: as it is, all that it held is gone."""
        self.compare(bytes(len(self._lines)), when)


@attrs.define
class Figures:
    """What is counted beside the lines."""

    kills: int = 0
    kills_in_recovery: int = 0
    cuts: int = 0
    sectors_lost: int = 0
    names_lost: int = 0
    recoveries: list[float] = attrs.field(factory=list)
    torn: int = 0
    copied_forward: int = 0
    snapshots: int = 0
    faults: list[str] = attrs.field(factory=list)
    started: float = attrs.field(factory=time.monotonic)

    def recovered(self, ready: Ready) -> None:
        """A child, or the parent at the end, has opened the store."""
        self.recoveries.append(ready.seconds)
        self.torn += ready.torn
        self.copied_forward += ready.copied_forward

    def cut(self, report: RollbackReport) -> None:
        """The power was cut."""
        self.cuts += 1
        self.sectors_lost += report.sectors_lost + report.lengths_lost
        self.names_lost += report.names_lost


def summary(lines: Lines, ledger: Ledger, figures: Figures) -> str:
    """The figures of the run, to print."""
    seconds = time.monotonic() - figures.started
    times = figures.recoveries or [0.0]
    killed = f"{figures.kills}, {figures.kills_in_recovery} of them before the store was open again"
    taken = f"{figures.sectors_lost:,} sectors and {figures.names_lost:,} names that were not synced"
    opened = f"{len(figures.recoveries)}, median {statistics.median(times):.3f} s, longest {max(times):.3f} s"
    tails = f"{figures.torn} torn tails, {figures.copied_forward} frames made durable again"
    found = f"{ledger.found:,} were found at a start before their answer was read"
    rows = [
        ("input", f"{len(lines):,} lines of {lines.files:,} files, {lines.size:,} bytes"),
        ("acknowledged", f"{ledger.count + ledger.lost:,} lines in {seconds:.1f} s; {found}"),
        ("kills", killed),
        ("power cuts", f"{figures.cuts} of these kills; they took back {taken}"),
        ("recoveries", f"{opened}; {tails}"),
        ("snapshots", f"{figures.snapshots}"),
        ("lost", f"{ledger.lost:,}"),
        *(("", example) for example in ledger.examples),
        *(("fault", fault) for fault in figures.faults),
    ]
    return "\n".join(f"{name:14}{text}" for name, text in rows)


class Progress:
    """A bar on standard error, where a person watches."""

    WIDTH = 30

    def __init__(self, total: int, kills: int) -> None:
        self._total = total
        self._kills = kills
        self._shown = 0.0
        self._watched = sys.stderr.isatty()

    def show(self, ledger: Ledger, figures: Figures) -> None:
        """Draws it anew, ten times a second at most."""
        now = time.monotonic()
        if not self._watched or now - self._shown < 0.1:
            return
        self._shown = now
        done = self.WIDTH * ledger.count // self._total
        bar = "#" * done + "." * (self.WIDTH - done)
        text = (
            f"{bar} {ledger.count:,}/{self._total:,} lines, {figures.kills}/{self._kills} kills, lost {ledger.lost:,}"
        )
        sys.stderr.write(f"\r{text:79}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Leaves an empty line."""
        if self._watched:
            sys.stderr.write(f"\r{'':79}\r")
            sys.stderr.flush()
