"""The real file system's directories: made durable one after another, and locked by one process."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disk.worlds import in_child
from walstore._disk.os_fs import OsDirectory, OsFileSystem
from walstore._disk.seam import Directory

pytestmark = pytest.mark.realfs


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Directory]:
    """An open directory, at `tmp_path / "store"`."""
    directory = OsFileSystem().open_directory(str(tmp_path / "store"), create=True)
    yield directory
    directory.close()


# -- making directories


class Watched(OsFileSystem):
    """Notes which names were made durable, and what was there at that moment."""

    def __init__(self, below: Path) -> None:
        self.below = below
        self.seen: list[tuple[str, bool, bool]] = []

    def _sync_name_of(self, path: str, *, made: bool) -> None:
        super()._sync_name_of(path, made=made)
        relative = os.path.relpath(path, self.below)
        self.seen.append((relative, made, (self.below / "a" / "b").is_dir()))


def test_each_new_directory_is_durable_before_the_next(tmp_path: Path) -> None:
    """The name of a directory is synced before anything is made in it; the deepest old one is synced again."""
    system = Watched(tmp_path)
    system.open_directory(str(tmp_path / "a" / "b"), create=True).close()
    assert system.seen == [(".", False, False), ("a", True, False), ("a/b", True, True)]

    system.seen.clear()
    system.open_directory(str(tmp_path / "a" / "b"), create=True).close()
    assert system.seen == [("a/b", False, True)]

    system.seen.clear()
    system.open_directory(str(tmp_path / "a" / "b"), create=False).close()
    assert system.seen == []


def test_a_directory_made_by_someone_else_meanwhile_is_taken(tmp_path: Path) -> None:
    """Losing the race for mkdir is no error, and its name is synced all the same."""

    class Raced(Watched):
        def _sync_name_of(self, path: str, *, made: bool) -> None:
            super()._sync_name_of(path, made=made)
            if path == str(tmp_path):
                (tmp_path / "a").mkdir()

    system = Raced(tmp_path)
    system.open_directory(str(tmp_path / "a"), create=True).close()

    assert system.seen == [(".", False, False), ("a", True, False)]


def test_the_root_is_a_directory_like_others() -> None:
    """Making the root finds it there."""
    OsFileSystem().open_directory("/", create=True).close()


def test_what_may_not_be_looked_at_is_only_passed_over_if_it_is_old(tmp_path: Path) -> None:
    """Where the parent cannot be opened to sync it, an old directory is taken as it is, and a new one is refused."""

    class Hidden(OsFileSystem):
        def _open_to_sync(self, path: str) -> int:
            raise PermissionError(path)

    Hidden().open_directory(str(tmp_path), create=True).close()
    with pytest.raises(PermissionError):
        Hidden().open_directory(str(tmp_path / "new"), create=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become someone who may not look")
def test_a_parent_that_may_not_be_looked_at(tmp_path: Path) -> None:
    """An existing store below a directory that can be passed but not read opens; making one there is an error."""
    hidden = tmp_path / "hidden"
    (hidden / "store").mkdir(parents=True)
    os.chmod(hidden / "store", 0o777)
    os.chmod(hidden, 0o333)  # write and pass, but not read
    os.chmod(tmp_path, 0o755)

    def open_as_nobody(name: str) -> int:
        place = os.open(tmp_path, os.O_RDONLY)
        os.fchdir(place)
        os.chroot(".")
        os.setuid(65534)
        try:
            OsFileSystem().open_directory(f"/hidden/{name}", create=True).close()
        except PermissionError:
            return 1
        return 0

    assert in_child(lambda: open_as_nobody("store")) == 0
    assert in_child(lambda: open_as_nobody("new")) == 1


# -- the lock


def test_a_killed_owner_leaves_no_lock(store: Directory, tmp_path: Path) -> None:
    """The lock dies with the process that had it."""

    def lock_and_die() -> int:
        assert OsFileSystem().open_directory(str(tmp_path / "store"), create=False).lock()
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert in_child(lock_and_die) == -signal.SIGKILL
    assert store.lock()


def test_a_forked_child_does_not_free_the_lock(store: Directory, tmp_path: Path) -> None:
    """The child closes what it inherited, and the parent still has its lock."""
    assert store.lock()

    def close() -> int:
        store.close()
        return 0

    assert in_child(close) == 0
    other = OsFileSystem().open_directory(str(tmp_path / "store"), create=False)
    assert not other.lock()
    other.close()


def test_a_forked_child_does_not_keep_the_lock(store: Directory, tmp_path: Path) -> None:
    """Closing frees the lock although a child still has the descriptor."""
    assert store.lock()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        os.read(told, 1)
        os._exit(0)

    store.close()
    other = OsFileSystem().open_directory(str(tmp_path / "store"), create=False)
    free = other.lock()
    other.close()
    os.close(tell)
    os.close(told)
    os.waitpid(child, 0)

    assert free


def test_a_lock_that_cannot_be_had_for_another_reason_is_an_error(tmp_path: Path) -> None:
    """Only "another has it" is False; a descriptor that cannot be locked raises."""
    directory = OsDirectory(os.open(tmp_path, os.O_PATH), str(tmp_path))

    with pytest.raises(OSError, match="Bad file descriptor"):
        directory.lock()
    directory.close()
