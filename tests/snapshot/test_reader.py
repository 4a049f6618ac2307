"""The reader: a trio stream over the bytes of a snapshot that never change."""

import errno
from collections.abc import Callable

import pytest
import trio
import trio.testing

from tests.snapshot.helpers import HEADER, OTHER, container, get, limiter, put, record_of, stuck
from walstore._disk.seam import Directory
from walstore._log.container import ContainerError
from walstore._snapshot import DEFAULT_RECEIVE, MAX_RECEIVE, READ_AHEAD, FileSnapshotReader, open_reader
from walstore.testing.faults import FaultyFileSystem

NAME = "snap-7-1042"
DATA = container(payload=bytes(range(251)) * 3000)
RECORD = record_of(DATA)


async def opened(
    directory: Directory, on_close: Callable[[FileSnapshotReader], object] | None = None
) -> FileSnapshotReader:
    """A reader of DATA."""
    put(directory, NAME, DATA)
    return await open_reader(directory, NAME, RECORD, limiter=limiter(), on_close=on_close)


# -- bytes ---------------------------------------------------------------------------------------------------------


async def test_all_bytes_in_order(directory: Directory) -> None:
    """Iterating over a reader gives all bytes of the snapshot, and then ends."""
    async with await opened(directory) as reader:
        parts = [part async for part in reader]

        assert b"".join(parts) == DATA
        assert {len(part) for part in parts[:-1]} == {DEFAULT_RECEIVE}
        assert (reader.header, reader.size, reader.tell()) == (HEADER, len(DATA), len(DATA))


@pytest.mark.parametrize("length", [1000, 4096, 65537, READ_AHEAD, READ_AHEAD + 1, len(DATA) - 1, len(DATA), 10**9])
async def test_chunks_are_as_long_as_asked(directory: Directory, length: int) -> None:
    """Each call gives exactly what it asks for, until the end: what an engine puts into one message."""
    async with await opened(directory) as reader:
        for offset in range(0, len(DATA), length):
            assert await reader.receive_some(length) == DATA[offset : offset + length]

        assert await reader.receive_some(length) == b""


async def test_the_end_is_always_there(directory: Directory) -> None:
    """At the end a reader gives b"", as often as it is asked, and also beyond it."""
    async with await opened(directory) as reader:
        reader.seek(len(DATA))
        assert [await reader.receive_some() for _ in range(3)] == [b""] * 3
        reader.seek(2**64 - 1)
        assert await reader.receive_some(1) == b""
        reader.seek(len(DATA) - 1)
        assert await reader.receive_some(10) == DATA[-1:]


async def test_seek_and_read_again(directory: Directory) -> None:
    """Any offset can be read again, backwards too, with the same bytes: a chunk may have to be sent twice."""
    async with await opened(directory) as reader:
        for offset in (0, 5, 4, 300_000, 299_999, 10, READ_AHEAD - 1, READ_AHEAD, 0):
            reader.seek(offset)
            assert reader.tell() == offset
            assert await reader.receive_some(7) == DATA[offset : offset + 7]
            assert reader.tell() == offset + 7


async def test_readers_are_independent(directory: Directory) -> None:
    """Two readers of one snapshot have positions of their own, and both read all of it."""
    async with (
        await opened(directory) as first,
        await open_reader(directory, NAME, RECORD, limiter=limiter()) as second,
    ):
        await first.receive_some(1000)

        assert await second.receive_some(10) == DATA[:10]
        assert await first.receive_some(10) == DATA[1000:1010]


async def test_bytes_stay_after_the_name_is_gone(directory: Directory) -> None:
    """A reader keeps its bytes when its snapshot is superseded: unlinked, and the name taken by another one."""
    async with await opened(directory) as reader:
        await reader.receive_some(10)
        put(directory, "snap-0.tmp", container(OTHER))
        directory.rename("snap-0.tmp", NAME)
        directory.unlink(NAME)
        rest = b"".join([part async for part in reader])

        assert rest == DATA[10:]


