"""Opening, second half: make the store, or make what was found durable in a new segment, and only then sweep.

Every open begins a new segment and writes into no old file (PROTOCOL A3).  Valid frames that nothing proves durable
are written again in it, under their old sequence numbers (A2), before anybody is told that the store is open.  Until
the new segment has its name the directory is as it was; after that, old segments, snapshots and temporary files go.
"""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Generic

import attrs

from ._config import StorageConfig
from ._disk.seam import Directory, FileSystem
from ._housekeeping import EMERGENCY_TEMPORARY, Spares, Worker, hold_emergency, take_emergency
from ._log.control import SyncBody, decode_close
from ._log.draft import Draft
from ._log.evidence import Outcome
from ._log.frame import Flags, Kind
from ._log.identity import Identity
from ._log.names import EMERGENCY, IDENTITY, IDENTITY_TEMPORARY, LOCK, NameKind, classify, snapshot_name, spare_name
from ._log.page import Predecessor
from ._log.replay import first_needed_of
from ._log.state import LogState
from ._log.version import FormatError
from ._machine import Machine, rebuild
from ._recovery import Found, Reader, Unproven, is_only_begun, segments_in
from ._report import DurablePoint, RecoveryReport
from ._segments import Segment, SegmentMaker, Unborn
from ._types import D, R
from ._writer import Writer
from .abc import Codec, StateMachine
from .errors import (
    CorruptionError,
    LostAcknowledgementError,
    NodeIdMismatchError,
    StorageFailedError,
    StorageFullError,
    StorageLockedError,
    UnsupportedFormatError,
    UsageError,
    WalstoreError,
)

logger = logging.getLogger("walstore")

_SPARE = spare_name(0)
_BEGUN = frozenset({_SPARE, EMERGENCY_TEMPORARY, EMERGENCY, IDENTITY_TEMPORARY})
"""What a creation that was cut short may leave beside segment 1."""


@attrs.frozen
class Request(Generic[D, R]):
    """What an open is asked for."""

    filesystem: FileSystem
    path: str
    node_id: int
    machine: Callable[[], StateMachine[D, R]]
    codec: Codec[D]
    config: StorageConfig
    expect_durable: int | DurablePoint | None


@attrs.define
class Opened(Generic[D, R]):
    """An open store, before the event loop takes it."""

    directory: Directory
    maker: SegmentMaker
    state: LogState
    machine: Machine[D, R]
    writer: Writer
    spares: Spares
    worker: Worker
    report: RecoveryReport

    def release(self, sealed: bool) -> None:
        """Ends the housekeeping, closes the newest segment (sealed, if its last frame is CLOSE) and the directory."""
        try:
            self.worker.join()
            self.spares.close()
            with contextlib.suppress(OSError):
                self.writer.close(sealed=sealed)
        finally:
            self.directory.close()


def open_store(request: Request[D, R]) -> Opened[D, R]:
    """Opens the directory, which it creates if need be.  Runs in a worker thread; takes its time."""
    directory = request.filesystem.open_directory(request.path, create=True)
    try:
        if not directory.lock():
            msg = f"{request.path} is open already, here or in another process; its LOCK file says where"
            raise StorageLockedError(msg)
        identity = _identity(directory)
        if identity is None:
            return _create(request, directory)
        if identity.node_id != request.node_id:
            msg = f"{request.path} belongs to node {identity.node_id}, not to node {request.node_id}"
            raise NodeIdMismatchError(msg)
        if not identity.may_append:
            msg = "the store has features that this version may read but not append to"
            raise UnsupportedFormatError(msg, path=f"{directory.path}/{IDENTITY}")
        return _reopen(request, directory, identity)
    except BaseException as error:
        directory.close()
        if isinstance(error, OSError) and not isinstance(error, WalstoreError):
            raise _no_room(request.path, error) from error
        raise


def _identity(directory: Directory) -> Identity | None:
    path = f"{directory.path}/{IDENTITY}"
    if IDENTITY not in directory.names():
        return None
    file = directory.open(IDENTITY)
    try:
        return Identity.decode(file.pread(0, file.size() if file.size() < 4096 else 4096))
    except FormatError as error:
        msg = f"the identity of the store is damaged: {error}"
        raise CorruptionError(msg, path=path, offset=0) from error
    except UnsupportedFormatError as error:
        error.path = path
        raise
    finally:
        file.close()


# Making a store (PROTOCOL A11: segment 1 first, IDENTITY last)


