"""Every limit and every size that the format fixes, each with its unit and its reason.

Sizes are bytes unless the name says otherwise; a maximum is itself still allowed.  What a reader refuses and what a
writer refuses is the same number, so nothing can be written that cannot be read again.
"""

U32_MAX = 2**32 - 1

ALIGN = 64
"""Frames begin at multiples of this: a frame's own offset fits 32 bits, and a probe for later frames is cheap."""

SECTOR = 512
"""What a disk writes whole or not at all, by default (`StorageConfig.sector`); torn writes are judged by it."""

HEADER_PAGE = 4096
"""The header page of a segment: one page of every common file system, so one write."""

IDENTITY_SIZE = 128
"""The IDENTITY file: less than a sector, so it cannot be torn."""

FRAME_HEADER = 64
"""The header of a frame: one cache line, and short enough (56 checked bytes) that CRC-32C finds any five bad bits."""

TRAILER = 64
"""The end of a sealed file: found by reading its last 64 bytes, and a multiple of `ALIGN`."""

DEFAULT_COMMIT_ALIGN = 4096
"""Where barrier groups end: a page that was acknowledged is never written again, so no write can damage it."""

MIN_COMMIT_ALIGN = ALIGN
MAX_COMMIT_ALIGN = 1 << 20
"""More than any device's page; padding of a mebibyte for each commit helps nobody."""

MAX_FRAME_BODY = 256 << 20
"""The longest body for which CRC-32C still finds any three bad bits.  `MAX_FRAME` of PROTOCOL B2, less the header."""

MAX_ENTRY_BYTES = 64 << 20
"""One entry's payload: a quarter of a frame, so that a call with a few of the largest still is one frame."""

MAX_ENTRIES_PER_FRAME = 1 << 20
"""Entries, not bytes.  The table of ends of the largest frame is 4 MiB, the terms column 8 MiB."""

MAX_SEGMENT_SIZE = 1 << 30
"""A segment is read and judged as a whole.  Holds a frame of the largest body, its page and its footer."""

MAX_FRAMES_PER_SEGMENT = 32768
"""Frames.  Bounds the scan of an unsealed segment to about 40 ms, and the footer to `MAX_FRAME_BODY` by far."""

CONTROL_FRAMES_RESERVED = 16
"""Frames (votes, truncations, snapshots, CLOSE, SEAL) for which a segment keeps room when entries no longer fit."""

SPAN_SIZE = 8 << 20
"""How much of a file is read at once: bounds the memory of an open (PROTOCOL B9)."""

MAX_ENGINE_BYTES = 64 << 10
"""The engine's opaque bytes in a snapshot header: room for an encoded membership, not for data."""

MAX_MEMBERS = 4096
"""Node ids in one set of a membership: far above any cluster, far below harm."""

MAX_SNAPSHOT_ID = 128
"""UTF-8 bytes of a snapshot's id: a UUID and a host name fit."""

LAG_UNKNOWN = 255
"""`sync_lag`: the newest durable frame is unknown, or 255 or more frames back.  Proves nothing."""

MAX_GROUP = (1 << 24) - 1
"""The highest Raft group number a frame can carry; always 0 in this version."""


def align_up(n: int, to: int) -> int:
    """The smallest multiple of `to` (a power of two) that is not below `n`."""
    return (n + to - 1) & -to
