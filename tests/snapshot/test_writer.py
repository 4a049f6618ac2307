"""The writer: a trio stream into a temporary file that nobody believes before it was finalized."""

import errno
from collections.abc import Callable

import pytest
import trio
import trio.testing

from tests.snapshot.helpers import PAYLOAD, container, get, limiter, put, record_of, stuck
from walstore._disk.seam import Buffer, Directory
from walstore._snapshot import FileSnapshotWriter, create_writer
from walstore._snapshot_files import ReceivedCheck
from walstore.errors import StorageFullError
from walstore.testing.faults import FaultyFileSystem

NAME = "snap-0.tmp"


async def created(
    directory: Directory, on_removed: Callable[[FileSnapshotWriter], object] | None = None
) -> FileSnapshotWriter:
    """A new writer with the number 0."""
    return await create_writer(directory, 0, "id-1", limiter=limiter(), on_removed=on_removed)


# -- bytes ---------------------------------------------------------------------------------------------------------


async def test_a_new_writer_is_blank(directory: Directory) -> None:
    """A new writer has its id, no bytes, and an empty file under a temporary name."""
    async with await created(directory) as writer:
        assert (writer.id, writer.name, writer.size, writer.tell()) == ("id-1", NAME, 0, 0)
        assert (writer.closed, writer.removed) == (False, False)
        assert get(directory, NAME) == b""


@pytest.mark.parametrize("length", [1, 10, 512, 100_000])
async def test_bytes_arrive_in_order(directory: Directory, length: int) -> None:
    """Whatever the length of the pieces, the file is what was sent, and it is kept by closing."""
    data = container()[-600:] if length == 1 else container()
    async with await created(directory) as writer:
        for offset in range(0, len(data), length):
            await writer.send_all(data[offset : offset + length])
            assert writer.tell() == writer.size == min(offset + length, len(data))

    assert get(directory, NAME) == data


async def test_a_sent_snapshot_is_proven(directory: Directory) -> None:
    """What a writer took is what finalize's check reads."""
    data = container()
    async with await created(directory) as writer:
        await writer.send_all(data)

    with writer.hold() as name:
        assert ReceivedCheck(directory, name).run() == record_of(data)


@pytest.mark.parametrize(
    "buffer", [PAYLOAD, memoryview(PAYLOAD), memoryview(PAYLOAD).cast("H")], ids=["bytes", "view", "wide view"]
)
async def test_any_buffer_is_taken(directory: Directory, buffer: Buffer) -> None:
    """bytes and memoryview (of any format) are written byte by byte."""
    async with await created(directory) as writer:
        await writer.send_all(buffer)

        assert writer.tell() == len(PAYLOAD)
    assert get(directory, NAME) == PAYLOAD


async def test_a_bytearray_is_let_go_of(directory: Directory) -> None:
    """A bytearray is written, and may be resized as soon as the call returned."""
    buffer = bytearray(PAYLOAD)
    async with await created(directory) as writer:
        await writer.send_all(buffer)
        buffer.clear()

    assert get(directory, NAME) == PAYLOAD


async def test_what_is_no_buffer_is_refused(directory: Directory) -> None:
    """A str or None is a TypeError, and nothing is written."""
    async with await created(directory) as writer:
        for wrong in ("text", None, 5):
            with pytest.raises(TypeError):
                await writer.send_all(wrong)  # type: ignore[arg-type]  # the point of the test

        assert writer.size == 0


async def test_seek_and_overwrite(directory: Directory) -> None:
    """A chunk may be sent again: it overwrites, and the size does not shrink."""
    async with await created(directory) as writer:
        await writer.send_all(b"0123456789")
        writer.seek(2)
        assert writer.tell() == 2
        await writer.send_all(b"ab")

        assert (writer.tell(), writer.size) == (4, 10)
    assert get(directory, NAME) == b"01ab456789"


async def test_seek_leaves_a_hole(directory: Directory) -> None:
    """A write beyond the end leaves zeros between; a seek alone, or a write of nothing there, leaves nothing."""
    async with await created(directory) as writer:
        writer.seek(1000)
        await writer.send_all(b"")
        assert writer.size == 0
        writer.seek(5)
        await writer.send_all(b"x")

        assert (writer.tell(), writer.size) == (6, 6)
    assert get(directory, NAME) == b"\0\0\0\0\0x"


async def test_offset_is_limited(directory: Directory) -> None:
    """Offsets that no file can have are a ValueError, no integers a TypeError, and the position stays."""
    async with await created(directory) as writer:
        for wrong in (-1, 2**63, 2**64):
            with pytest.raises(ValueError):
                writer.seek(wrong)
        with pytest.raises(TypeError):
            writer.seek("0")  # type: ignore[arg-type]  # the point of the test
        writer.seek(2**63 - 1)

        assert writer.tell() == 2**63 - 1


