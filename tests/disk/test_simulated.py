"""The simulated disk as a tool: its log of operations, replay, cutting the power at any point, determinism."""

import random
import threading
from collections.abc import Callable

import pytest

from tests.disk.small_disk import A, B, disk_with, state
from tests.disk.test_random_calls import Machine
from walstore.testing.crashes import enumerate_crashes
from walstore.testing.operations import Operation
from walstore.testing.simulated import SimulatedFileSystem, SimulatedPowerCut

Image = frozenset[tuple[str, bytes]]


def possible(disk: SimulatedFileSystem) -> set[Image]:
    """All that a power cut may leave, or a sample of it, the same for the same disk."""
    return {frozenset(state(after).items()) for after in enumerate_crashes(disk, bound=300)}


def run_at_random(disk: SimulatedFileSystem, seed: int, steps: int = 60) -> None:
    """A random sequence of calls in /s."""
    directory = disk.open_directory("/s", create=True)
    machine = Machine(directory, seed)
    for _ in range(steps):
        machine.step()


def some_work(disk: SimulatedFileSystem) -> None:
    """One of each operation."""
    directory = disk.open_directory("/s", create=True)
    file = directory.create("a.tmp")
    file.pwritev(3, [b"ab", b"cd"])
    file.datasync()
    directory.rename("a.tmp", "a")
    directory.sync()
    file.truncate(100)
    file.allocate(200)
    directory.unlink("a")


# -- the log


def test_the_log_holds_every_change_with_its_data() -> None:
    """Each change and each barrier is one operation; looking is none."""
    disk = SimulatedFileSystem()
    some_work(disk)
    disk.open_directory("/s", create=True).names()

    assert disk.operations == [
        Operation("mkdir", "/s"),
        Operation("create", "/s", "a.tmp", 1),
        Operation("write", "/s", "a.tmp", 1, 3, b"abcd"),
        Operation("datasync", "/s", "a.tmp", 1),
        Operation("rename", "/s", "a.tmp", 1, target="a"),
        Operation("sync", "/s"),
        Operation("truncate", "/s", "a.tmp", 1, size=100),
        Operation("allocate", "/s", "a.tmp", 1, size=200),
        Operation("unlink", "/s", "a", 1),
    ]
    assert disk.operations[2].length == 4


def test_the_log_is_readable() -> None:
    """A line says what was done, where, and to which file."""
    disk = SimulatedFileSystem()
    some_work(disk)

    assert disk.trace == [
        "mkdir /s",
        "create /s/a.tmp #1",
        "write /s/a.tmp #1 [3, 7)",
        "datasync /s/a.tmp #1",
        "rename /s/a.tmp -> a #1",
        "sync /s",
        "truncate /s/a.tmp #1 100",
        "allocate /s/a.tmp #1 200",
        "unlink /s/a #1",
    ]


def test_what_is_refused_is_not_logged() -> None:
    """A call that fails by itself changes nothing and is no operation."""
    disk, directory = disk_with(a=A)
    count = len(disk.operations)

    for call in (lambda: directory.create("a"), lambda: directory.unlink("b"), lambda: directory.rename("b", "a")):
        with pytest.raises(OSError):
            call()
    with pytest.raises(OSError):
        directory.open("a").truncate(0)

    assert len(disk.operations) == count


def test_bytes_that_were_read_are_counted() -> None:
    """`bytes_read` is what reads gave, which bounds what recovery may cost."""
    disk, directory = disk_with(a=A)
    directory.open("a").pread(10, 20)
    directory.open("a").pread(500, 1000)

    assert disk.bytes_read == 20 + 12


# -- replay


@pytest.mark.parametrize("seed", range(6))
def test_any_prefix_can_be_rebuilt(seed: int) -> None:
    """`at(n)` and `prefixes` are the disk after n operations: what readers saw then, and all that a cut could leave."""
    disk = SimulatedFileSystem()
    disk.open_directory("/s", create=True)
    directory = disk.open_directory("/s", create=True)
    machine = Machine(directory, seed)
    seen = {1: (state(disk), possible(disk))}
    for _ in range(25):
        machine.step()
        seen[len(disk.operations)] = (state(disk), possible(disk))

    walked = {n: (state(prefix), possible(prefix)) for n, prefix in disk.prefixes() if n in seen}

    assert walked == seen
    assert {n: (state(disk.at(n)), possible(disk.at(n))) for n in seen} == seen


