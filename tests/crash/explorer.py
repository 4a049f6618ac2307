"""Every crash point of a workload: each operation prefix, each state that a power cut may leave, and again in recovery.

A workload is driven through the real store on a simulated disk.  After each step the driver notes what the store then
holds, and between which operations of the disk the step was issued and acknowledged.  A crash after n operations may
then leave any state from the one acknowledged before n to the one issued before n, and no other: so nothing
acknowledged is lost, nothing is invented, and no call is half there (P1, P2).  What is opened is compared with the
machine rebuilt from its own log, and opening again must give the same.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from walstore import Storage, StorageConfig, open_storage
from walstore._log.names import snapshot_name
from walstore._log.state import LogState
from walstore._open import Opened, Request, open_store
from walstore._snapshot_files import payload_of
from walstore.abc import FileSystem
from walstore.kv import KeyValue, KeyValueCodec, Put
from walstore.testing.crashes import enumerate_crashes
from walstore.testing.simulated import SimulatedFileSystem

PATH = "/store"
CODEC = KeyValueCodec()
Seen = tuple[object, ...]


def request(disk: SimulatedFileSystem, config: StorageConfig) -> Request[Any, Any]:
    """An open of the store on that disk."""
    return Request(disk, PATH, 1, KeyValue, CODEC, config, None)


def seen(state: LogState) -> Seen:
    """All of the state that a call acknowledges (the applied mark is not: PROTOCOL A9)."""
    snapshot = state.facts.snapshot
    entries = tuple(
        (index, run.term_at(index), run.kind_at(index, 1), run.bytes_at(index))
        for run in state.log.runs
        for index in range(run.first, run.stop)
    )
    return (
        state.facts.hard_state,
        snapshot and (snapshot.header.term, snapshot.header.index),
        state.facts.pointer,
        state.membership,
        entries,
    )


@attrs.frozen
class Step:
    """What the store held after a step, and when the step was issued and acknowledged, in operations of the disk."""

    name: str
    issued: int
    acknowledged: int
    holds: Seen
    applied: int = 0
    """What had been applied durably, with `sync_apply`."""


@attrs.define
class Driver:
    """Runs the steps of a workload and keeps the log of them."""

    disk: SimulatedFileSystem
    config: StorageConfig
    filesystem: FileSystem | None = None
    """What the store is given, if not the disk itself: a wrapper of it."""
    steps: list[Step] = attrs.field(factory=list)
    manager: Any = None
    storage: "Storage[Any, Any] | None" = None

    @property
    def store(self) -> "Storage[Any, Any]":
        """The open store."""
        assert self.storage is not None
        return self.storage

    async def open(self) -> None:
        """Opens the store, as a step."""
        issued = len(self.disk.operations)
        self.manager = open_storage(
            PATH,
            node_id=1,
            machine=KeyValue,
            codec=CODEC,
            config=self.config,
            filesystem=self.filesystem or self.disk,
        )
        self.storage = await self.manager.__aenter__()
        self._note("open", issued)

    async def close(self) -> None:
        """Closes the store, if it is open, as a step that changes nothing."""
        if self.manager is not None:
            manager, self.manager = self.manager, None
            await manager.__aexit__(None, None, None)

    async def do(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        """One step: a call that has returned."""
        issued = len(self.disk.operations)
        await call()
        self._note(name, issued)

    def planned(self, name: str) -> None:
        """A call that was planned and not yet awaited: what the store holds once it is through."""
        self.steps.append(Step(name, len(self.disk.operations), 1 << 60, seen(self.store._core.state)))

    def through(self, count: int) -> None:
        """The last `count` planned calls are acknowledged now."""
        now = len(self.disk.operations)
        self.steps[-count:] = [attrs.evolve(step, acknowledged=now) for step in self.steps[-count:]]

    def _note(self, name: str, issued: int) -> None:
        applied = self.store.last_applied if self.config.sync_apply else 0
        self.steps.append(Step(name, issued, len(self.disk.operations), seen(self.store._core.state), applied))


@attrs.define
class Tally:
    """How much was explored."""

    prefixes: int = 0
    states: int = 0
    recoveries: int = 0
    exhaustive: int = 0
    sampled: int = 0
    ambiguous: int = 0


class Violation(AssertionError):
    """A crash state from which the store came back wrong."""


def allowed(steps: list[Step], count: int) -> list[Seen]:
    """What a store may hold after a crash when `count` operations were done."""
    done = [number for number, step in enumerate(steps) if step.acknowledged <= count]
    begun = [number for number, step in enumerate(steps) if step.issued < count]
    low = max(done, default=-1)
    high = max(begun, default=-1)
    return [step.holds for step in steps[max(low, 0) : max(high, low, 0) + 1]]


def recover(disk: SimulatedFileSystem, config: StorageConfig) -> tuple[Seen, Opened[Any, Any]]:
    """Opens the store as it is, and leaves it without closing it, as another crash would."""
    opened = open_store(request(disk, config))
    opened.worker.join()
    opened.writer.close(sealed=False)
    check_machine(opened)
    opened.directory.close()
    return seen(opened.state), opened


def check_machine(opened: Opened[Any, Any]) -> None:
    """The machine holds what the snapshot holds, and what the log says behind it up to `last_applied`."""
    state, machine = opened.state, opened.machine
    live: Any = machine.live
    if not state.snapshot_index <= machine.last_applied <= max(state.last_index, state.snapshot_index):
        raise Violation(
            f"applied {machine.last_applied}, of the snapshot {state.snapshot_index} and {state.last_index}"
        )
    expected: dict[bytes, bytes] = {}
    snapshot = state.facts.snapshot
    if snapshot is not None:
        restored = KeyValue()
        name = snapshot_name(snapshot.header.term, snapshot.header.index)
        restored.restore(payload_of(opened.directory, name, snapshot))
        expected.update(restored)
    for run in state.log.runs:
        for index in range(max(run.first, state.snapshot_index + 1), min(run.stop, machine.last_applied + 1)):
            command = CODEC.decode(run.bytes_at(index)) if run.kind_at(index, 1) == 1 else None
            if isinstance(command, Put):
                expected[command.key] = command.value
    if dict(live) != expected:
        raise Violation(f"applied {machine.last_applied}: the machine holds {dict(live)}, not {expected}")


def explore(
    disk: SimulatedFileSystem,
    steps: list[Step],
    config: StorageConfig,
    *,
    bound: int,
    inner_bound: int,
    inner_every: int,
    stride: int = 1,
) -> Tally:
    """Opens the store in every crash state of every prefix, and every `inner_every`-th of them at each point again."""
    tally = Tally()
    for count, partial in disk.prefixes():
        if count % stride:
            continue
        tally.prefixes += 1
        states = enumerate_crashes(partial, bound, seed=count)
        for after in states:
            tally.states += 1
            _check_state(after, allowed(steps, count), applied_by(steps, count), config, count, tally)
            if tally.states % inner_every == 0:
                _explore_recovery(after, config, inner_bound, count, tally)
        if states.exhaustive:
            tally.exhaustive += 1
        else:
            tally.sampled += 1
    return tally


def applied_by(steps: list[Step], count: int) -> int:
    """What must have been applied after a crash when `count` operations were done."""
    return max((step.applied for step in steps if step.acknowledged <= count), default=0)


def _check_state(
    disk: SimulatedFileSystem, legal: list[Seen], applied: int, config: StorageConfig, count: int, tally: Tally
) -> None:
    try:
        first, opened = recover(disk, config)
        second, _ = recover(disk, config)
    except Exception as error:
        raise Violation(f"after {count} operations, {disk.birth}: {error!r}") from error
    tally.recoveries += 2
    tally.ambiguous += opened.report.ambiguous_tail
    if legal and first not in legal:
        raise Violation(f"after {count} operations, {disk.birth}: holds {first}, not one of {legal}")
    if opened.machine.last_applied < applied:
        raise Violation(f"after {count} operations, {disk.birth}: {opened.machine.last_applied} applied, not {applied}")
    if first != second:
        raise Violation(f"after {count} operations, {disk.birth}: recovered {first}, then {second}")


def _explore_recovery(disk: SimulatedFileSystem, config: StorageConfig, bound: int, count: int, tally: Tally) -> None:
    """Cuts the power at each operation of the recovery, and recovers from each state that this may leave."""
    fresh = disk.crash_keeping_everything()
    expected, _ = recover(fresh, config)
    for inner, partial in fresh.prefixes():
        for after in enumerate_crashes(partial, bound, seed=inner):
            tally.states += 1
            try:
                found, _ = recover(after, config)
            except Exception as error:
                raise Violation(
                    f"after {count} operations, then {inner} of recovery, {after.birth}: {error!r}"
                ) from error
            tally.recoveries += 1
            if found != expected:
                raise Violation(
                    f"after {count} operations, then {inner} of recovery, {after.birth}: {found}, not {expected}"
                )
