"""What a rollback keeps beside a store, and lets go: journals, links, descriptors."""

import threading
from pathlib import Path

import pytest

from walstore._disk.os_fs import OsFileSystem
from walstore._disk.seam import Directory
from walstore.testing.faults import Call, FaultyFileSystem
from walstore.testing.rollback import RollbackFileSystem, roll_back

pytestmark = pytest.mark.realfs


def nothing(_kind: str, _path: str, _offset: int, _count: int) -> int:
    """Keep only what was synced."""
    return 0


def opened(base: Path) -> Directory:
    """The store, by a new process as it were."""
    return RollbackFileSystem(OsFileSystem(), str(base / "journal")).open_directory(str(base / "store"), create=True)


def kept(base: Path) -> list[str]:
    """The kinds of files beside the store."""
    (place,) = (base / "journal").iterdir()
    return sorted(path.name.partition("-")[0] for path in place.iterdir())


def contents(base: Path) -> dict[str, bytes]:
    """What is in the store."""
    return {path.name: path.read_bytes() for path in (base / "store").iterdir()}


def test_what_was_synced_leaves_nothing_behind(tmp_path: Path) -> None:
    """After syncs of bytes and names only an empty journal of names is kept."""
    directory = opened(tmp_path)
    for _ in range(3):
        file = directory.create("a")
        file.pwritev(0, [b"x" * 1000])
        assert kept(tmp_path) == ["file", "names"]
        file.datasync()
        file.close()
        directory.rename("a", "b")
        directory.create("c").close()
        directory.rename("c", "b")
        directory.unlink("b")
        assert kept(tmp_path) == ["keep", "keep", "names"]
        directory.sync()
        assert kept(tmp_path) == ["names"]
    directory.close()


def test_numbers_of_files_that_are_gone_are_used_again(tmp_path: Path) -> None:
    """A file system gives an inode's number to the next file, which does not inherit what was pending of the first."""
    directory = opened(tmp_path)
    for turn in range(20):
        file = directory.create("a")
        file.pwritev(0, [b"%02d" % turn * 500])
        file.close()
        directory.unlink("a")
        directory.sync()
    file = directory.create("a")
    file.pwritev(0, [b"kept"])
    file.datasync()
    directory.sync()
    file.close()
    directory.close()

    roll_back(str(tmp_path / "store"), str(tmp_path / "journal"), nothing)

    assert (tmp_path / "store" / "a").read_bytes() == b"kept"


def test_a_file_may_be_written_after_its_name_is_gone_for_good(tmp_path: Path) -> None:
    """Nothing of it is noted any more, and closing it disturbs nobody."""
    directory = opened(tmp_path)
    file = directory.create("a")
    file.pwritev(0, [b"noted"])
    unnoted = directory.create("b")
    directory.unlink("a")
    directory.unlink("b")
    directory.sync()
    file.pwritev(0, [b"not noted"])
    unnoted.pwritev(0, [b"nor this"])
    assert kept(tmp_path) == ["names"]
    assert file.pread(0, 20) == b"not noted"

    file.close()
    file.close()
    unnoted.close()
    assert kept(tmp_path) == ["names"]
    directory.close()
    directory.close()


def test_a_synced_file_may_be_closed_after_its_name_is_gone_for_good(tmp_path: Path) -> None:
    """Its journal went with its name, and another file's may have taken the place."""
    directory = opened(tmp_path)
    file = directory.create("a")
    file.pwritev(0, [b"x"])
    file.datasync()
    directory.unlink("a")
    directory.sync()
    file.close()
    assert kept(tmp_path) == ["names"]
    directory.close()


def test_a_name_kept_by_another_link_keeps_its_journal(tmp_path: Path) -> None:
    """A file that still has a name somewhere in the store is not forgotten when another of its names goes."""
    directory = opened(tmp_path)
    file = directory.create("a")
    directory.sync()
    (tmp_path / "store" / "b").hardlink_to(tmp_path / "store" / "a")
    file.pwritev(0, [b"pending"])
    file.close()
    directory.unlink("a")
    directory.sync()
    directory.close()

    roll_back(str(tmp_path / "store"), str(tmp_path / "journal"), nothing)

    assert contents(tmp_path) == {"b": b""}