def test_a_disk_after_a_crash_can_be_rebuilt_too() -> None:
    """Prefixes of a disk that came out of a crash start from what that crash left."""
    disk, directory = disk_with(a=A)
    directory.create("b").pwritev(0, [B])
    after = disk.crash_keeping_everything()
    again = after.open_directory("/s", create=True)
    again.open("b", write=True).truncate(3)
    again.unlink("a")
    again.create("c")

    assert [sorted(state(prefix)) for _, prefix in after.prefixes()] == [
        ["a", "b"], ["a", "b"], ["b"], ["b", "c"],
    ]  # fmt: skip
    assert state(after.at(1)) == {"a": A, "b": b"BBB"}
    assert state(after.at(0).crash_keeping_nothing()) == {"a": A, "b": B}


def test_operations_alone_rebuild_a_disk() -> None:
    """A list of operations, kept by whoever likes, is a disk: a failed sync and a lost page in it too."""
    disk, directory = disk_with(a=A)
    file = directory.open("a", write=True)
    file.pwritev(0, [B])
    disk.fail_sync()
    with pytest.raises(OSError):
        file.datasync()
    other = SimulatedFileSystem.replay(disk.operations)

    assert state(other) == {"a": B}
    assert state(other.crash_keeping_everything()) == {"a": A}
    assert other.operations == disk.operations


def test_the_root_can_hold_a_store() -> None:
    """A store at "/" is replayed as well as any other."""
    disk = SimulatedFileSystem()
    disk.open_directory("/", create=False).create("a")

    assert SimulatedFileSystem.replay(disk.operations).open_directory("/", create=False).names() == ["a"]


def test_the_original_is_not_touched_by_its_copies() -> None:
    """Writing to a disk after a crash changes neither the disk before it, nor the next one to come out of it."""
    disk, directory = disk_with(a=A)
    first = disk.crash_keeping_everything()
    first.open_directory("/s", create=True).open("a", write=True).pwritev(0, [B])
    second = disk.crash_keeping_everything()
    directory.open("a", write=True).pwritev(1, [b"xyz"])

    assert state(second) == {"a": A}
    assert state(first) == {"a": B}
    assert state(disk)["a"][:5] == b"AxyzA"
    assert state(disk.crash_keeping_nothing()) == {"a": A}


# -- rot


def test_a_disk_can_be_altered() -> None:
    """Rot, a lost file and a foreign one, on a new disk where all is durable; the old one stays as it is."""
    disk, directory = disk_with(a=A, b=B)
    directory.open("b", write=True).pwritev(0, [b"pending"])
    seen = disk.files("/s")

    other = disk.altered({"/s/a": b"rot" + A[3:], "/s/b": None, "/s/../s/c": b"foreign"})

    assert disk.files("/s/") == seen == {"a": A, "b": b"pending" + B[7:]}
    assert other.files("/s") == {"a": b"rot" + A[3:], "c": b"foreign"}
    assert other.crash_keeping_nothing().files("/s") == other.files("/s")
    assert disk.altered({}).crash_keeping_nothing().files("/s") == seen
    again = other.open_directory("/s", create=False)
    again.open("a", write=True).pwritev(0, [b"x"])
    again.create("d")
    assert other.at(1).files("/s")["a"] == b"xot" + A[3:]
    assert [operation.file for operation in other.operations] == [3, 6]


# -- cutting the power


def test_the_power_can_be_cut_after_any_operation() -> None:
    """With `stop_after(n)`, n operations are done and each later one fails, whatever it is; reads go on."""
    whole = SimulatedFileSystem()
    some_work(whole)

    for count in range(len(whole.operations)):
        disk = SimulatedFileSystem()
        disk.stop_after(count)
        with pytest.raises(SimulatedPowerCut, match=f"after {count} operations"):
            some_work(disk)
        assert disk.operations == whole.operations[:count]
        assert possible(disk.crash_keeping_everything()) if count else True
        if count:
            assert state(disk) == state(whole.at(count))
            with pytest.raises(SimulatedPowerCut):
                disk.open_directory("/s", create=True).sync()

    disk.stop_after(None)
    disk.open_directory("/s", create=True).sync()


