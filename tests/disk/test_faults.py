"""Faults on purpose: which call fails, how often, what it leaves; a full disk; a stuck one; one that forgets."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.disk.small_disk import A, B, outcomes, same, state
from walstore._disk.os_fs import OsFileSystem
from walstore._disk.seam import Directory
from walstore.testing.faults import CHANGES, OPERATIONS, Call, FaultyFileSystem, NoBarriers
from walstore.testing.simulated import SimulatedFileSystem


@pytest.fixture
def inner() -> SimulatedFileSystem:
    """The disk below."""
    return SimulatedFileSystem()


@pytest.fixture
def disk(inner: SimulatedFileSystem) -> FaultyFileSystem:
    """The disk that fails."""
    return FaultyFileSystem(inner)


@pytest.fixture
def directory(disk: FaultyFileSystem) -> Directory:
    """A directory with the file "a"."""
    directory = disk.open_directory("/s", create=True)
    file = directory.create("a")
    file.pwritev(0, [A])
    file.datasync()
    directory.sync()
    disk.calls.clear()
    return directory


def code_of(do: Callable[[], object]) -> int:
    """The errno that a call fails with; 0 if it does not."""
    try:
        do()
    except OSError as error:
        return error.errno or -1
    return 0


def every_call(disk: FaultyFileSystem, directory: Directory) -> dict[str, Callable[[], object]]:
    """One call of each operation."""
    file = directory.open("a", write=True)
    return {
        "open_directory": lambda: disk.open_directory("/s", create=True),
        "names": directory.names,
        "open": lambda: directory.open("a"),
        "create": lambda: directory.create("new"),
        "sync": directory.sync,
        "lock": directory.lock,
        "size": file.size,
        "pread": lambda: file.pread(1, 2),
        "pwritev": lambda: file.pwritev(3, [b"xy", b"z"]),
        "datasync": file.datasync,
        "truncate": lambda: file.truncate(9),
        "allocate": lambda: file.allocate(2000),
        "drop_cache": file.drop_cache,
        "rename": lambda: directory.rename("a", "b"),
        "unlink": lambda: directory.unlink("b"),
    }


# -- failing


def test_calls_are_listed(disk: FaultyFileSystem, directory: Directory) -> None:
    """Every call is noted with its file, place and length, whether it fails or not."""
    calls = every_call(disk, directory)
    disk.calls.clear()
    for call in calls.values():
        call()

    assert disk.calls == [
        Call("open_directory", "/s"),
        Call("names", "/s"),
        Call("open", "a"),
        Call("create", "new"),
        Call("sync", "/s"),
        Call("lock", "/s"),
        Call("size", "a"),
        Call("pread", "a", 1, 2),
        Call("pwritev", "a", 3, 3),
        Call("datasync", "a"),
        Call("truncate", "a", 0, 9),
        Call("allocate", "a", 0, 2000),
        Call("drop_cache", "a"),
        Call("rename", "a", target="b"),
        Call("unlink", "b"),
    ]
    assert {call.operation for call in disk.calls} == OPERATIONS


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_any_operation_can_fail(disk: FaultyFileSystem, directory: Directory, operation: str) -> None:
    """A failing call raises and does nothing; the next one is as ever."""
    calls = every_call(disk, directory)
    if operation == "unlink":
        directory.rename("a", "b")
    before = state(disk.inner) if isinstance(disk.inner, SimulatedFileSystem) else {}
    fault = disk.fail(operation, error=OSError(errno.EROFS, "read-only"))

    assert code_of(calls[operation]) == errno.EROFS
    assert isinstance(disk.inner, SimulatedFileSystem)
    assert state(disk.inner) == before
    assert (fault.seen, fault.fired) == (1, 1)
    assert code_of(calls[operation]) == 0
    assert (fault.seen, fault.fired) == (2, 1)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_any_operation_can_be_done_and_fail_all_the_same(
    disk: FaultyFileSystem, inner: SimulatedFileSystem, directory: Directory, operation: str
) -> None:
    """With `done`, the call does its work and then raises: its outcome is what the caller cannot know."""
    calls = every_call(disk, directory)
    if operation == "unlink":
        directory.rename("a", "b")
    count = len(inner.operations)
    disk.fail(operation, done=True)

    assert code_of(calls[operation]) == errno.EIO
    assert len(inner.operations) - count == (operation in CHANGES)


def test_a_file_that_was_created_and_failed_is_closed(tmp_path: Path) -> None:
    """No descriptor is left of a call that was done and answered with an error."""
    disk = FaultyFileSystem(OsFileSystem())
    directory = disk.open_directory(str(tmp_path), create=True)
    disk.fail("create", done=True)
    disk.fail("open_directory", done=True)

    assert code_of(lambda: directory.create("a")) == errno.EIO
    assert code_of(lambda: disk.open_directory(str(tmp_path), create=True)) == errno.EIO
    assert directory.names() == ["a"]
    directory.close()


def test_the_nth_call_fails_once_or_for_ever(disk: FaultyFileSystem, directory: Directory) -> None:
    """Calls before the nth are as ever; after it they are, or they never are again."""
    file = directory.open("a")
    disk.fail("datasync", nth=3)
    assert [code_of(file.datasync) for _ in range(5)] == [0, 0, errno.EIO, 0, 0]

    disk.fail("datasync", nth=2, once=False)
    assert [code_of(file.datasync) for _ in range(4)] == [0, errno.EIO, errno.EIO, errno.EIO]

    disk.heal()
    assert code_of(file.datasync) == 0


def test_each_failure_is_an_error_of_its_own(disk: FaultyFileSystem, directory: Directory) -> None:
    """Two callers never get the same exception object."""
    file = directory.open("a")
    error = OSError(errno.EIO, "bad")
    disk.fail("size", once=False, error=error)
    caught = []
    for _ in range(2):
        with pytest.raises(OSError, match="bad") as failure:
            file.size()
        caught.append(failure.value)

    assert caught[0] is not caught[1]
    assert error not in caught


def test_a_fault_is_for_names(disk: FaultyFileSystem, directory: Directory) -> None:
    """A glob chooses files by the name that they have now, either name of a rename, and directories by their path."""
    file = directory.open("a", write=True)
    disk.fail("pwritev", name="wal-*", once=False)
    disk.fail("rename", name="*.wal")
    disk.fail("sync", name="/t")

    assert code_of(lambda: file.pwritev(0, [B])) == 0
    assert code_of(lambda: directory.rename("a", "x.wal")) == errno.EIO
    directory.rename("a", "wal-1")
    assert code_of(lambda: file.pwritev(0, [B])) == errno.EIO
    assert code_of(lambda: directory.open("wal-1", write=True).pwritev(0, [B])) == errno.EIO
    assert code_of(directory.sync) == 0
    assert code_of(disk.open_directory("/t", create=True).sync) == errno.EIO


def test_a_new_file_of_an_old_name_is_another_one(disk: FaultyFileSystem, directory: Directory) -> None:
    """An unlinked file keeps the name that it had; its successor moves alone."""
    old = directory.open("a", write=True)
    directory.unlink("a")
    directory.create("a")
    directory.rename("a", "b")
    disk.fail("size", name="b", once=False)

    assert code_of(old.size) == 0
    assert code_of(directory.open("b").size) == errno.EIO


def test_a_renamed_file_that_was_never_opened_has_its_new_name(disk: FaultyFileSystem, directory: Directory) -> None:
    """Names are followed whether or not a handle is open."""
    inner = disk.inner.open_directory("/s", create=True)
    inner.create("c")
    directory.rename("c", "d")
    disk.fail("size", name="d")

    assert code_of(directory.open("d").size) == errno.EIO


@pytest.mark.parametrize(("kind", "count"), [("change", len(CHANGES)), ("*", len(OPERATIONS))])
def test_kinds_of_operations(disk: FaultyFileSystem, directory: Directory, kind: str, count: int) -> None:
    """ "change" is any that changes something, "*" any at all."""
    calls = every_call(disk, directory)
    disk.fail(kind, once=False)

    assert sum(code_of(call) == errno.EIO for call in calls.values()) == count


def test_unknown_operations_are_refused(disk: FaultyFileSystem) -> None:
    """A misspelt operation would never fail, and the test that asked for it would pass."""
    with pytest.raises(ValueError, match="no such operation: 'fsync'"):
        disk.fail("fsync")
    with pytest.raises(ValueError, match="'pread' cannot be left out"):
        disk.skip("pread")
    with pytest.raises(ValueError, match="'create' cannot be left out"):
        disk.skip("create")


# -- leaving out, and cutting short


@pytest.mark.parametrize("operation", sorted((CHANGES | {"drop_cache"}) - {"create"}))
def test_a_change_can_be_left_out(
    disk: FaultyFileSystem, inner: SimulatedFileSystem, directory: Directory, operation: str
) -> None:
    """It returns as if it were done, every time unless `once`, and nothing reaches the disk."""
    calls = every_call(disk, directory)
    if operation == "unlink":
        directory.rename("a", "b")
    count = len(inner.operations)
    fault = disk.skip(operation)

    assert [code_of(calls[operation]) for _ in range(2)] == [0, 0]
    assert len(inner.operations) == count
    assert fault.fired == 2


@pytest.mark.parametrize(
    ("keep", "left"), [(0, b""), (3, b"hel"), (9, b"helloworl"), (10, b"helloworl"), (99, b"helloworl")]
)
def test_a_write_can_be_cut_short(
    disk: FaultyFileSystem, inner: SimulatedFileSystem, directory: Directory, keep: int, left: bytes
) -> None:
    """Some of the bytes arrive, never all, and the call raises."""
    file = directory.create("b")
    disk.shorten(keep=keep)

    with pytest.raises(OSError, match=f"short write: {len(left)} of 10"):
        file.pwritev(0, [b"hello", b"world"])
    assert state(inner)["b"] == left
    assert code_of(lambda: file.pwritev(0, [b"hello", b"world"])) == 0


def test_a_short_write_can_have_a_cause(disk: FaultyFileSystem, directory: Directory) -> None:
    """The error can be any other, and the write nothing at all."""
    file = directory.create("b")
    disk.shorten(error=OSError(errno.EDQUOT, "quota"), keep=1, nth=2)

    assert code_of(lambda: file.pwritev(0, [b"ab"])) == 0
    assert code_of(lambda: file.pwritev(2, [b"cd"])) == errno.EDQUOT
    assert file.pread(0, 9) == b"abc"
    disk.shorten()
    assert code_of(lambda: file.pwritev(0, [])) == errno.EIO


# -- a full disk


def test_a_full_disk_takes_what_fits(disk: FaultyFileSystem, directory: Directory) -> None:
    """Growth is limited: the part that fits is written, then ENOSPC; what is there can still be overwritten."""
    file = directory.create("b")
    disk.space_left = 10

    assert code_of(lambda: file.pwritev(0, [b"12345678"])) == 0
    assert code_of(lambda: file.pwritev(4, [b"abcdefghij"])) == errno.ENOSPC
    assert file.pread(0, 99) == b"1234abcdef"
    assert code_of(lambda: file.pwritev(0, [b"x" * 10])) == 0
    assert code_of(lambda: file.pwritev(10, [b"x"])) == errno.ENOSPC
    assert disk.space_left == 0


def test_a_gap_takes_space_too(disk: FaultyFileSystem, directory: Directory) -> None:
    """A write far beyond the end that does not fit writes nothing."""
    file = directory.create("b")
    disk.space_left = 50

    assert code_of(lambda: file.pwritev(100, [b"abc"])) == errno.ENOSPC
    assert file.pread(0, 200) == b""


def test_reserving_is_all_or_nothing(disk: FaultyFileSystem, directory: Directory) -> None:
    """A reservation that does not fit takes nothing; one that does is paid once."""
    file = directory.create("b")
    disk.space_left = 100

    assert code_of(lambda: file.allocate(101)) == errno.ENOSPC
    assert disk.space_left == 100
    assert code_of(lambda: file.allocate(60)) == 0
    assert code_of(lambda: file.allocate(60)) == 0
    assert code_of(lambda: file.pwritev(0, [b"x" * 60])) == 0
    assert disk.space_left == 40


def test_space_comes_back(disk: FaultyFileSystem, directory: Directory) -> None:
    """Cutting, unlinking, and renaming over a file free what it took."""
    disk.space_left = 0
    directory.open("a", write=True).truncate(len(A) - 100)
    assert disk.space_left == 100

    directory.create("b").pwritev(0, [b"x" * 30])
    directory.create("c").pwritev(0, [b"x" * 20])
    assert disk.space_left == 50
    directory.rename("b", "c")
    assert disk.space_left == 70
    directory.unlink("c")
    assert disk.space_left == 100
    assert code_of(lambda: directory.unlink("c")) == errno.ENOENT
    disk.heal()
    assert disk.space_left is None


# -- a hook


def test_a_hook_can_block_an_operation(disk: FaultyFileSystem, directory: Directory) -> None:
    """A datasync can be held until the test lets it go, while other calls pass."""
    file = directory.open("a", write=True)
    held, gate, done = threading.Event(), threading.Event(), threading.Event()

    def hook(call: Call) -> None:
        if call.operation == "datasync":
            held.set()
            assert gate.wait(10)

    def sync() -> None:
        file.datasync()
        done.set()

    disk.hook = hook
    thread = threading.Thread(target=sync)
    thread.start()

    assert held.wait(10)
    assert file.pread(0, 4) == b"AAAA"
    assert not done.is_set()
    gate.set()
    thread.join(10)
    assert done.is_set()


def test_a_hook_can_raise(disk: FaultyFileSystem, directory: Directory) -> None:
    """What it raises is what the caller gets, and the call is not done."""

    def hook(call: Call) -> None:
        raise MemoryError(call.operation)

    disk.hook = hook
    with pytest.raises(MemoryError, match="names"):
        directory.names()
    assert disk.calls == []


# -- no barriers


def test_without_barriers_nothing_is_ever_durable(inner: SimulatedFileSystem) -> None:
    """Whatever is synced, by whatever handle, a power cut may take all of it; and anything between."""
    directory = NoBarriers(inner).open_directory("/s", create=True)
    file = directory.create("a")
    file.pwritev(0, [A])
    file.datasync()
    directory.open("a").datasync()
    directory.sync()

    same(outcomes(inner), [{}, {"a": b""}, {"a": bytes(len(A))}, {"a": A}])
    assert not {operation.kind for operation in inner.operations} & {"sync", "datasync"}
    file.close()
    assert code_of(file.datasync) == errno.EBADF


def test_wrappers_pass_on_what_they_do_not_touch(inner: SimulatedFileSystem) -> None:
    """Random bytes and times are those of the disk below, through any number of wrappers."""
    other = SimulatedFileSystem()
    wrapped = NoBarriers(FaultyFileSystem(NoBarriers(inner)))

    assert wrapped.random_bytes(8) == other.random_bytes(8)
    assert wrapped.time_ns() == other.time_ns()
