"""Machines with a will of their own, and what a machine must hold."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import trio

from ...abc import SnapshotView
from ._helpers import expect, r
from ._lab import Lab
from ._machine import ClientRequest, ClientResponse, KitMachine

__all__ = ["CompareAndSetMachine", "Gate", "PickyMachine", "content_of", "expect_machine", "requests"]


def requests(start: int, stop: int) -> dict[int, ClientRequest]:
    """`r(index)` for start <= index < stop."""
    return {index: r(index) for index in range(start, stop)}


def content_of(applied: Mapping[int, ClientRequest]) -> bytes:
    """What a fresh machine holds after these requests, applied in the order of their indexes."""
    machine = KitMachine()
    for index in sorted(applied):
        machine.apply(index, applied[index])
    return machine.content()


def expect_machine(lab: Lab, applied: Mapping[int, ClientRequest] | Iterable[int]) -> None:
    """The lab's machine holds exactly these requests (`r(index)` where only indexes are given), each executed once."""
    wanted = applied if isinstance(applied, Mapping) else {index: r(index) for index in applied}
    expect(lab.machine.history, sorted(wanted), "the indexes that the machine executed")
    expect(lab.machine.content(), content_of(wanted), "what the machine holds")


class Gate:
    """Holds up the writing and the restoring of snapshots: `machine` is the factory of machines that wait for it.

    A view gives its first byte, reports at the gate and gives the rest when the gate is open; a restore reads all its
    bytes first, and passes by if `restores` is False.  Gates begin open.
    """

    def __init__(self, *, restores: bool = True) -> None:
        self.restores = restores
        self._arrived = threading.Event()
        self._passable = threading.Event()
        self._passable.set()

    def machine(self) -> KitMachine:
        """A fresh machine."""
        return _GatedMachine(self)

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Who comes stops at the gate until the block ends, however it ends."""
        self._arrived.clear()
        self._passable.clear()
        try:
            yield
        finally:
            self._passable.set()

    async def wait_for_arrival(self) -> None:
        """Returns when somebody stands at the shut gate."""
        await trio.to_thread.run_sync(self._arrived.wait, abandon_on_cancel=True)

    def pass_through(self) -> None:
        """Called in a worker thread."""
        self._arrived.set()
        self._passable.wait(60)


class _GatedView(SnapshotView):
    __slots__ = ("_data", "_gate")

    def __init__(self, data: bytes, gate: Gate) -> None:
        self._data = data
        self._gate = gate

    def chunks(self) -> Iterator[bytes]:
        yield self._data[:1]
        self._gate.pass_through()
        yield self._data[1:]


class _GatedMachine(KitMachine):
    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def capture(self) -> SnapshotView:
        return _GatedView(self.content(), self._gate)

    def restore(self, chunks: Iterable[bytes]) -> None:
        data = b"".join(chunks)
        if self._gate.restores:
            self._gate.pass_through()
        super().restore([data])


class CompareAndSetMachine(KitMachine):
    """A request whose status is "old>new" sets "new" only if the client's status is "old", and is answered with it."""

    __slots__ = ()

    def apply(self, index: int, data: ClientRequest) -> ClientResponse:
        old, _, new = data.status.partition(">")
        before = self.status.get(data.client, "")
        return super().apply(index, ClientRequest(data.client, data.serial, new if before == old else before))


class PickyMachine(KitMachine):
    """Refuses to be restored."""

    __slots__ = ()

    def restore(self, chunks: Iterable[bytes]) -> None:
        for _ in chunks:
            pass
        msg = "this machine takes no state from others"
        raise ValueError(msg)
