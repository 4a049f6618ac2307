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

import walstore
from walstore import Entry, HardState, Normal
from walstore.kv import KeyValue, Put
from walstore.testing.simulated import SimulatedFileSystem

from .stores import Store, apply, compact, identities, install, opened, puts

ROOF = walstore.__file__.removesuffix("__init__.py") + "_"


class Interrupt:
    """Raises SIGINT when this thread has come to the `line`-th line of the roof."""

    def __init__(self, line: int) -> None:
        self.left = line

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
        return self._count if frame.f_code.co_filename.startswith(ROOF) and not self.raised else None

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
    "close": lambda store: store.aclose(),
}


class Run:
    """One store, on which one call of the main task is interrupted while two other tasks append."""

    def __init__(self, call: str, line: int) -> None:
        self.call = call
        self.disk = SimulatedFileSystem()
        self.interrupt = Interrupt(line)
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
            async with opened(self.disk) as store:
                await store.replicate_to_log(puts(1, 1, 9))
                await apply(store, 1, 6)
                try:
                    async with trio.open_nursery() as nursery:
                        if self.call != "install":
                            nursery.start_soon(self.other, store, b"a")
                            nursery.start_soon(self.other, store, b"b")
                        with self.interrupt.armed():
                            await CALLS[self.call](store)
                    await trio.lowlevel.checkpoint()
                except* KeyboardInterrupt:
                    self.interrupted = True
                if self.call != "close":
                    await append(store, b"after")
                    self.acknowledged.add(b"after")
                    self.seen = await observe(store)

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
    ("call", "step"),
    [("append", 3), ("vote", 11), ("delete", 11), ("apply", 5), ("compact", 11), ("install", 17), ("close", 5)],
)
def test_an_interrupt_at_any_line_of_the_roof(call: str, step: int) -> None:
    """Whatever line of a call it meets, the main task hears of it, the store goes on, and the disk agrees with it."""
    for line in count(1, step):
        run = Run(call, line)
        run.go()
        assert run.interrupted == run.interrupt.raised
        if not run.interrupted:
            break
    assert line > 20