async def test_small_calls_share_a_read(disk: FaultyFileSystem, directory: Directory) -> None:
    """Small calls do not ask the disk one by one, and large ones not for more than 8 MiB."""
    async with await opened(directory) as reader:
        disk.calls.clear()
        for _ in range(0, READ_AHEAD, 1024):
            await reader.receive_some(1024)

        assert [(call.operation, call.length) for call in disk.calls] == [("pread", READ_AHEAD)]

    large = b"x" * (MAX_RECEIVE + 1)
    put(directory, NAME, large)
    file = directory.open(NAME)
    async with FileSnapshotReader(file, record_of(large), limiter=limiter()) as reader:
        assert len(await reader.receive_some(len(large))) == MAX_RECEIVE


async def test_an_empty_payload_is_read(directory: Directory) -> None:
    """The container of an empty payload is bytes like any other."""
    data = container(payload=b"")
    put(directory, NAME, data)
    async with await open_reader(directory, NAME, record_of(data), limiter=limiter()) as reader:
        assert b"".join([part async for part in reader]) == data


# -- arguments -----------------------------------------------------------------------------------------------------


async def test_max_bytes_is_a_positive_integer(directory: Directory) -> None:
    """Zero and below are a ValueError, no integers a TypeError; None, or nothing, is the default."""
    async with await opened(directory) as reader:
        for wrong in (0, -1):
            with pytest.raises(ValueError):
                await reader.receive_some(wrong)
        for wrong_type in (1.5, "1", True):
            with pytest.raises(TypeError):
                await reader.receive_some(wrong_type)  # type: ignore[arg-type]  # the point of the test

        assert reader.tell() == 0
        assert len(await reader.receive_some()) == len(await reader.receive_some(None)) == DEFAULT_RECEIVE


async def test_offset_is_an_unsigned_integer(directory: Directory) -> None:
    """A negative offset is a ValueError, no integer a TypeError, and the position stays."""
    async with await opened(directory) as reader:
        await reader.receive_some(5)
        with pytest.raises(ValueError):
            reader.seek(-1)
        with pytest.raises(TypeError):
            reader.seek(1.5)  # type: ignore[arg-type]  # the point of the test

        assert reader.tell() == 5


# -- checkpoints, closing, collisions ------------------------------------------------------------------------------


async def test_every_call_is_a_checkpoint(directory: Directory) -> None:
    """Opening, reading from disk, from memory and at the end, and closing once or twice: checkpoints all."""
    put(directory, NAME, DATA)
    with trio.testing.assert_checkpoints():
        reader = await open_reader(directory, NAME, RECORD, limiter=limiter())
    for offset in (0, 10, len(DATA)):
        reader.seek(offset)
        with trio.testing.assert_checkpoints():
            await reader.receive_some(10)
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await reader.aclose()


async def test_use_after_close(directory: Directory) -> None:
    """A closed reader reads and seeks no more; it still says what it was; closing it again is silent."""
    gone: list[FileSnapshotReader] = []
    reader = await opened(directory, gone.append)
    await reader.receive_some(10)
    await reader.aclose()
    await reader.aclose()

    with pytest.raises(trio.ClosedResourceError):
        await reader.receive_some(1)
    with pytest.raises(trio.ClosedResourceError):
        reader.seek(0)
    assert (reader.closed, reader.tell(), reader.size) == (True, 10, len(DATA))
    assert gone == [reader]


async def test_a_cancelled_close_closes(directory: Directory) -> None:
    """Closing in a cancelled scope closes all the same, and tells whoever keeps count."""
    gone: list[FileSnapshotReader] = []
    reader = await opened(directory, gone.append)
    await trio.aclose_forcefully(reader)

    assert (reader.closed, gone) == (True, [reader])
    with pytest.raises(trio.ClosedResourceError):
        await reader.receive_some(1)


async def test_two_tasks_collide(disk: FaultyFileSystem, directory: Directory) -> None:
    """While one task reads, another one gets BusyResourceError from reading and seeking; the first goes on."""
    reader = await opened(directory)
    with stuck(disk, "pread") as go_on:
        async with trio.open_nursery() as nursery:
            parts: list[bytes] = []

            async def read() -> None:
                parts.append(await reader.receive_some(10))

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await reader.receive_some(10)
            with pytest.raises(trio.BusyResourceError):
                reader.seek(0)
            go_on()

    assert parts == [DATA[:10]]
    await reader.aclose()


