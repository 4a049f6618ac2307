"""The model passes every case that runs live."""

from collections.abc import Mapping

import pytest

from walstore.abc import Codec
from walstore.testing.kit import (
    KIT_CODEC,
    NO_CONFIG,
    Case,
    ClientRequest,
    ClientResponse,
    Harness,
    KitMachine,
    MachineFactory,
    Mode,
    Store,
    cases,
    run_case,
)
from walstore.testing.memory import MemoryStorage


class MemoryHarness(Harness):
    """Memory can neither reopen nor crash."""

    def __init__(self) -> None:
        self._open: list[MemoryStorage[ClientRequest, ClientResponse]] = []

    async def open(
        self,
        *,
        node_id: int = 0,
        machine: MachineFactory = KitMachine,
        codec: Codec[ClientRequest] = KIT_CODEC,
        config: Mapping[str, object] = NO_CONFIG,
    ) -> Store:
        store = MemoryStorage(node_id, machine, codec)
        self._open.append(store)
        return store

    async def close(self) -> None:
        while self._open:
            await self._open.pop().aclose()


RUNS = [(case, mode) for case in cases() for mode in case.modes(MemoryHarness.can)]


@pytest.mark.parametrize(("case", "mode"), RUNS, ids=[f"{case.number}-{mode}" for case, mode in RUNS])
async def test_memory_storage_passes(case: Case, mode: Mode) -> None:
    """The case holds for `MemoryStorage`."""
    await run_case(case, mode, MemoryHarness)
