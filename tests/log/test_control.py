"""The bodies of control frames: one encoding for each value, and nothing else decodes."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.log.reference import put
from walstore._log import control
from walstore._log.checksum import Buffer
from walstore._log.control import (
    TO_THE_END,
    Base,
    BodyError,
    CloseBody,
    SnapshotBody,
    SnapshotRecord,
    StateBody,
    SyncBody,
    TruncateBody,
    decode_close,
    decode_membership,
    decode_snapshot,
    decode_snapshot_header,
    decode_state,
    decode_sync,
    decode_truncate,
    encode_membership,
    encode_snapshot_header,
)
from walstore._log.limits import MAX_ENGINE_BYTES, MAX_MEMBERS, MAX_SNAPSHOT_ID
from walstore._types import HardState, MembershipConfig, SnapshotHeader
from walstore.errors import EntryTooLargeError, UsageError

MEMBERSHIP = MembershipConfig({0x11, 0x0102030405060708}, {5})
HEADER = SnapshotHeader("é1", 0x21, 0x22, MEMBERSHIP, 0x23, b"engine")
RECORD = SnapshotRecord(HEADER, 0x3132333435363738, 0x41424344)
BASE = Base(0x51, 0x52, 0x53, True, RECORD, 0x54)

MEMBERSHIP_HEX = "02000000 1100000000000000 0807060504030201 01 01000000 0500000000000000"
HEADER_HEX = "0300 c3a931 2100000000000000 2200000000000000 2300000000000000 06000000 656e67696e65" + MEMBERSHIP_HEX
RECORD_HEX = "3837363534333231 44434241" + HEADER_HEX
BASE_HEX = "5100000000000000 5200000000000000 5300000000000000 5400000000000000 01 01" + RECORD_HEX

Decode = Callable[[Buffer], Any]
DECODERS: dict[type, Decode] = {
    MembershipConfig: decode_membership,
    SnapshotHeader: decode_snapshot_header,
    StateBody: decode_state,
    TruncateBody: decode_truncate,
    SnapshotBody: decode_snapshot,
    SyncBody: decode_sync,
    CloseBody: decode_close,
}
GOLDEN = {
    "membership": (MEMBERSHIP, MEMBERSHIP_HEX),
    "of nobody": (MembershipConfig(set()), "00000000 00"),
    "then of nobody": (MembershipConfig({1}, set()), "01000000 0100000000000000 01 00000000"),
    "snapshot header": (HEADER, HEADER_HEX),
    "state": (StateBody(HardState(7), 9), "0700000000000000 00 0900000000000000 00"),
    "state, vote for 0": (
        StateBody(HardState(7, 0), 9),
        "0700000000000000 01 0000000000000000 0900000000000000 00",
    ),
    "state with base": (
        StateBody(HardState(7, 8), 9, BASE),
        "0700000000000000 01 0800000000000000 0900000000000000 01" + BASE_HEX,
    ),
    "state of a new store": (
        StateBody(HardState(0), 0, Base(0, 0, 0, False, None, 1)),
        f"{'00' * 8} 00 {'00' * 8} 01 {'00' * 24} 0100000000000000 00 00",
    ),
    "truncate": (
        TruncateBody(3, TO_THE_END, 2, 1),
        "0300000000000000 ffffffffffffffff 0200000000000000 0100000000000000",
    ),
    "snapshot": (
        SnapshotBody(RECORD, 1, 2, 3, True, 4, 5),
        "0100000000000000 0200000000000000 0300000000000000 0400000000000000 0500000000000000 01" + RECORD_HEX,
    ),
    "sync": (SyncBody(6), "0600000000000000"),
    "close": (CloseBody(6), "0600000000000000"),
}

u64s = st.integers(0, 2**64 - 1)
node_ids = st.frozensets(u64s, max_size=4)
memberships = st.builds(MembershipConfig, node_ids, st.none() | node_ids)
ids = st.text(st.characters(codec="utf-8"), max_size=30)
snapshot_headers = st.builds(SnapshotHeader, ids, u64s, u64s, memberships, u64s, st.binary(max_size=20))
records = st.builds(SnapshotRecord, snapshot_headers, u64s, st.integers(0, 2**32 - 1))
bases = st.builds(Base, u64s, u64s, u64s, st.just(False), st.none() | records, u64s) | st.builds(
    Base, u64s, u64s, u64s, st.booleans(), records, u64s
)
hard_states = st.builds(HardState, u64s, st.none() | u64s)
values = st.one_of(
    memberships,
    snapshot_headers,
    st.builds(StateBody, hard_states, u64s, st.none() | bases),
    st.tuples(u64s, u64s, u64s, u64s).filter(lambda f: f[0] < f[1]).map(lambda f: TruncateBody(*f)),
    st.builds(SnapshotBody, records, u64s, u64s, u64s, st.booleans(), u64s, u64s),
    st.builds(SyncBody, u64s),
    st.builds(CloseBody, u64s),
)


def encode(value: Any) -> bytes:
    """The bytes of any value of this file."""
    if isinstance(value, MembershipConfig):
        return encode_membership(value)
    if isinstance(value, SnapshotHeader):
        return encode_snapshot_header(value)
    data: bytes = value.encode()
    return data


# -- the bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_the_bytes_of_a_body_never_change(value: Any, expected: str) -> None:
    """Each field at its place: this is the format."""
    assert encode(value) == bytes.fromhex(expected)
    assert DECODERS[type(value)](bytes.fromhex(expected)) == value


@given(values)
def test_a_body_comes_back_as_it_was(value: Any) -> None:
    """Whatever it holds, from any kind of buffer."""
    data, decode = encode(value), DECODERS[type(value)]

    assert decode(data) == decode(memoryview(data)) == decode(bytearray(data)) == value


@given(values)
def test_a_cut_or_longer_body_is_refused(value: Any) -> None:
    """At every length: a body has exactly its bytes."""
    data, decode = encode(value), DECODERS[type(value)]
    for length in range(len(data)):
        with pytest.raises(BodyError):
            decode(data[:length])
    with pytest.raises(BodyError, match="1 bytes are left over"):
        decode(data + b"\0")


@given(values, st.data())
def test_changed_bodies_decode_to_what_encodes_the_same(value: Any, data: st.DataObject) -> None:
    """One value has one encoding: whatever is accepted, encodes to the very bytes it came from."""
    changed = bytearray(encode(value))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = DECODERS[type(value)](changed)
    except BodyError:
        return
    assert encode(again) == changed


@pytest.mark.parametrize("decode", DECODERS.values(), ids=lambda decode: decode.__name__)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_body_or_an_error_of_ours(decode: Decode, data: bytes) -> None:
    """Hostile bytes raise nothing else."""
    try:
        value = decode(data)
    except BodyError:
        return
    assert encode(value) == data


# -- single rules --------------------------------------------------------------------------------------------------


def test_equal_memberships_have_equal_bytes() -> None:
    """In whatever order the ids came."""
    assert encode_membership(MembershipConfig([3, 1, 2])) == encode_membership(MembershipConfig([2, 3, 1]))


@pytest.mark.parametrize("ids", [(2, 1), (1, 1), (1, 3, 2)])
def test_the_ids_of_a_membership_ascend(ids: tuple[int, ...]) -> None:
    """Another order or a repetition would be a second encoding of the same set."""
    data = len(ids).to_bytes(4, "little") + b"".join(i.to_bytes(8, "little") for i in ids) + b"\0"

    with pytest.raises(BodyError, match="do not ascend"):
        decode_membership(data)


@pytest.mark.parametrize(
    ("body", "at"),
    [
        (encode_membership(MembershipConfig({1})), 12),
        (StateBody(HardState(1), 2).encode(), 8),
        (StateBody(HardState(1), 2).encode(), 17),
        (StateBody(HardState(1), 2, Base(0, 0, 0, False, None, 1)).encode(), 50),
        (StateBody(HardState(1), 2, Base(0, 0, 0, False, None, 1)).encode(), 51),
        (SnapshotBody(RECORD, 1, 2, 3, False, 4, 5).encode(), 40),
    ],
)
def test_flags_are_0_or_1(body: bytes, at: int) -> None:
    """Everything else is refused, where it stands."""
    decode = {13: decode_membership, 18: decode_state, 52: decode_state}.get(len(body), decode_snapshot)
    assert body[at] == 0

    with pytest.raises(BodyError, match=f"the flag at {at} is 2"):
        decode(put(body, at, 2, 1))


def test_a_pointer_needs_its_snapshot() -> None:
    """The pointer's id and membership are the snapshot's."""
    with pytest.raises(BodyError, match="no snapshot for it"):
        Base(1, 2, 3, True, None, 1)
    with pytest.raises(BodyError, match="no snapshot for it"):
        decode_state(put(StateBody(HardState(1), 2, Base(0, 0, 0, False, None, 1)).encode(), 50, 1, 1))


@pytest.mark.parametrize(("start", "stop"), [(1, 1), (2, 1)])
def test_a_truncation_takes_something_away(start: int, stop: int) -> None:
    """An empty or inverted range is nobody's call."""
    with pytest.raises(BodyError, match=rf"a truncation of \[{start}, {stop}\)"):
        TruncateBody(start, stop, 0, 1)
    data = TruncateBody(0, 9, 0, 1).encode()
    with pytest.raises(BodyError, match="a truncation of"):
        decode_truncate(put(put(data, 0, start, 8), 8, stop, 8))