def _create(request: Request[D, R], directory: Directory) -> Opened[D, R]:
    started = time.perf_counter()
    segments = segments_in(directory)
    _refuse_lost_identity(directory, segments)
    store_uuid = request.filesystem.random_bytes(16)
    maker = SegmentMaker(request.filesystem, directory, request.config, request.node_id, store_uuid)
    machine = Machine(request.machine(), request.codec, 0)
    state = LogState(request.node_id)
    try:
        for name in directory.names():
            if name in _BEGUN or classify(name) is NameKind.SEGMENT:
                directory.unlink(name)
        hold_emergency(maker, request.config)
        size = request.config.size_at_least(request.config.first_segment_size)
        file = maker.blank(_SPARE, size)
        segment = maker.bear(file, _SPARE, size, sequence=1, start=0, summary=state.summary(), predecessor=None)
        write_identity(
            directory,
            Identity(node_id=request.node_id, store_uuid=store_uuid, created_ns=request.filesystem.time_ns()),
        )
    except Unborn as error:
        raise _no_room(request.path, error.cause) from error.cause
    except OSError as error:
        raise _no_room(request.path, error) from error
    report = RecoveryReport(created=True, seconds=time.perf_counter() - started)
    return _ready(request, maker, state, machine, segment, (), 1, report)


def _refuse_lost_identity(directory: Directory, segments: dict[int, str]) -> None:
    """Without IDENTITY only the rest of an unfinished creation is nothing to worry about."""
    strangers = [name for name in directory.names() if classify(name) is NameKind.TEMPORARY and name not in _BEGUN]
    if strangers:
        msg = f"{directory.path} is no store, and has {strangers[0]}, which a store would take for its own and remove"
        raise UsageError(msg)
    snapshots = [name for name in directory.names() if classify(name) is NameKind.SNAPSHOT]
    if not segments and not snapshots:
        return
    if not snapshots and list(segments) == [1]:
        file = directory.open(segments[1])
        try:
            if is_only_begun(file):
                return
        finally:
            file.close()
    msg = "the store's IDENTITY is gone, but not its log; restore it, or move the files to another directory"
    raise CorruptionError(msg, path=f"{directory.path}/{IDENTITY}")


def write_identity(directory: Directory, identity: Identity) -> None:
    """Makes the identity durable under its name."""
    file = directory.create(IDENTITY_TEMPORARY)
    try:
        file.pwritev(0, (identity.encode(),))
        file.datasync()
    finally:
        file.close()
    directory.rename(IDENTITY_TEMPORARY, IDENTITY)
    directory.sync()


def _no_room(path: str, error: OSError) -> StorageFailedError | StorageFullError:
    where = f"{path}/{error.filename}" if isinstance(error.filename, str) and "/" not in error.filename else path
    text = f"{path} cannot be opened: {where}: {error.strerror or error}; what the store holds is as it was"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFullError(error.errno, f"{text}; free some space and open again")
    return StorageFailedError(
        error.errno or errno.EIO,
        f"{text}; see to the device or to the file, and open again; next: walcat verify {path}",
    )


# Taking a store over


def _reopen(request: Request[D, R], directory: Directory, identity: Identity) -> Opened[D, R]:
    started = time.perf_counter()
    found = Reader(directory, identity, request.config).read()
    _expect(request, found)
    machine, applied = rebuild(request.machine, request.codec, request.config, directory, found.state)
    maker = SegmentMaker(request.filesystem, directory, request.config, identity.node_id, identity.store_uuid)
    segment, emergency_used = _begin(maker, found)
    swept, older = _sweep(directory, found, segment)
    with contextlib.suppress(OSError):  # on a full disk, what was swept may already be room enough
        hold_emergency(maker, request.config)
    verdict = found.verdict
    report = RecoveryReport(
        created=False,
        seconds=time.perf_counter() - started,
        segments=len(found.chain),
        frames=found.frames,
        entries=found.entries,
        bytes_read=found.bytes_read,
        evidence=verdict.label,
        torn=verdict.outcome is not Outcome.CLEAN,
        torn_bytes=found.torn_bytes,
        ambiguous_tail=verdict.ambiguous,
        closed=found.closed,
        copied_forward=len(found.unproven),
        applied=applied,
        swept=tuple(swept),
        emergency_used=emergency_used,
    )
    logger.info(
        "opened %s: %d entries, the log ends at index %d, evidence %s, %d frames made durable again",
        directory.path,
        found.entries,
        found.state.last_index,
        verdict.label,
        len(found.unproven),
        extra={"walstore": report},
    )
    return _ready(request, maker, found.state, machine, segment, older, _needed(found, segment.sequence), report)


def _expect(request: Request[D, R], found: Found) -> None:
    expected = request.expect_durable
    if isinstance(expected, DurablePoint):
        short = found.last_sequence < expected.sequence
        says, has = f"frame {expected.sequence}", f"frame {found.last_sequence}"
    else:
        short = expected is not None and found.state.last_index < expected
        says, has = f"index {expected}", f"index {found.state.last_index}"
    if short:
        msg = f"{says} had been acknowledged, but the log ends at {has}: the disk lost it, or a file was taken away"
        raise LostAcknowledgementError(msg, path=f"{request.path}/{found.chain[-1][1]}", expected=says, found=has)


