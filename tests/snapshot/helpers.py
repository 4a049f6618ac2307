"""What the snapshot tests share: a header, payloads, whole containers, files made of them, and a disk that hangs."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import trio

from walstore._disk.seam import Directory
from walstore._log.checksum import crc
from walstore._log.container import pack
from walstore._log.control import SnapshotRecord
from walstore._types import MembershipConfig, SnapshotHeader
from walstore.testing.faults import Call, FaultyFileSystem

HEADER = SnapshotHeader("made-by-1", 7, 1042, MembershipConfig({1, 2, 3}), 1000, b"engine")
OTHER = SnapshotHeader("made-by-2", 8, 2000, MembershipConfig({1, 2, 3}), 1000, b"engine")
PAYLOAD = bytes(range(256)) * 8
CHUNK = 512


def container(header: SnapshotHeader = HEADER, payload: bytes = PAYLOAD) -> bytes:
    """A whole container, of four chunks by default."""
    return b"".join(pack(header, [payload], chunk_size=CHUNK))


def record_of(data: bytes, header: SnapshotHeader = HEADER) -> SnapshotRecord:
    """What the log would say of a file with these bytes."""
    return SnapshotRecord(header, len(data), crc(data))


def put(directory: Directory, name: str, data: bytes) -> None:
    """Makes a file of these bytes, replacing what has the name."""
    if name in directory.names():
        directory.unlink(name)
    file = directory.create(name)
    try:
        file.pwritev(0, [data])
    finally:
        file.close()


def get(directory: Directory, name: str) -> bytes:
    """All bytes of a file."""
    file = directory.open(name)
    try:
        return file.pread(0, file.size())
    finally:
        file.close()


def chunks(*pieces: bytes) -> Callable[[], Iterable[bytes]]:
    """The `chunks` method of a view that has these pieces."""
    return lambda: iter(pieces)


def limiter(threads: int = 4) -> trio.CapacityLimiter:
    """A limiter of the test's own."""
    return trio.CapacityLimiter(threads)


@contextmanager
def stuck(disk: FaultyFileSystem, operation: str) -> Iterator[Callable[[], None]]:
    """Makes the calls of one operation hang in their thread until the function that it gives is called."""
    gate = threading.Event()

    def wait(call: Call) -> None:
        if call.operation == operation:
            gate.wait(30)

    disk.hook = wait
    try:
        yield gate.set
    finally:
        gate.set()
        disk.hook = None
