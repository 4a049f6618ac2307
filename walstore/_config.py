"""How a store is to behave: its configuration, and the codec for those who have bytes already.

The configuration is not stored.  What of it shapes bytes on disk (alignment, preallocation, sizes) is written in each
segment's header page, so a store opens under any configuration.
"""

from typing import Any, Literal, TypeAlias

import attrs

from ._log.limits import (
    CONTROL_FRAMES_RESERVED,
    HEADER_PAGE,
    MAX_COMMIT_ALIGN,
    MAX_SEGMENT_SIZE,
    MIN_COMMIT_ALIGN,
    SECTOR,
    align_up,
)
from .abc import Codec

Preallocate: TypeAlias = Literal["zero", "fallocate", "none"]
Policy: TypeAlias = Literal["strict", "tolerate_suspect_tail"]
OnApplyError: TypeAlias = Literal["raise", "skip"]
ReplayUpTo: TypeAlias = Literal["mark", "all"]

_CONTROL_ROOM = 512


def _one_of(*choices: str) -> Any:  # attrs validators have no common type
    return attrs.validators.in_(choices)


def _power_of_two(_: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    if value & (value - 1):
        msg = f"{attribute.name} must be a power of two, not {value}"
        raise ValueError(msg)


def _within(low: int, high: int) -> Any:  # attrs validators have no common type
    return attrs.validators.and_(attrs.validators.instance_of(int), attrs.validators.ge(low), attrs.validators.le(high))


@attrs.frozen(kw_only=True)
class StorageConfig:
    """Sizes are in bytes.  The defaults suit a disk in a server; a test wants small segments and no second thread."""

    first_segment_size: int = attrs.field(default=256 << 10, validator=_within(HEADER_PAGE, MAX_SEGMENT_SIZE))
    """The segment that an open makes.  Small, since every open makes one (PROTOCOL B11)."""

    segment_size: int = attrs.field(default=64 << 20, validator=_within(HEADER_PAGE, MAX_SEGMENT_SIZE))
    """Segments made by rotation double from 4 times `first_segment_size` up to this."""

    commit_align: int = attrs.field(
        default=4096, validator=[_within(MIN_COMMIT_ALIGN, MAX_COMMIT_ALIGN), _power_of_two]
    )
    """What is written between two barriers starts at a multiple of this.  4096: no acknowledged page is ever written
    again.  Less saves space where commits are tiny, and trusts the disk not to damage a page that it rewrites."""

    preallocate: Preallocate = attrs.field(default="zero", validator=_one_of("zero", "fallocate", "none"))
    """Zeros written ahead make a commit one flush, and tell a torn tail from a rotten one.  With "none" a full disk is
    met in the middle of a frame and poisons the handle."""

    prepare_ahead: bool = True
    """Whether a thread of the store's own makes the next segment and seals the last one meanwhile."""

    sync_apply: bool = False
    """Whether an apply returns only when it survives a crash."""

    policy: Policy = attrs.field(default="strict", validator=_one_of("strict", "tolerate_suspect_tail"))
    """Whether an open accepts a tail whose last frame looks rotten rather than torn (evidence E7, E8)."""

    sector: int = attrs.field(default=SECTOR, validator=[_within(1, 1 << 16), _power_of_two])
    """What the disk tears a write into.  1 turns off what of evidence E7 rests on sectors."""

    max_pending_bytes: int = attrs.field(default=64 << 20, validator=_within(1, 1 << 40))
    """Appends wait while this many bytes are queued."""

    max_group_bytes: int = attrs.field(default=1 << 20, validator=_within(1, 1 << 30))
    """Calls share a barrier up to this size; one call may be larger."""

    on_apply_error: OnApplyError = attrs.field(default="raise", validator=_one_of("raise", "skip"))
    """What an open does when the machine raises at an index: refuse with `ApplyError`, or go on past it."""

    replay: ReplayUpTo = attrs.field(default="mark", validator=_one_of("mark", "all"))
    """Up to where an open applies: the applied mark (a Raft node, whose log may hold uncommitted entries), or
    everything that is durable (a store of its own, where durable is committed)."""

    @property
    def control_reserve(self) -> int:
        """What a segment keeps free for votes, truncations, snapshots and its close (PROTOCOL B3)."""
        return CONTROL_FRAMES_RESERVED * align_up(_CONTROL_ROOM, self.commit_align)

    def size_at_least(self, size: int) -> int:
        """A segment size that leaves room for something beside the header and the reserve."""
        floor = HEADER_PAGE + self.control_reserve + 4 * self.commit_align + 4096
        return align_up(max(size, floor), max(self.commit_align, HEADER_PAGE))


class BytesCodec(Codec[bytes]):
    """Data that is bytes already."""

    __slots__ = ()

    def encode(self, data: bytes) -> bytes:
        """The bytes as they are; a copy of other buffers."""
        return bytes(data)

    def decode(self, buffer: bytes) -> bytes:
        """The bytes as they are."""
        return buffer
