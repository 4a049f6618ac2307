"""The way into a store: `open_storage`."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import cast

import trio

from ._commit import GroupCommit
from ._config import BytesCodec, StorageConfig
from ._core import Core
from ._disk.os_fs import OsFileSystem
from ._open import Request, open_store
from ._report import DurablePoint
from ._storage import Storage
from ._types import D, R, check_u64
from .abc import Codec, FileSystem, StateMachine

_FILE_HOPS = 4
"""Snapshot files are worked on by so many threads at once, apart from the one of the log."""


@contextlib.asynccontextmanager
async def open_storage(
    path: "str | os.PathLike[str]",
    *,
    node_id: int,
    machine: Callable[[], StateMachine[D, R]],
    codec: Codec[D] | None = None,
    config: StorageConfig | None = None,
    expect_durable: int | DurablePoint | None = None,
    filesystem: FileSystem | None = None,
) -> AsyncIterator[Storage[D, R]]:
    """Opens the store in the directory `path`, or makes it there; closes it at the end of the block.

    `machine` makes an empty state machine; `codec` (default: bytes as they are) turns its commands into bytes.
    `expect_durable`: an index or a `DurablePoint` known to have been acknowledged; `LostAcknowledgementError` if the
    directory no longer holds it.  Entering is a checkpoint and takes as long as reading the log does, in a thread.
    Raises `StorageLockedError`, `NodeIdMismatchError`, `CorruptionError` or one of its kinds, `ApplyError`,
    `StorageFullError`, `StorageFailedError`; the directory is unchanged then.
    """
    check_u64("node_id", node_id)
    request = Request(
        filesystem=filesystem or OsFileSystem(),
        path=os.fspath(path),
        node_id=node_id,
        machine=machine,
        codec=cast("Codec[D]", BytesCodec()) if codec is None else codec,
        config=config or StorageConfig(),
        expect_durable=expect_durable,
    )
    log_limiter = trio.CapacityLimiter(1)
    opened = await trio.to_thread.run_sync(open_store, request, limiter=log_limiter)
    commit = GroupCommit(opened.state, opened.writer, request.config, log_limiter)
    core = Core(
        filesystem=request.filesystem,
        directory=opened.directory,
        node_id=node_id,
        config=request.config,
        factory=machine,
        maker=opened.maker,
        state=opened.state,
        machine=opened.machine,
        commit=commit,
        report=opened.report,
        log_limiter=log_limiter,
        file_limiter=trio.CapacityLimiter(_FILE_HOPS),
        payload_since_snapshot=sum(run.size for run in opened.state.log.runs),
    )
    storage = Storage(core, opened)
    try:
        yield storage
    finally:
        await storage.aclose()
