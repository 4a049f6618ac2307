"""Frames to be replayed, each by what it says, whether it makes sense or not."""

from tests.log.histories import NODE, Item, assembled, batch, record, take
from walstore._log.control import Base, CloseBody, SnapshotBody, StateBody, SyncBody, TruncateBody
from walstore._log.draft import Draft
from walstore._log.frame import Flags, Kind
from walstore._log.replay import Replay
from walstore._log.scan import Span
from walstore._types import U64_MAX, HardState

EMPTY = Base(0, 0, 0, False, None, 1)
VOTE = HardState(4, 2)


def opening(base: Base | None = EMPTY, *, mark: int = 0, hard_state: HardState = VOTE) -> Draft:
    """The STATE that opens a segment."""
    return Draft(Kind.STATE, (StateBody(hard_state, mark, base).encode(),), flags=Flags.OPENING)


def vote(hard_state: HardState, mark: int = 0, base: Base | None = None) -> Draft:
    """A STATE in the middle of a segment."""
    return Draft(Kind.STATE, (StateBody(hard_state, mark, base).encode(),))


def entries(*few: Item, mark: int | None = None, overwrite: bool = False) -> Draft:
    """An ENTRIES frame."""
    return batch(few, mark=mark, overwrite=overwrite)[0]


def truncate(start: int, stop: int = U64_MAX, mark: int = 0) -> Draft:
    """A TRUNCATE frame."""
    return Draft(Kind.TRUNCATE, (TruncateBody(start, stop, mark, 1).encode(),), first_index=start)


def snapshot(index: int, term: int, last: int, last_term: int, *, keep: bool = True, mark: int = 0) -> Draft:
    """A SNAPSHOT frame."""
    body = SnapshotBody(record(index, term), index, last, last_term, keep, mark, 1)
    return Draft(Kind.SNAPSHOT, (body.encode(),), first_index=index, term=term)


def sync(mark: int) -> Draft:
    """A SYNC frame."""
    return Draft(Kind.SYNC, (SyncBody(mark).encode(),))


def close(mark: int) -> Draft:
    """A CLOSE frame."""
    return Draft(Kind.CLOSE, (CloseBody(mark).encode(),))


def replayed(*drafts: Draft) -> Replay:
    """A replay that has taken these frames, the first of which opens a segment."""
    return take(Replay(NODE), *drafts)


def span_of(*drafts: Draft) -> Span:
    """The frames as a scan hands them out."""
    group = assembled(drafts)
    return Span(4096, b"".join(group.buffers), list(group.headers))
