"""The kit itself: what it reports, what it runs, and that it notices stores that are wrong."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import pytest
import trio
from hypothesis import given, strategies as st

from tests.conformance.durable_model import DurableHarness, DurableModel, Kept
from walstore import Entry, HardState, MembershipConfig, Normal, StateMachine
from walstore.abc import Codec
from walstore.testing.conformance import _registry
from walstore.testing.kit import (
    LEFT_OUT,
    MODES,
    Case,
    CaseFailure,
    ClientRequest,
    ClientResponse,
    KitCodec,
    KitMachine,
    Lab,
    cases,
    check_raft_storage,
    run_case,
)


def harness_of(store_class: type[DurableModel]) -> type[DurableHarness]:
    """A harness of stores of this class."""

    class SomeHarness(DurableHarness):
        store = store_class

    return SomeHarness


def test_kit_needs_no_test_runner() -> None:
    """All cases can be imported and run where pytest does not exist."""
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "import trio\n"
        "from tests.conformance.durable_model import DurableHarness\n"
        "from walstore.testing.kit import cases, check_raft_storage\n"
        "report = trio.run(lambda: check_raft_storage(DurableHarness, only=['A']))\n"
        "assert report.ok and len(report.passed) == 72, report\n"
        "assert len(cases()) > 72\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# The registry.


async def nothing(_: Lab) -> None:
    """Asks for nothing."""


async def silent(_: Lab) -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("number", "function", "message"),
    [
        ("A-01", nothing, "twice"),
        ("G-04", nothing, "twice"),
        ("A-1", nothing, "not the number"),
        ("Z-99", silent, "say"),
    ],
)
def test_registration_refuses(number: str, function: Callable[[Lab], object], message: str) -> None:
    """A number that is taken or left out, no number at all, and a case without a docstring are refused."""
    cases()
    with pytest.raises(ValueError, match=message):
        _registry.case(number)(function)  # type: ignore[arg-type]  # any function will do


def test_modes_follow_abilities() -> None:
    """A case runs in the modes that the harness can do, live only if it only reads, and not without what it needs."""
    writes = Case("Z-01", nothing, reads=False, needs=frozenset())
    reads = Case("Z-02", nothing, reads=True, needs=frozenset({"reopen"}))
    assert writes.modes(()) == ("live",)
    assert writes.modes({"reopen"}) == ("live", "reopened")
    assert writes.modes({"reopen", "crash", "disk"}) == MODES
    assert reads.modes({"crash"}) == ()
    assert reads.missing({"crash"}) == {"reopen"}
    assert reads.modes({"reopen", "crash"}) == ("live",)


# The report.


class Deaf(DurableModel):
    """Never answers a read."""

    async def get_log_entries(self, start: int, stop: int) -> list[Entry[ClientRequest]]:
        await trio.sleep_forever()
        raise AssertionError


class Mute(DurableModel):
    """Knows of no log."""

    async def get_log_entries(self, start: int, stop: int) -> list[Entry[ClientRequest]]:
        await trio.lowlevel.checkpoint()
        return []


async def test_report_names_all_failures() -> None:
    """The report has each failure with number, mode, reason and trace, and what passed beside it."""
    report = await check_raft_storage(harness_of(Mute), only=["A-01", "A-07"])
    assert not report.ok
    assert report.passed == (("A-01", "live"), ("A-01", "reopened"), ("A-01", "crashed"))
    assert [(failure.number, failure.mode) for failure in report.failures] == [("A-07", mode) for mode in MODES]
    assert "read(5, 7): expected [Entry" in report.failures[0].reason
    assert "group_a.py" in report.failures[0].trace
    assert str(report).startswith("3 passed, 3 failed, 0 not run\nfailed A-07 [live] CaseFailure: read(5, 7)")


async def test_report_names_what_was_not_run() -> None:
    """Cases that the harness cannot run are listed with what it lacks; so are those that the kit leaves out."""
    report = await check_raft_storage(DurableHarness, only=["C-17", "C-18"])
    assert report.ok
    assert report.not_run == dict.fromkeys(["C-17", "C-18"], "the harness cannot: disk")
    assert report.left_out == LEFT_OUT


async def test_hanging_store_is_a_failure(autojump_clock: trio.testing.MockClock) -> None:
    """A case that does not come back has failed, and the next one runs."""
    report = await check_raft_storage(harness_of(Deaf), only=["A-07", "A-05"], seconds=30)
    assert [failure.number for failure in report.failures] == ["A-07"] * 3
    assert "TooSlowError" in report.failures[0].reason
    assert len(report.passed) == 3


# The lab.


async def test_turn_turns_as_the_mode_says() -> None:
    """Live, the store stays; reopened, it is another with all state; crashed, without what was not durable."""
    for mode in MODES:
        lab = Lab(DurableHarness, mode)
        before = await lab.open(node_id=3, config={"sync_apply": False})
        await before.append_entry_to_log(Entry(1, 1, _normal()))
        await before.apply_entry_to_state_machine(1, REQUEST)
        after = await lab.turn()
        assert (after is before) == (mode == "live")
        state = await after.get_initial_state()
        assert state.last_log_index == 1
        assert state.last_applied_log == (0 if mode == "crashed" else 1)
        assert state.membership == MembershipConfig.new_initial(3)
        await lab.finish()


async def test_crashed_labs_sync_applies_by_default() -> None:
    """In mode crashed an apply survives unless the case asks for less."""
    lab = Lab(DurableHarness, "crashed")
    store = await lab.log10(applied={1: REQUEST})
    await store.apply_entry_to_state_machine(1, REQUEST)
    store = await lab.turn()
    assert (await store.get_initial_state()).last_applied_log == 1
    assert lab.machine.history == [1]
    await lab.finish()


async def test_everything_is_removed_after_a_failure() -> None:
    """A failed case leaves no store behind, its own or another's."""
    made: list[DurableHarness] = []

    def factory() -> DurableHarness:
        made.append(DurableHarness())
        return made[-1]

    async def fails(lab: Lab) -> None:
        await lab.open()
        await lab.another().open()
        raise CaseFailure

    with pytest.raises(CaseFailure):
        await run_case(Case("Z-01", fails, reads=False, needs=frozenset()), "live", factory)
    assert len(made) == 2
    assert not any(harness.is_open for harness in made)


