"""The real file system beyond the contract: what may not be opened, modes, barriers of the platform, refused writes."""

import errno
import fcntl
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.disk.worlds import in_child
from walstore._disk import os_fs
from walstore._disk.os_fs import OsFile, OsFileSystem, barrier, forget_pages, pieces, reserve
from walstore._disk.seam import Directory

pytestmark = pytest.mark.realfs


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Directory]:
    """An open directory, at `tmp_path / "store"`."""
    directory = OsFileSystem().open_directory(str(tmp_path / "store"), create=True)
    yield directory
    directory.close()


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


# -- what is opened


def plant_fifo(path: Path) -> None:
    """A FIFO that nobody reads or writes."""
    os.mkfifo(path)


def plant_symlink(path: Path) -> None:
    """A symlink to a file that is there."""
    (path.parent / "target").write_bytes(b"elsewhere")
    path.symlink_to("target")


def plant_dangling_symlink(path: Path) -> None:
    """A symlink to nothing."""
    path.symlink_to("nowhere")


def plant_directory(path: Path) -> None:
    """A directory."""
    path.mkdir()


def plant_socket(path: Path) -> None:
    """A socket that was bound here."""
    place = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"/proc/self/fd/{place}/{path.name}")  # a socket's path may be 107 bytes long, this one's is longer
    os.close(place)


PLANTS = [plant_fifo, plant_symlink, plant_dangling_symlink, plant_directory, plant_socket]


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.timeout(20)
def test_only_regular_files_are_opened(
    store: Directory, tmp_path: Path, plant: Callable[[Path], None], write: bool
) -> None:
    """Anything else is a clear OSError at once: nothing blocks, nothing is followed."""
    plant(tmp_path / "store" / "odd")

    with pytest.raises(OSError, match="not a regular file"):
        store.open("odd", write=write)


@pytest.mark.parametrize("plant", PLANTS)
def test_nothing_is_created_over_what_is_there(store: Directory, tmp_path: Path, plant: Callable[[Path], None]) -> None:
    """A name that is taken by anything, a dangling symlink too, is EEXIST."""
    plant(tmp_path / "store" / "odd")

    with pytest.raises(FileExistsError):
        store.create("odd")
    assert not (tmp_path / "store" / "nowhere").exists()