def test_a_new_disk_has_power_and_no_locks() -> None:
    """After the crash, nothing of the old process is left: the cut, its locks, its open handles."""
    disk, directory = disk_with(a=A)
    assert directory.lock()
    disk.stop_after(0)

    after = disk.crash_keeping_everything().open_directory("/s", create=False)

    assert after.lock()
    after.unlink("a")
    assert directory.names() == ["a"]


# -- determinism


def test_the_same_calls_give_the_same_bytes() -> None:
    """Operations, random bytes and times depend on the seed and the calls alone."""
    one, two, other = SimulatedFileSystem(7), SimulatedFileSystem(7), SimulatedFileSystem(8)
    for disk in (one, two):
        run_at_random(disk, seed=3)

    assert one.operations == two.operations
    assert [one.random_bytes(8) for _ in range(3)] == [two.random_bytes(8) for _ in range(3)]
    assert one.time_ns() == two.time_ns()
    assert SimulatedFileSystem(7).random_bytes(8) != other.random_bytes(8)


def test_random_bytes_are_never_drawn_again_after_a_crash() -> None:
    """A salt must not repeat: not on a disk after a crash, not on one rebuilt from a prefix, not two crashes on."""
    disk, directory = disk_with(a=A)
    disks = [
        disk,
        disk.at(2),
        disk.crash_keeping_everything(),
        disk.crash_keeping_everything().crash_keeping_everything(),
    ]
    directory.sync()
    disks.append(disk.crash_keeping_everything())

    drawn = [one.random_bytes(16) for one in disks for _ in range(5)]

    assert len(set(drawn)) == len(drawn)


def test_time_goes_on_after_a_crash() -> None:
    """A later life has later times."""
    disk = SimulatedFileSystem()
    before = [disk.time_ns() for _ in range(3)]

    assert before == sorted(set(before))
    assert disk.crash_keeping_nothing().time_ns() > before[-1]


def test_file_numbers_are_never_used_again() -> None:
    """A file that a crash took leaves its number unused, so operations of two lives cannot be mixed up."""
    disk, directory = disk_with(a=A)
    directory.create("b")
    after = disk.crash_keeping_nothing()
    after.open_directory("/s", create=True).create("c")

    assert [operation.file for operation in after.operations] == [3]


def test_a_disk_says_where_it_comes_from() -> None:
    """The line that a failing test prints: seed, operations, which crash."""
    disk, directory = disk_with(a=A)
    directory.create("b")
    birth = [after.birth for after in enumerate_crashes(disk.crash(random.Random(1)).crash_keeping_nothing())]

    first = "seed 0; crash by chance after operation 6; crash by choice after operation 0; "
    assert birth == [first + "crash state 1 of all after operation 0"]


# -- threads


def test_threads_may_work_on_one_disk() -> None:
    """Calls of several threads, crashes among them, are each done as a whole."""
    disk = SimulatedFileSystem()
    directory = disk.open_directory("/s", create=True)
    failed: list[BaseException] = []

    def work(name: str) -> Callable[[], None]:
        def run() -> None:
            try:
                file = directory.create(name)
                for turn in range(200):
                    file.pwritev(turn * 10, [name.encode() * 10])
                    file.datasync()
                    assert file.pread(turn * 10, 10) == name.encode() * 10
            except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's failure
                failed.append(error)

        return run

    threads = [threading.Thread(target=work(name)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for _ in range(200):
        disk.crash_keeping_everything()
        for data in state(disk.crash_keeping_nothing()).values():
            assert len(data) % 10 == 0
    for thread in threads:
        thread.join()

    assert not failed
    assert state(disk) == {name: name.encode() * 2000 for name in "abcd"}
    assert state(disk.at(len(disk.operations))) == state(disk)