def test_an_id_that_is_no_text_is_refused() -> None:
    """When read, as a bad body; when written, as a wrong call."""
    with pytest.raises(BodyError, match="not UTF-8"):
        decode_snapshot_header(put(encode_snapshot_header(HEADER), 2, 0xFF, 1))
    with pytest.raises(UsageError, match="cannot be written as UTF-8"):
        encode_snapshot_header(SnapshotHeader("\ud800", 1, 2, MEMBERSHIP))


@pytest.mark.parametrize(
    ("kind", "values", "name"),
    [
        (SyncBody, [2**64], "mark"),
        (CloseBody, [-1], "mark"),
        (SnapshotRecord, [HEADER, -1, 0], "size"),
        (SnapshotRecord, [HEADER, 0, 2**32], "checksum"),
        (SnapshotRecord, [HEADER, 0, -1], "checksum"),
        (Base, [0, 2**64, 0, False, None, 1], "last_index"),
    ],
)
def test_numbers_out_of_range_are_not_made(kind: Callable[..., object], values: list[Any], name: str) -> None:
    """A ValueError that names the field, before a byte exists."""
    with pytest.raises(ValueError, match=name):
        kind(*values)


# -- limits --------------------------------------------------------------------------------------------------------


def test_the_largest_values_pass() -> None:
    """At each limit, written and read."""
    header = SnapshotHeader(
        "i" * MAX_SNAPSHOT_ID,
        1,
        2,
        MembershipConfig(range(MAX_MEMBERS), range(MAX_MEMBERS)),
        1,
        bytes(MAX_ENGINE_BYTES),
    )

    assert decode_snapshot_header(encode_snapshot_header(header)) == header


