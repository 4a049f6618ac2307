"""Names in the directory: made from numbers, read back to the same numbers, and told apart from all others."""

import re

import pytest
from hypothesis import given, strategies as st

from walstore._log.names import (
    IDENTITY_TEMPORARY,
    NameKind,
    classify,
    is_temporary,
    parse_segment_name,
    parse_snapshot_name,
    segment_name,
    segment_temporary,
    snapshot_name,
    snapshot_temporary,
    spare_name,
)

u64s = st.integers(0, 2**64 - 1)
sequences = st.integers(1, 2**64 - 1)

KINDS = [
    ("LOCK", NameKind.LOCK),
    ("IDENTITY", NameKind.IDENTITY),
    ("EMERGENCY", NameKind.EMERGENCY),
    ("wal-0000000000000001-00000000000000000000.wal", NameKind.SEGMENT),
    ("wal-ffffffffffffffff-18446744073709551615.wal", NameKind.SEGMENT),
    ("snap-0-0", NameKind.SNAPSHOT),
    ("snap-7-1042", NameKind.SNAPSHOT),
    ("snap-18446744073709551615-18446744073709551615", NameKind.SNAPSHOT),
    ("IDENTITY.tmp", NameKind.TEMPORARY),
    ("spare-3.tmp", NameKind.TEMPORARY),
    ("spare-emergency.tmp", NameKind.TEMPORARY),
    ("spare-.tmp", NameKind.TEMPORARY),
    ("wal-0000000000000001-00000000000000000001.tmp", NameKind.TEMPORARY),
    ("wal-x.wal.tmp", NameKind.TEMPORARY),
    ("snap-7-1042.tmp", NameKind.TEMPORARY),
    ("snap-a\nb.tmp", NameKind.TEMPORARY),
    # Looks like a segment.
    ("wal-0000000000000000-00000000000000000001.wal", NameKind.MALFORMED),
    ("wal-0000000000000001-18446744073709551616.wal", NameKind.MALFORMED),
    ("wal-0000000000000001-0000000000000000001.wal", NameKind.MALFORMED),
    ("wal-000000000000001-00000000000000000001.wal", NameKind.MALFORMED),
    ("wal-000000000000000A-00000000000000000001.wal", NameKind.MALFORMED),
    ("wal-0000000000000001-0000000000000000000a.wal", NameKind.MALFORMED),
    ("wal-0000000000000001-0000000000000000000\N{ARABIC-INDIC DIGIT ONE}.wal", NameKind.MALFORMED),
    ("wal-0000000000000001-00000000000000000001.wal\n", NameKind.MALFORMED),
    ("wal-0000000000000001-00000000000000000001.wal.bak", NameKind.MALFORMED),
    ("wal-0000000000000001-00000000000000000001", NameKind.MALFORMED),
    ("copy of wal-0000000000000001-00000000000000000001.wal", NameKind.MALFORMED),
    ("wal-", NameKind.MALFORMED),
    (".wal", NameKind.MALFORMED),
    ("a\nb.wal", NameKind.MALFORMED),
    # Looks like a snapshot.
    ("snap-", NameKind.MALFORMED),
    ("snap-7", NameKind.MALFORMED),
    ("snap-07-1042", NameKind.MALFORMED),
    ("snap-7-01042", NameKind.MALFORMED),
    ("snap-7-1042\n", NameKind.MALFORMED),
    ("snap-7-+1042", NameKind.MALFORMED),
    ("snap--7-1042", NameKind.MALFORMED),
    ("snap-7-1_042", NameKind.MALFORMED),
    ("snap-18446744073709551616-1", NameKind.MALFORMED),
    ("snap-1-18446744073709551616", NameKind.MALFORMED),
    ("snap-1-999999999999999999999", NameKind.MALFORMED),
    # Nobody's.
    ("", NameKind.FOREIGN),
    ("README", NameKind.FOREIGN),
    ("lock", NameKind.FOREIGN),
    ("LOCK.tmp", NameKind.FOREIGN),
    ("IDENTITY.bak", NameKind.FOREIGN),
    ("EMERGENCY.tmp", NameKind.FOREIGN),
    ("spare-3", NameKind.FOREIGN),
    ("spare-3.tmp~", NameKind.FOREIGN),
    ("my-spare-3.tmp", NameKind.FOREIGN),
    ("x.tmp", NameKind.FOREIGN),
    ("wal", NameKind.FOREIGN),
    ("snapshot", NameKind.FOREIGN),
    ("quarantine", NameKind.FOREIGN),
]


