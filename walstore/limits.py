"""Every limit by name: what is refused before a byte is written, and what is refused when it is read.

Sizes are in bytes unless the name says otherwise, and a maximum is itself still allowed.  A call that exceeds one
raises `EntryTooLargeError`.  The reason of each number stands beside it in `walstore/_log/limits.py`.
"""

from ._log.limits import (
    FRAME_HEADER,
    MAX_COMMIT_ALIGN,
    MAX_ENGINE_BYTES,
    MAX_ENTRIES_PER_FRAME,
    MAX_ENTRY_BYTES,
    MAX_FRAME_BODY,
    MAX_FRAMES_PER_SEGMENT,
    MAX_MEMBERS,
    MAX_SEGMENT_SIZE,
    MAX_SNAPSHOT_ID,
    MIN_COMMIT_ALIGN,
)

__all__ = [
    "MAX_COMMIT_ALIGN",
    "MAX_ENGINE_BYTES",
    "MAX_ENTRIES_PER_FRAME",
    "MAX_ENTRY_BYTES",
    "MAX_FRAME",
    "MAX_FRAMES_PER_SEGMENT",
    "MAX_MEMBERS",
    "MAX_SEGMENT_SIZE",
    "MAX_SNAPSHOT_ID",
    "MIN_COMMIT_ALIGN",
]

MAX_FRAME = FRAME_HEADER + MAX_FRAME_BODY
"""One call is one frame: its entries, four bytes for the end of each, and the header fit this."""
