"""Executing commands: shared barriers, answers in log order, cancellation, failures."""

import random

import pytest
import trio
import trio.testing

from tests.standalone.helpers import POISON, HeldLog, TextCodec, make
from walstore import ApplyError, EntryTooLargeError, StorageFailedError, StorageFullError, UsageError, _executor
from walstore._executor import Executor
from walstore._log.limits import MAX_ENTRY_BYTES


async def test_one_command_after_the_other() -> None:
    """Each command is logged and applied before its answer comes."""
    log, executor, journal = make()

    answers = [await executor.execute(command) for command in ("a", "b", "c")]

    assert answers == [1, 2, 3]
    assert journal.lines == log.logged() == ["a", "b", "c"]
    assert (executor.executed, executor.batches, executor.waiting, executor.logged_bytes) == (3, 3, 0, 3)


async def test_executing_is_a_checkpoint() -> None:
    """As every async function that returns."""
    _, executor, _ = make()

    with trio.testing.assert_checkpoints():
        await executor.execute("a")


async def test_concurrent_callers_share_barriers_and_keep_their_order() -> None:
    """A hundred callers need a few batches; commands are logged in the order of the calls, each gets its own answer."""
    log, executor, journal = make()
    answers: dict[str, int] = {}

    async def call(command: str) -> None:
        answers[command] = await executor.execute(command)

    commands = [str(number) for number in range(100)]
    async with trio.open_nursery() as nursery:
        for command in commands:
            nursery.start_soon(call, command)

    assert executor.batches <= 3
    assert log.logged() == journal.lines
    assert answers == {command: at for at, command in enumerate(journal.lines, start=1)}
    assert sorted(journal.lines) == sorted(commands)


async def test_nothing_is_applied_before_its_barrier() -> None:
    """While the barrier is held the machine holds nothing of the batch, and nobody is answered."""
    log, executor, journal = make()
    log.hold = True

    async with trio.open_nursery() as nursery:
        for command in "abc":
            nursery.start_soon(executor.execute, command)
        await trio.testing.wait_all_tasks_blocked()
        assert (journal.lines, executor.executed, executor.waiting) == ([], 0, 2)
        log.barriers[0].release()
        await trio.testing.wait_all_tasks_blocked()
        assert (len(journal.lines), executor.executed, executor.waiting) == (1, 1, 0)
        log.barriers[1].release()

    assert executor.executed == 3


