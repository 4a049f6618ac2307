"""ENTRIES bodies: the bytes, the way there and back, and what is no body."""

import contextlib
import struct
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, strategies as st

from tests.log.histories import Item, batch, frames, items_of, member_change, memberships_in, normal, run_of
from tests.log.reference import put
from walstore._log.batch import EntryKind, decode_batch, encode_run, memberships_of
from walstore._log.control import BodyError
from walstore._log.draft import Draft
from walstore._log.frame import Flags, Header, Kind, contradiction, make_header
from walstore._log.runs import Bytes, Run
from walstore._types import U64_MAX, MembershipConfig
from walstore.errors import CorruptionError

memberships = st.builds(MembershipConfig, st.frozensets(st.integers(0, 9), max_size=3), st.none() | st.just({1}))
contents = st.none() | st.binary(max_size=6) | memberships
u64s = st.integers(0, U64_MAX)


@st.composite
def batches(draw: st.DrawFn) -> list[Item]:
    """Consecutive entries of all kinds, whose terms never fall."""
    first = draw(st.integers(1, 2**63))
    terms = sorted(draw(st.lists(st.integers(0, 2) | u64s, min_size=1, max_size=6)))
    few = st.lists(contents, min_size=len(terms), max_size=len(terms))
    return [Item(first + i, term, content) for i, (term, content) in enumerate(zip(terms, draw(few), strict=True))]


def body_of(draft: Draft) -> bytes:
    """The body, in one piece."""
    return b"".join(draft.buffers)


def header_for(body: Bytes, *, count: int = 1, flags: int = 0, term: int = 0, first: int = 10) -> Header:
    """The header in front of a body that somebody else made."""
    return make_header(
        kind=Kind.ENTRIES, sequence=1, tag=0, offset=4096, body_len=len(body), body_crc=0, prev_link=0,
        first_index=first, term=term, count=count, flags=flags,
    )  # fmt: skip


# -- the bytes -----------------------------------------------------------------------------------------------------

