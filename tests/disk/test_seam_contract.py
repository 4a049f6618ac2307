"""The contract of the seam.  The real file system and every stand-in run the same tests: so the fakes are verified."""

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.disk.worlds import REAL, WORLDS, World
from walstore._disk.seam import Directory, File


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.realfs) if name in REAL else name for name in WORLDS])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Each file system in turn."""
    return WORLDS[request.param](tmp_path)


@pytest.fixture
def directory(world: World) -> Iterator[Directory]:
    """An open, empty directory."""
    opened = world.directory()
    yield opened
    opened.close()


@pytest.fixture
def file(directory: Directory) -> Iterator[File]:
    """An open, empty file called "a"."""
    created = directory.create("a")
    yield created
    created.close()


def raises(code: int, do: Callable[[], object]) -> None:
    """Passes if the call fails with this errno."""
    with pytest.raises(OSError) as caught:
        do()
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code]


# -- files


def test_a_new_file_is_empty(file: File) -> None:
    """A created file has no bytes, and reading it gives none."""
    assert file.size() == 0
    assert file.pread(0, 10) == b""


def test_writing_puts_the_buffers_one_after_another(file: File) -> None:
    """Bytes, bytearrays and memoryviews, empty ones too, land in order at the offset."""
    file.pwritev(0, [b"ab", bytearray(b"cd"), b"", memoryview(b"xefx")[1:3]])
    file.pwritev(6, [b"gh"])

    assert file.pread(0, 100) == b"abcdefgh"
    assert file.size() == 8


def test_writing_nothing_changes_nothing(file: File) -> None:
    """No buffers, or only empty ones, even beyond the end, leave the file as it is."""
    file.pwritev(0, [])
    file.pwritev(100, [b"", b""])

    assert file.size() == 0


def test_writing_many_buffers(file: File) -> None:
    """More buffers than one system call takes are all written."""
    buffers = [b"%04d" % number for number in range(3000)]

    file.pwritev(5, buffers)

    assert file.pread(0, 20_000) == bytes(5) + b"".join(buffers)


def test_overwriting_keeps_what_is_around(file: File) -> None:
    """A write inside a file changes its own range alone."""
    file.pwritev(0, [b"abcdefgh"])
    file.pwritev(2, [b"XY"])

    assert file.pread(0, 100) == b"abXYefgh"


def test_a_gap_is_zeros(file: File) -> None:
    """Writing beyond the end leaves zeros before it."""
    file.pwritev(1000, [b"end"])

    assert file.pread(0, 2000) == bytes(1000) + b"end"


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 3, b"abc"), (2, 2, b"cd"), (3, 9, b"d"), (4, 1, b""), (9, 9, b""), (1, 0, b"")],
)
def test_a_read_ends_where_the_file_ends(file: File, offset: int, length: int, expected: bytes) -> None:
    """A read gives what was asked for, and less only at the end."""
    file.pwritev(0, [b"abcd"])

    assert file.pread(offset, length) == expected


def test_what_is_read_does_not_change_later(file: File) -> None:
    """A read gives bytes of its own."""
    file.pwritev(0, [b"old"])
    read = file.pread(0, 3)
    file.pwritev(0, [b"new"])

    assert read == b"old"
    assert type(read) is bytes


def test_truncating_cuts_and_pads(file: File) -> None:
    """A shorter length cuts, a longer one pads with zeros, and what was cut does not come back."""
    file.pwritev(0, [b"abcdef"])
    file.truncate(2)
    assert file.pread(0, 10) == b"ab"

    file.truncate(5)
    assert file.pread(0, 10) == b"ab\0\0\0"


def test_allocating_extends_and_never_cuts(file: File) -> None:
    """Reserved bytes read as zeros; bytes that are there stay."""
    file.pwritev(0, [b"abc"])
    file.allocate(5000)
    assert file.pread(0, 9000) == b"abc" + bytes(4997)

    file.allocate(10)
    file.allocate(0)
    assert file.size() == 5000


def test_barriers_and_hints_change_nothing_to_see(directory: Directory, file: File) -> None:
    """After datasync, drop_cache and a directory's sync all reads give the same."""
    file.pwritev(0, [b"abc"])
    file.datasync()
    file.drop_cache()
    directory.sync()

    assert file.pread(0, 10) == b"abc"
    assert directory.names() == ["a"]


