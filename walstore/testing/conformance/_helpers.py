"""Words for cases: entries, expectations, snapshots on their way from one store to another.

Expectations raise `CaseFailure` rather than use `assert`, so that the kit also judges under `python -O`.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ..._types import (
    Blank,
    ConfigChange,
    CurrentSnapshotData,
    Entry,
    HardState,
    MembershipConfig,
    Normal,
    SnapshotPointer,
)
from ...abc import SnapshotReader, SnapshotWriter
from ._lab import Lab, Store
from ._machine import ClientRequest, KitMachine

LogEntry = Entry[ClientRequest]
E = TypeVar("E", bound=BaseException)


class CaseFailure(AssertionError):
    """The store did not do what the case expects."""


def r(index: int, status: str | None = None, *, client: str = "c") -> ClientRequest:
    """A request that no other index shares: the client's serial is `index`, the status tells of it too."""
    return ClientRequest(client, index, f"at {index}" if status is None else status)


def e(term: int, index: int) -> LogEntry:
    """A blank entry."""
    return Entry(term, index, Blank())


def n(term: int, index: int, data: ClientRequest | None = None) -> LogEntry:
    """A Normal entry; its data is `r(index)` unless given."""
    return Entry(term, index, Normal(r(index) if data is None else data))


def members(ids: Iterable[int], after: Iterable[int] | None = None) -> MembershipConfig:
    """A membership; joint if `after` is given."""
    return MembershipConfig(frozenset(ids), None if after is None else frozenset(after))


def m(term: int, index: int, ids: Iterable[int], after: Iterable[int] | None = None) -> LogEntry:
    """A ConfigChange entry."""
    return Entry(term, index, ConfigChange(members(ids, after)))


def blanks(term: int, start: int, stop: int) -> list[LogEntry]:
    """Blank entries of one term, start <= index < stop."""
    return [e(term, index) for index in range(start, stop)]


def normals(term: int, start: int, stop: int) -> list[LogEntry]:
    """Normal entries of one term, start <= index < stop."""
    return [n(term, index) for index in range(start, stop)]


def fail(message: str) -> None:
    """The case failed."""
    raise CaseFailure(message)


def expect(found: object, expected: object, what: str = "") -> None:
    """`found` equals `expected`."""
    if found != expected:
        raise CaseFailure(f"{what or 'value'}: expected {expected!r}, found {found!r}")


def expect_true(condition: object, what: str) -> None:
    """`condition` holds; `what` is the sentence that it is the truth of."""
    if not condition:
        raise CaseFailure(f"not so: {what}")


@contextmanager
def refused(*errors: type[E]) -> Iterator[list[E]]:
    """The block raises one of `errors`; the list then holds it."""
    caught: list[E] = []
    try:
        yield caught
    except errors as error:
        caught.append(error)
    else:
        raise CaseFailure(f"nothing was raised; expected {' or '.join(error.__name__ for error in errors)}")


def identities(entries: Iterable[LogEntry]) -> list[tuple[int, int]]:
    """(term, index) of each entry."""
    return [(entry.term, entry.index) for entry in entries]


async def read_log(store: Store) -> list[LogEntry]:
    """The whole log, the pointer included."""
    return await store.get_log_entries(0, 2**64 - 1)


async def expect_log(store: Store, expected: Sequence[LogEntry | tuple[int, int]]) -> None:
    """The whole log is `expected`: entries are compared wholly, (term, index) pairs stand for any payload."""
    found = await read_log(store)
    wanted = identities_of(expected)
    expect(identities(found), wanted, "the log's (term, index) pairs")
    for entry, want in zip(found, expected, strict=True):
        if isinstance(want, Entry):
            expect(entry, want, f"entry {entry.index}")


def identities_of(expected: Iterable[LogEntry | tuple[int, int]]) -> list[tuple[int, int]]:
    """(term, index) of entries and pairs alike."""
    return [(want.term, want.index) if isinstance(want, Entry) else want for want in expected]


async def expect_pointer(
    store: Store, term: int, index: int, membership: MembershipConfig | Collection[int] | None = None
) -> None:
    """The log begins with a pointer of this term and index, and nothing below is readable."""
    found = await store.get_log_entries(0, index + 1)
    expect(identities(found), [(term, index)], "the log up to the pointer")
    payload = found[0].payload
    if not isinstance(payload, SnapshotPointer):
        raise CaseFailure(f"entry {index} is not a snapshot pointer: {payload!r}")
    if membership is not None:
        expect(payload.membership, as_membership(membership), "the pointer's membership")


def as_membership(membership: MembershipConfig | Collection[int]) -> MembershipConfig:
    """A set of ids stands for the membership that is not joint."""
    return membership if isinstance(membership, MembershipConfig) else members(membership)


async def expect_state(
    store: Store,
    *,
    last: tuple[int, int] | None = None,
    applied: int | None = None,
    hard: HardState | None = None,
    membership: MembershipConfig | Collection[int] | None = None,
) -> None:
    """The initial state has these parts.  `last` is (term, index) of the last log entry."""
    state = await store.get_initial_state()
    if last is not None:
        expect((state.last_log_term, state.last_log_index), last, "(term, index) of the last log entry")
    if applied is not None:
        expect(state.last_applied_log, applied, "last_applied_log")
    if hard is not None:
        expect(state.hard_state, hard, "hard state")
    if membership is not None:
        expect(state.membership, as_membership(membership), "membership in the initial state")
        expect(await store.get_membership_config(), as_membership(membership), "membership")


