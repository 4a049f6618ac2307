"""The words of the interface: entries and their payloads, hard state, membership, initial state.

Frozen values, checked when they are made, so that the rest of the library never asks again.  Terms, indexes and node
ids are unsigned 64-bit numbers; index 0 means "none" and the first real entry has index 1; node id 0 is a legal id
(SEMANTICS 1).  Nothing here knows bytes, files or trio.
"""

from collections.abc import Iterable
from typing import Any, Generic, TypeAlias, TypeVar

import attrs

D = TypeVar("D")
R = TypeVar("R")

U64_MAX = 2**64 - 1


def check_u64(name: str, value: object, minimum: int = 0) -> int:
    """`value`, if it is an integer in [minimum, 2**64); a TypeError or ValueError that names it, if not."""
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{name} must be an integer, not {value!r}"
        raise TypeError(msg)
    if not minimum <= value <= U64_MAX:
        msg = f"{name} must be in [{minimum}, 2**64), not {value}"
        raise ValueError(msg)
    return value


def _u64(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    check_u64(attribute.name, value)


def _optional_u64(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if value is not None:
        check_u64(attribute.name, value)


def _node_ids(ids: Iterable[int]) -> frozenset[int]:
    return frozenset(check_u64("node id", node_id) for node_id in ids)


@attrs.frozen
class MembershipConfig:
    """Who votes.  `members_after_consensus` is None outside a membership change; an empty set is not None."""

    members: frozenset[int] = attrs.field(converter=_node_ids)
    members_after_consensus: frozenset[int] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_node_ids)
    )

    @classmethod
    def new_initial(cls, node_id: int) -> "MembershipConfig":
        """The membership of a node that knows of nobody else."""
        return cls({node_id})

    def all_nodes(self) -> frozenset[int]:
        """Every node of either set."""
        return self.members | (self.members_after_consensus or frozenset())

    def contains(self, node_id: int) -> bool:
        """Whether the node is in either set."""
        return node_id in self.all_nodes()

    def is_in_joint_consensus(self) -> bool:
        """Whether a membership change is under way."""
        return self.members_after_consensus is not None


@attrs.frozen
class HardState:
    """What a node promised: its term and its vote.  A vote for node 0 is not the same as no vote."""

    current_term: int = attrs.field(default=0, validator=_u64)
    voted_for: int | None = attrs.field(default=None, validator=_optional_u64)


@attrs.frozen
class Blank:
    """The entry that a new leader commits first."""


@attrs.frozen
class Normal(Generic[D]):
    """An entry for the state machine."""

    data: D


@attrs.frozen
class ConfigChange:
    """An entry that changes the membership."""

    membership: MembershipConfig


@attrs.frozen
class SnapshotPointer:
    """Stands in the log where the entries up to its index were replaced by a snapshot.  Only read, never appended."""

    id: str
    membership: MembershipConfig


Payload: TypeAlias = Blank | Normal[D] | ConfigChange | SnapshotPointer


@attrs.frozen
class Entry(Generic[D]):
    """One entry of the log.  Its identity is (index, term)."""

    term: int = attrs.field(validator=_u64)
    index: int = attrs.field(validator=_u64)
    payload: Payload[D]

    @classmethod
    def new_snapshot_pointer(cls, index: int, term: int, id: str, membership: MembershipConfig) -> "Entry[D]":
        """The pointer entry; index and term are those of the last entry that the snapshot covers."""
        return cls(term, index, SnapshotPointer(id, membership))


@attrs.frozen
class InitialState:
    """What a Raft core needs to start."""

    last_log_index: int
    last_log_term: int
    last_applied_log: int
    hard_state: HardState
    membership: MembershipConfig

    @classmethod
    def new_initial(cls, node_id: int) -> "InitialState":
        """The state of a pristine node."""
        return cls(0, 0, 0, HardState(), MembershipConfig.new_initial(node_id))


@attrs.frozen
class SnapshotHeader:
    """What a snapshot says of itself: the last entry it covers, and the membership as of that entry.

    `membership_index` is the index of the entry that set the membership (0 if none did).  `engine` is opaque to
    walstore: a place for an engine's own encoding of the membership, at most 64 KiB.
    """

    id: str
    term: int = attrs.field(validator=_u64)
    index: int = attrs.field(validator=_u64)
    membership: MembershipConfig
    membership_index: int = attrs.field(default=0, validator=_u64)
    engine: bytes = b""


S = TypeVar("S")


@attrs.frozen
class CurrentSnapshotData(Generic[S]):
    """A snapshot and the open stream of its bytes, at offset 0."""

    term: int
    index: int
    membership: MembershipConfig
    snapshot: S