def _needed(found: Found, sequence: int) -> int:
    """The oldest segment that the newest durable frame of segment `sequence` says is needed."""
    needed = found.at_end.base(sequence).first_needed
    for frame in found.unproven:
        said = first_needed_of(frame.header, frame.body)
        needed = needed if said is None else max(needed, said)
    return needed


def _copies(unproven: tuple[Unproven, ...]) -> list[Draft]:
    drafts = []
    for frame in unproven:
        header, body = frame.header, frame.body
        kind = header.kind
        if kind == Kind.CLOSE:  # the mark lives on; that the store was closed does not
            kind, body = Kind.SYNC, SyncBody(decode_close(body).mark).encode()
        drafts.append(
            Draft(
                kind,
                (body,) if body else (),
                flags=header.flags & ~Flags.OPENING,
                first_index=header.first_index,
                term=header.term,
                count=header.count,
                table_width=header.table_width,
            )
        )
    return drafts


def _begin(maker: SegmentMaker, found: Found) -> tuple[Segment, bool]:
    """The new segment; whether the emergency segment was used up for it.  The directory is unchanged if this raises."""
    sequence = found.newest.segment_sequence + 1
    drafts = _copies(found.unproven)
    predecessor = found.newest.predecessor
    if found.end.live:
        predecessor = Predecessor(found.newest.segment_sequence, found.end.offset, found.end.sequence, found.end.link)
    elif predecessor is not None and predecessor.segment_sequence < found.at_end.base(sequence).first_needed:
        predecessor = None
    config = maker.config
    size = config.size_at_least(config.first_segment_size + sum(draft.room for draft in drafts))
    directory = maker.directory
    temporary, emergency = _SPARE, False
    try:
        with contextlib.suppress(FileNotFoundError):
            directory.unlink(temporary)
        file = maker.blank(temporary, size)
    except OSError as error:
        if EMERGENCY not in directory.names():
            raise _no_room(directory.path, error) from error
        emergency = True
        needed = maker.opening(found.at_end, sequence).room + sum(draft.room for draft in drafts)
        try:
            temporary, size, file = take_emergency(maker, config.size_at_least(needed + config.control_reserve))
        except OSError:
            raise _no_room(directory.path, error) from error
    try:
        segment = maker.bear(
            file,
            temporary,
            size,
            sequence=sequence,
            start=found.end.sequence,
            summary=found.at_end,
            predecessor=predecessor,
            drafts=drafts,
        )
    except (OSError, Unborn) as error:
        file.close()
        if isinstance(error, Unborn) and temporary != EMERGENCY:
            with contextlib.suppress(OSError):
                directory.unlink(temporary)
        raise _no_room(directory.path, error.cause if isinstance(error, Unborn) else error) from error
    return segment, emergency


def _sweep(directory: Directory, found: Found, segment: Segment) -> tuple[list[str], list[tuple[int, str]]]:
    """Removes what the new segment makes superfluous: the names removed, the older segments that stay."""
    needed = found.at_end.base(segment.sequence).first_needed
    older = [row for row in found.chain if row[0] >= needed and (found.end.live or row is not found.chain[-1])]
    stays = {name for _, name in older} | {segment.name}
    snapshot = found.state.facts.snapshot
    if snapshot is not None:
        stays.add(snapshot_name(snapshot.header.term, snapshot.header.index))
    swept = []
    for name in directory.names():
        if classify(name) in (NameKind.SEGMENT, NameKind.SNAPSHOT, NameKind.TEMPORARY) and name not in stays:
            with contextlib.suppress(OSError):
                directory.unlink(name)
                swept.append(name)
    return swept, older


def _ready(
    request: Request[D, R],
    maker: SegmentMaker,
    state: LogState,
    machine: Machine[D, R],
    segment: Segment,
    older: Sequence[tuple[int, str]],
    needed: int,
    report: RecoveryReport,
) -> Opened[D, R]:
    _write_lock_text(maker.directory)
    worker = Worker(threaded=request.config.prepare_ahead)
    spares = Spares(maker, request.config, worker)
    writer = Writer(maker, spares, worker, segment, older, state.summary(), needed)
    spares.prepare()
    return Opened(maker.directory, maker, state, machine, writer, spares, worker, report)


def _write_lock_text(directory: Directory) -> None:
    """Who has the store, for people.  The lock itself is on the directory, and dies with its owner (PROTOCOL B10)."""
    with contextlib.suppress(OSError):
        file = directory.open(LOCK, write=True) if LOCK in directory.names() else directory.create(LOCK)
        try:
            file.truncate(0)
            file.pwritev(0, (f"process {os.getpid()}\n".encode(),))
        finally:
            file.close()
