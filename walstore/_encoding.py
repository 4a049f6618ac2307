"""From entries to the columns that the planner takes."""

from collections.abc import Sequence

from ._log.batch import EntryKind
from ._log.control import encode_membership
from ._log.plan import Proposal, propose
from ._types import Blank, ConfigChange, D, Entry, MembershipConfig, Normal
from .abc import Codec
from .errors import UsageError


def propose_entries(entries: Sequence[Entry[D]], codec: Codec[D]) -> Proposal:
    """The entries with their payloads as bytes, checked for what can be said without the log."""
    kinds = bytearray()
    payloads: list[bytes] = []
    memberships: list[tuple[int, MembershipConfig]] = []
    for entry in entries:
        match entry.payload:
            case Normal(data):
                kinds.append(EntryKind.NORMAL)
                payloads.append(codec.encode(data))
            case Blank():
                kinds.append(EntryKind.BLANK)
                payloads.append(b"")
            case ConfigChange(membership):
                kinds.append(EntryKind.CONFIG_CHANGE)
                payloads.append(encode_membership(membership))
                memberships.append((entry.index, membership))
            case _:
                msg = f"index {entry.index}: a snapshot pointer is made by a snapshot, and never appended"
                raise UsageError(msg)
    return propose(
        [entry.index for entry in entries],
        [entry.term for entry in entries],
        bytes(kinds),
        payloads,
        tuple(memberships),
    )