def test_a_rename_between_two_names_of_one_file_is_nothing(tmp_path: Path) -> None:
    """POSIX does nothing then, and there is nothing to undo."""
    directory = opened(tmp_path)
    directory.create("a").close()
    directory.sync()
    (tmp_path / "store" / "b").hardlink_to(tmp_path / "store" / "a")
    directory.rename("a", "b")
    assert directory.names() == ["a", "b"]
    assert kept(tmp_path) == ["names"]
    directory.close()


def test_handles_share_what_is_noted(tmp_path: Path) -> None:
    """A sync by one handle, even one that only reads, is for what another wrote; the directory may be closed."""
    directory = opened(tmp_path)
    writer = directory.create("a")
    directory.sync()
    reader = directory.open("a")
    directory.close()
    writer.pwritev(0, [b"x"])
    reader.datasync()
    reader.close()
    writer.pwritev(1, [b"y"])
    writer.close()

    roll_back(str(tmp_path / "store"), str(tmp_path / "journal"), nothing)

    assert (tmp_path / "store" / "a").read_bytes() == b"x"


def test_a_directory_can_be_opened_again_while_files_stay_open(tmp_path: Path) -> None:
    """The journal of names is opened with the first handle and closed with the last."""
    system = RollbackFileSystem(OsFileSystem(), str(tmp_path / "journal"))
    first = system.open_directory(str(tmp_path / "store"), create=True)
    file = first.create("a")
    second = system.open_directory(str(tmp_path / "store"), create=True)
    first.close()
    second.create("b").close()
    second.close()
    third = system.open_directory(str(tmp_path / "store"), create=True)
    third.unlink("b")
    third.sync()
    third.close()
    file.close()

    roll_back(str(tmp_path / "store"), str(tmp_path / "journal"), nothing)

    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a"]


def test_a_new_process_finds_what_is_pending(tmp_path: Path) -> None:
    """Links and journals of an earlier life serve the next one: an unlinked file, unlinked again, is kept once."""
    directory = opened(tmp_path)
    file = directory.create("a")
    file.pwritev(0, [b"x"])
    file.datasync()
    directory.sync()
    file.pwritev(0, [b"y"])
    file.close()
    (tmp_path / "store" / "b").hardlink_to(tmp_path / "store" / "a")
    directory.unlink("a")
    directory.close()
    assert kept(tmp_path) == ["file", "keep", "names"]

    directory = opened(tmp_path)
    directory.unlink("b")
    directory.close()
    assert kept(tmp_path) == ["file", "keep", "names"]

    roll_back(str(tmp_path / "store"), str(tmp_path / "journal"), nothing)
    assert contents(tmp_path) == {"a": b"x", "b": b"x"}


def test_a_new_process_makes_durable_what_is_pending(tmp_path: Path) -> None:
    """Syncs of a later life are for what an earlier one left, as they are in the kernel."""
    directory = opened(tmp_path)
    directory.create("old").close()
    directory.sync()
    file = directory.create("a")
    file.pwritev(0, [b"x"])
    file.close()
    directory.unlink("old")
    directory.close()

    directory = opened(tmp_path)
    file = directory.open("a")
    file.datasync()
    file.close()
    directory.sync()
    assert kept(tmp_path) == ["names"]
    directory.close()

    roll_back(str(tmp_path / "store"), str(tmp_path / "journal"), nothing)
    assert contents(tmp_path) == {"a": b"x"}


