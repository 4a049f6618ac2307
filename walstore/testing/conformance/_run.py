"""Running the cases, and the report."""

import traceback
from collections.abc import Callable, Collection

import attrs
import trio

from ._lab import Harness, Lab, Mode
from ._registry import LEFT_OUT, Case, cases

CASE_SECONDS = 120.0
"""A case that has not come back after this many seconds has failed."""


@attrs.frozen
class Failure:
    """One failed run of a case."""

    number: str
    mode: Mode
    reason: str
    trace: str = attrs.field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.number} [{self.mode}] {self.reason}"


@attrs.frozen
class Report:
    """What came of the cases."""

    passed: tuple[tuple[str, Mode], ...]
    failures: tuple[Failure, ...]
    not_run: dict[str, str]
    """Numbers of cases that the harness cannot run, with the reason."""
    left_out: dict[str, str]
    """Numbers of the acceptance list that the kit leaves out, with the reason."""

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def __str__(self) -> str:
        lines = [f"{len(self.passed)} passed, {len(self.failures)} failed, {len(self.not_run)} not run"]
        lines += [f"failed {failure}" for failure in self.failures]
        return "\n".join(lines)


async def run_case(case: Case, mode: Mode, factory: Callable[[], Harness], *, seconds: float = CASE_SECONDS) -> None:
    """Runs one case in one mode on a fresh harness; raises what the case raises."""
    lab = Lab(factory, mode)
    try:
        with trio.fail_after(seconds):
            await case.function(lab)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + seconds):
            await lab.finish()


async def check_raft_storage(
    factory: Callable[[], Harness], *, only: Collection[str] | None = None, seconds: float = CASE_SECONDS
) -> Report:
    """Runs all cases that the harness can run, in all modes, and reports every failure.

    `only`: numbers ("A-07") or groups ("A") to which to keep.  Raises nothing because of a store that is wrong.
    """
    can = await _abilities(factory)
    passed: list[tuple[str, Mode]] = []
    failures: list[Failure] = []
    not_run: dict[str, str] = {}
    for case in cases():
        if only is not None and case.number not in only and case.number.partition("-")[0] not in only:
            continue
        if missing := case.missing(can):
            not_run[case.number] = f"the harness cannot: {', '.join(sorted(missing))}"
        for mode in case.modes(can):
            failure = await _attempt(case, mode, factory, seconds)
            if failure is None:
                passed.append((case.number, mode))
            else:
                failures.append(failure)
    return Report(tuple(passed), tuple(failures), not_run, dict(LEFT_OUT))


async def _abilities(factory: Callable[[], Harness]) -> frozenset[str]:
    harness = factory()
    await harness.remove()
    return harness.can


async def _attempt(case: Case, mode: Mode, factory: Callable[[], Harness], seconds: float) -> Failure | None:
    try:
        await run_case(case, mode, factory, seconds=seconds)
    except Exception as error:  # noqa: BLE001  whatever a case raises is a finding about the store
        reason = f"{type(error).__name__}: {error}"
        return Failure(case.number, mode, reason, "".join(traceback.format_exception(error)))
    return None