def test_a_file_swapped_between_look_and_open_is_refused(tmp_path: Path) -> None:
    """What was opened is looked at again: a descriptor of anything but a regular file is closed and refused."""
    plant_fifo(tmp_path / "fifo")
    descriptor = os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK)

    with pytest.raises(OSError, match="not a regular file"):
        os_fs._regular("fifo", descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_symlink_put_there_between_look_and_open_is_not_followed(tmp_path: Path) -> None:
    """The flags of every open refuse it by themselves."""
    plant_symlink(tmp_path / "link")

    with pytest.raises(OSError, match="symbolic links"):
        os.open(tmp_path / "link", os.O_RDONLY | os_fs._ANY)


def test_names_that_are_not_text_are_listed_and_opened(store: Directory, tmp_path: Path) -> None:
    """A foreign name of any bytes is one name among the others."""
    (tmp_path / "store" / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")

    (name,) = store.names()
    file = store.open(name)
    assert file.pread(0, 10) == b"x"
    file.close()


def test_files_and_directories_are_private(tmp_path: Path) -> None:
    """Files are 0600 and directories 0700 under any ordinary umask; a directory that was there keeps its mode."""
    before = os.umask(0)
    try:
        directory = OsFileSystem().open_directory(str(tmp_path / "a" / "b"), create=True)
        directory.create("file").close()
        directory.close()
        (tmp_path / "given").mkdir(mode=0o755)
        OsFileSystem().open_directory(str(tmp_path / "given"), create=True).close()
    finally:
        os.umask(before)

    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700
    assert mode(tmp_path / "a" / "b" / "file") == 0o600
    assert mode(tmp_path / "given") == 0o755


def test_descriptors_are_not_inherited_by_other_programs(store: Directory, tmp_path: Path) -> None:
    """Every descriptor is close-on-exec."""
    file = store.create("a")
    opened = [
        int(name)
        for name in os.listdir("/proc/self/fd")
        if os.path.realpath(f"/proc/self/fd/{name}").startswith(str(tmp_path / "store"))
    ]

    assert len(opened) == 2
    assert not any(os.get_inheritable(descriptor) for descriptor in opened)
    file.close()


def test_an_open_store_stays_where_it_is(store: Directory, tmp_path: Path) -> None:
    """When its path is moved away and another directory put there, the handle goes on in the one that it opened."""
    (tmp_path / "store").rename(tmp_path / "moved")
    (tmp_path / "store").mkdir()

    store.create("a").close()
    store.rename("a", "b")

    assert (tmp_path / "moved" / "b").exists()
    assert not list((tmp_path / "store").iterdir())


# -- writing


@pytest.mark.parametrize(
    ("buffers", "expected"),
    [
        ([], []),
        ([b""], [[b""]]),
        ([b"ab", b"cd"], [[b"ab", b"cd"]]),
        ([b"a", b"b", b"c", b"d"], [[b"a", b"b", b"c"], [b"d"]]),
        ([b"abcde", b"f"], [[b"abcd"], [b"e", b"f"]]),
        ([b"ab", b"cdefghijkl"], [[b"ab", b"cd"], [b"efgh"], [b"ijkl"]]),
        ([b"abcd", b"e"], [[b"abcd"], [b"e"]]),
    ],
)
def test_buffers_are_cut_to_what_one_call_takes(buffers: list[bytes], expected: list[list[bytes]]) -> None:
    """At most three buffers and four bytes in a group here, in order, with nothing lost."""
    groups = [[bytes(buffer) for buffer in group] for group in pieces(buffers, 3, 4)]

    assert groups == expected


@pytest.mark.parametrize("size", range(0, 40, 3))
def test_groups_keep_every_byte(size: int) -> None:
    """Whatever the lengths, the groups together are the buffers together, within the limits."""
    buffers = [bytes([number]) * ((size * number) % 11) for number in range(size)]

    groups = list(pieces(buffers, 5, 7))

    assert b"".join(b"".join(group) for group in groups) == b"".join(buffers)
    assert all(len(group) <= 5 and sum(map(len, group)) <= 7 for group in groups)


def limited(path: Path, limit: int, offset: int, data: list[bytes]) -> int:
    """The errno of a write in a process whose files may be `limit` bytes long."""

    def write() -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        directory = OsFileSystem().open_directory(str(path), create=False)
        try:
            directory.open("a", write=True).pwritev(offset, data)
        except OSError as error:
            return error.errno or 0
        return 0

    return in_child(write)


@pytest.mark.parametrize(
    ("limit", "code"), [(0, errno.EFBIG), (1, errno.EFBIG), (4, errno.EFBIG), (9, errno.EFBIG), (10, 0), (11, 0)]
)
def test_a_short_write_is_an_error_with_its_cause(store: Directory, tmp_path: Path, limit: int, code: int) -> None:
    """The kernel takes a part and says nothing; asked for the rest, it says why, and that is what is raised."""
    store.create("a").close()

    assert limited(tmp_path / "store", limit, 0, [b"hello", b"world"]) == code


def test_what_the_kernel_took_before_it_refused_is_no_success() -> None:
    """A file that may not grow takes the first page of two, and the error is that of the second."""
    descriptor = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 4096)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    file = OsFile(descriptor)

    with pytest.raises(PermissionError):
        file.pwritev(0, [b"x" * 5000, b"y" * 3192])
    assert file.pread(0, 9000) == b"x" * 4096
    file.close()


def test_a_short_write_without_a_cause_is_an_io_error(store: Directory, tmp_path: Path) -> None:
    """If the rest then goes through, it is still an error: a short write is never acknowledged."""
    file = store.create("a")
    assert isinstance(file, OsFile)

    with pytest.raises(OSError, match="short write: 3 of 10 bytes"):
        file._explain_short_write(0, b"helloworld", 3)
    file.close()


class Slow(OsFile):
    """Moves three bytes in one call."""

    __slots__ = ()
    max_transfer = 3


def test_a_transfer_goes_on_until_all_is_moved(tmp_path: Path) -> None:
    """What does not fit into one call takes several, and reads end where the file ends."""
    file = Slow(os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT))
    file.pwritev(0, [b"ab", b"cdefg", b"h"])

    assert file.pread(0, 8) == b"abcdefgh"
    assert file.pread(0, 100) == b"abcdefgh"
    assert file.pread(2, 4) == b"cdef"
    assert file.pread(8, 4) == b""
    file.close()


