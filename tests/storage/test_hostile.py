"""Directories that no store would leave: a typed error each, within bounded time, and nothing is written (P8, P10)."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from walstore import (
    CorruptionError,
    NodeIdMismatchError,
    StorageFailedError,
    StorageLockedError,
    UnsupportedFormatError,
    WalstoreError,
    open_storage,
)
from walstore._log.checksum import crc
from walstore._log.frame import Flags, Kind, make_header
from walstore._log.page import Page
from walstore._log.scan import Scanner
from walstore.kv import KeyValue, KeyValueCodec
from walstore.testing.faults import FaultyFileSystem
from walstore.testing.simulated import SimulatedFileSystem

from .stores import apply, compact, names, opened, put, puts, read, write

Files = dict[str, bytes]
CHANGES = {"create", "write", "truncate", "allocate", "rename", "unlink"}


async def ordinary(path: int = 1) -> SimulatedFileSystem:
    """A store with a snapshot, two segments, and entries in both."""
    disk = SimulatedFileSystem(path)
    for _ in range(2):
        async with opened(disk) as store:
            await store.replicate_to_log(puts(1, store.last_index + 1, store.last_index + 4))
            await apply(store, 1, store.last_index + 1)
            await compact(store)
            await store.append_entry_to_log(put(1, store.last_index + 1))
            left = disk.crash_keeping_everything()
    return left


async def refused(disk: SimulatedFileSystem, *, node_id: int = 1) -> WalstoreError:
    """The store does not open, and the disk is as it was."""
    start = len(disk.operations)
    with pytest.raises(WalstoreError) as error:
        async with opened(disk, node_id=node_id):
            pass
    assert {operation.kind for operation in disk.operations[start:]} & CHANGES == set()
    return error.value


def ours(disk: SimulatedFileSystem) -> list[str]:
    """The files that an open believes."""
    return [name for name in names(disk) if name not in ("LOCK", "EMERGENCY")]


@pytest.mark.parametrize("length", [0, 1, 64, 4096, 20000])
async def test_random_bytes_under_each_of_our_names(length: int) -> None:
    """Whatever bytes stand under a name that the log needs: refused."""
    disk = await ordinary()
    for number, name in enumerate(ours(disk)):
        for kind in ("random", "zeros", "ones"):
            left = disk.crash_keeping_everything()
            data = {"random": random.Random(number).randbytes(length), "zeros": bytes(length), "ones": b"\xff" * length}
            write(left, name, data[kind])

            assert isinstance(await refused(left), CorruptionError), name


async def test_names_that_only_look_like_ours_are_corruption() -> None:
    """A malformed name of our kind is refused; a foreign file is left alone."""
    for name in ("wal-1.wal", "wal-0000000000000001-1.wal", "00000000000000000001.wal", "snap-x-1", "snap-01-2"):
        disk = await ordinary()
        write(disk, name, b"x")
        assert isinstance(await refused(disk), CorruptionError)
    disk = await ordinary()
    write(disk, "notes.txt", b"mine")
    async with opened(disk) as store:
        assert store.last_index == 8
    assert read(disk, "notes.txt") == b"mine"


async def test_segments_of_another_store_mixed_in() -> None:
    """A segment with another store's identity is refused, in the place of ours or beside them."""
    mine, other = await ordinary(1), await ordinary(2)
    segments = names(mine, "wal-")
    for target in (*segments, "wal-00000000000000ff-00000000000000000009.wal"):
        left = mine.crash_keeping_everything()
        write(left, target, read(other, names(other, "wal-")[-1]))

        error = await refused(left)
        assert "mixed" in str(error)


async def test_a_snapshot_of_another_store_in_the_place_of_ours() -> None:
    """The log names its snapshot by size and checksum, so another one under its name is refused."""
    mine, other = await ordinary(1), SimulatedFileSystem(2)
    async with opened(other) as store:
        await store.replicate_to_log(puts(3, 1, 9))
        await apply(store, 1, 9)
        await compact(store)
    write(mine, names(mine, "snap-")[0], read(other, names(other, "snap-")[0]))

    assert isinstance(await refused(mine), CorruptionError)


async def test_another_node_id_is_refused() -> None:
    """The directory of node 1 does not open for node 2, and its LOCK file is untouched too."""
    disk = await ordinary()
    lock = read(disk, "LOCK")

    assert isinstance(await refused(disk, node_id=2), NodeIdMismatchError)
    assert read(disk, "LOCK") == lock


async def test_a_second_opener_is_refused() -> None:
    """While a store is open, another open of it is refused, and the first goes on."""
    disk = SimulatedFileSystem()
    async with opened(disk) as store:
        assert isinstance(await refused(disk), StorageLockedError)
        await store.append_entry_to_log(put(1, 1))
    async with opened(disk) as store:
        assert store.last_index == 1