async def test_lab_without_a_store_says_so() -> None:
    """Asking for a store that is not open, or opening one twice, is a mistake of the case."""
    lab = Lab(DurableHarness)
    with pytest.raises(RuntimeError, match="no store"):
        _ = lab.store
    await lab.open()
    with pytest.raises(RuntimeError, match="open already"):
        await lab.open()
    await lab.finish()


# The machine.

REQUEST = ClientRequest("client", 1, "status")


def _normal() -> Normal[ClientRequest]:
    return Normal(REQUEST)


requests = st.builds(ClientRequest, st.text(max_size=5), st.integers(0, 3), st.text(max_size=5).filter("poison".__ne__))


@given(st.lists(requests, max_size=20))
def test_machine_survives_its_snapshot(applied: Sequence[ClientRequest]) -> None:
    """A machine restored from another's view holds the same and answers the same."""
    machine, copy = KitMachine(), KitMachine()
    for index, request in enumerate(applied, 1):
        machine.apply(index, request)
    copy.restore(machine.capture().chunks())
    assert (copy.history, copy.serial, copy.status) == (machine.history, machine.serial, machine.status)
    assert copy.content() == machine.content()


@given(requests, st.binary(max_size=40))
def test_codec_is_exact(request: ClientRequest, noise: bytes) -> None:
    """What was encoded is decoded; anything else either is what some request encodes to, or a ValueError."""
    codec = KitCodec()
    assert codec.decode(codec.encode(request)) == request
    try:
        found = codec.decode(noise)
    except ValueError:
        return
    assert codec.encode(found) == noise


