"""The parent: starts children, kills them at random moments, cuts the power, compares what they find with the ledger.

A kill is a SIGKILL by process id.  Every second one is also a power cut: a random part of what the store had written
and not synced is rolled back before the next start.  Only acknowledgements that were read before the kill count.
"""

import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import trio

import walstore
from walstore._demo.child import Orders, Wrong, fault, present
from walstore._demo.disk import CONFIG, cut_power, store_of
from walstore._demo.ledger import Figures, Ledger, Progress
from walstore._demo.lines import Lines
from walstore._demo.reports import Acknowledged, Done, Fault, Parser, Present, Ready, Report, Snapshots
from walstore._standalone import open_standalone
from walstore.errors import WalstoreError

SILENCE_SECONDS = 120.0
"""A child that says nothing for so long hangs."""

SNAPSHOTS_A_RUN = 12
"""About so many, one for each twelfth of the input."""


@attrs.frozen(kw_only=True)
class Options:
    """What was asked for."""

    kills: int = 30
    tasks: int = 512
    barriers: bool = True
    seconds_per_life: float | None = None
    seed: int = 0


class Child:
    """A child process and its pipe."""

    def __init__(self, directory: Path) -> None:
        root = Path(walstore.__file__).parent.parent
        self._process = subprocess.Popen(
            [sys.executable, "-m", "walstore._demo.child", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for the parent
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._parser = Parser()

    def listen(self, seconds: float) -> list[Report] | None:
        """The reports that come within this time; None at the end of the pipe."""
        readable, _, _ = select.select([self._stdout], [], [], max(seconds, 0))
        if not readable:
            return []
        data = os.read(self._stdout.fileno(), 1 << 18)
        return list(self._parser.feed(data)) if data else None

    def stop(self) -> None:
        """Tells it to close its store and to end."""
        self._stdin.close()

    def kill(self) -> None:
        """SIGKILL.  Silent if it has ended by itself."""
        self._process.kill()

    def end(self) -> int:
        """Waits for its end and lets go of the pipes; its exit status."""
        self._stdin.close()
        self._stdout.close()
        return self._process.wait()


@attrs.frozen
class Moment:
    """When to kill: so many seconds after the start, or after so many lines were acknowledged by an open store."""

    seconds: float
    acknowledged: int | None = None


class Run:
    """One run of the demo in a directory of its own."""

    def __init__(self, directory: Path, lines: Lines, options: Options) -> None:
        self._directory = directory
        self._options = options
        self._rng = random.Random(options.seed)
        self._damaged = False
        self._ready = False
        self._startup = 1.0  # what a child needs until its store is open and verified
        self.lines = lines
        self.ledger = Ledger(lines)
        self.figures = Figures()
        self._progress = Progress(len(lines), options.kills)
        self._snapshots = 0  # of this life

    def run(self) -> bool:
        """All lives and the last check; whether everything that was acknowledged is there, and nothing else."""
        self.lines.save(self._directory)
        Orders(
            tasks=self._options.tasks,
            barriers=self._options.barriers,
            compact_after_bytes=max(64 << 10, 2 * self.lines.size // SNAPSHOTS_A_RUN),
        ).save(self._directory)
        for moment in self._moments():
            if not self._live(moment):
                break
            if self.figures.kills % 2 == 0:
                self.figures.cut(cut_power(self._directory, self._rng))
        else:
            self._live(None)
        if not self._damaged:
            trio.run(self._check_at_the_end)
        self._progress.clear()
        return not self.ledger.lost and not self.figures.faults and self.ledger.complete

    def _moments(self) -> Iterator[Moment]:
        """One for each kill, spread over the whole input; every fourth or so while the store is being opened."""
        for kill in range(self._options.kills):
            if self._options.seconds_per_life is not None:
                yield Moment(self._rng.uniform(0, 2 * self._options.seconds_per_life))
            elif self._rng.random() < 0.25:
                yield Moment(self._rng.uniform(0, self._startup))
            else:
                share = (kill + self._rng.random()) / (self._options.kills + 1)
                yield Moment(self._rng.uniform(0, 0.1), int(share * len(self.lines)))

    # One life

    def _live(self, moment: Moment | None) -> bool:
        """A life up to its kill, or (None) up to its proper end; False if there is a fault."""
        self._ready, self._snapshots = False, 0
        child = Child(self._directory)
        try:
            return self._follow(child, moment)
        finally:
            child.kill()
            child.end()

    def _follow(self, child: Child, moment: Moment | None) -> bool:
        started = heard = time.monotonic()
        kill_at = started + moment.seconds if moment is not None and moment.acknowledged is None else None
        while True:
            now = time.monotonic()
            if kill_at is not None and now >= kill_at:
                child.kill()
                self.figures.kills += 1
                self.figures.kills_in_recovery += not self._ready
                return True
            reports = child.listen(min(0.1, kill_at - now if kill_at is not None else 0.1))
            if reports is None:
                return self._fault(f"the child ended by itself, with status {child.end()}")
            for report in reports:
                if isinstance(report, Done):
                    return True
                if not self._take(report, time.monotonic() - started):
                    return False
            heard = now if reports else heard
            if now - heard > SILENCE_SECONDS:
                return self._fault(f"the child said nothing for {SILENCE_SECONDS:.0f} s")
            self._progress.show(self.ledger, self.figures)
            if self._ready and kill_at is None:
                if moment is None and self.ledger.complete:
                    child.stop()
                elif moment is not None and self.ledger.count >= (moment.acknowledged or 0):
                    kill_at = now + moment.seconds

    def _take(self, report: Report, seconds: float) -> bool:
        """Notes what the child said; False if it is a fault."""
        match report:
            case Acknowledged(numbers):
                self.ledger.acknowledge(numbers)
            case Snapshots(count):
                self.figures.snapshots += count - self._snapshots
                self._snapshots = count
            case Ready():
                self.figures.recovered(report)
            case Present(flags):
                self.ledger.compare(flags, f"after kill {self.figures.kills}")
                self._ready, self._startup = True, seconds
            case Fault(text, damage):
                return self._fault(text, damage=damage)
        return True

    def _fault(self, text: str, *, damage: bool = False) -> bool:
        """Ends the run.  What a damaged store holds counts as lost, all of it: nobody can get at it."""
        self.figures.faults.append(text)
        if damage and not self._damaged:
            self._damaged = True
            self.ledger.lose_all(f"after kill {self.figures.kills}")
        return False

    # The end

    async def _check_at_the_end(self) -> None:
        """The parent opens the store itself, on the plain disk."""
        try:
            async with open_standalone(store_of(self._directory), config=CONFIG, compact_after_bytes=None) as db:
                flags = present(self.lines, db.machine)
                recovery = db.recovery
        except (WalstoreError, Wrong, OSError) as error:
            found = fault(error)
            self._fault(found.text, damage=found.damage)
            return
        self.figures.recovered(Ready(recovery.seconds, recovery.torn, recovery.copied_forward, recovery.applied))
        self.ledger.compare(flags, "at the end")