@pytest.mark.parametrize("checksum", [0, 2**32 - 1])
def test_a_checksum_may_be_any_number_of_its_width(checksum: int) -> None:
    """From all zeros to all ones."""
    body = SnapshotBody(SnapshotRecord(HEADER, 0, checksum), 0, 0, 0, False, 0, 0)

    assert decode_snapshot(body.encode()) == body


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (SnapshotHeader("é" * 64 + "x", 1, 2, MEMBERSHIP), "a snapshot id of 129 bytes"),
        (SnapshotHeader("", 1, 2, MEMBERSHIP, 0, bytes(MAX_ENGINE_BYTES + 1)), "65537 engine bytes"),
        (SnapshotHeader("", 1, 2, MembershipConfig(range(MAX_MEMBERS + 1))), "a membership of 4097 nodes"),
        (SnapshotHeader("", 1, 2, MembershipConfig((), range(MAX_MEMBERS + 1))), "a membership of 4097 nodes"),
    ],
)
def test_one_more_is_refused_before_a_byte_is_written(header: SnapshotHeader, message: str) -> None:
    """As a call that is too large."""
    with pytest.raises(EntryTooLargeError, match=message):
        encode_snapshot_header(header)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (put(encode_membership(MEMBERSHIP), 0, MAX_MEMBERS + 1, 4), "4097 nodes in a membership"),
        (put(encode_membership(MEMBERSHIP), 0, 2**32 - 1, 4), "4294967295 nodes in a membership"),
        (put(encode_membership(MEMBERSHIP), 0, MAX_MEMBERS, 4), "32768 bytes are needed at 4"),
    ],
)
def test_a_hostile_count_allocates_nothing(data: bytes, message: str) -> None:
    """It is compared with its limit, and with what is left, before anything of its size is made."""
    tracemalloc.start()
    try:
        with pytest.raises(BodyError, match=message):
            decode_membership(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16384


@pytest.mark.parametrize(
    ("at", "size", "value", "message"),
    [
        (0, 2, MAX_SNAPSHOT_ID + 1, "129 bytes of snapshot id"),
        (0, 2, MAX_SNAPSHOT_ID, "128 bytes are needed"),
        (29, 4, MAX_ENGINE_BYTES + 1, "65537 engine bytes"),
        (29, 4, 2**32 - 1, "4294967295 engine bytes"),
        (29, 4, MAX_ENGINE_BYTES, "65536 bytes are needed"),
    ],
)
def test_hostile_lengths_in_a_snapshot_header_are_refused(at: int, size: int, value: int, message: str) -> None:
    """Above the limit by the limit, below it by what is left of the body."""
    with pytest.raises(BodyError, match=message):
        decode_snapshot_header(put(encode_snapshot_header(HEADER), at, value, size))


def test_every_kind_of_body_has_its_picture() -> None:
    """The documentation of the format is in the file that makes it."""
    for name in ("membership", "header", "record", "base", "STATE", "TRUNCATE", "SNAPSHOT", "SYNC, CLOSE"):
        assert f"\n    {name} " in str(control.__doc__)