async def test_leftovers_never_block(directory: Directory) -> None:
    """A writer is created although the temporary names of earlier attempts are taken."""
    for number in range(3):
        put(directory, f"snap-{number}.tmp", b"leftover")
    async with await created(directory) as writer:
        assert writer.name == "snap-3.tmp"


# -- closing and discarding ----------------------------------------------------------------------------------------


async def test_every_call_is_a_checkpoint(directory: Directory) -> None:
    """Creating, sending something or nothing, asking for room, closing and discarding: checkpoints all."""
    with trio.testing.assert_checkpoints():
        writer = await created(directory)
    for data in (b"x", b""):
        with trio.testing.assert_checkpoints():
            await writer.send_all(data)
    with trio.testing.assert_checkpoints():
        await writer.wait_send_all_might_not_block()
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await writer.aclose()
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await writer.discard()


async def test_close_keeps_the_bytes(directory: Directory) -> None:
    """A closed writer takes nothing more, not even nothing, and its file is still there (B7)."""
    gone: list[FileSnapshotWriter] = []
    writer = await created(directory, gone.append)
    await writer.send_all(b"bytes")
    await writer.aclose()
    await writer.aclose()

    for data in (b"x", b""):
        with pytest.raises(trio.ClosedResourceError):
            await writer.send_all(data)
    with pytest.raises(trio.ClosedResourceError):
        await writer.wait_send_all_might_not_block()
    with pytest.raises(trio.ClosedResourceError):
        writer.seek(0)
    assert (writer.closed, writer.removed, writer.tell(), writer.size, gone) == (True, False, 5, 5, [])
    assert get(directory, NAME) == b"bytes"


@pytest.mark.parametrize("closed_before", [True, False])
async def test_discard_removes_the_bytes(directory: Directory, closed_before: bool) -> None:
    """Discarding closes the writer, removes its file, and tells whoever keeps count, once."""
    gone: list[FileSnapshotWriter] = []
    writer = await created(directory, gone.append)
    await writer.send_all(b"bytes")
    if closed_before:
        await writer.aclose()
    await writer.discard()
    await writer.discard()
    writer.forget()
    await writer.aclose()

    assert (writer.closed, writer.removed, gone) == (True, True, [writer])
    assert directory.names() == []
    with pytest.raises(trio.ClosedResourceError):
        await writer.send_all(b"x")


@pytest.mark.parametrize("how", ["aclose", "discard"])
async def test_a_cancelled_close_closes(directory: Directory, how: str) -> None:
    """Closing and discarding do their work in a cancelled scope too, and only then raise Cancelled."""
    gone: list[FileSnapshotWriter] = []
    writer = await created(directory, gone.append)
    with trio.CancelScope() as scope:
        scope.cancel()
        await getattr(writer, how)()

    assert scope.cancelled_caught
    assert writer.closed
    assert (directory.names(), gone) == (([], [writer]) if how == "discard" else ([NAME], []))
    await writer.discard()


async def test_discard_of_a_file_that_is_gone(directory: Directory) -> None:
    """A file that was swept already does not make discarding fail."""
    writer = await created(directory)
    directory.unlink(NAME)
    await writer.discard()

    assert writer.removed


async def test_discard_that_fails(disk: FaultyFileSystem, directory: Directory) -> None:
    """If the file can not be removed, the caller hears of it, and the writer counts as removed all the same."""
    gone: list[FileSnapshotWriter] = []
    writer = await created(directory, gone.append)
    disk.fail("unlink")
    with pytest.raises(OSError, match="Input/output error"):
        await writer.discard()

    assert (writer.removed, gone) == (True, [writer])


# -- finalize's side -----------------------------------------------------------------------------------------------


async def test_hold_and_forget(directory: Directory) -> None:
    """While finalize holds a writer nobody else holds or discards it; after `forget` there is nothing to discard."""
    gone: list[FileSnapshotWriter] = []
    writer = await created(directory, gone.append)
    await writer.send_all(b"bytes")
    await writer.aclose()
    with writer.hold() as name:
        with pytest.raises(trio.BusyResourceError), writer.hold():
            pass
        with pytest.raises(trio.BusyResourceError):
            await writer.discard()
        directory.rename(name, "snap-7-1042")
        writer.forget()
        writer.forget()
    await writer.discard()

    assert (directory.names(), gone) == (["snap-7-1042"], [writer])
    with pytest.raises(trio.ClosedResourceError), writer.hold():
        pass


async def test_hold_after_a_failed_finalize(directory: Directory) -> None:
    """A finalize that left by an exception holds the writer no more."""
    writer = await created(directory)
    await writer.aclose()
    with pytest.raises(LookupError), writer.hold():
        raise LookupError
    await writer.discard()

    assert directory.names() == []