async def expect_snapshot(
    store: Store, term: int, index: int, membership: MembershipConfig | Collection[int] | None = None
) -> None:
    """The current snapshot is of this term and index (and membership)."""
    current = await current_snapshot(store)
    expect((current.term, current.index), (term, index), "(term, index) of the current snapshot")
    expect((current.snapshot.header.term, current.snapshot.header.index), (term, index), "the snapshot's header")
    if membership is not None:
        expect(current.membership, as_membership(membership), "membership of the current snapshot")
    await current.snapshot.aclose()


async def expect_no_snapshot(store: Store) -> None:
    """There never was a snapshot."""
    expect(await store.get_current_snapshot(), None, "current snapshot")


async def current_snapshot(store: Store) -> CurrentSnapshotData[SnapshotReader]:
    """The current snapshot, which must exist."""
    current = await store.get_current_snapshot()
    if current is None:
        raise CaseFailure("there is no current snapshot")
    return current


async def log_and_apply(store: Store, entries: Sequence[LogEntry]) -> None:
    """Puts the entries in the log and applies the Normal ones in one batch, as a Raft core would."""
    await store.replicate_to_log(entries)
    await apply_all(store, entries)


async def apply_all(store: Store, entries: Iterable[LogEntry]) -> None:
    """Applies the Normal ones of these entries, which are in the log, in one batch."""
    pairs = [(entry.index, entry.payload.data) for entry in entries if isinstance(entry.payload, Normal)]
    await store.replicate_to_state_machine(pairs)


def content_after(pairs: Iterable[tuple[int, ClientRequest]]) -> bytes:
    """What a machine holds (`KitMachine.content`) that has applied these pairs and nothing else."""
    machine = KitMachine()
    for index, data in pairs:
        machine.apply(index, data)
    return machine.content()


async def compact(store: Store) -> CurrentSnapshotData[SnapshotReader]:
    """Compacts and closes the reader that it gives."""
    built = await store.do_log_compaction()
    await built.snapshot.aclose()
    return built


async def read_all(reader: SnapshotReader, chunk: int = 65536) -> bytes:
    """The rest of a snapshot, read in pieces of at most `chunk` bytes; the reader stays open."""
    pieces: list[bytes] = []
    while piece := await reader.receive_some(chunk):
        pieces.append(bytes(piece))
    return b"".join(pieces)


async def snapshot_bytes(store: Store) -> bytes:
    """All bytes of the current snapshot."""
    async with (await current_snapshot(store)).snapshot as reader:
        return await read_all(reader)


async def send(store: Store, data: bytes, chunk: int | None = None) -> tuple[str, SnapshotWriter]:
    """Writes `data` into a new snapshot writer as a Raft core does: in chunks, an empty last one, then shut."""
    id, writer = await store.create_snapshot()
    step = chunk or max(len(data), 1)
    for start in range(0, len(data), step):
        await writer.send_all(data[start : start + step])
    await writer.send_all(b"")
    await writer.aclose()
    return id, writer


async def install(
    store: Store, data: bytes, index: int, term: int, delete_through: int | None = None, chunk: int | None = None
) -> None:
    """Sends `data` and finalizes it."""
    id, writer = await send(store, data, chunk)
    await store.finalize_snapshot_installation(index, term, delete_through, id, writer)


async def make_snapshot(
    lab: Lab,
    index: int,
    term: int,
    membership: MembershipConfig | Collection[int] = (0,),
    requests: Sequence[ClientRequest] | None = None,
    membership_index: int | None = None,
) -> bytes:
    """The bytes of a whole, valid snapshot of (term, index), made by a second store.

    `requests` (default: one) were applied at the consecutive indexes that end with `index`.  The membership's entry
    stands at `membership_index`: right before them unless given, or at `index` itself where there is no room.
    """
    commands = [r(index)] if requests is None else list(requests)
    first = index - len(commands) + 1
    at = membership_index if membership_index is not None else (first - 1 or index)
    peer = lab.another()
    store = await peer.open()
    entries: list[LogEntry] = []
    for position in range(min(at, first), index + 1):
        if position == at:
            entries.append(Entry(term, position, ConfigChange(as_membership(membership))))
        elif position < first:
            entries.append(e(term, position))
        else:
            entries.append(n(term, position, commands[position - first]))
    await store.replicate_to_log(entries)
    await store.replicate_to_state_machine([(first + place, data) for place, data in enumerate(commands)])
    built = await store.do_log_compaction()
    async with built.snapshot as reader:
        data = await read_all(reader)
    await peer.close()
    return data


def any_of(found: object, *allowed: object, what: str = "") -> None:
    """`found` equals one of `allowed`."""
    if not any(found == candidate for candidate in allowed):
        raise CaseFailure(f"{what or 'value'}: expected one of {allowed!r}, found {found!r}")


def attribute(store: Store, name: str) -> Any:
    """A part of walstore's own store that the interface does not have, such as `first_index`.

    A store without it skips the check that needs it, by `has`.
    """
    return getattr(store, name)


def has(store: Store, *names: str) -> bool:
    """Whether the store offers these beyond the interface."""
    return all(hasattr(store, name) for name in names)
