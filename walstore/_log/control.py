"""The bodies of control frames: STATE, TRUNCATE, SNAPSHOT, SYNC, CLOSE; and the membership, which entries hold too.

All numbers are little endian; a flag (?) is one byte, 0 or 1; what follows in [brackets] is there only if the flag
before it is 1.  Nothing is padded.

    membership   +-------------+----------------+-----------+---------------+------------------+
                 | count u32   | ids u64 x count| after? u8 | [ count u32   | ids u64 x count ]|
                 +-------------+----------------+-----------+---------------+------------------+
    header       +-------------+-------+----------+-----------+----------------------+------------+-------+--------+
    (snapshot)   | id_len u16  | id    | term u64 | index u64 | membership_index u64 | engine_len | engine| member-|
                 |             | UTF-8 |          |           |                      | u32        | bytes | ship   |
                 +-------------+-------+----------+-----------+----------------------+------------+-------+--------+
    record       +----------+---------------+--------+
    (snapshot)   | size u64 | checksum u32  | header |     of the whole file snap-<term>-<index>
                 +----------+---------------+--------+
    base         +-----------------+----------------+---------------+------------------+-------------+--------------+
                 | first_index u64 | last_index u64 | last_term u64 | first_needed u64 | pointer? u8 | snapshot? u8 |
                 +-----------------+----------------+---------------+------------------+-------------+--------------+
                 | [ record ]      |
                 +-----------------+
    STATE        +------------------+-----------+-------------+----------+----------+----------+
                 | current_term u64 | voted? u8 | [ vote u64 ]| mark u64 | base? u8 | [ base ] |
                 +------------------+-----------+-------------+----------+----------+----------+
    TRUNCATE     +-----------+----------+----------+------------------+
                 | start u64 | stop u64 | mark u64 | first_needed u64 |
                 +-----------+----------+----------+------------------+
    SNAPSHOT     +-----------------+----------------+---------------+----------+------------------+----------+--------+
                 | first_index u64 | last_index u64 | last_term u64 | mark u64 | first_needed u64 | keep? u8 | record |
                 +-----------------+----------------+---------------+----------+------------------+----------+--------+
    SYNC, CLOSE  +----------+
                 | mark u64 |
                 +----------+

A body is *valid* if and only if
    1. it has exactly the bytes that its picture asks for, none left over,
    2. flags are 0 or 1,
    3. ids of a membership ascend, without repetition, at most 4096 in a set,
    4. a snapshot's id is UTF-8 of at most 128 bytes, its engine bytes are at most 64 KiB,
    5. a base with a pointer has a snapshot, and a TRUNCATE has start < stop.
So every value has one encoding: what decodes, encodes to the same bytes again.  Counts and lengths are compared with
what is left of the body before anything is made of their size.
"""

import struct
from itertools import pairwise
from typing import Any

import attrs

from .._types import U64_MAX, HardState, MembershipConfig, SnapshotHeader, check_u64
from ..errors import EntryTooLargeError, UsageError
from .checksum import Buffer
from .limits import MAX_ENGINE_BYTES, MAX_MEMBERS, MAX_SNAPSHOT_ID, U32_MAX

TO_THE_END = U64_MAX
"""`TruncateBody.stop` of a truncation to the end of the log."""

_FLAG = struct.Struct("<B")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_SNAPSHOT_NUMBERS = struct.Struct("<QQQ")
_RECORD = struct.Struct("<QI")
_BASE = struct.Struct("<QQQQ")
_TRUNCATE = struct.Struct("<QQQQ")
_SNAPSHOT = struct.Struct("<QQQQQ")
_ABSENT, _PRESENT = b"\0", b"\1"


class BodyError(ValueError):
    """Bytes that are not the body of a frame of this kind.  In a frame whose CRC holds: a writer's fault, or malice."""


def _u64(_: object, attribute: "attrs.Attribute[int]", value: object) -> None:
    check_u64(attribute.name, value)


