"""The body of an ENTRIES frame, and the run that it becomes.

    +---------------+-----------------+----------------+--------------+--------------------------+
    | mark u64      | terms u64 x n   | ends u32 x n   | kinds u8 x n | payloads, end to end     |
    | if MARK       | if TERMS        |                | if KINDS     | ends[n - 1] bytes        |
    +---------------+-----------------+----------------+--------------+--------------------------+

`ends` is cumulative: entry i is payload[ends[i - 1]:ends[i]].  The terms column is there only where the terms differ
(else the header has the one term), the kinds column only where an entry is not Normal.  So the common batch costs four
bytes an entry beside the payload, and reading it back costs nothing an entry.

A body is well formed if and only if
1. it is long enough for its columns, and count is at least 1;
2. the last end is the length of the payloads (that the ends never fall is checked where an entry is cut out, by
   `Run.bytes_at`, so that a million entries are not walked at open);
3. kinds are known and terms never fall.
"""

import sys
from array import array
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Literal, TypeAlias

from .._types import MembershipConfig
from .control import BodyError, decode_membership
from .draft import Draft
from .frame import Flags, Header, Kind
from .runs import Bytes, Run, Terms


class EntryKind(IntEnum):
    """A cell of the column of kinds."""

    NORMAL = 1
    BLANK = 2
    CONFIG_CHANGE = 3
    """The payload is an encoded membership."""


_ENTRY_KINDS = bytes(EntryKind)

_Code: TypeAlias = Literal["I", "Q"]
_SWAP = sys.byteorder == "big"


def _column(code: _Code, values: Sequence[int]) -> "array[int]":
    column = array(code, values)
    if _SWAP:  # pragma: no cover  (a big-endian machine)
        column = column[:]
        column.byteswap()
    return column


def _read_column(code: _Code, body: Bytes, keep: bool) -> Sequence[int]:
    if keep and not _SWAP:
        return memoryview(body).cast(code)
    column = array(code, bytes(body))
    if _SWAP:  # pragma: no cover  (a big-endian machine)
        column.byteswap()
    return column


def encode_batch(
    first: int,
    terms: Sequence[int],
    kinds: bytes,
    payloads: Sequence[bytes],
    *,
    mark: int | None,
    overwrite: bool,
) -> tuple[Draft, Run]:
    """A frame for these entries, and the run that they are in memory.  The payloads are joined once, for both."""
    count = len(payloads)
    flags = (Flags.MARK if mark is not None else 0) | (Flags.OVERWRITE if overwrite else 0)
    buffers: list[Bytes] = []
    if mark is not None:
        buffers.append(mark.to_bytes(8, "little"))
    one_term: Terms = terms[0]
    if terms[0] != terms[-1]:
        flags |= Flags.TERMS
        one_term = array("Q", terms)
        buffers.append(_column("Q", terms).tobytes())
    ends: Sequence[int]
    if count == 1:
        payload = payloads[0]
        ends = (len(payload),)
        buffers.append(len(payload).to_bytes(4, "little"))
    else:
        payload = b"".join(payloads)
        total = 0
        ends = array("I", [total := total + len(data) for data in payloads])
        buffers.append(_column("I", ends).tobytes())
    some_kinds: Bytes | None = None
    if kinds.count(EntryKind.NORMAL) != count:
        flags |= Flags.KINDS
        some_kinds = kinds
        buffers.append(kinds)
    if payload:
        buffers.append(payload)
    draft = Draft(
        kind=Kind.ENTRIES,
        buffers=tuple(buffers),
        flags=flags,
        first_index=first,
        term=one_term if isinstance(one_term, int) else 0,
        count=count,
        table_width=4,
    )
    return draft, Run(first, count, one_term, ends, payload, some_kinds)


def encode_run(run: Run) -> Draft:
    """A frame for the live entries of a run, after whatever is before them.  The payload is not copied.

    CorruptionError if the ends fall: what could not be read from the one frame is not hidden in another.
    """
    start, stop = run.skip, run.skip + run.count
    begin = run.ends[start - 1] if start else run.base
    run.check_ends()
    flags = 0
    buffers: list[Bytes] = []
    term = run.terms if isinstance(run.terms, int) else 0
    if not isinstance(run.terms, int):
        flags |= Flags.TERMS
        buffers.append(_column("Q", list(run.terms[start:stop])).tobytes())
    buffers.append(_column("I", [end - begin for end in run.ends[start:stop]]).tobytes())
    if run.kinds is not None:
        flags |= Flags.KINDS
        buffers.append(bytes(run.kinds[start:stop]))
    if run.size:
        buffers.append(memoryview(run.payload)[begin - run.base : begin - run.base + run.size])
    return Draft(Kind.ENTRIES, tuple(buffers), flags, run.first, term, run.count, 4)


def decode_batch(header: Header, body: Bytes, *, keep: bool) -> tuple[Run, int | None]:
    """The run of a frame whose checksums hold, and its mark if it has one.  Raises BodyError.

    With `keep` the run's columns and payload are views into `body`; else they are copies.
    """
    flags, count = header.flags, header.count
    at = 8 if flags & Flags.MARK else 0
    terms_at = at
    at += 8 * count if flags & Flags.TERMS else 0
    ends_at = at
    at += 4 * count
    kinds_at = at
    at += count if flags & Flags.KINDS else 0
    if count < 1 or at > len(body):
        msg = f"{len(body)} bytes do not hold the columns of {count} entries"
        raise BodyError(msg)
    view = memoryview(body)
    mark = int.from_bytes(view[:8], "little") if flags & Flags.MARK else None
    terms: Terms = header.term
    if flags & Flags.TERMS:
        terms = _read_column("Q", view[terms_at:ends_at], keep)
        if any(later < term for term, later in pairwise(terms)):
            msg = "the terms fall"
            raise BodyError(msg)
    ends = _read_column("I", view[ends_at:kinds_at], keep)
    if ends[-1] != len(body) - at:
        msg = f"the ends say {ends[-1]} payload bytes, the body has {len(body) - at}"
        raise BodyError(msg)
    kinds: Bytes | None = None
    if flags & Flags.KINDS:
        kinds = bytes(view[kinds_at:at])
        if kinds.translate(None, _ENTRY_KINDS):
            msg = "an entry is of an unknown kind"
            raise BodyError(msg)
    payload = view[at:] if keep else bytes(view[at:])
    return Run(header.first_index, count, terms, ends, payload, kinds), mark


def memberships_of(run: Run) -> tuple[tuple[int, MembershipConfig], ...]:
    """The memberships among the entries of a run, with their indexes.  Raises BodyError."""
    if run.kinds is None:
        return ()
    found = []
    kinds = bytes(run.kinds[run.skip : run.skip + run.count])
    slot = kinds.find(EntryKind.CONFIG_CHANGE)
    while slot >= 0:
        index = run.first + slot
        found.append((index, decode_membership(run.bytes_at(index))))
        slot = kinds.find(EntryKind.CONFIG_CHANGE, slot + 1)
    return tuple(found)