@pytest.mark.parametrize("cut", [0, 3, 10, 30, -1])
def test_machine_refuses_other_bytes(cut: int) -> None:
    """Bytes that are cut short, or longer, are refused."""
    machine = KitMachine()
    machine.apply(1, REQUEST)
    with pytest.raises(ValueError):
        KitMachine().restore([machine.content()[:cut]])
    with pytest.raises(ValueError):
        KitMachine().restore([machine.content(), b"\0"])


# Stores that are wrong, and cases that must notice.


class ForgetsVotes(DurableModel):
    """Does not keep the vote of node 0, as a store that encodes "none" as 0."""

    async def save_hard_state(self, hs: HardState) -> None:
        await super().save_hard_state(HardState(hs.current_term, hs.voted_for or None))


class InsertsInPlace(DurableModel):
    """Overwrites without dropping what came after."""

    async def replicate_to_log(self, entries: Sequence[Entry[ClientRequest]]) -> None:
        tail = dict(self._log.entries)
        await super().replicate_to_log(entries)
        last = self.last_index
        self._log.entries.update((index, entry) for index, entry in tail.items() if index > last)


class StopsInclusively(DurableModel):
    """Reads and deletes one entry more."""

    async def delete_logs_from(self, start: int, stop: int | None = None) -> None:
        await super().delete_logs_from(start, stop if stop is None else stop + 1)


class AppliesTwice(DurableModel):
    """Executes what was applied already."""

    def _apply(self, index: int, data: ClientRequest) -> ClientResponse | None:
        self._last_applied = min(self._last_applied, index - 1)
        return super()._apply(index, data)


class ForgetsTheMark(DurableModel):
    """Believes after a restart that nothing was applied."""

    def __init__(self, kept: Kept, *args: "MachineOrCodec", sync_apply: bool) -> None:
        kept.mark = 0
        super().__init__(kept, *args, sync_apply=sync_apply)  # type: ignore[arg-type]  # passed on


class ReplaysEverything(DurableModel):
    """Applies after a restart what nobody had applied."""

    def __init__(self, kept: Kept, *args: "MachineOrCodec", sync_apply: bool) -> None:
        kept.mark = 2**63
        super().__init__(kept, *args, sync_apply=sync_apply)  # type: ignore[arg-type]  # passed on


class ForgetsTheLog(DurableModel):
    """Keeps its log in memory."""

    def __init__(self, kept: Kept, *args: "MachineOrCodec", sync_apply: bool) -> None:
        kept.log.entries = {}
        super().__init__(kept, *args, sync_apply=sync_apply)  # type: ignore[arg-type]  # passed on


MachineOrCodec = Callable[[], StateMachine[ClientRequest, ClientResponse]] | Codec[ClientRequest]

WRONG: Mapping[type[DurableModel], set[tuple[str, str]]] = {
    ForgetsVotes: {("A-05", "live"), ("C-14", "reopened"), ("D-16", "crashed")},
    InsertsInPlace: {("A-24", "live"), ("A-24", "crashed")},
    StopsInclusively: {("A-11", "live"), ("A-16", "live"), ("D-22", "reopened")},
    AppliesTwice: {("D-37", "live")},
    ForgetsTheMark: {("A-15", "reopened"), ("C-20", "crashed")},
    ReplaysEverything: {("C-20", "reopened"), ("D-14", "crashed")},
    ForgetsTheLog: {("A-02", "reopened"), ("A-13", "crashed"), ("C-13", "crashed")},
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
async def test_kit_notices(wrong: type[DurableModel]) -> None:
    """A store with this fault fails these cases, and passes others."""
    report = await check_raft_storage(harness_of(wrong), only=["A", "C", "D"])
    failed = {(failure.number, failure.mode) for failure in report.failures}
    assert WRONG[wrong] <= failed
    assert report.passed
    if wrong in (ForgetsTheMark, ReplaysEverything, ForgetsTheLog):
        assert "live" not in {mode for _, mode in failed}, "a restart is what it does wrong"