# -- barriers and reservations of other platforms


def test_the_platforms_full_barrier_is_used_where_there_is_one(tmp_path: Path) -> None:
    """With a full barrier the plain one is not called; one that the file system does not know falls back to it."""
    plain: list[int] = []
    descriptor = os.open(tmp_path, os.O_RDONLY)

    barrier(descriptor, plain.append, full=fcntl.F_GETFD)
    assert plain == []
    barrier(descriptor, plain.append, full=51)  # what F_FULLFSYNC is elsewhere, and nothing on Linux
    assert plain == [descriptor]
    barrier(descriptor, plain.append, full=None)
    assert plain == [descriptor] * 2
    os.close(descriptor)


def test_a_full_barrier_that_fails_is_an_error(tmp_path: Path) -> None:
    """Only "not supported" falls back: any other error is the barrier's."""
    plain: list[int] = []
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.close(descriptor)

    with pytest.raises(OSError, match="Bad file descriptor"):
        barrier(descriptor, plain.append, full=fcntl.F_GETFD)
    assert plain == []


def refuse(code: int) -> Callable[[int, int, int], None]:
    """A posix_fallocate that fails."""

    def allocate(descriptor: int, offset: int, size: int) -> None:
        raise OSError(code, os.strerror(code))

    return allocate


@pytest.mark.parametrize(
    "allocate", [None, refuse(errno.EOPNOTSUPP), refuse(errno.EINVAL)], ids=["none", "not supported", "invalid"]
)
def test_without_reservations_the_length_is_extended(
    tmp_path: Path, allocate: Callable[[int, int, int], None] | None
) -> None:
    """Where blocks cannot be reserved, the file still gets its length."""
    with open(tmp_path / "a", "wb") as file:
        reserve(file.fileno(), 1000, allocate)

    assert (tmp_path / "a").stat().st_size == 1000


def test_a_reservation_that_fails_is_an_error(tmp_path: Path) -> None:
    """A full disk is reported, and the length is not extended instead."""
    with open(tmp_path / "a", "wb") as file, pytest.raises(OSError, match="No space"):
        reserve(file.fileno(), 1000, refuse(errno.ENOSPC))

    assert (tmp_path / "a").stat().st_size == 0


def test_dropping_pages_is_a_hint() -> None:
    """The whole file is named where the platform has the call; where it has none, nothing happens."""
    asked: list[tuple[int, ...]] = []

    forget_pages(7, lambda *arguments: asked.append(arguments))
    forget_pages(7, None)

    assert asked == [(7, 0, 0, os.POSIX_FADV_DONTNEED)]


def test_a_reservation_takes_blocks(store: Directory, tmp_path: Path) -> None:
    """Reserved bytes have their place on the disk, so writing them later does not meet a full one."""
    file = store.create("a")
    file.allocate(1 << 20)
    file.close()

    assert (tmp_path / "store" / "a").stat().st_blocks * 512 >= 1 << 20
