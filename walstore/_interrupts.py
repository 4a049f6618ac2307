"""KeyboardInterrupt: Ctrl-C may not tear a call in two.

trio raises it in the main task: at a checkpoint, or (its default) between any two lines of code that is not protected.
Between two lines it could leave a lock that nobody holds any more, a cancel scope that nobody leaves, or a state that
no frame on the disk says.  So coroutines of this package are interrupted at checkpoints only, as trio's own are; and
where even that would be too early, a hop to a thread holds the interrupt back until it is done:

    a coroutine of the store    protected as a whole (`interrupted_at_checkpoints`)
    planning, noting            protected (`GroupCommit.put`, `note`): plain functions, one step
    writing                     `hop`: done, whatever is cancelled or interrupted
    a snapshot being published  waits firmly for its frame (`GroupCommit.wait(firm=True)`)
    closing                     begun again until it is done

What an interrupt does to the application's own code, between two calls, is the application's matter.
"""

import inspect
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def interrupted_at_checkpoints(cls: type[T]) -> type[T]:
    """Has KeyboardInterrupt wait for a checkpoint in all coroutines of the class."""
    for member in vars(cls).values():
        if inspect.iscoroutinefunction(member):
            trio.lowlevel.enable_ki_protection(member)
    return cls


@trio.lowlevel.enable_ki_protection
async def hop(function: Callable[[*Ts], object], *args: *Ts, limiter: trio.CapacityLimiter) -> KeyboardInterrupt | None:
    """Runs it in a thread, whatever is cancelled.  Returns the interrupt that came meanwhile, for the caller to raise.

    An interrupt is raised in here before the thread has begun or not at all: a thread that began is never abandoned.
    """
    interrupt: KeyboardInterrupt | None = None
    done = False
    with trio.CancelScope(shield=True):
        while not done:
            try:
                await trio.to_thread.run_sync(function, *args, limiter=limiter)
                done = True
            except KeyboardInterrupt as error:
                interrupt = error
    return interrupt
