"""One life of the store: recover, verify what is there, write what is missing, compact now and then, until killed.

Run by the parent as `python -m walstore._demo.child DIRECTORY`.  Reports go to standard output; the end of standard
input is the word to stop.  When nothing is missing any more, the lines are compared and set again, round after round,
for the parent has kills left.
"""

import itertools
import json
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import attrs
import trio

from walstore._demo.disk import CONFIG, disk_of, store_of
from walstore._demo.lines import Lines
from walstore._demo.reports import Acknowledged, Done, Fault, Present, Ready, Report, Snapshots, encode
from walstore._standalone import StandaloneKeyValue, open_standalone
from walstore.errors import ApplyError, CorruptionError, WalstoreError
from walstore.kv import CompareAndSet, KeyValue, Put, Swapped

_ORDERS = "orders.json"


@attrs.frozen(kw_only=True)
class Orders:
    """What the parent tells every child."""

    tasks: int
    barriers: bool
    compact_after_bytes: int

    def save(self, directory: Path) -> None:
        """Writes them for `load`."""
        (directory / _ORDERS).write_text(json.dumps(attrs.asdict(self)))

    @classmethod
    def load(cls, directory: Path) -> "Orders":
        """What `save` saved."""
        return cls(**json.loads((directory / _ORDERS).read_text()))


class Wrong(Exception):
    """The store holds what was never written to it."""


def present(lines: Lines, machine: KeyValue) -> bytearray:
    """Which lines the machine holds.  Raises Wrong if it holds anything else."""
    flags = bytearray(len(lines))
    for number, (key, value) in enumerate(lines.pairs()):
        found = machine.get(key)
        if found is not None:
            if found != value:
                msg = f"{key!r} should be {value[:80]!r}, and is {found[:80]!r}"
                raise Wrong(msg)
            flags[number] = 1
    if sum(flags) != len(machine):
        msg = f"{len(machine) - sum(flags)} keys that were never written"
        raise Wrong(msg)
    return flags


class Reporter:
    """Sends reports in order; acknowledgements are gathered while others are on their way."""

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self._stream = stream
        self._numbers = array("I")
        self._more = trio.Event()
        self._sending = trio.Lock()
        self._snapshots = 0

    async def say(self, *reports: Report) -> None:
        """Returns when the parent could read them.  Shielded: half a report would garble the next."""
        with trio.CancelScope(shield=True):
            async with self._sending:
                await self._stream.send_all(b"".join(map(encode, reports)))

    def acknowledge(self, number: int) -> None:
        """To be sent soon."""
        self._numbers.append(number)
        self._more.set()

    async def flush(self, snapshots: int) -> None:
        """Sends what was gathered."""
        numbers, self._numbers, self._more = self._numbers, array("I"), trio.Event()
        reports: list[Report] = [Acknowledged(numbers)] if numbers else []
        if snapshots != self._snapshots:
            self._snapshots = snapshots
            reports.append(Snapshots(snapshots))
        await self.say(*reports)

    async def run(self, db: StandaloneKeyValue) -> None:
        """Sends acknowledgements as they come, until cancelled."""
        while True:
            await self._more.wait()
            await self.flush(db.statistics().compactions)


def work(lines: Lines, flags: bytearray) -> Iterator[tuple[int, Put | CompareAndSet]]:
    """First the lines that are missing, then all of them over and over, each expected to be there."""
    for number, there in enumerate(flags):
        if not there:
            yield number, Put(lines.key(number), lines.value(number))
    for number in itertools.cycle(range(len(lines))):
        value = lines.value(number)
        yield number, CompareAndSet(lines.key(number), value, value)


async def write(db: StandaloneKeyValue, todo: Iterator[tuple[int, Put | CompareAndSet]], reporter: Reporter) -> None:
    """One of many tasks: the next line, until the store is closed or the task is cancelled."""
    for number, command in todo:
        answer = await db.execute(command)
        expected = None if isinstance(command, Put) else Swapped(swapped=True, previous=command.value)
        # A line that another task of the first round is still writing is not there yet; any other answer is wrong.
        if answer not in (expected, Swapped(swapped=False, previous=None)):
            msg = f"{command!r} was answered with {answer!r}"
            raise Wrong(msg)
        if not isinstance(answer, Swapped) or answer.swapped:
            reporter.acknowledge(number)


async def live(directory: Path, reporter: Reporter) -> None:
    """One life, until standard input ends."""
    orders, lines = Orders.load(directory), Lines.load(directory)
    async with open_standalone(
        store_of(directory),
        config=CONFIG,
        compact_after_bytes=orders.compact_after_bytes,
        filesystem=disk_of(directory, barriers=orders.barriers),
    ) as db:
        flags = present(lines, db.machine)
        recovery = db.recovery
        ready = Ready(recovery.seconds, recovery.torn, recovery.copied_forward, recovery.applied)
        await reporter.say(ready, Present(bytes(flags)))
        todo = work(lines, flags)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reporter.run, db)
            for _ in range(orders.tasks):
                nursery.start_soon(write, db, todo, reporter)
            async with trio.lowlevel.FdStream(sys.stdin.fileno()) as orders_stream:
                await orders_stream.receive_some()
            nursery.cancel_scope.cancel()
        await reporter.flush(db.statistics().compactions)
    await reporter.say(Done())


async def main(directory: Path) -> None:
    """A life, and what ended it if it was neither a kill nor the parent's word."""
    async with trio.lowlevel.FdStream(sys.stdout.fileno()) as stream:
        reporter = Reporter(stream)
        try:
            await live(directory, reporter)
        except* (WalstoreError, Wrong) as group:
            for error in _leaves(group):
                await reporter.say(fault(error))
        except* trio.BrokenResourceError:
            pass  # the parent is gone


def fault(error: Exception) -> Fault:
    """The report of an error."""
    damage = isinstance(error, Wrong | CorruptionError | ApplyError)
    return Fault(f"{type(error).__name__}: {error}", damage)


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