def forged(disk: SimulatedFileSystem, **fields: int) -> SimulatedFileSystem:
    """The store with one more frame whose header is valid and says what `fields` say; its body is empty or short."""
    name = names(disk, "wal-")[-1]
    data = bytearray(read(disk, name))
    page = Page.decode(bytes(data))

    scanner = Scanner(lambda offset, length: bytes(data[offset : offset + length]), len(data), page).finish()
    last = scanner.last
    assert last is not None
    offset = -(-last.next_offset // page.commit_align) * page.commit_align
    header = make_header(
        **{
            "kind": Kind.ENTRIES,
            "sequence": last.sequence + 1,
            "tag": page.tag,
            "offset": offset,
            "body_len": 0,
            "body_crc": crc(b""),
            "prev_link": last.crc,
            "sync_lag": 1,
            "first_index": 1,
            "count": 1,
            **fields,
        }
    )
    data[offset : offset + 64] = header.pack()
    left = disk.crash_keeping_everything()
    write(left, name, bytes(data))
    return left


FORGERIES: dict[str, dict[str, int]] = {
    "a million entries in an empty body": {"count": 1 << 20},
    "more entries than there can be": {"count": 0xFFFFFFFF},
    "no entry at all": {"count": 0},
    "an index beyond the last": {"first_index": 2**64 - 1},
    "index 0": {"first_index": 0},
    "a gap in the log": {"first_index": 1000},
    "an overwrite of nothing": {"flags": Flags.OVERWRITE, "first_index": 5000},
    "a STATE without a body": {"kind": Kind.STATE, "count": 0, "first_index": 0},
    "a SNAPSHOT without a body": {"kind": Kind.SNAPSHOT, "count": 0, "first_index": 0},
    "a TRUNCATE without a body": {"kind": Kind.TRUNCATE, "count": 0, "first_index": 0},
    "a second opening": {"kind": Kind.STATE, "flags": Flags.OPENING, "count": 0, "first_index": 0},
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_valid_frame_that_makes_no_sense(forgery: str) -> None:
    """A frame with right checksums and a senseless content is refused by name, not believed and not a crash."""
    error = await refused(forged(await ordinary(), **FORGERIES[forgery]))

    assert isinstance(error, CorruptionError)
    assert error.offset is not None


async def test_a_body_that_claims_more_than_the_file_is_a_tear() -> None:
    """A length beyond the end of the file allocates nothing; the frame is at most the torn end of the log."""
    left = forged(await ordinary(), body_len=200 << 20)
    try:
        async with opened(left) as store:
            assert store.last_index == 8
    except CorruptionError:
        pass


async def test_a_frame_of_the_future() -> None:
    """A kind that is not known is refused, unless its ignorable bit is set; then it is passed over."""
    disk = await ordinary()
    error = await refused(forged(disk, kind=0x33, count=0, first_index=0))
    assert isinstance(error, UnsupportedFormatError)
    assert error.path is not None

    async with opened(forged(disk, kind=0xB3, count=0, first_index=0)) as store:
        assert store.last_index == 8
        await store.append_entry_to_log(put(1, 9))


@pytest.mark.parametrize("operation", ["pread", "open", "size"])
async def test_files_that_cannot_be_read(operation: str) -> None:
    """An I/O error of the device is reported as one (E0): nothing is known about the bytes, and nothing is changed."""
    disk = await ordinary()
    for name in ours(disk):
        left = disk.crash_keeping_everything()
        faulty = FaultyFileSystem(left)
        faulty.fail(operation, nth=1, once=False, name=name)
        start = len(left.operations)
        with pytest.raises(StorageFailedError):
            async with opened(faulty):
                pass
        assert {one.kind for one in left.operations[start:]} & CHANGES == set()


async def real(path: Path) -> None:
    """Opens a store on the real disk."""
    async with open_storage(path, node_id=1, machine=KeyValue, codec=KeyValueCodec()):
        pass


def listing(path: Path) -> dict[str, tuple[int, int]]:
    """What can be seen of a directory from outside."""
    return {one.name: (one.lstat().st_size, one.lstat().st_mtime_ns) for one in path.iterdir()}


REPLACEMENTS: dict[str, Callable[[Path], object]] = {
    "a symlink to a file": lambda path: path.symlink_to(path.with_name("elsewhere")),
    "a symlink to nothing": lambda path: path.symlink_to("/nonexistent/target"),
    "a directory": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
}


@pytest.mark.parametrize("replacement", REPLACEMENTS)
async def test_what_is_no_regular_file(tmp_path: Path, replacement: str) -> None:
    """Under a name of ours on a real disk, anything but a regular file is refused, and never waited for."""
    store = tmp_path / "store"
    await real(store)
    for name in ("IDENTITY", next(one.name for one in store.iterdir() if one.name.startswith("wal-"))):
        (store / name).rename(store / "elsewhere")
        REPLACEMENTS[replacement](store / name)
        before = listing(store)

        with pytest.raises((WalstoreError, OSError)) as error:
            await real(store)

        assert isinstance(error.value, WalstoreError)
        assert listing(store) == before
        if (store / name).is_dir() and not (store / name).is_symlink():
            (store / name).rmdir()
        else:
            (store / name).unlink()
        (store / "elsewhere").rename(store / name)
    await real(store)


async def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    """A path that is a file is an OSError of the file system, and the file stays."""
    path = tmp_path / "file"
    path.write_bytes(b"mine")

    with pytest.raises(OSError, match=r"."):
        await real(path)

    assert path.read_bytes() == b"mine"


async def test_modes_on_a_real_disk(tmp_path: Path) -> None:
    """Files are 0600 in a 0700 directory."""
    await real(tmp_path / "store")

    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert {one.stat().st_mode & 0o777 for one in (tmp_path / "store").iterdir()} == {0o600}
