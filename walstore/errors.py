"""What can go wrong, in three families: the call, the bytes, the device.

* `UsageError`: the call is wrong.  Nothing was written; fix the caller.
* `CorruptionError`: the bytes are wrong.  Nothing was changed; the message names the evidence and the next command.
* `StorageFullError`, `StorageFailedError`: the device said no.

This file imports nothing, so that the pure column may raise from it.  For the same reason `StorageFailedError` does
not derive from `trio.BrokenResourceError`: trio is not known below the roof.  Absence is never an exception on the
13 methods of the interface (an exception from one of them stops a Raft node); it is one only on the strict reads.
"""


class WalstoreError(Exception):
    """The root of everything that walstore raises on its own account."""


class UsageError(WalstoreError, ValueError):
    """The call is wrong.  Nothing was written and the store goes on; correct the caller."""


class LogGapError(UsageError):
    """An entry does not follow the last one (or a batch is not consecutive): it would leave a hole in the log."""


class InvalidRangeError(UsageError):
    """A range that may not be deleted: from the middle of the log, or entries that only a snapshot could replace."""


class HardStateRegressionError(UsageError):
    """A term that falls, or a vote that changes within its term.  A double vote is worse than a stopped node."""


class EntryTooLargeError(UsageError):
    """An entry or a call above the named limits (`walstore.limits`), refused before a byte was written."""


class CompactedError(UsageError):
    """A strict read below the first index: these entries live on in the snapshot only."""


class UnavailableError(UsageError):
    """A strict read above the last index: these entries do not exist yet."""


class NothingToCompact(WalstoreError):
    """Nothing has been applied yet, so there is nothing that a snapshot could hold.  Harmless."""


class CompactionSuperseded(WalstoreError):
    """A newer snapshot or a truncation overtook this compaction; its result was discarded.  Harmless; try again."""


class NodeIdMismatchError(WalstoreError):
    """The directory belongs to another node id.  It was left untouched."""


class StorageLockedError(WalstoreError):
    """Another handle, in this process or another, owns the directory.  It was left untouched."""


class CorruptionError(WalstoreError):
    """Bytes that had been acknowledged are damaged.  Nothing was changed on disk.

    `path` and `offset` (of a byte) say where, `frame` (sequence number) and `index` (Raft) say what, as far as they
    are known; `evidence` is the label of a row of the evidence table (E0 to E11) or of a named check.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        offset: int | None = None,
        frame: int | None = None,
        index: int | None = None,
        evidence: str | None = None,
        expected: object = None,
        found: object = None,
    ) -> None:
        self.message = message
        self.path = path
        self.offset = offset
        self.frame = frame
        self.index = index
        self.evidence = evidence
        self.expected = expected
        self.found = found
        super().__init__(message)

    @property
    def next_command(self) -> str:
        """The command that shows more about this damage; in a checkout it is `tools/walcat`."""
        return f"walcat verify {self.path.rpartition('/')[0] or '.'}" if self.path else "walcat verify"

    def __str__(self) -> str:
        where = [
            f"{name} {value}"
            for name, value in (
                ("file", self.path),
                ("offset", self.offset),
                ("frame", self.frame),
                ("index", self.index),
                ("evidence", self.evidence),
                ("expected", self.expected),
                ("found", self.found),
            )
            if value is not None
        ]
        place = f" ({', '.join(where)})" if where else ""
        return f"{self.message}{place}; nothing was changed; next: {self.next_command}"


class UnsupportedFormatError(CorruptionError):
    """The bytes are of a newer or foreign format.  Open them with a version that knows it."""


class InvertedLogError(CorruptionError):
    """The log and the snapshot contradict each other: the same index with two terms, or a log that ends below it."""


class LostAcknowledgementError(CorruptionError):
    """The caller knows of acknowledged entries (`expect_durable`) that this directory no longer holds."""


class SnapshotInvalidError(WalstoreError):
    """Received snapshot bytes that do not prove themselves.  The old state is intact; send them again."""


class SnapshotMismatchError(WalstoreError):
    """A whole, valid snapshot of another term and index than announced.  The old state is intact."""


class ApplyError(WalstoreError):
    """The state machine raised at `index`.  Earlier entries stay applied, this one and later ones are not."""

    def __init__(self, index: int, cause: BaseException) -> None:
        self.index = index
        self.__cause__ = cause
        super().__init__(index, cause)

    def __str__(self) -> str:
        return (
            f"the state machine raised at index {self.index}: {self.__cause__!r}; mend the machine and open again, "
            "or pass on_apply_error='skip' to open past it"
        )


class StorageFullError(WalstoreError, OSError):
    """No room for the next segment.  Nothing of the call was written; free some space, or compact, and call again."""


class StorageFailedError(WalstoreError, OSError):
    """A write, sync or rename of the log failed: the outcome of the calls in flight is unknown until reopened.

    Sticky: this handle never acknowledges again.  Reads go on from the durable state.  Entries above `durable_index`
    may vanish or appear at the next open.  `__cause__` is the first cause.
    """
