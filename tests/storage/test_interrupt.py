"""KeyboardInterrupt, wherever it lands: no waiter hangs, and the store is what it was or what the call makes of it.

A real SIGINT is raised in this process while a trio of our own runs, with its defaults: code of the main task may be
interrupted between any two lines, unless it is protected.
"""

import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import walstore
from walstore import Blank, Entry, HardState, MembershipConfig, Normal
from walstore.kv import KeyValue, Put
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .holding import Gate
from .stores import Store, apply, compact, identities, install, opened, put, puts

ROOF = walstore.__file__.removesuffix("__init__.py") + "_"


class Interrupt:
    """Raises SIGINT when this thread has come to the `line`-th line of the roof, or of one of its files."""

    def __init__(self, line: int, file: str = "") -> None:
        self.left = line
        self._file = file

    @property
    def raised(self) -> bool:
        """Whether the line was reached."""
        return self.left <= 0

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Counts within the block."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Any:
        name = frame.f_code.co_filename
        return self._count if name.startswith(ROOF) and name.endswith(self._file) and not self.raised else None

    def _count(self, _frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line" and self.left:
            self.left -= 1
            if not self.left:
                signal.raise_signal(signal.SIGINT)
        return self._count


async def observe(store: Store) -> tuple[object, ...]:
    """All that is kept of a store."""
    state = await store.get_initial_state()
    current = await store.get_current_snapshot()
    if current is not None:
        await current.snapshot.aclose()
    header = None if current is None else current.snapshot.header
    assert isinstance(store.machine, KeyValue)
    return state, await identities(store), header, dict(store.machine)


async def append(store: Store, key: bytes) -> None:
    """One acknowledged entry at the end of the log."""
    await store.append_entry_to_log(Entry(1, store.last_index + 1, Normal(Put(key, b"value"))))


CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "append": lambda store: append(store, b"mine"),
    "vote": lambda store: store.save_hard_state(HardState(9, 3)),
    "delete": lambda store: store.delete_logs_from(6),
    "apply": lambda store: apply(store, 6, 8),
    "compact": compact,
    "install": lambda store: install(store, 1, 20, None),
    "close": lambda store: store.attest(),
}


class Run:
    """One store, on which one call of the main task is interrupted while two other tasks append."""

    def __init__(self, call: str, line: int, file: str) -> None:
        self.call = call
        self.disk = SimulatedFileSystem()
        self.interrupt = Interrupt(line, file)
        self.acknowledged: set[bytes] = set()
        self.interrupted = False

    def go(self) -> None:
        """Runs it, and then looks at what is on the disk."""
        trio.run(self.main)
        trio.run(self.look)

    async def other(self, store: Store, key: bytes) -> None:
        """Appends from another task."""
        try:
            await append(store, key)
        except trio.ClosedResourceError:
            return
        self.acknowledged.add(key)

    async def main(self) -> None:
        """The main task."""
        with trio.fail_after(30):
            manager = opened(self.disk)
            store = await manager.__aenter__()
            await store.replicate_to_log(puts(1, 1, 9))
            await apply(store, 1, 6)
            try:
                async with trio.open_nursery() as nursery:
                    if self.call != "install":
                        nursery.start_soon(self.other, store, b"a")
                        nursery.start_soon(self.other, store, b"b")
                    if self.call == "close":
                        await trio.lowlevel.checkpoint()
                    with self.interrupt.armed():
                        await (manager.__aexit__(None, None, None) if self.call == "close" else CALLS[self.call](store))
                await trio.lowlevel.checkpoint()
            except* KeyboardInterrupt:
                self.interrupted = True
            if self.call != "close":
                await append(store, b"after")
                self.acknowledged.add(b"after")
                self.seen = await observe(store)
                await manager.__aexit__(None, None, None)

    async def look(self) -> None:
        """What is on the disk is what was seen, with everything that was acknowledged in it."""
        async with opened(self.disk) as store:
            found = await observe(store)
            entries = await store.get_log_entries(0, 2**64 - 1)
        keys = {entry.payload.data.key for entry in entries if isinstance(entry.payload, Normal)}
        if self.call != "delete":
            assert self.acknowledged <= keys
        if self.call != "close":
            assert found == self.seen