GOLDEN = {
    "one": ([Item(9, 4, b"abc")], None, False, 0, 4, "03000000 616263"),
    "one, empty": ([Item(9, 4, b"")], None, False, 0, 4, "00000000"),
    "three of one term": (
        [Item(9, 4, b"a"), Item(10, 4, b""), Item(11, 4, b"bc")],
        None, False, 0, 4, "01000000 01000000 03000000 61 6263",
    ),
    "with mark": ([Item(9, 4, b"abc")], 0x0807, False, Flags.MARK, 4, "0708000000000000 03000000 616263"),
    "over a suffix": ([Item(9, 4, b"abc")], None, True, Flags.OVERWRITE, 4, "03000000 616263"),
    "with terms": (
        [Item(9, 4, b"a"), Item(10, 5, b"b")],
        None, False, Flags.TERMS, 0, "0400000000000000 0500000000000000 01000000 02000000 6162",
    ),
    "with kinds": (
        [Item(9, 4, b"a"), Item(10, 4, None), member_change(11, 4, 6)],
        None, False, Flags.KINDS, 4,
        "01000000 01000000 0e000000 010203 61 01000000 0600000000000000 00",
    ),
    "with all": (
        [Item(9, 4, None), Item(10, 5, b"b")],
        1, True, Flags.MARK | Flags.OVERWRITE | Flags.TERMS | Flags.KINDS, 0,
        "0100000000000000 0400000000000000 0500000000000000 00000000 01000000 0201 62",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("entries", "mark", "overwrite", "flags", "term", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_the_bytes_of_a_batch_never_change(
    entries: list[Item], mark: int | None, overwrite: bool, flags: int, term: int, expected: str
) -> None:
    """A column is there only where it says something, each at its place: this is the format."""
    draft, _ = batch(entries, mark=mark, overwrite=overwrite)

    assert body_of(draft) == bytes.fromhex(expected)
    assert (draft.kind, draft.flags, draft.first_index, draft.term, draft.count, draft.table_width) == (
        Kind.ENTRIES, flags, 9, term, len(entries), 4,
    )  # fmt: skip


# -- there and back ------------------------------------------------------------------------------------------------


@given(batches(), st.none() | u64s, st.booleans(), st.booleans())
def test_a_batch_comes_back_as_it_was(entries: list[Item], mark: int | None, overwrite: bool, keep: bool) -> None:
    """Entries, terms, kinds and mark are the same in the run that was written and the one that is read."""
    draft, written = batch(entries, mark=mark, overwrite=overwrite)
    ((header, body),) = frames(draft)

    read, read_mark = decode_batch(header, memoryview(body), keep=keep)

    assert contradiction(header) is None
    assert items_of([written]) == items_of([read]) == entries
    assert read_mark == mark
    assert bool(header.flags & Flags.OVERWRITE) is overwrite
    assert memberships_of(read) == memberships_of(written) == memberships_in(entries)


def test_a_kept_batch_is_a_view_and_another_a_copy() -> None:
    """With `keep` nothing is paid for an entry; without it the run does not hold on to the file's bytes."""
    ((header, body),) = frames(batch([Item(1, 1, b"aa"), Item(2, 2, b"bb")])[0])
    buffer = bytearray(body)

    kept, _ = decode_batch(header, memoryview(buffer), keep=True)
    copied, _ = decode_batch(header, memoryview(buffer), keep=False)
    buffer[:] = body.replace(b"aa", b"cc")
    assert kept.bytes_at(1) == b"cc"
    assert isinstance(kept.ends, memoryview)
    assert isinstance(kept.terms, memoryview)

    buffer[:] = bytes(len(buffer))
    assert items_of([copied]) == [Item(1, 1, b"aa"), Item(2, 2, b"bb")]


def test_the_payload_of_one_entry_is_not_copied() -> None:
    """The bytes that the codec made are those in memory and those that are written."""
    data = b"x" * 100
    draft, run = batch([Item(1, 1, data)])

    assert run.payload is data
    assert draft.buffers[-1] is data


def test_what_is_left_of_a_view_is_none() -> None:
    """When most of a run that was read is gone, no column of the rest keeps the span alive that it came from."""
    entries = [Item(1 + i, 1 + i // 2, None if i == 3 else bytes(30 - i)) for i in range(8)]
    ((header, body),) = frames(batch(entries)[0])
    run, _ = decode_batch(header, memoryview(body), keep=True)
    left = run.since(7)

    assert items_of([left]) == entries[6:]
    assert not any(isinstance(part, memoryview) for part in (left.ends, left.terms, left.payload, left.kinds))


@given(batches(), st.data())
def test_the_memberships_of_a_cut_run_are_those_among_what_is_left(entries: list[Item], data: st.DataObject) -> None:
    """Whatever was cut away on either side, with its own indexes for the rest."""
    run = run_of(entries)
    low = data.draw(st.integers(run.first, run.stop - 1))
    high = data.draw(st.integers(low + 1, run.stop))
    run = run.since(low)
    run = run.before(high) if high < run.stop else run

    assert memberships_of(run) == memberships_in(item for item in entries if low <= item.index < high)


@given(batches(), st.none() | u64s, st.booleans(), st.data())
def test_a_run_becomes_a_frame_again(entries: list[Item], mark: int | None, keep: bool, data: st.DataObject) -> None:
    """Whatever was cut away, and whether it was written or read: the frame holds the entries that are left."""
    draft, run = batch(entries, mark=mark)
    ((header, body),) = frames(draft)
    if data.draw(st.booleans()):
        run, _ = decode_batch(header, body, keep=keep)
    low = data.draw(st.integers(run.first, run.stop - 1))
    high = data.draw(st.integers(low + 1, run.stop))
    run = run.since(low)
    run = run.before(high) if high < run.stop else run

    ((header, body),) = frames(encode_run(run))
    again, mark = decode_batch(header, body, keep=False)

    assert contradiction(header) is None
    assert items_of([again]) == [item for item in entries if low <= item.index < high]
    assert (again.first, mark, header.flags & Flags.OVERWRITE) == (low, None, 0)
    assert memberships_of(again) == memberships_of(run)


def test_the_payload_of_a_run_that_becomes_a_frame_is_not_copied() -> None:
    """A backup needs no second copy of the log; an empty payload is no buffer."""
    run = run_of([Item(1, 1, b"aa"), Item(2, 1, b"bb"), Item(3, 1, b"cc")])
    view = encode_run(run.since(2)).buffers[-1]

    assert isinstance(view, memoryview)
    assert view.obj is run.payload
    assert bytes(view) == b"bbcc"
    assert _sizes(encode_run(run_of([Item(1, 1, b"")])).buffers) == [4]


def test_a_run_whose_ends_fall_becomes_no_frame() -> None:
    """What cannot be read from its frame is not hidden in another one."""
    run = attrs.evolve(run_of(normal(1, 1, 1, 1)), ends=(5, 3, 9), payload=bytes(9))
    with pytest.raises(CorruptionError) as caught:
        encode_run(run)
    assert caught.value.index == 2


# -- what is no body -----------------------------------------------------------------------------------------------

BAD = {
    "no entry": (0, 0, "", "columns of 0 entries"),
    "the ends are cut": (2, 0, "01000000 0200", "columns of 2 entries"),
    "the mark is cut": (1, Flags.MARK, "01000000 00000000", "columns of 1 entries"),
    "the terms are cut": (1, Flags.TERMS, "0100000000000000 010000", "columns of 1 entries"),
    "the kinds are cut": (2, Flags.KINDS, "00000000 00000000 01", "columns of 2 entries"),
    "too few bytes": (1, 0, "03000000 6162", "say 3 payload bytes, the body has 2"),
    "too many bytes": (1, 0, "01000000 6162", "say 1 payload bytes, the body has 2"),
    "the terms fall": (2, Flags.TERMS, "0200000000000000 0100000000000000 00000000 00000000", "terms fall"),
    "kind 0": (1, Flags.KINDS, "00000000 00", "unknown kind"),
    "kind 4": (2, Flags.KINDS, "00000000 00000000 0104", "unknown kind"),
}


@pytest.mark.parametrize(("count", "flags", "body", "said"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("keep", [True, False])
def test_a_body_that_is_not_well_formed_is_refused(count: int, flags: int, body: str, said: str, keep: bool) -> None:
    """Each rule of the file, broken alone."""
    data = bytes.fromhex(body)
    with pytest.raises(BodyError, match=said):
        decode_batch(header_for(data, count=count, flags=flags), data, keep=keep)


def test_equal_terms_in_a_column_and_normal_kinds_are_well_formed() -> None:
    """A column that says nothing is a waste, not a fault."""
    data = bytes.fromhex("0300000000000000 0300000000000000 01000000 02000000 0101 6162")
    run, _ = decode_batch(header_for(data, count=2, flags=Flags.TERMS | Flags.KINDS), data, keep=True)

    assert items_of([run]) == [Item(10, 3, b"a"), Item(11, 3, b"b")]


def _outcome(run: Run, index: int) -> bytes | None:
    try:
        return run.bytes_at(index)
    except CorruptionError:
        return None


def _check_hostile(body: bytes, count: int, flags: int) -> None:
    """Either BodyError, or a run of which each entry is its slice or CorruptionError, kept or copied."""
    header = header_for(body, count=count, flags=flags)
    try:
        kept, mark = decode_batch(header, body, keep=True)
    except BodyError:
        with pytest.raises(BodyError):
            decode_batch(header, body, keep=False)
        return
    copied, again = decode_batch(header, body, keep=False)
    assert mark == again
    ends = [0, *kept.ends]
    for slot, index in enumerate(range(kept.first, kept.stop)):
        start, end = ends[slot : slot + 2]
        expected = bytes(kept.payload[start:end]) if start <= end <= len(kept.payload) else None
        assert _outcome(kept, index) == _outcome(copied, index) == expected
        assert kept.term_at(index) == copied.term_at(index)
        assert kept.kind_at(index, 1) == copied.kind_at(index, 1)
    with contextlib.suppress(BodyError, CorruptionError):
        memberships_of(kept)


@given(st.binary(max_size=80), st.integers(0, 5), st.integers(0, 31).map(lambda bits: bits & ~Flags.OPENING))
def test_any_bytes_are_a_batch_or_an_error_of_ours(body: bytes, count: int, flags: int) -> None:
    """Hostile bytes raise BodyError, or CorruptionError where an entry is cut out, and nothing else."""
    _check_hostile(body, count, flags)


@given(batches(), st.none() | u64s, st.data())
def test_a_changed_batch_is_a_batch_or_an_error_of_ours(
    entries: list[Item], mark: int | None, data: st.DataObject
) -> None:
    """One byte changed, in a table or a payload, or bytes cut off or added."""
    draft, _ = batch(entries, mark=mark)
    body = body_of(draft)
    at = data.draw(st.integers(0, len(body) - 1))
    for changed in (put(body, at, data.draw(st.integers(0, 255)), 1), body[:at], body + b"\0"):
        _check_hostile(changed, draft.count, draft.flags)


def test_ends_that_fall_are_found_where_an_entry_is_cut_out() -> None:
    """A million ends are not walked at open: the table passes as long as its last cell is right."""
    data = struct.pack("<4I", 2, 5, 3, 6) + b"abcdef"
    run, _ = decode_batch(header_for(data, count=4), data, keep=True)

    assert [run.bytes_at(10), run.bytes_at(11), run.bytes_at(13)] == [b"ab", b"cde", b"def"]
    with pytest.raises(CorruptionError) as caught:
        run.bytes_at(12)
    assert caught.value.index == 12


@pytest.mark.parametrize(("content", "error"), [(b"\1\0\0\0", BodyError), (b"", BodyError)], ids=["cut short", "empty"])
def test_a_membership_that_is_none_is_refused(content: bytes, error: type[Exception]) -> None:
    """An entry that claims to be a membership is read at open, and has to be one."""
    run = attrs.evolve(run_of(normal(1, 1)), kinds=bytes([EntryKind.CONFIG_CHANGE]), payload=content)
    run.ends = (len(content),)

    with pytest.raises(error):
        memberships_of(run)


def test_a_run_of_normal_entries_has_no_memberships() -> None:
    """Without a column of kinds nothing is looked at."""
    assert memberships_of(run_of(normal(1, 1, 1))) == ()


def _sizes(buffers: Sequence[Bytes]) -> list[int]:
    return [len(buffer) for buffer in buffers]


def test_an_empty_payload_is_no_buffer() -> None:
    """A system call is not handed what has no bytes."""
    assert _sizes(batch([Item(1, 1, b"")])[0].buffers) == [4]
    assert _sizes(batch([Item(1, 1, b""), Item(2, 1, b"")])[0].buffers) == [8]