@pytest.mark.parametrize("done", [False, True])
def test_what_fails_is_undone_if_it_was_done(tmp_path: Path, done: bool) -> None:
    """A change of names that the disk reported as failed may be done all the same, and is not durable then."""
    disk = FaultyFileSystem(OsFileSystem())
    directory = RollbackFileSystem(disk, str(tmp_path / "journal")).open_directory(str(tmp_path / "store"), create=True)
    directory.create("a").close()
    directory.create("b").close()
    directory.sync()
    for operation in ("create", "rename", "unlink"):
        disk.fail(operation, done=done)
    for call in (lambda: directory.create("c"), lambda: directory.rename("a", "d"), lambda: directory.unlink("b")):
        with pytest.raises(OSError, match="Input/output error"):
            call()
    assert directory.names() == (["c", "d"] if done else ["a", "b"])
    with pytest.raises(FileNotFoundError):
        directory.unlink("x")
    with pytest.raises(FileNotFoundError):
        directory.rename("x", "a")
    directory.create("e").close()
    directory.close()

    roll_back(str(tmp_path / "store"), str(tmp_path / "journal"), nothing)
    assert contents(tmp_path) == {"a": b"", "b": b""}


def test_a_file_that_someone_removed_is_passed_over(tmp_path: Path) -> None:
    """A journal whose file is gone, past the file system that keeps the journals, undoes nothing."""
    directory = opened(tmp_path)
    file = directory.create("a")
    directory.sync()
    file.pwritev(0, [b"x"])
    file.close()
    directory.close()
    (tmp_path / "store" / "a").unlink()

    assert roll_back(str(tmp_path / "store"), str(tmp_path / "journal"), nothing).lost == 0
    assert contents(tmp_path) == {}


def test_links_that_a_killed_process_left_are_swept(tmp_path: Path) -> None:
    """A link made for an unlink that never came to be noted goes with the next sync."""
    opened(tmp_path).close()
    (place,) = (tmp_path / "journal").iterdir()
    (tmp_path / "store" / "a").write_bytes(b"x")
    (place / f"keep-{(tmp_path / 'store' / 'a').stat().st_ino}").hardlink_to(tmp_path / "store" / "a")

    directory = opened(tmp_path)
    directory.sync()
    directory.close()

    assert kept(tmp_path) == ["names"]
    assert (tmp_path / "store" / "a").read_bytes() == b"x"


def test_a_write_during_a_sync_is_not_covered_by_it(tmp_path: Path) -> None:
    """What comes after the sync began stays noted when the sync ends, for bytes and for names."""
    disk = FaultyFileSystem(OsFileSystem())
    directory = RollbackFileSystem(disk, str(tmp_path / "journal")).open_directory(str(tmp_path / "store"), create=True)
    file = directory.create("a")
    directory.sync()
    file.pwritev(0, [b"before"])
    begun, go = threading.Event(), threading.Event()

    def hook(call: Call) -> None:
        if call.operation in {"datasync", "sync"}:
            begun.set()
            assert go.wait(10)

    disk.hook = hook
    for sync, change in (
        (file.datasync, lambda: file.pwritev(6, [b" after"])),
        (directory.sync, lambda: directory.create("b")),
    ):
        begun.clear()
        go.clear()
        thread = threading.Thread(target=sync)
        thread.start()
        assert begun.wait(10)
        made = change()
        go.set()
        thread.join(10)
        if made is not None:
            made.close()
    file.close()
    directory.close()

    roll_back(str(tmp_path / "store"), str(tmp_path / "journal"), nothing)

    assert contents(tmp_path) == {"a": b"before"}


def test_threads_work_in_one_directory(tmp_path: Path) -> None:
    """Many threads with files of their own, all synced at the end, lose nothing but the last byte of each."""
    directory = opened(tmp_path)
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            file = directory.create(f"{name}.tmp")
            for turn in range(50):
                file.pwritev(turn, [name.encode()])
                file.datasync()
            directory.rename(f"{name}.tmp", name)
            directory.sync()
            file.pwritev(50, [b"!"])
            file.close()
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's failure
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    directory.close()
    assert not failed

    report = roll_back(str(tmp_path / "store"), str(tmp_path / "journal"), nothing)

    assert contents(tmp_path) == {name: name.encode() * 50 for name in "abcdef"}
    assert report.lengths_lost == 6
