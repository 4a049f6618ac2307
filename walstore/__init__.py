"""walstore: the state of one Raft node, or of one trio application, kept safe across crashes.

General layout, arrows only downwards (a test holds them there):

* `walstore.testing` is public: a disk that loses what was not synced, a model, the conformance kit;
* the roof is what awaits: `_open`, `_storage`, `_commit`, `_snapshot`, with `walstore.abc` as its interface;
* `_log` is MEANING, pure code between bytes and Raft: frames, scan, replay, plan;
* `_disk` is PLACE, names and bytes behind a small seam; it knows no frame, no Raft and no trio;
* `_types` and `walstore.errors` are what all of them speak.

This file is only the front door: it names what is public, and does nothing else.
"""

from . import abc as abc, errors as errors, kv as kv, limits as limits
from ._commit import Barrier as Barrier
from ._config import (
    BytesCodec as BytesCodec,
    StorageConfig as StorageConfig,
)
from ._opener import open_storage as open_storage
from ._reading import Follower as Follower
from ._report import (
    DurablePoint as DurablePoint,
    RecoveryReport as RecoveryReport,
    Statistics as Statistics,
)
from ._standalone import (
    Standalone as Standalone,
    StandaloneStatistics as StandaloneStatistics,
    open_standalone as open_standalone,
)
from ._storage import Storage as Storage
from ._types import (
    Blank as Blank,
    ConfigChange as ConfigChange,
    CurrentSnapshotData as CurrentSnapshotData,
    Entry as Entry,
    HardState as HardState,
    InitialState as InitialState,
    MembershipConfig as MembershipConfig,
    Normal as Normal,
    Payload as Payload,
    SnapshotHeader as SnapshotHeader,
    SnapshotPointer as SnapshotPointer,
)
from .abc import (
    Codec as Codec,
    RaftStorage as RaftStorage,
    SnapshotReader as SnapshotReader,
    SnapshotView as SnapshotView,
    SnapshotWriter as SnapshotWriter,
    StateMachine as StateMachine,
)
from .errors import (
    ApplyError as ApplyError,
    CompactedError as CompactedError,
    CompactionSuperseded as CompactionSuperseded,
    CorruptionError as CorruptionError,
    EntryTooLargeError as EntryTooLargeError,
    HardStateRegressionError as HardStateRegressionError,
    InvalidRangeError as InvalidRangeError,
    InvertedLogError as InvertedLogError,
    LogGapError as LogGapError,
    LostAcknowledgementError as LostAcknowledgementError,
    NodeIdMismatchError as NodeIdMismatchError,
    NothingToCompact as NothingToCompact,
    SnapshotInvalidError as SnapshotInvalidError,
    SnapshotMismatchError as SnapshotMismatchError,
    StorageFailedError as StorageFailedError,
    StorageFullError as StorageFullError,
    StorageLockedError as StorageLockedError,
    UnavailableError as UnavailableError,
    UnsupportedFormatError as UnsupportedFormatError,
    UsageError as UsageError,
    WalstoreError as WalstoreError,
)

__version__ = "0.1.0"
