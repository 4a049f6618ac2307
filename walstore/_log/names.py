"""The names in a store's directory.

    LOCK                                 held by the owner; its text is a hint for people
    IDENTITY                             whose store this is (`identity`)
    EMERGENCY                            a segment held back, with which a full disk can still be opened and compacted
    wal-<sequence>-<first index>.wal     a segment: 16 lower case hexadecimal digits from 1, 20 decimal digits
    snap-<term>-<index>                  a snapshot: plain decimal numbers without leading zeros
    IDENTITY.tmp spare-*.tmp             in the making: removed at the next open, whatever they hold
    wal-*.tmp snap-*.tmp

A name is believed to say what the file is meant to be, and nothing more: sequence, index and term are compared with
what the file itself says.  Names are made from numbers, never from what a peer sent.
"""

import re
from enum import Enum

from .._types import U64_MAX, check_u64

LOCK = "LOCK"
IDENTITY = "IDENTITY"
EMERGENCY = "EMERGENCY"
TEMPORARY_SUFFIX = ".tmp"
IDENTITY_TEMPORARY = IDENTITY + TEMPORARY_SUFFIX

_SEGMENT = re.compile(r"wal-([0-9a-f]{16})-([0-9]{20})\.wal")
_SNAPSHOT = re.compile(r"snap-(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})")
_TEMPORARY = re.compile(r"IDENTITY\.tmp|(?:spare|wal|snap)-.*\.tmp", re.DOTALL)
_OURS = re.compile(r"(?:wal|snap)-.*|.*\.wal", re.DOTALL)


class NameKind(Enum):
    """What a name in the directory stands for."""

    LOCK = "lock"
    IDENTITY = "identity"
    EMERGENCY = "emergency"
    SEGMENT = "segment"
    SNAPSHOT = "snapshot"
    TEMPORARY = "temporary"
    MALFORMED = "malformed"
    """Looks like a segment or a snapshot and is none: a renamed file may be acknowledged data, so it is not ignored."""
    FOREIGN = "foreign"
    """Not ours, and left alone."""


_FIXED = {LOCK: NameKind.LOCK, IDENTITY: NameKind.IDENTITY, EMERGENCY: NameKind.EMERGENCY}


def segment_name(segment_sequence: int, first_index: int) -> str:
    """The name of a segment; names sort as sequences do.  ValueError outside of 64 bits, or for sequence 0."""
    check_u64("segment_sequence", segment_sequence, 1)
    check_u64("first_index", first_index)
    return f"wal-{segment_sequence:016x}-{first_index:020d}.wal"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """(segment sequence, first index), or None if `segment_name` makes no such name."""
    match = _SEGMENT.fullmatch(name)
    if match is None:
        return None
    segment_sequence, first_index = int(match[1], 16), int(match[2])
    return (segment_sequence, first_index) if segment_sequence and first_index <= U64_MAX else None


def segment_temporary(segment_sequence: int, first_index: int) -> str:
    """The name of a segment until its header page and first frames are durable."""
    return segment_name(segment_sequence, first_index).removesuffix(".wal") + TEMPORARY_SUFFIX


def spare_name(number: int) -> str:
    """The name of a file that was filled with zeros for a segment to come."""
    return f"spare-{number}{TEMPORARY_SUFFIX}"


def snapshot_name(term: int, index: int) -> str:
    """The name of a snapshot.  ValueError outside of 64 bits."""
    return f"snap-{check_u64('term', term)}-{check_u64('index', index)}"


def parse_snapshot_name(name: str) -> tuple[int, int] | None:
    """(term, index), or None if `snapshot_name` makes no such name."""
    match = _SNAPSHOT.fullmatch(name)
    if match is None:
        return None
    term, index = int(match[1]), int(match[2])
    return (term, index) if term <= U64_MAX and index <= U64_MAX else None


def snapshot_temporary(number: int) -> str:
    """The name of a snapshot while it is made or received.  The number only tells two of them apart."""
    return f"snap-{number}{TEMPORARY_SUFFIX}"


def is_temporary(name: str) -> bool:
    """Whether the file is in the making, and may be removed by the owner of the lock at open."""
    return _TEMPORARY.fullmatch(name) is not None


def classify(name: str) -> NameKind:
    """What the name stands for.  Any string is accepted."""
    if name in _FIXED:
        return _FIXED[name]
    if is_temporary(name):
        return NameKind.TEMPORARY
    if parse_segment_name(name) is not None:
        return NameKind.SEGMENT
    if parse_snapshot_name(name) is not None:
        return NameKind.SNAPSHOT
    return NameKind.MALFORMED if _OURS.fullmatch(name) else NameKind.FOREIGN