@pytest.mark.parametrize(("name", "kind"), KINDS, ids=lambda value: ascii(value) if isinstance(value, str) else None)
def test_each_name_is_of_one_kind(name: str, kind: NameKind) -> None:
    """Ours, ours in the making, nearly ours, or not ours."""
    assert classify(name) is kind
    assert is_temporary(name) == (kind is NameKind.TEMPORARY)
    assert (parse_segment_name(name) is not None) == (kind is NameKind.SEGMENT)
    assert (parse_snapshot_name(name) is not None) == (kind is NameKind.SNAPSHOT)


def test_the_names_never_change() -> None:
    """They are in the directories of the world."""
    assert segment_name(0x1A2B, 1042) == "wal-0000000000001a2b-00000000000000001042.wal"
    assert segment_temporary(0x1A2B, 1042) == "wal-0000000000001a2b-00000000000000001042.tmp"
    assert snapshot_name(7, 1042) == "snap-7-1042"
    assert snapshot_temporary(3) == "snap-3.tmp"
    assert spare_name(3) == "spare-3.tmp"
    assert IDENTITY_TEMPORARY == "IDENTITY.tmp"


@given(sequences, u64s)
def test_a_segment_name_comes_back_as_its_numbers(sequence: int, first_index: int) -> None:
    """All 64 bits of both; the same file in the making is a temporary."""
    name = segment_name(sequence, first_index)

    assert parse_segment_name(name) == (sequence, first_index)
    assert classify(name) is NameKind.SEGMENT
    assert classify(segment_temporary(sequence, first_index)) is NameKind.TEMPORARY


@given(sequences, u64s, sequences, u64s)
def test_segment_names_sort_as_sequences_do(one: int, first: int, other: int, second: int) -> None:
    """So that a sorted listing is in log order."""
    if one != other:
        assert (segment_name(one, first) < segment_name(other, second)) == (one < other)


@given(u64s, u64s)
def test_a_snapshot_name_comes_back_as_its_numbers(term: int, index: int) -> None:
    """All 64 bits of both."""
    assert parse_snapshot_name(snapshot_name(term, index)) == (term, index)
    assert classify(snapshot_name(term, index)) is NameKind.SNAPSHOT


@given(st.integers(0, 10**6))
def test_temporaries_of_ours_are_known_as_such(number: int) -> None:
    """What a crash leaves behind is found and removed."""
    assert classify(spare_name(number)) is NameKind.TEMPORARY
    assert classify(snapshot_temporary(number)) is NameKind.TEMPORARY
    assert classify(IDENTITY_TEMPORARY) is NameKind.TEMPORARY


@given(st.text() | st.from_regex(re.compile(r"(wal|snap|spare)-[0-9a-f]*-?[0-9]*(\.wal|\.tmp)?")))
def test_any_text_is_of_some_kind(name: str) -> None:
    """A name is a segment's or a snapshot's only if these numbers make exactly this name."""
    assert classify(name) in NameKind
    segment, snapshot = parse_segment_name(name), parse_snapshot_name(name)
    assert segment is None or segment_name(*segment) == name
    assert snapshot is None or snapshot_name(*snapshot) == name


@pytest.mark.parametrize("numbers", [(0, 1), (-1, 1), (2**64, 1), (1, -1), (1, 2**64)])
def test_a_segment_name_needs_its_numbers_in_range(numbers: tuple[int, int]) -> None:
    """Sequences begin at 1, and 64 bits are the end."""
    with pytest.raises(ValueError):
        segment_name(*numbers)


@pytest.mark.parametrize("numbers", [(-1, 1), (2**64, 1), (1, -1), (1, 2**64)])
def test_a_snapshot_name_needs_its_numbers_in_range(numbers: tuple[int, int]) -> None:
    """Terms and indexes are unsigned and 64 bits long."""
    with pytest.raises(ValueError):
        snapshot_name(*numbers)
