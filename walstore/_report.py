"""What a store says of itself: how it was opened, where it is durable, what it has done."""

import attrs


@attrs.frozen
class DurablePoint:
    """A place in the one ordered stream of calls.  Everything up to frame `sequence` survives power loss.

    Kept elsewhere and given to `open_storage(expect_durable=...)`, it shows what no single store can see: that a disk
    lost its newest file, or lied about a barrier (PROTOCOL A4).
    """

    sequence: int
    index: int


@attrs.frozen(kw_only=True)
class RecoveryReport:
    """What the open of this store found and did.  A torn tail is a fact here, not an error: it is what a crash leaves.

    `evidence` is the label of the row of the evidence table that describes the end of the log; `ambiguous_tail` says
    that it cannot be told whether the last frame was torn before it was acknowledged or rotted after (FORMAT 5.6).
    """

    created: bool
    seconds: float = 0.0
    segments: int = 0
    frames: int = 0
    entries: int = 0
    bytes_read: int = 0
    evidence: str = ""
    torn: bool = False
    torn_bytes: int = 0
    ambiguous_tail: bool = False
    closed: bool = False
    copied_forward: int = 0
    applied: int = 0
    swept: tuple[str, ...] = ()
    emergency_used: bool = False


@attrs.frozen(kw_only=True)
class Statistics:
    """The store as of now.  Counters count since it was opened; bytes are those of files, padding included."""

    first_index: int
    last_index: int
    last_applied: int
    durable_index: int
    durable_point: DurablePoint
    snapshot_index: int
    pending_calls: int
    pending_bytes: int
    barriers: int
    frames: int
    bytes_written: int
    rotations: int
    purged_segments: int
    segments: int
    spare_misses: int
    housekeeping_failures: int
    payload_bytes_since_snapshot: int
    failed: bool