async def test_hold_needs_a_closed_writer(directory: Directory) -> None:
    """A writer that may still be written to is not held."""
    async with await created(directory) as writer:
        with pytest.raises(trio.BusyResourceError), writer.hold():
            pass


# -- collisions, cancellation, failure -----------------------------------------------------------------------------


async def test_two_tasks_collide(disk: FaultyFileSystem, directory: Directory) -> None:
    """While one task sends, another one gets BusyResourceError from everything but closing; the first goes on."""
    writer = await created(directory)
    with stuck(disk, "pwritev") as go_on:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.send_all, b"first")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await writer.send_all(b"second")
            with pytest.raises(trio.BusyResourceError):
                await writer.wait_send_all_might_not_block()
            with pytest.raises(trio.BusyResourceError):
                writer.seek(0)
            go_on()

    assert get(directory, NAME) == b"first"
    await writer.aclose()


@pytest.mark.parametrize("how", ["aclose", "discard"])
async def test_closed_while_sending(disk: FaultyFileSystem, directory: Directory, how: str) -> None:
    """Closing waits for the write that a thread has begun, and the sender gets ClosedResourceError."""
    writer = await created(directory)
    order: list[str] = []

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await writer.send_all(b"bytes")
        order.append("sent")

    async def close() -> None:
        await getattr(writer, how)()
        order.append("closed")

    with stuck(disk, "pwritev") as go_on:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(close)
            await trio.testing.wait_all_tasks_blocked()
            assert order == []
            go_on()

    assert sorted(order) == ["closed", "sent"]
    assert directory.names() == ([NAME] if how == "aclose" else [])


async def test_cancelled_before_it_begins(directory: Directory) -> None:
    """A send that is cancelled while it waits for a thread wrote nothing, and the writer goes on."""
    threads = limiter(1)
    writer = await create_writer(directory, 0, "id-1", limiter=threads)
    await threads.acquire_on_behalf_of("others")
    with trio.move_on_after(0) as scope:
        await writer.send_all(b"never")
    threads.release_on_behalf_of("others")

    assert scope.cancelled_caught
    assert (writer.tell(), writer.size) == (0, 0)
    await writer.send_all(b"but this")
    await writer.aclose()
    assert get(directory, NAME) == b"but this"


async def test_cancelled_after_it_began(disk: FaultyFileSystem, directory: Directory) -> None:
    """A send that a thread has begun writes all of it and returns; the cancellation comes at the next checkpoint."""
    writer = await created(directory)
    returned = False
    with stuck(disk, "pwritev") as go_on:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:

                async def cancel() -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
                    go_on()

                nursery.start_soon(cancel)
                await writer.send_all(b"bytes")
                returned = True
                await trio.lowlevel.checkpoint()

    assert (returned, scope.cancelled_caught, writer.tell()) == (True, True, 5)
    await writer.aclose()
    assert get(directory, NAME) == b"bytes"


async def test_cancelled_at_any_moment(directory: Directory) -> None:
    """With cancellation at any turn of the loop, a piece is in the file wholly if it was sent, else not at all."""
    writer = await created(directory)
    sent = b""

    async def cancel(scope: trio.CancelScope, turns: int) -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    for turns in range(30):
        piece = bytes([turns]) * 100
        returned = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel, nursery.cancel_scope, turns)
            await writer.send_all(piece)
            returned = True
        sent += piece if returned else b""
        assert writer.tell() == len(sent)
    await writer.aclose()

    assert get(directory, NAME) == sent


async def test_no_room(disk: FaultyFileSystem, directory: Directory) -> None:
    """A full disk is StorageFullError; the position stays, and the same bytes can be sent again."""
    writer = await created(directory)
    disk.space_left = 4
    with pytest.raises(StorageFullError, match="could not be written at byte 0") as caught:
        await writer.send_all(b"bytes")
    disk.heal()

    assert (caught.value.errno, writer.tell()) == (errno.ENOSPC, 0)
    await writer.send_all(b"bytes")
    await writer.aclose()
    assert get(directory, NAME) == b"bytes"


async def test_a_failing_disk_breaks_the_write(disk: FaultyFileSystem, directory: Directory) -> None:
    """Another write error is BrokenResourceError with its cause; the position stays."""
    async with await created(directory) as writer:
        disk.shorten(keep=2)
        with pytest.raises(trio.BrokenResourceError, match="could not be written") as caught:
            await writer.send_all(b"bytes")

        assert isinstance(caught.value.__cause__, OSError)
        assert writer.tell() == 0


async def test_creating_that_fails(disk: FaultyFileSystem, directory: Directory) -> None:
    """If no file can be made, the OSError says so."""
    disk.fail("create")
    with pytest.raises(OSError, match="Input/output error"):
        await created(directory)