def test_a_closed_file_refuses(file: File) -> None:
    """Closing is silent twice; any other call then is EBADF."""
    file.close()
    file.close()

    raises(errno.EBADF, file.size)
    raises(errno.EBADF, lambda: file.pread(0, 1))
    raises(errno.EBADF, lambda: file.pwritev(0, [b"x"]))
    raises(errno.EBADF, file.datasync)
    raises(errno.EBADF, lambda: file.truncate(0))
    raises(errno.EBADF, lambda: file.allocate(10))
    raises(errno.EBADF, file.drop_cache)


def test_a_file_opened_for_reading_is_not_written(directory: Directory, file: File) -> None:
    """Without `write`, a handle reads and syncs, and refuses to change anything."""
    file.pwritev(0, [b"abc"])
    reader = directory.open("a")

    assert reader.pread(0, 10) == b"abc"
    reader.datasync()
    with pytest.raises(OSError):
        reader.pwritev(0, [b"x"])
    with pytest.raises(OSError):
        reader.truncate(0)
    with pytest.raises(OSError):
        reader.allocate(9000)
    assert reader.size() == 3
    reader.close()


def test_handles_of_one_file_see_each_other(directory: Directory, file: File) -> None:
    """What one handle writes, another reads, across a rename too."""
    other = directory.open("a", write=True)
    other.pwritev(0, [b"abc"])
    directory.rename("a", "b")
    file.pwritev(3, [b"def"])

    assert other.pread(0, 10) == file.pread(0, 10) == b"abcdef"
    other.close()


def test_an_unlinked_file_lives_while_it_is_open(directory: Directory, file: File) -> None:
    """A reader keeps its bytes, and a new file of the same name is another file."""
    file.pwritev(0, [b"abc"])
    directory.unlink("a")
    again = directory.create("a")

    file.pwritev(3, [b"def"])
    file.datasync()
    directory.sync()
    assert file.pread(0, 10) == b"abcdef"
    assert again.size() == 0
    again.close()


# -- directories


def test_names_are_sorted(directory: Directory) -> None:
    """All names are listed, in order."""
    for name in ("b", "c", "a"):
        directory.create(name).close()

    assert directory.names() == ["a", "b", "c"]


def test_a_taken_name_is_not_created(directory: Directory, file: File) -> None:
    """Creating over a file is EEXIST, and the file is left alone."""
    file.pwritev(0, [b"abc"])

    raises(errno.EEXIST, lambda: directory.create("a"))
    assert file.pread(0, 10) == b"abc"


def test_what_is_not_there_is_not_found(directory: Directory) -> None:
    """Opening, renaming or unlinking an absent name is ENOENT and changes nothing."""
    directory.create("b").close()

    raises(errno.ENOENT, lambda: directory.open("a"))
    raises(errno.ENOENT, lambda: directory.open("a", write=True))
    raises(errno.ENOENT, lambda: directory.rename("a", "b"))
    raises(errno.ENOENT, lambda: directory.unlink("a"))
    assert directory.names() == ["b"]


def test_renaming_replaces(directory: Directory, file: File) -> None:
    """A rename over a file puts the one in the place of the other."""
    file.pwritev(0, [b"new"])
    old = directory.create("b")
    old.pwritev(0, [b"old"])

    directory.rename("a", "b")

    assert directory.names() == ["b"]
    renamed = directory.open("b")
    assert renamed.pread(0, 10) == b"new"
    assert old.pread(0, 10) == b"old"
    renamed.close()
    old.close()


