"""A backup: a new store with the same content, made while the old one goes on.

What is copied is fixed in the event loop at one moment: the runs of the log (which never change), hard state, mark,
and the open file of the current snapshot (which keeps its bytes).  The rest is a worker thread's work: the snapshot
file byte for byte, one segment with its opening STATE and the entries, the identity last (PROTOCOL A11).  The copy has
an identity of its own, so that its files cannot be mixed with those of the original.
"""

import contextlib

import attrs
import trio

from ._core import Core
from ._disk.seam import Directory, File
from ._housekeeping import hold_emergency
from ._interrupts import hop
from ._log.batch import encode_run
from ._log.identity import Identity
from ._log.limits import SPAN_SIZE
from ._log.names import snapshot_name, snapshot_temporary, spare_name
from ._log.plan import encode_install, encode_truncate
from ._log.runs import Run
from ._log.state import Append, Facts, Install, LogState, Truncate
from ._open import write_identity
from ._segments import SegmentMaker, Unborn
from ._snapshot_files import open_current, verify_file
from ._types import D, R
from .errors import UsageError


async def backup(core: Core[D, R], to: str, node_id: int) -> None:
    """Writes the copy into the directory `to`, which must be new or empty.  Cancelled once that began: finished.

    Raises UsageError if `to` is not empty, OSError if the disk fails; what was written until then has no IDENTITY, and
    is no store.
    """
    async with core.publishing:  # so that the snapshot's file is there while it is opened
        core.check()
        facts, runs = core.state.facts, core.state.log.runs
        await core.commit.flush()  # all of that is durable now, and nothing of it was taken back, or this raises
        snapshot: File | None = None
        if facts.snapshot is not None:
            name = snapshot_name(facts.snapshot.header.term, facts.snapshot.header.index)
            snapshot = await trio.to_thread.run_sync(
                open_current, core.directory, name, facts.snapshot, limiter=core.file_limiter
            )
    interrupt = await hop(_write, core, to, node_id, facts, runs, snapshot, limiter=core.file_limiter)
    if interrupt is not None:
        raise interrupt


def _write(core: Core[D, R], to: str, node_id: int, facts: Facts, runs: tuple[Run, ...], snapshot: File | None) -> None:
    directory: Directory | None = None
    try:
        directory = core.filesystem.open_directory(to, create=True)
        if not directory.lock() or directory.names():
            msg = f"{to} is not empty; a backup is made in a new directory"
            raise UsageError(msg)
        uuid = core.filesystem.random_bytes(16)
        maker = SegmentMaker(core.filesystem, directory, core.config, node_id, uuid)
        if snapshot is not None and facts.snapshot is not None:
            _copy_snapshot(snapshot, directory, facts)
        hold_emergency(maker, core.config)
        _write_segment(maker, facts, runs)
        write_identity(directory, Identity(node_id=node_id, store_uuid=uuid, created_ns=core.filesystem.time_ns()))
    finally:
        if snapshot is not None:
            snapshot.close()
        if directory is not None:
            directory.close()


def _copy_snapshot(snapshot: File, directory: Directory, facts: Facts) -> None:
    record = facts.snapshot
    assert record is not None
    temporary = snapshot_temporary(0)
    target = directory.create(temporary)
    try:
        for offset in range(0, record.size, SPAN_SIZE):
            target.pwritev(offset, (snapshot.pread(offset, min(SPAN_SIZE, record.size - offset)),))
        target.datasync()
        target.drop_cache()
    finally:
        target.close()
    verify_file(directory, temporary, record)
    directory.rename(temporary, snapshot_name(record.header.term, record.header.index))
    directory.sync()


def _write_segment(maker: SegmentMaker, facts: Facts, runs: tuple[Run, ...]) -> None:
    drafts = [encode_run(run) for run in runs]
    state = LogState(maker.node_id)
    record = facts.snapshot
    if record is None or not runs or runs[0].first == record.header.index + 1:
        state.facts = facts
        opening = state.summary()
    else:  # entries behind the snapshot were deleted: first the log, then the snapshot that it does not follow
        state.facts = attrs.evolve(facts, snapshot=None, pointer=False)
        opening = state.summary()
        for run in runs:
            state.apply(Append(run))
        install, cut = Install(record, True, facts.mark), Truncate(record.header.index, record.header.index + 1)
        state.apply(install)
        drafts.append(encode_install(install, state, 1))
        state.apply(cut)
        drafts.append(encode_truncate(cut, state, 1))
    size = maker.config.size_at_least(maker.config.first_segment_size + sum(draft.room for draft in drafts))
    file = maker.blank(spare_name(0), size)
    try:
        segment = maker.bear(
            file, spare_name(0), size, sequence=1, start=0, summary=opening, predecessor=None, drafts=drafts
        )
    except Unborn as error:
        raise error.cause from error
    finally:
        with contextlib.suppress(OSError):
            file.close()
    del segment
