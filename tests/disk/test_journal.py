"""The journal of before-images: what was appended and not trimmed is there for whoever opens it after a kill."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from walstore.testing._journal import Journal

pytestmark = pytest.mark.realfs


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A new journal at `tmp_path / "j"`."""
    opened = Journal(str(tmp_path / "j"))
    yield opened
    opened.close()


def after_kill(tmp_path: Path) -> list[tuple[int, bytes]]:
    """What another process finds now."""
    shutil.copy(tmp_path / "j", tmp_path / "copy")
    found = Journal(str(tmp_path / "copy"))
    records = found.records()
    found.close()
    return records


def test_a_new_journal_is_empty(journal: Journal, tmp_path: Path) -> None:
    """It has no records, and nor has a file of zeros or of less than a header."""
    assert journal.empty
    assert journal.last == 0
    assert journal.records() == after_kill(tmp_path) == []

    (tmp_path / "j").write_bytes(bytes(100))
    assert after_kill(tmp_path) == []


def test_records_are_found_again(journal: Journal, tmp_path: Path) -> None:
    """Sequences count from 1, payloads may be empty, and the order stays."""
    assert [journal.append(payload) for payload in (b"one", b"", b"three" * 1000)] == [1, 2, 3]

    assert journal.records() == after_kill(tmp_path) == [(1, b"one"), (2, b""), (3, b"three" * 1000)]


def test_trimming_forgets_the_oldest(journal: Journal, tmp_path: Path) -> None:
    """Records up to the mark go, the later ones stay, also for the next process; a mark in the past does nothing."""
    for number in range(4):
        journal.append(b"%d" % number)
    journal.trim(2)
    journal.trim(1)

    assert journal.records() == after_kill(tmp_path) == [(3, b"2"), (4, b"3")]
    journal.trim(99)
    assert journal.empty
    assert after_kill(tmp_path) == []


def test_old_records_are_no_continuation(journal: Journal, tmp_path: Path) -> None:
    """After all was trimmed the file is written from its start, and what is left behind the new records is not read."""
    for _ in range(5):
        journal.append(b"same length")
    journal.trim(5)
    journal.append(b"same length")

    assert after_kill(tmp_path) == [(6, b"same length")]


@pytest.mark.parametrize("cut", range(1, 25))
def test_a_record_that_a_kill_cut_ends_the_journal(journal: Journal, tmp_path: Path, cut: int) -> None:
    """Whatever part of the last record was not written, the ones before it stand."""
    journal.append(b"one")
    journal.append(b"two, 8 b")
    os.truncate(tmp_path / "j", (tmp_path / "j").stat().st_size - cut)

    assert after_kill(tmp_path) == [(1, b"one")]


@pytest.mark.parametrize("place", range(16 + 16 + 3, 16 + 16 + 3 + 16 + 3))
def test_a_damaged_record_ends_the_journal(journal: Journal, tmp_path: Path, place: int) -> None:
    """A record is believed whole or not at all."""
    journal.append(b"one")
    journal.append(b"two")
    journal.append(b"three")
    data = bytearray((tmp_path / "j").read_bytes())
    data[place] ^= 0x40
    (tmp_path / "j").write_bytes(data)

    assert after_kill(tmp_path) == [(1, b"one")]


def test_a_journal_that_has_grown_is_cut_when_it_is_empty(journal: Journal, tmp_path: Path) -> None:
    """Space of large before-images is given back."""
    sequence = journal.append(bytes(2 << 20))
    journal.trim(sequence)

    assert (tmp_path / "j").stat().st_size == 16
    journal.append(b"next")
    assert after_kill(tmp_path) == [(2, b"next")]


def test_a_closed_journal_writes_nowhere(tmp_path: Path) -> None:
    """Its descriptor's number may be another file's by now."""
    journal = Journal(str(tmp_path / "j"))
    journal.close()
    with open(tmp_path / "other", "wb") as other, pytest.raises(OSError, match="Bad file descriptor"):
        journal.append(b"x")
    assert other.closed
    assert (tmp_path / "other").read_bytes() == b""


@pytest.mark.parametrize("seed", range(8))
def test_random_use_against_a_list(tmp_path: Path, seed: int) -> None:
    """Appends, trims and reopenings in any order agree with a plain list at every moment."""
    draw = random.Random(seed)
    journal = Journal(str(tmp_path / "j"))
    records: list[tuple[int, bytes]] = []
    last = 0
    for _ in range(200):
        kind = draw.randrange(10)
        if kind < 5:
            last += 1
            records.append((last, draw.randbytes(draw.randrange(40))))
            assert journal.append(records[-1][1]) == last
        elif kind < 7:
            mark = draw.randrange(max(0, last - 4), last + 1)
            journal.trim(mark)
            records = [record for record in records if record[0] > mark]
        elif kind == 8:
            journal.close()
            journal = Journal(str(tmp_path / "j"))
        assert journal.records() == records
        assert (journal.last, journal.empty) == (last, not records)
        assert after_kill(tmp_path) == records
    journal.close()
