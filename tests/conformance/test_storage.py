"""The real store passes every case: live, after a reopen, after a crash that drops what was not synced."""

import pytest

from walstore.testing.harness import WalstoreHarness
from walstore.testing.kit import Case, Mode, cases, run_case

RUNS = [(case, mode) for case in cases() for mode in case.modes(WalstoreHarness.can)]


@pytest.mark.parametrize(("case", "mode"), RUNS, ids=[f"{case.number}-{mode}" for case, mode in RUNS])
async def test_storage_passes(case: Case, mode: Mode) -> None:
    """The case holds for `walstore.Storage` on a simulated disk."""
    await run_case(case, mode, WalstoreHarness)