def _u32(_: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    if not 0 <= value <= U32_MAX:
        msg = f"{attribute.name} must be in [0, 2**32), not {value}"
        raise ValueError(msg)


class _Reader:
    """Takes a body apart from front to back."""

    __slots__ = ("at", "buffer")

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = bytes(buffer)
        self.at = 0

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        left = len(self.buffer) - self.at
        if length > left:
            msg = f"{length} bytes are needed at {self.at}, {left} are left"
            raise BodyError(msg)
        self.at += length
        return self.buffer[self.at - length : self.at]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next fields."""
        return layout.unpack(self.take(layout.size))

    def u64(self) -> int:
        """The next number."""
        return int.from_bytes(self.take(8), "little")

    def flag(self) -> bool:
        """The next flag."""
        (value,) = self.take(1)
        if value > 1:
            msg = f"the flag at {self.at - 1} is {value}"
            raise BodyError(msg)
        return value == 1

    def length(self, layout: struct.Struct, limit: int, what: str) -> int:
        """The next count or length, if it is within its limit."""
        (value,) = self.unpack(layout)
        if value > limit:
            msg = f"{value} {what}; at most {limit} are allowed"
            raise BodyError(msg)
        return int(value)

    def finish(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.buffer):
            msg = f"{len(self.buffer) - self.at} bytes are left over at {self.at}"
            raise BodyError(msg)


# -- membership ----------------------------------------------------------------------------------------------------


def encode_membership(membership: MembershipConfig) -> bytes:
    """The bytes of a membership, the same for equal ones.  Raises EntryTooLargeError above 4096 ids in a set."""
    parts = [_encode_ids(membership.members)]
    if membership.members_after_consensus is None:
        parts.append(_ABSENT)
    else:
        parts += _PRESENT, _encode_ids(membership.members_after_consensus)
    return b"".join(parts)


def decode_membership(buffer: Buffer) -> MembershipConfig:
    """The membership that `buffer` holds, and nothing else.  Raises BodyError."""
    reader = _Reader(buffer)
    membership = _read_membership(reader)
    reader.finish()
    return membership


def _encode_ids(ids: frozenset[int]) -> bytes:
    if len(ids) > MAX_MEMBERS:
        msg = f"a membership of {len(ids)} nodes; at most {MAX_MEMBERS} are allowed"
        raise EntryTooLargeError(msg)
    return _U32.pack(len(ids)) + struct.pack(f"<{len(ids)}Q", *sorted(ids))


def _read_ids(reader: _Reader) -> frozenset[int]:
    count = reader.length(_U32, MAX_MEMBERS, "nodes in a membership")
    ids = struct.unpack(f"<{count}Q", reader.take(8 * count))
    if any(later <= node_id for node_id, later in pairwise(ids)):
        msg = "the node ids of a membership do not ascend"
        raise BodyError(msg)
    return frozenset(ids)


def _read_membership(reader: _Reader) -> MembershipConfig:
    members = _read_ids(reader)
    return MembershipConfig(members, _read_ids(reader) if reader.flag() else None)


# -- snapshots -----------------------------------------------------------------------------------------------------


def encode_snapshot_header(header: SnapshotHeader) -> bytes:
    """The bytes of a snapshot header.  Raises EntryTooLargeError above a limit, UsageError on an id that is no text."""
    try:
        name = header.id.encode()
    except UnicodeEncodeError as error:
        msg = f"the snapshot id {header.id!r} cannot be written as UTF-8"
        raise UsageError(msg) from error
    if len(name) > MAX_SNAPSHOT_ID:
        msg = f"a snapshot id of {len(name)} bytes; at most {MAX_SNAPSHOT_ID} are allowed"
        raise EntryTooLargeError(msg)
    if len(header.engine) > MAX_ENGINE_BYTES:
        msg = f"{len(header.engine)} engine bytes in a snapshot header; at most {MAX_ENGINE_BYTES} are allowed"
        raise EntryTooLargeError(msg)
    parts = (
        _U16.pack(len(name)),
        name,
        _SNAPSHOT_NUMBERS.pack(header.term, header.index, header.membership_index),
        _U32.pack(len(header.engine)),
        header.engine,
        encode_membership(header.membership),
    )
    return b"".join(parts)


def decode_snapshot_header(buffer: Buffer) -> SnapshotHeader:
    """The snapshot header that `buffer` holds, and nothing else.  Raises BodyError."""
    reader = _Reader(buffer)
    header = _read_snapshot_header(reader)
    reader.finish()
    return header


def _read_snapshot_header(reader: _Reader) -> SnapshotHeader:
    name = reader.take(reader.length(_U16, MAX_SNAPSHOT_ID, "bytes of snapshot id"))
    term, index, membership_index = reader.unpack(_SNAPSHOT_NUMBERS)
    engine = reader.take(reader.length(_U32, MAX_ENGINE_BYTES, "engine bytes in a snapshot header"))
    membership = _read_membership(reader)
    try:
        return SnapshotHeader(name.decode(), term, index, membership, membership_index, engine)
    except UnicodeDecodeError as error:
        msg = "the id of a snapshot is not UTF-8"
        raise BodyError(msg) from error


@attrs.frozen
class SnapshotRecord:
    """What the log knows of a snapshot file: its header, its size in bytes, the CRC-32C of all of it."""

    header: SnapshotHeader
    size: int = attrs.field(validator=_u64)
    checksum: int = attrs.field(validator=_u32)

    def encode(self) -> bytes:
        """The bytes, as part of a body."""
        return _RECORD.pack(self.size, self.checksum) + encode_snapshot_header(self.header)


def _read_record(reader: _Reader) -> SnapshotRecord:
    size, checksum = reader.unpack(_RECORD)
    return SnapshotRecord(_read_snapshot_header(reader), size, checksum)


@attrs.frozen
class SnapshotBody:
    """SNAPSHOT: what was decided when a snapshot became current.  Replay repeats it, decides nothing (PROTOCOL A1)."""

    record: SnapshotRecord
    first_index: int = attrs.field(validator=_u64)
    """Index of the first entry after the snapshot was taken: that of its pointer."""
    last_index: int = attrs.field(validator=_u64)
    last_term: int = attrs.field(validator=_u64)
    keep_suffix: bool
    """Whether the entries after the snapshot's index stay."""
    mark: int = attrs.field(validator=_u64)
    first_needed: int = attrs.field(validator=_u64)
    """The lowest segment sequence that recovery needs from here on (PROTOCOL A6)."""

    def encode(self) -> bytes:
        """The bytes of the frame's body."""
        numbers = _SNAPSHOT.pack(self.first_index, self.last_index, self.last_term, self.mark, self.first_needed)
        return b"".join((numbers, _FLAG.pack(self.keep_suffix), self.record.encode()))


def decode_snapshot(buffer: Buffer) -> SnapshotBody:
    """The body of a SNAPSHOT frame.  Raises BodyError."""
    reader = _Reader(buffer)
    first_index, last_index, last_term, mark, first_needed = reader.unpack(_SNAPSHOT)
    keep_suffix = reader.flag()
    record = _read_record(reader)
    reader.finish()
    return SnapshotBody(record, first_index, last_index, last_term, keep_suffix, mark, first_needed)


# -- state ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Base:
    """On what a segment stands: what the log was when the segment began, so that older segments may go."""

    first_index: int = attrs.field(validator=_u64)
    """Index of the first entry of the log, a pointer counted as one; 0: it has none."""
    last_index: int = attrs.field(validator=_u64)
    last_term: int = attrs.field(validator=_u64)
    pointer: bool
    """Whether the log begins with the pointer of `snapshot`."""
    snapshot: SnapshotRecord | None
    first_needed: int = attrs.field(validator=_u64)
    """The lowest segment sequence that recovery needs (PROTOCOL A6)."""

    def __attrs_post_init__(self) -> None:
        if self.pointer and self.snapshot is None:
            msg = "a base that begins with a pointer, and no snapshot for it"
            raise BodyError(msg)

    def encode(self) -> bytes:
        """The bytes, as part of a STATE body."""
        numbers = _BASE.pack(self.first_index, self.last_index, self.last_term, self.first_needed)
        record = _ABSENT if self.snapshot is None else _PRESENT + self.snapshot.encode()
        return b"".join((numbers, _FLAG.pack(self.pointer), record))


def _read_base(reader: _Reader) -> Base:
    first_index, last_index, last_term, first_needed = reader.unpack(_BASE)
    pointer = reader.flag()
    snapshot = _read_record(reader) if reader.flag() else None
    return Base(first_index, last_index, last_term, pointer, snapshot, first_needed)


@attrs.frozen
class StateBody:
    """STATE: the hard state and the applied mark; in the frame that opens a segment, the base too."""

    hard_state: HardState
    mark: int = attrs.field(validator=_u64)
    base: Base | None = None

    def encode(self) -> bytes:
        """The bytes of the frame's body."""
        vote = self.hard_state.voted_for
        parts = (
            _U64.pack(self.hard_state.current_term),
            _ABSENT if vote is None else _PRESENT + _U64.pack(vote),
            _U64.pack(self.mark),
            _ABSENT if self.base is None else _PRESENT + self.base.encode(),
        )
        return b"".join(parts)


def decode_state(buffer: Buffer) -> StateBody:
    """The body of a STATE frame.  Raises BodyError."""
    reader = _Reader(buffer)
    term = reader.u64()
    hard_state = HardState(term, reader.u64() if reader.flag() else None)
    mark = reader.u64()
    base = _read_base(reader) if reader.flag() else None
    reader.finish()
    return StateBody(hard_state, mark, base)


# -- the short ones ------------------------------------------------------------------------------------------------


@attrs.frozen
class TruncateBody:
    """TRUNCATE: the entries of [start, stop) are gone.  `stop` is `TO_THE_END` for a suffix."""

    start: int = attrs.field(validator=_u64)
    stop: int = attrs.field(validator=_u64)
    mark: int = attrs.field(validator=_u64)
    """The effective applied mark after it (PROTOCOL A7)."""
    first_needed: int = attrs.field(validator=_u64)

    def __attrs_post_init__(self) -> None:
        if self.start >= self.stop:
            msg = f"a truncation of [{self.start}, {self.stop})"
            raise BodyError(msg)

    def encode(self) -> bytes:
        """The bytes of the frame's body."""
        return _TRUNCATE.pack(self.start, self.stop, self.mark, self.first_needed)


def decode_truncate(buffer: Buffer) -> TruncateBody:
    """The body of a TRUNCATE frame.  Raises BodyError."""
    reader = _Reader(buffer)
    fields = reader.unpack(_TRUNCATE)
    reader.finish()
    return TruncateBody(*fields)


@attrs.frozen
class SyncBody:
    """SYNC: nothing new; its being durable attests the frames before it."""

    mark: int = attrs.field(validator=_u64)

    def encode(self) -> bytes:
        """The bytes of the frame's body."""
        return _U64.pack(self.mark)


@attrs.frozen
class CloseBody:
    """CLOSE: the store was closed in good order after the frames before it."""

    mark: int = attrs.field(validator=_u64)

    def encode(self) -> bytes:
        """The bytes of the frame's body."""
        return _U64.pack(self.mark)


def decode_sync(buffer: Buffer) -> SyncBody:
    """The body of a SYNC frame.  Raises BodyError."""
    return SyncBody(_only_mark(buffer))


def decode_close(buffer: Buffer) -> CloseBody:
    """The body of a CLOSE frame.  Raises BodyError."""
    return CloseBody(_only_mark(buffer))


def _only_mark(buffer: Buffer) -> int:
    reader = _Reader(buffer)
    mark = reader.u64()
    reader.finish()
    return mark
