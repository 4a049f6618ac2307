"""The kit's own expectations after a reopen and a crash hold for a model of durability."""

import pytest

from tests.conformance.durable_model import DurableHarness
from walstore.testing.kit import Case, Mode, cases, run_case

RUNS = [(case, mode) for case in cases() for mode in case.modes(DurableHarness.can) if mode != "live"]


@pytest.mark.parametrize(("case", "mode"), RUNS, ids=[f"{case.number}-{mode}" for case, mode in RUNS])
async def test_durable_model_passes(case: Case, mode: Mode) -> None:
    """The case holds after the turn, too."""
    await run_case(case, mode, DurableHarness)