@pytest.mark.parametrize(
    ("call", "file", "step"),
    [
        ("append", "", 3),
        ("vote", "", 11),
        ("delete", "", 11),
        ("apply", "", 5),
        ("compact", "", 13),
        ("compact", "_snapshot.py", 1),
        ("compact", "_snapshots.py", 5),
        ("install", "", 17),
        ("close", "_storage.py", 1),
        ("close", "_commit.py", 2),
    ],
)
def test_an_interrupt_at_any_line_of_the_roof(call: str, file: str, step: int) -> None:
    """Whatever line of a call it meets, the main task hears of it, the store goes on, and the disk agrees with it."""
    for line in count(1, step):
        run = Run(call, line, file)
        run.go()
        assert run.interrupted == run.interrupt.raised
        if not run.interrupted:
            break
    assert line > 10


class Held:
    """A store whose disk is held in the middle of a barrier while the main task is interrupted."""

    def __init__(self) -> None:
        self.disk = SimulatedFileSystem()
        self.faulty = FaultyFileSystem(self.disk)
        self.returned: list[str] = []

    async def call(self, name: str, function: Callable[[], Awaitable[object]]) -> None:
        """A call of another task."""
        await function()
        self.returned.append(name)

    @trio.lowlevel.enable_ki_protection
    async def interrupt_when_held(self, gate: Gate, waiting: int, store: Store) -> None:
        """Raises SIGINT when the gate holds a barrier and so many calls are on their way, and then opens it."""
        await gate.arrival()
        while store.statistics().pending_calls < waiting:
            await wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGINT)
        await wait_all_tasks_blocked()
        gate.open()


def test_an_interrupted_leader_finishes_what_it_leads() -> None:
    """Ctrl-C in the middle of a barrier: the batch is settled, everybody returns, then the main task hears of it."""
    held = Held()

    async def main() -> None:
        async with opened(held.faulty) as store:
            with Gate(held.faulty) as gate:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(held.interrupt_when_held, gate, 3, store)
                    for name in ("a", "b"):
                        nursery.start_soon(held.call, name, store.attest)
                    try:
                        await store.append_entry_to_log(put(1, 1))
                        held.returned.append("main")
                        await trio.lowlevel.checkpoint()
                    except KeyboardInterrupt:
                        held.returned.append("interrupted")
            assert store.durable_index == store.last_index == 1
            assert store.statistics().pending_calls == 0

    trio.run(main)
    assert {"a", "b", "interrupted"} <= set(held.returned)


def test_an_interrupted_waiter_takes_its_call_back() -> None:
    """Ctrl-C while another task leads: the call did not happen, and nobody else notices."""
    held = Held()

    async def main() -> None:
        async with opened(held.faulty) as store:
            with Gate(held.faulty) as gate:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(held.call, "leader", store.attest)
                    await gate.arrival()
                    nursery.start_soon(held.interrupt_when_held, gate, 2, store)
                    with pytest.raises(KeyboardInterrupt):
                        await store.append_entry_to_log(put(1, 1))
                    assert store.last_index == 0
            assert held.returned == ["leader"]
            await store.append_entry_to_log(Entry(3, 1, Blank()))
            assert await identities(store) == [(3, 1)]

    trio.run(main)


def test_an_interrupt_that_comes_before_the_thread_acknowledges_nothing_that_is_not_written() -> None:
    """A leader that is interrupted before its hop writes all the same, and only what is written counts as durable."""
    held = Held()

    @trio.lowlevel.enable_ki_protection
    async def interrupted(call: Callable[[], Awaitable[object]]) -> None:
        signal.raise_signal(signal.SIGINT)
        await call()

    async def main() -> None:
        async with opened(held.disk) as store:
            await store.append_entry_to_log(put(1, 1))
            barrier = await store.append([put(1, 2)])
            with pytest.raises(KeyboardInterrupt):
                await interrupted(barrier.wait)
            assert barrier.durable
            held.disk = held.disk.crash_keeping_nothing()
        async with opened(held.disk) as store:
            assert store.last_index == 2

    trio.run(main)


def test_bootstrap_is_whole_or_can_be_repeated() -> None:
    """Ctrl-C in a bootstrap leaves a pristine store, or a member."""
    for line in count(1, 9):
        disk, interrupt = SimulatedFileSystem(), Interrupt(line)

        async def main(disk: SimulatedFileSystem = disk, interrupt: Interrupt = interrupt) -> None:
            async with opened(disk) as store:
                try:
                    with interrupt.armed():
                        await store.bootstrap(MembershipConfig({1, 2}))
                    await trio.lowlevel.checkpoint()
                except KeyboardInterrupt:
                    pass
                if store.last_index == 0:
                    await store.bootstrap(MembershipConfig({1, 2}))
                assert await identities(store) == [(1, 1)]
                assert await store.get_membership_config() == MembershipConfig({1, 2})

        trio.run(main)
        if not interrupt.raised:
            break
