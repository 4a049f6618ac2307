"""Logs in miniature: entries as values, and from them proposals, frames, runs and logs; and back again."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import attrs

from walstore._log.batch import EntryKind, encode_batch
from walstore._log.control import SnapshotRecord, decode_membership, encode_membership
from walstore._log.draft import Draft, Group, Place, assemble
from walstore._log.frame import Header
from walstore._log.limits import HEADER_PAGE
from walstore._log.plan import Proposal, propose
from walstore._log.replay import Replay
from walstore._log.runs import Log, Run
from walstore._log.state import Append, Install, LogState, Memberships, Truncate
from walstore._types import MembershipConfig, SnapshotHeader

NODE = 1
TAG = 7


@attrs.frozen
class Item:
    """An entry: bytes are Normal, None is Blank, a membership is a ConfigChange."""

    index: int
    term: int
    content: bytes | MembershipConfig | None

    @property
    def kind(self) -> EntryKind:
        """The cell in the column of kinds."""
        if self.content is None:
            return EntryKind.BLANK
        return EntryKind.NORMAL if isinstance(self.content, bytes) else EntryKind.CONFIG_CHANGE

    @property
    def payload(self) -> bytes:
        """The bytes in the frame."""
        if isinstance(self.content, MembershipConfig):
            return encode_membership(self.content)
        return self.content or b""


def normal(first: int, *terms: int) -> list[Item]:
    """Normal entries from `first` on, one for each term, no two with the same payload."""
    return [Item(first + i, term, b"%d of term %d" % (first + i, term)) for i, term in enumerate(terms)]


def member_change(index: int, term: int, *members: int) -> Item:
    """An entry that makes `members` the membership."""
    return Item(index, term, MembershipConfig(members))


def memberships_in(entries: Iterable[Item]) -> Memberships:
    """The memberships among the entries, with their indexes."""
    return tuple((item.index, item.content) for item in entries if isinstance(item.content, MembershipConfig))


def proposal(entries: Sequence[Item]) -> Proposal:
    """The entries as the roof hands them to the planner."""
    return propose(
        [item.index for item in entries],
        [item.term for item in entries],
        bytes(item.kind for item in entries),
        [item.payload for item in entries],
        memberships_in(entries),
    )


def batch(entries: Sequence[Item], *, mark: int | None = None, overwrite: bool = False) -> tuple[Draft, Run]:
    """The frame of the entries and their run, whether a log would take them or not."""
    return encode_batch(
        entries[0].index,
        [item.term for item in entries],
        bytes(item.kind for item in entries),
        [item.payload for item in entries],
        mark=mark,
        overwrite=overwrite,
    )


def run_of(entries: Sequence[Item], segment: int = 1) -> Run:
    """The run of the entries."""
    run = batch(entries)[1]
    run.segment = segment
    return run


def items_of(runs: Iterable[Run]) -> list[Item]:
    """The entries of runs, cut out one by one."""
    found = []
    for run in runs:
        for index in range(run.first, run.stop):
            data: bytes | MembershipConfig | None = run.bytes_at(index)
            kind = run.kind_at(index, EntryKind.NORMAL)
            if kind == EntryKind.CONFIG_CHANGE:
                data = decode_membership(run.bytes_at(index))
            elif kind == EntryKind.BLANK and not data:
                data = None
            found.append(Item(index, run.term_at(index), data))
    return found


def log_of(*runs: Sequence[Item]) -> Log:
    """A log of these runs, the n-th of them in segment n."""
    log = Log()
    for segment, entries in enumerate(runs, 1):
        log.append(run_of(entries, segment))
    return log


def record(index: int, term: int, members: Iterable[int] = (70,), membership_index: int = 0) -> SnapshotRecord:
    """What a log knows of a snapshot."""
    header = SnapshotHeader(f"s{index}", term, index, MembershipConfig(members), membership_index)
    return SnapshotRecord(header, 1000 + index, index)


def state_of(
    *runs: Sequence[Item], snapshot: SnapshotRecord | None = None, pointer: bool = True, drop: int = 0, mark: int = 0
) -> LogState:
    """A state with these entries above a snapshot; without those below `drop`, and then without the pointer.

    There may be a hole above the snapshot only where `drop` made it.
    """
    state = LogState(NODE)
    if snapshot is not None:
        state.apply(Install(snapshot, keep_suffix=False, mark=mark))
    for segment, entries in enumerate(runs, 1):
        state.apply(Append(run_of(entries, segment), memberships=memberships_in(entries)))
    if drop:
        state.apply(Truncate(0, drop))
    elif snapshot is not None and not pointer:
        state.apply(Truncate(0, snapshot.header.index + 1))
    return state


def assembled(drafts: Sequence[Draft], *, sequence: int = 0) -> Group:
    """The drafts as one barrier group behind the header page of an imagined segment."""
    return assemble(drafts, TAG, Place(HEADER_PAGE, sequence, 0, 0), 64)


def frames(*drafts: Draft) -> Iterator[tuple[Header, bytes]]:
    """The drafts as frames: header and body."""
    for header, draft in zip(assembled(drafts).headers, drafts, strict=True):
        yield header, b"".join(draft.buffers)


def take(replay: Replay, *drafts: Draft, segment: int = 1, keep: bool = False) -> Replay:
    """Has the frames of the drafts replayed."""
    for header, body in frames(*drafts):
        replay.take(header, body, segment, keep=keep)
    return replay


@contextlib.contextmanager
def placed(header: Header) -> Iterator[None]:
    """Adds to an exception of replay which frame it was about."""
    try:
        yield
    except Exception as error:
        error.add_note(f"frame {header.sequence}")
        raise
