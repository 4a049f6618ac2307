"""A machine that keeps the order of what it saw, a log whose barriers a test can hold, and stores on any disk."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager

import trio

from walstore import Codec, Entry, SnapshotView, Standalone, StateMachine, StorageConfig, open_standalone
from walstore._executor import Executor, Recorder
from walstore._standalone import StandaloneKeyValue
from walstore.abc import FileSystem
from walstore.testing.memory import MemoryStorage

POISON = "poison"
"""The command at which `Journal` raises."""


class JournalView(SnapshotView):
    """The commands as lines."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = list(lines)

    def chunks(self) -> Iterator[bytes]:
        for line in self.lines:
            yield line.encode() + b"\n"


class Journal(StateMachine[str, int]):
    """Keeps every command; answers with how many it holds."""

    poison: str = POISON

    def __init__(self) -> None:
        self.lines: list[str] = []

    def apply(self, index: int, data: str) -> int:
        if data == self.poison:
            raise RuntimeError(data)
        self.lines.append(data)
        return len(self.lines)

    def capture(self) -> SnapshotView:
        return JournalView(self.lines)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.lines = b"".join(chunks).decode().splitlines()


class MendedJournal(Journal):
    """The same after the bug was found."""

    poison = ""


class TextCodec(Codec[str]):
    """Text as UTF-8."""

    def encode(self, data: str) -> bytes:
        return data.encode()

    def decode(self, buffer: bytes) -> str:
        return bytes(buffer).decode()


class HeldBarrier:
    """Open, or held until `release`; raises `error` if there is one."""

    def __init__(self, entries: Sequence[Entry[str]], *, held: bool) -> None:
        self.entries = entries
        self.error: Exception | None = None
        self._released = trio.Event()
        if not held:
            self.release()

    def release(self) -> None:
        self._released.set()

    async def wait(self) -> None:
        await self._released.wait()
        if self.error is not None:
            raise self.error


class HeldLog(MemoryStorage[str, int]):
    """`MemoryStorage` with the append that the executor uses."""

    def __init__(self) -> None:
        super().__init__(1, lambda: Recorder(Journal()), TextCodec())
        self.hold = False
        self.refusal: Exception | None = None
        self.barriers: list[HeldBarrier] = []
        self.hold_applies = False
        self._applies_released = trio.Event()

    async def append(self, entries: Sequence[Entry[str]]) -> HeldBarrier:
        if self.refusal is not None:
            await trio.lowlevel.checkpoint()
            raise self.refusal
        await self.replicate_to_log(entries)
        barrier = HeldBarrier(entries, held=self.hold)
        self.barriers.append(barrier)
        return barrier

    async def replicate_to_state_machine(self, entries: Sequence[tuple[int, str]]) -> None:
        if self.hold_applies:
            await self._applies_released.wait()
        await super().replicate_to_state_machine(entries)

    def release_applies(self) -> None:
        self.hold_applies = False
        self._applies_released.set()

    def logged(self) -> list[str]:
        """Every command in the log."""
        return [entry.payload.data for barrier in self.barriers for entry in barrier.entries]  # type: ignore[union-attr]  # all are Normal


def make(*, skip: bool = False) -> tuple[HeldLog, Executor[str, int], Journal]:
    """A log, an executor on it, and its machine."""
    log = HeldLog()
    executor = Executor(log, TextCodec(), term=1, skip_apply_errors=skip)
    journal = executor.recorder.machine
    assert isinstance(journal, Journal)
    return log, executor, journal


SMALL = StorageConfig(first_segment_size=4096, segment_size=4096, prepare_ahead=False)


def open_journal(
    disk: FileSystem, machine: type[Journal] = Journal, *, config: StorageConfig = SMALL
) -> AbstractAsyncContextManager[Standalone[str, int]]:
    """A standalone store of text."""
    return open_standalone("/store", machine, TextCodec(), filesystem=disk, config=config)


def open_key_value(
    disk: FileSystem, *, compact_after_bytes: int | None = None
) -> AbstractAsyncContextManager[StandaloneKeyValue]:
    """A standalone key-value store that makes no snapshot of itself unless it is told to."""
    return open_standalone("/store", filesystem=disk, config=SMALL, compact_after_bytes=compact_after_bytes)


def lines_of(db: Standalone[str, int]) -> list[str]:
    """What the journal holds."""
    assert isinstance(db.machine, Journal)
    return db.machine.lines
