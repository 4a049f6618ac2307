"""Cancelling a call at each of its checkpoints, and every method of the interface by its name."""

from collections.abc import Awaitable, Callable

import trio

from ..._types import HardState
from ._helpers import fail, n, r, send
from ._lab import Lab, Store

__all__ = ["attempt", "every_method", "observe", "sweep"]


class _CancelAfter(trio.abc.Instrument):
    """Cancels its scope when the task that entered it has given way `steps` times."""

    def __init__(self, steps: int) -> None:
        self.scope = trio.CancelScope()
        self.task = trio.lowlevel.current_task()
        self.left = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def attempt(call: Callable[[], Awaitable[object]], steps: int) -> tuple[bool, bool]:
    """Runs `call`, and cancels it when it has given way `steps` times (0: before it begins).

    Returns whether it returned rather than raised Cancelled, and whether the cancellation came before it returned.
    """
    canceller = _CancelAfter(steps)
    returned = False
    trio.lowlevel.add_instrument(canceller)
    try:
        with canceller.scope:
            if steps == 0:
                canceller.scope.cancel()
            await call()
            returned = True
    finally:
        trio.lowlevel.remove_instrument(canceller)
    return returned, canceller.scope.cancel_called


async def sweep(lab: Lab, name: str, prepare: Callable[[int], Awaitable[Callable[[], Awaitable[object]]]]) -> int:
    """Cancels one call at its first checkpoint, the next at its second, and so on until one returns uncancelled.

    `prepare(round)` brings the store to where the call has something to do, and gives the call.  A call that raised
    Cancelled must have changed nothing that can be seen, and must then work.  Returns the number of rounds.
    """
    for steps in range(200):
        call = await prepare(steps)
        before = await observe(lab)
        returned, cancelled = await attempt(call, steps)
        if not returned:
            if await observe(lab) != before:
                fail(f"{name}, cancelled at checkpoint {steps}, has changed something")
            await call()
        elif not cancelled:
            return steps
    fail(f"{name} did not return after 200 checkpoints")
    return 0


async def observe(lab: Lab) -> tuple[object, ...]:
    """All that can be seen of a store."""
    store = lab.store
    current = await store.get_current_snapshot()
    header = None if current is None else current.snapshot.header
    if current is not None:
        await current.snapshot.aclose()
    log = await store.get_log_entries(0, 2**64 - 1)
    return await store.get_initial_state(), log, header, lab.machine.content()


async def every_method(store: Store, data: bytes) -> dict[str, Callable[[], Awaitable[object]]]:
    """A harmless call of each of the 13 methods on a store with entries 1 to 3; `data` are bytes of a snapshot."""
    id, writer = await send(store, data)
    return {
        "get_membership_config": store.get_membership_config,
        "get_initial_state": store.get_initial_state,
        "save_hard_state": lambda: store.save_hard_state(HardState(9, 0)),
        "get_log_entries": lambda: store.get_log_entries(1, 3),
        "delete_logs_from": lambda: store.delete_logs_from(3),
        "append_entry_to_log": lambda: store.append_entry_to_log(n(1, 4)),
        "replicate_to_log": lambda: store.replicate_to_log([n(1, 4)]),
        "apply_entry_to_state_machine": lambda: store.apply_entry_to_state_machine(1, r(1)),
        "replicate_to_state_machine": lambda: store.replicate_to_state_machine([(1, r(1))]),
        "do_log_compaction": store.do_log_compaction,
        "create_snapshot": store.create_snapshot,
        "finalize_snapshot_installation": lambda: store.finalize_snapshot_installation(9, 2, None, id, writer),
        "get_current_snapshot": store.get_current_snapshot,
    }