async def test_two_tasks_collide_in_memory(directory: Directory) -> None:
    """Two tasks collide also where all bytes were read ahead."""
    async with await opened(directory) as reader:
        await reader.receive_some(1)
        with pytest.RaisesGroup(trio.BusyResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader.receive_some, 1)
                nursery.start_soon(reader.receive_some, 1)


async def test_closed_while_reading(disk: FaultyFileSystem, directory: Directory) -> None:
    """Closing waits for the read that a thread has begun, and the reading task gets ClosedResourceError."""
    reader = await opened(directory)
    order: list[str] = []

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await reader.receive_some(10)
        order.append("read")

    async def close() -> None:
        await reader.aclose()
        order.append("closed")

    with stuck(disk, "pread") as go_on:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(close)
            await trio.testing.wait_all_tasks_blocked()
            assert order == []
            go_on()

    assert sorted(order) == ["closed", "read"]


async def test_closed_while_waiting_for_a_thread(directory: Directory) -> None:
    """A read that waits for a free thread is broken off by closing: nothing has begun yet."""
    threads = limiter(1)
    put(directory, NAME, DATA)
    reader = await open_reader(directory, NAME, RECORD, limiter=threads)
    await threads.acquire_on_behalf_of("others")
    broken_off = trio.Event()

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await reader.receive_some(10)
        broken_off.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(reader.aclose)
        await broken_off.wait()
        threads.release_on_behalf_of("others")

    assert reader.closed


# -- cancellation and failure --------------------------------------------------------------------------------------


async def test_cancelled_before_it_begins(directory: Directory) -> None:
    """A read that is cancelled did not happen: the position stays, from disk and from memory."""
    async with await opened(directory) as reader:
        for ahead in (0, 10):
            if ahead:
                await reader.receive_some(ahead)
            with trio.CancelScope() as scope:
                scope.cancel()
                await reader.receive_some(10)

            assert scope.cancelled_caught
            assert reader.tell() == ahead
        assert await reader.receive_some(10) == DATA[10:20]


async def test_cancelled_after_it_began(disk: FaultyFileSystem, directory: Directory) -> None:
    """A read that a thread has begun returns its bytes; the cancellation comes at the next checkpoint."""
    reader = await opened(directory)
    parts: list[bytes] = []
    with stuck(disk, "pread") as go_on:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:

                async def cancel() -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
                    go_on()

                nursery.start_soon(cancel)
                parts.append(await reader.receive_some(10))
                await trio.lowlevel.checkpoint()

    assert scope.cancelled_caught
    assert (parts, reader.tell()) == ([DATA[:10]], 10)
    await reader.aclose()


async def test_a_failing_disk_breaks_the_read(disk: FaultyFileSystem, directory: Directory) -> None:
    """A read error is BrokenResourceError with its cause; the position stays, and the next call tries again."""
    async with await opened(directory) as reader:
        disk.fail("pread", error=OSError(errno.EIO, "no luck"))
        with pytest.raises(trio.BrokenResourceError, match=r"at byte 0: .*no luck") as caught:
            await reader.receive_some(10)

        assert isinstance(caught.value.__cause__, OSError)
        assert await reader.receive_some(10) == DATA[:10]


async def test_a_file_that_became_shorter(directory: Directory) -> None:
    """A file that someone cut behind our back is no silent early end."""
    async with await opened(directory) as reader:
        file = directory.open(NAME, write=True)
        file.truncate(100)
        file.close()
        with pytest.raises(trio.BrokenResourceError, match="the snapshot ends at byte 100"):
            await reader.receive_some(1000)


async def test_another_file_is_not_opened(directory: Directory) -> None:
    """A file that is not the record's gives no reader, and neither does a missing one."""
    put(directory, NAME, container(OTHER))
    with pytest.raises(ContainerError):
        await open_reader(directory, NAME, RECORD, limiter=limiter())
    with pytest.raises(FileNotFoundError):
        await open_reader(directory, "snap-1-1", RECORD, limiter=limiter())

    assert get(directory, NAME) == container(OTHER)