def test_renaming_to_the_same_name_is_nothing(directory: Directory, file: File) -> None:
    """A file renamed to its own name is still there."""
    file.pwritev(0, [b"abc"])
    directory.rename("a", "a")

    assert directory.names() == ["a"]


@pytest.mark.parametrize("name", ["", ".", "..", "/", "x/y", "../a", "a\0"])
def test_a_name_that_leads_elsewhere_is_refused(directory: Directory, file: File, name: str) -> None:
    """Only the names of this one directory are names."""
    raises(errno.EINVAL, lambda: directory.open(name))
    raises(errno.EINVAL, lambda: directory.create(name))
    raises(errno.EINVAL, lambda: directory.rename(name, "b"))
    raises(errno.EINVAL, lambda: directory.rename("a", name))
    raises(errno.EINVAL, lambda: directory.unlink(name))
    assert directory.names() == ["a"]


def test_a_closed_directory_refuses(world: World) -> None:
    """Closing is silent twice; any other call then is EBADF."""
    directory = world.directory()
    directory.create("a").close()
    directory.close()
    directory.close()

    raises(errno.EBADF, directory.names)
    raises(errno.EBADF, lambda: directory.open("a"))
    raises(errno.EBADF, lambda: directory.create("b"))
    raises(errno.EBADF, lambda: directory.rename("a", "b"))
    raises(errno.EBADF, lambda: directory.unlink("a"))
    raises(errno.EBADF, directory.lock)


def test_one_handle_has_the_lock(world: World) -> None:
    """A second handle is refused until the first is closed; asking twice is no harm, a loser's close frees nothing."""
    first, second, third = world.directory(), world.directory(), world.directory()

    assert first.lock()
    assert first.lock()
    assert not second.lock()
    second.close()
    assert not third.lock()
    first.close()
    assert third.lock()
    third.close()


def test_a_directory_must_be_made(world: World) -> None:
    """Without `create` an absent directory is ENOENT; afterwards it is there, with its parents."""
    raises(errno.ENOENT, lambda: world.system.open_directory(world.path, create=False))

    below = world.system.open_directory(f"{world.path}/x/y", create=True)
    assert below.names() == []
    assert below.path == f"{world.path}/x/y"
    below.close()
    above = world.system.open_directory(world.path, create=False)
    above.create("a").close()
    above.close()
    raises(errno.ENOTDIR, lambda: world.system.open_directory(f"{world.path}/a", create=False))
    raises(errno.EEXIST, lambda: world.system.open_directory(f"{world.path}/a", create=True))


def test_a_directory_opened_again_is_the_same(world: World) -> None:
    """`create` takes a directory that is there as it is, and other spellings of its path lead to it."""
    with_file = world.directory()
    with_file.create("a").close()
    again = world.system.open_directory(f"{world.path}/../store/.", create=True)

    assert again.names() == ["a"]
    again.close()
    with_file.close()


def test_random_bytes_and_time(world: World) -> None:
    """Random bytes have the length that was asked for and do not repeat; time does not go back."""
    assert len(world.system.random_bytes(16)) == 16
    assert world.system.random_bytes(16) != world.system.random_bytes(16)
    assert world.system.time_ns() <= world.system.time_ns()


# -- threads


def test_threads_may_read_while_one_writes(file: File) -> None:
    """Reads in other threads overlap writes, and see whole bytes of before or after."""
    file.pwritev(0, [b"a" * 4096])
    bad: list[bytes] = []

    def read() -> None:
        for _ in range(300):
            got = file.pread(0, 4096)
            if set(got) - set(b"ab") or len(got) != 4096:
                bad.append(got)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(300):
        file.pwritev(0, [b"ab"[turn % 2 : turn % 2 + 1] * 4096])
        file.pwritev(4096 + turn * 100, [b"grow" * 25])
    for reader in readers:
        reader.join()

    assert not bad