async def test_a_batch_is_bounded_in_commands_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit waits for the next batch; a command above the limit goes alone."""
    monkeypatch.setattr(_executor, "BATCH_COMMANDS", 3)
    monkeypatch.setattr(_executor, "BATCH_BYTES", 10)
    log, executor, _ = make()
    log.hold = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.execute, "first")
        await trio.testing.wait_all_tasks_blocked()
        for command in ("1", "2", "3", "4", "long" * 5, "12345678", "90", "1"):
            nursery.start_soon(executor.execute, command)
            await trio.testing.wait_all_tasks_blocked()
        log.hold = False
        log.barriers[0].release()

    batches = [[entry.payload.data for entry in barrier.entries] for barrier in log.barriers]  # type: ignore[union-attr]  # all are Normal
    assert batches == [["first"], ["1", "2", "3"], ["4"], ["long" * 5], ["12345678", "90"], ["1"]]


@pytest.mark.parametrize("seed", range(20))
async def test_cancelled_means_that_it_did_not_happen(seed: int, autojump_clock: trio.testing.MockClock) -> None:
    """Whatever is cancelled when: what returned is in the log and in the machine, once; what raised is in neither."""
    rng = random.Random(seed)
    log, executor, journal = make()
    log.hold = True
    returned: list[str] = []
    cancelled: list[str] = []

    async def call(command: str) -> None:
        await trio.sleep(rng.random())
        with trio.move_on_after(rng.random() * 0.3) as scope:
            await executor.execute(command)
            returned.append(command)
        if scope.cancelled_caught:
            cancelled.append(command)

    async def disk() -> None:
        released = 0
        while True:
            await trio.sleep(rng.random() * 0.1)
            for barrier in log.barriers[released:]:
                barrier.release()
                released += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(disk)
        async with trio.open_nursery() as callers:
            for number in range(200):
                callers.start_soon(call, str(number))
        nursery.cancel_scope.cancel()

    assert cancelled
    assert sorted(returned) == sorted(journal.lines)
    assert journal.lines == log.logged()
    assert len(returned) + len(cancelled) == 200
    assert executor.waiting == 0


async def test_a_call_that_can_no_longer_be_withdrawn_returns_its_answer() -> None:
    """Neither the leader nor a follower whose command is on its way to the disk notices a cancel before it is done."""
    log, executor, journal = make()
    log.hold = True
    answers = []

    async def call(command: str) -> None:
        answers.append(await executor.execute(command))

    async with trio.open_nursery() as nursery:
        for command in "abc":
            nursery.start_soon(call, command)
        await trio.testing.wait_all_tasks_blocked()
        log.barriers[0].release()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
        assert executor.executed == 1
        log.barriers[1].release()

    assert answers[0] == 1
    assert sorted(answers) == [1, 2, 3]
    assert len(journal.lines) == 3


async def test_a_cancelled_caller_logs_nothing() -> None:
    """Cancelled before the call: nothing of it happens."""
    log, executor, _ = make()

    with trio.CancelScope() as scope:
        scope.cancel()
        await executor.execute("a")

    assert scope.cancelled_caught
    assert log.logged() == []


async def test_a_batch_is_logged_while_the_one_before_is_applied() -> None:
    """The lead is handed on before the apply, so that the disk is not idle meanwhile; the order of applies is kept."""
    log, executor, journal = make()
    log.hold = log.hold_applies = True

    async with trio.open_nursery() as nursery:
        for command in "abc":
            nursery.start_soon(executor.execute, command)
            await trio.testing.wait_all_tasks_blocked()
        log.barriers[0].release()
        await trio.testing.wait_all_tasks_blocked()
        log.barriers[1].release()
        await trio.testing.wait_all_tasks_blocked()
        assert log.logged() == ["a", "b", "c"]
        assert journal.lines == []
        log.release_applies()

    assert journal.lines == ["a", "b", "c"]


@pytest.mark.parametrize("where", ["append", "barrier"])
async def test_an_error_of_the_log_reaches_every_caller_of_the_batch(where: str) -> None:
    """Each with an exception of its own; nobody hangs, and who comes later is served."""
    log, executor, journal = make()
    log.hold = True
    error = StorageFullError(28, "no room")
    error.__cause__ = OSError(28, "the first cause")
    caught: list[BaseException] = []

    async def call(command: str) -> None:
        try:
            await executor.execute(command)
        except StorageFullError as raised:
            caught.append(raised)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.execute, "first")
        await trio.testing.wait_all_tasks_blocked()
        for command in "abc":
            nursery.start_soon(call, command)
        await trio.testing.wait_all_tasks_blocked()
        if where == "append":
            log.refusal = error
            log.barriers[0].release()
        else:
            log.barriers[0].release()
            await trio.testing.wait_all_tasks_blocked()
            log.barriers[1].error = error
            log.barriers[1].release()

    assert len(caught) == len(set(map(id, caught))) == 3
    assert all(str(raised) == str(error) and raised.__cause__ is error.__cause__ for raised in caught)
    log.refusal, log.hold = None, False
    assert await executor.execute("later") == 2
    assert journal.lines == ["first", "later"]


async def test_an_error_that_is_not_ours_reaches_the_callers_too() -> None:
    """Even a BaseException settles the batch, and leaves by its leader."""
    log, executor, _ = make()

    class Strange(BaseException):
        pass

    log.refusal = Strange()  # type: ignore[assignment]  # no Exception, that is the point
    with pytest.raises(Strange):
        await executor.execute("a")
    log.refusal = StorageFailedError(5, "broken")
    with pytest.raises(StorageFailedError, match="broken"):
        await executor.execute("b")


async def test_a_machine_that_raises_stops_the_store() -> None:
    """With "raise" no later command is applied, and once it is known none is logged: a reopen would stop there too."""
    log, executor, journal = make()
    log.hold = True
    caught: dict[str, ApplyError] = {}

    async def call(command: str) -> None:
        try:
            await executor.execute(command)
        except ApplyError as error:
            caught[command] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, "first")
        await trio.testing.wait_all_tasks_blocked()
        for command in ("good", POISON, "logged"):
            nursery.start_soon(call, command)
            await trio.testing.wait_all_tasks_blocked()
        log.barriers[0].release()
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(call, "on its way")
        await trio.testing.wait_all_tasks_blocked()
        log.hold, log.hold_applies = False, True
        log.barriers[1].release()
        await trio.testing.wait_all_tasks_blocked()
        log.release_applies()
    with pytest.raises(ApplyError, match="at index 3: RuntimeError"):
        await executor.execute("late")

    assert journal.lines == ["first", "good"]
    assert log.logged() == ["first", "good", POISON, "logged", "on its way"]
    assert {command: error.index for command, error in caught.items()} == {POISON: 3, "logged": 3, "on its way": 3}
    assert isinstance(caught[POISON].__cause__, RuntimeError)


async def test_a_command_that_the_machine_raises_at_can_be_passed_over() -> None:
    """With "skip" only its own caller hears of it."""
    log, executor, journal = make(skip=True)
    log.hold = True
    answers: dict[str, object] = {}

    async def call(command: str) -> None:
        try:
            answers[command] = await executor.execute(command)
        except ApplyError as error:
            answers[command] = error.index

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, "first")
        await trio.testing.wait_all_tasks_blocked()
        for command in (POISON, "next", "last"):
            nursery.start_soon(call, command)
            await trio.testing.wait_all_tasks_blocked()
        log.hold = False
        log.barriers[0].release()
    answers["later"] = await executor.execute("later")

    assert journal.lines == ["first", "next", "last", "later"]
    assert answers == {"first": 1, POISON: 2, "next": 2, "last": 3, "later": 4}


class Lossy(TextCodec):
    """Two encodings of one text."""

    def decode(self, buffer: bytes) -> str:
        return super().decode(buffer) + "!"


class Blind(TextCodec):
    """Cannot read what it wrote."""

    def decode(self, buffer: bytes) -> str:
        msg = "unreadable"
        raise ValueError(msg)


class Huge(TextCodec):
    """One byte more than an entry may have."""

    def encode(self, data: str) -> bytes:
        return bytes(MAX_ENTRY_BYTES + 1)


@pytest.mark.parametrize(
    ("codec", "error", "match"),
    [
        (Lossy(), UsageError, "Lossy decodes 'a' to 'a!', which has other bytes"),
        (Blind(), ValueError, "unreadable"),
        (Huge(), EntryTooLargeError, "at most 67108864 are allowed"),
    ],
    ids=["lossy", "blind", "huge"],
)
async def test_what_cannot_be_read_again_is_never_logged(codec: TextCodec, error: type[Exception], match: str) -> None:
    """A command is encoded and decoded once before it is logged (PROTOCOL A10)."""
    log = HeldLog()
    executor = Executor(log, codec, term=1, skip_apply_errors=False)

    with pytest.raises(error, match=match):
        await executor.execute("a")

    assert log.last_index == 0
    assert executor.waiting == 0
