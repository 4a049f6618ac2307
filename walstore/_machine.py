"""The state machine beside the log: applied in order, each index once, rebuilt at open.

Rebuilt means: the current snapshot restored, then the Normal entries behind it applied, up to the applied mark (a Raft
node) or all of them (a store of its own; PROTOCOL A10).  `last_applied` after an open is the highest index that was
rebuilt (A8); while live it never falls, whatever is deleted from the log.
"""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Generic

import attrs
import trio

from ._config import StorageConfig
from ._disk.seam import Directory
from ._log.batch import EntryKind
from ._log.container import ContainerError
from ._log.control import SnapshotRecord
from ._log.names import snapshot_name
from ._log.state import LogState
from ._snapshot_files import as_corruption, payload_of
from ._types import D, R
from .abc import Codec, StateMachine
from .errors import ApplyError, CorruptionError, UsageError, WalstoreError

_PACE_SECONDS = 0.001
_PACE_ENTRIES = 32


@attrs.define(eq=False)
class Machine(Generic[D, R]):
    """The application's machine, and how far it is."""

    live: StateMachine[D, R]
    codec: Codec[D]
    last_applied: int
    _answer: tuple[int, R] | None = None

    @trio.lowlevel.enable_ki_protection  # or Ctrl-C could part the effect from its index
    def apply(self, index: int, data: D) -> R:
        """Applies a new index.  ApplyError if the machine raised: nothing moved."""
        try:
            answer = self.live.apply(index, data)
        except Exception as error:
            raise ApplyError(index, error) from error
        self.last_applied = index
        self._answer = (index, answer)
        return answer

    def answer_of(self, index: int) -> R | None:
        """The remembered answer to an index that was applied already, if it was the last one."""
        return self._answer[1] if self._answer is not None and self._answer[0] == index else None

    def check_logged(self, state: LogState, index: int, data: D) -> None:
        """UsageError if the log has other bytes at `index` than those that are to be applied (PROTOCOL B12)."""
        if not state.log.holds(index):
            return
        run = state.log.run_at(index)
        if run.kind_at(index, EntryKind.NORMAL) == EntryKind.NORMAL and run.bytes_at(index) != self.codec.encode(data):
            msg = f"the log has other bytes at index {index} than those to be applied; apply what was logged"
            raise UsageError(msg)

    def replace(self, fresh: StateMachine[D, R], index: int) -> None:
        """Puts a restored machine in the place of the old one."""
        self.live = fresh
        self.last_applied = index
        self._answer = None


def rebuild(
    factory: Callable[[], StateMachine[D, R]],
    codec: Codec[D],
    config: StorageConfig,
    directory: Directory,
    state: LogState,
) -> tuple[Machine[D, R], int]:
    """The machine as the log and the snapshot say it was; and how many entries were applied for that."""
    snapshot = state.facts.snapshot
    live = factory()
    if snapshot is not None:
        name = snapshot_name(snapshot.header.term, snapshot.header.index)
        with as_corruption(directory, name):
            with closing(directory.open(name)) as file:
                file.datasync()  # before a byte of it is believed
            try:
                restore(live, directory, name, snapshot)
            except (ContainerError, OSError, WalstoreError):
                raise
            except Exception as error:
                raise ApplyError(snapshot.header.index, error) from error
    machine = Machine(live, codec, state.snapshot_index)
    stop = state.last_index + 1
    if config.replay == "mark":
        stop = min(stop, state.facts.mark + 1)
    return machine, _replay(machine, state, stop, skip_errors=config.on_apply_error == "skip")


def restore(live: StateMachine[D, R], directory: Directory, name: str, record: SnapshotRecord) -> None:
    """Restores a fresh machine from a snapshot file, every byte of which is proven when this returns.

    ContainerError if the bytes are damaged, whatever the machine thought of them; else what `restore` raised.
    """
    pieces = payload_of(directory, name, record)
    try:
        live.restore(pieces)
    except ContainerError:
        raise
    except Exception:
        for _ in pieces:  # damage explains more than what the machine said of the damaged bytes
            pass
        raise
    for _ in pieces:
        pass


def _replay(machine: Machine[D, R], state: LogState, stop: int, *, skip_errors: bool) -> int:
    applied = 0
    paused = time.perf_counter()
    for run in state.log.between(machine.last_applied + 1, stop):
        kinds = run.kinds
        for index in range(max(run.first, machine.last_applied + 1), min(run.stop, stop)):
            if kinds is not None and run.kind_at(index, EntryKind.NORMAL) != EntryKind.NORMAL:
                continue
            try:
                machine.apply(index, _decode(machine.codec, run.bytes_at(index), index))
            except ApplyError:
                if not skip_errors:
                    raise
                machine.last_applied = index
            applied += 1
            if not applied % _PACE_ENTRIES and time.perf_counter() - paused > _PACE_SECONDS:
                time.sleep(0)
                paused = time.perf_counter()
    return applied


def _decode(codec: Codec[D], data: bytes, index: int) -> D:
    try:
        return codec.decode(data)
    except CorruptionError:
        raise
    except Exception as error:
        raise ApplyError(index, error) from error
