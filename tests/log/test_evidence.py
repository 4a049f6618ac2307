"""The evidence table, row by row: as facts, as bytes, and in its order; and the policies, which are apart from it."""

from collections.abc import Callable

import attrs
import pytest

from tests.log.building import SECTOR, Building, Frame, control, entries, flipped, judge, noise, replaced
from walstore._log.evidence import POLICIES, TABLE, Outcome, Row, TailFacts, Verdict, accepts, classify, tail_facts
from walstore._log.frame import Header, Kind, make_header
from walstore._log.limits import ALIGN
from walstore._log.scan import Reason, Scanner

BY_NAME = {(row.label, row.name): row for row in TABLE}


def header(kind: Kind) -> Header:
    """A header of that kind; the table looks at nothing else of a later frame."""
    return make_header(kind=kind, sequence=9, tag=1, offset=8192, body_len=0, body_crc=0, prev_link=0, first_index=7)


FACTS: dict[tuple[str, str], TailFacts] = {
    ("E0", "read"): TailFacts(error="the device says no"),
    ("E9", "cut"): TailFacts(size=8192, announced=16384),
    ("E1", "proof"): TailFacts(fault=Reason.BODY, proof=header(Kind.ENTRIES)),
    ("E1", "order"): TailFacts(fault=Reason.ORDER, misplaced=header(Kind.ENTRIES)),
    ("E3", "successor"): TailFacts(fault=Reason.SHORT, is_last=False),
    ("E3", "born"): TailFacts(end=4352, born_end=4480),
    ("E4", "proof"): TailFacts(fault=Reason.HEADER, proof=header(Kind.CLOSE)),
    ("E4", "sealed"): TailFacts(fault=Reason.HEADER, sealed=True, size=8192, announced=16384),
    ("E4", "rotated"): TailFacts(rotated=True),
    ("E5", "mark"): TailFacts(mark=8, last_index=7),
    ("E6", "sync"): TailFacts(fault=Reason.BODY, proof=header(Kind.SYNC)),
    ("E10", "clean"): TailFacts(),
    ("E7", "header"): TailFacts(fault=Reason.HEADER, remains=True),
    ("E7", "behind"): TailFacts(fault=Reason.HEADER, written=True),
    ("E7", "padding"): TailFacts(fault=Reason.PADDING, header=header(Kind.ENTRIES)),
    ("E7", "sectors"): TailFacts(fault=Reason.BODY, header=header(Kind.ENTRIES), zero_sector=False),
    ("E8", "bit"): TailFacts(fault=Reason.BODY, header=header(Kind.ENTRIES), wrong_bit=8200, zero_filled=False),
    ("E2", "outlived"): TailFacts(fault=Reason.HEADER, later=header(Kind.ENTRIES)),
    ("E11", "torn"): TailFacts(fault=Reason.HEADER, gap=True),
    ("E11", "else"): TailFacts(fault=Reason.HEADER),
}
"""For each row the facts, apart from a clean end's, that make it hold and none before it."""


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.label}-{row.name}")
def test_each_row_holds_on_its_own_facts(row: Row) -> None:
    """With nothing but what the row asks for, it is the verdict, with its outcome and its sentence."""
    verdict = classify(FACTS[row.label, row.name])

    assert verdict.row is row
    assert (verdict.label, verdict.outcome, verdict.ambiguous) == (row.label, row.outcome, row.ambiguous)
    assert verdict.because.startswith(row.sentence)


def test_the_order_of_asking() -> None:
    """E0, E9, what proves corruption, E10, what is suspect, E2, E11 (FORMAT 5.6); and every row has its own name."""
    labels = [row.label for row in TABLE]
    corruption = {"E1", "E3", "E4", "E5", "E6"}

    assert len(BY_NAME) == len(TABLE) == len(FACTS)
    assert list(dict.fromkeys("corruption" if label in corruption else label for label in labels)) == [
        "E0", "E9", "corruption", "E10", "E7", "E8", "E2", "E11",
    ]  # fmt: skip
    assert {row.label for row in TABLE if row.outcome is Outcome.CORRUPT} == corruption | {"E9"}
    assert {row.label for row in TABLE if row.outcome is Outcome.SUSPECT} == {"E7", "E8"}
    assert {(row.label, row.name) for row in TABLE if row.ambiguous} == {("E2", "outlived"), ("E11", "else")}


def test_every_row_explains_how_it_was_narrowed() -> None:
    """Each question says in its docstring why no legal crash is refused by it."""
    assert all(row.question.__doc__ for row in TABLE)
    assert len({row.question for row in TABLE}) == len(TABLE)


def test_a_row_may_have_more_than_one_ground() -> None:
    """A segment that ends where its successor says, with another frame; and one without any frame."""
    assert classify(TailFacts(is_last=False, agrees=False)).row is BY_NAME["E3", "successor"]
    assert classify(TailFacts(opened=False)).row is BY_NAME["E3", "born"]


NARROWED: dict[str, TailFacts] = {
    "A5: a shortened file with a successor is not E9": TailFacts(is_last=False, size=8192, announced=16384),
    "A12: a shortened file that grows is not E9": TailFacts(zero_filled=False, size=8192, announced=16384),
    "a sealed file is not E9": TailFacts(sealed=True, size=8192, announced=16384),
    "A7: a mark at the last index is not E5": TailFacts(mark=7, last_index=7),
    "A4: a rotated segment with a successor is not E4": TailFacts(rotated=True, is_last=False),
}


@pytest.mark.parametrize("name", NARROWED)
def test_what_the_corrections_of_the_protocol_let_pass(name: str) -> None:
    """Facts that look like damage, and are clean by a correction."""
    assert classify(NARROWED[name]).label == "E10"


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        (TailFacts(fault=Reason.PADDING, zero_filled=False), "E11"),
        (TailFacts(fault=Reason.HEADER, written=True, zero_filled=False), "E11"),
        (TailFacts(fault=Reason.BODY, zero_sector=False, zero_filled=False), "E11"),
        (TailFacts(fault=Reason.BODY, zero_sector=None), "E11"),
        (TailFacts(fault=Reason.BODY, zero_sector=True, zero_filled=False), "E11"),
        (TailFacts(fault=Reason.HEADER, sealed=True, size=9, announced=9), "E11"),
        (TailFacts(fault=Reason.HEADER, sealed=True, size=8, announced=9, zero_filled=False), "E11"),
    ],
)
def test_evidence_of_zero_filled_files_is_not_used_on_others(facts: TailFacts, label: str) -> None:
    """In a file that grows, or whose sectors are unknown, the same facts are a tear that cannot be told from rot."""
    verdict = classify(facts)

    assert (verdict.label, verdict.row.name, verdict.ambiguous) == (label, "else", True)


# ---------------------------------------------------------------------------------------------------------------------
# the same rows from bytes


def built(*last: Frame, zero_filled: bool = True, commit_align: int = 4096) -> Building:
    """Born with a copy, one entry durable, and a last barrier."""
    building = Building(entries(1, b"a copy"), zero_filled=zero_filled, commit_align=commit_align)
    building.barrier(entries(2, noise(700)))
    building.barrier(*(last or (entries(3, noise(900)),)))
    return building


def e9_cut() -> Verdict:
    building = built()
    return judge(building.file()[:-ALIGN], building.page)[0]


def e1_proof() -> Verdict:
    building = built()
    return judge(flipped(building.file(), 8 * (building.headers[2].offset + 100)), building.page)[0]


def e1_order() -> Verdict:
    building = built()
    return judge(replaced(building.file(), building.headers[2].next_offset, b"\1"), building.page)[0]


def e3_successor() -> Verdict:
    building = built()
    file = flipped(building.file(), 8 * (building.headers[3].offset + 100))
    return judge(file, building.page, successor=building.named(building.headers[3]))[0]


def e3_born() -> Verdict:
    building = Building(entries(1, b"a copy"))
    return judge(replaced(building.file(), building.headers[1].offset, bytes(ALIGN)), building.page)[0]


def e4_proof() -> Verdict:
    building = built()
    building.barrier(control(Kind.CLOSE))
    return judge(flipped(building.file(), 8 * (building.headers[3].offset + 100)), building.page)[0]


def e4_sealed() -> Verdict:
    building = built()
    building.barrier(entries(4), control(Kind.CLOSE), Building.seal, align=ALIGN)
    return judge(flipped(bytes(building.data), 8 * (building.headers[4].offset + 100)), building.page)[0]


def e4_rotated() -> Verdict:
    building = built()
    building.barrier(building.seal(by_close=False), align=ALIGN)
    return judge(bytes(building.data), building.page)[0]


def e5_mark() -> Verdict:
    building = built()
    return judge(building.file(), building.page, mark=4, last_index=3)[0]


def e6_sync() -> Verdict:
    building = built()
    building.barrier(control(Kind.SYNC))
    return judge(flipped(building.file(), 8 * (building.headers[3].offset + 100)), building.page)[0]


def e10_clean() -> Verdict:
    building = built()
    return judge(building.file(), building.page)[0]


def e7_header() -> Verdict:
    building = built(zero_filled=False)
    return judge(flipped(building.file(), 8 * building.headers[3].offset + 77), building.page)[0]


def e7_behind() -> Verdict:
    building = built(commit_align=64)
    return judge(replaced(building.file(), building.headers[3].offset, noise(ALIGN)), building.page)[0]


def e7_padding() -> Verdict:
    building = built()
    return judge(replaced(building.file(), building.headers[3].end, b"\1"), building.page)[0]


def e7_sectors() -> Verdict:
    building = built()
    return judge(replaced(building.file(), building.headers[3].offset + 300, b"\0" * 9), building.page)[0]


def e8_bit() -> Verdict:
    building = built(zero_filled=False)
    return judge(flipped(building.file(), 8 * (building.headers[3].offset + 300)), building.page)[0]


def e2_outlived() -> Verdict:
    building = built(entries(3), entries(4, noise(3 * SECTOR)), entries(5))
    lost = building.headers[4].offset // SECTOR + 1
    return judge(replaced(building.file(), lost * SECTOR, bytes(SECTOR)), building.page)[0]


def e11_torn() -> Verdict:
    building = built()
    return judge(replaced(building.file(), building.headers[3].offset, bytes(SECTOR)), building.page)[0]


def e11_else() -> Verdict:
    building = built(zero_filled=False)
    return judge(replaced(building.file(), building.headers[3].offset, bytes(SECTOR)), building.page)[0]


def e0_read() -> Verdict:
    building = built()

    def read(offset: int, length: int) -> bytes:
        raise OSError(5, "the device says no")

    scanner = Scanner(read, len(building.file()), building.page).finish()
    return classify(tail_facts(scanner, building.page, len(building.file())))


BYTES: tuple[Callable[[], Verdict], ...] = (
    e0_read, e9_cut, e1_proof, e1_order, e3_successor, e3_born, e4_proof, e4_sealed, e4_rotated, e5_mark, e6_sync,
    e10_clean, e7_header, e7_behind, e7_padding, e7_sectors, e8_bit, e2_outlived, e11_torn, e11_else,
)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "example"), list(zip(TABLE, BYTES, strict=True)), ids=lambda value: getattr(value, "__name__", "")
)
def test_each_row_can_be_had_from_bytes(row: Row, example: Callable[[], Verdict]) -> None:
    """A segment that was damaged or torn in the way of the row is judged by it."""
    verdict = example()

    assert (verdict.label, verdict.row.name) == (row.label, row.name)
    assert f"{row.label}_{row.name}".lower() == example.__name__


# ---------------------------------------------------------------------------------------------------------------------
# policies and errors


@pytest.mark.parametrize(
    ("policy", "opens"),
    [
        ("strict", {Outcome.CLEAN, Outcome.TORN}),
        ("tolerate_suspect_tail", {Outcome.CLEAN, Outcome.TORN, Outcome.SUSPECT}),
    ],
)
def test_what_a_policy_opens(policy: str, opens: set[Outcome]) -> None:
    """Strict opens clean and torn tails; the other one suspect tails too; corruption and read errors no policy."""
    accepted = {row.outcome for row in TABLE if accepts(policy, Verdict(row, TailFacts()))}

    assert accepted == opens
    assert set(POLICIES) == {"strict", "tolerate_suspect_tail"}


def test_an_unknown_policy_is_refused() -> None:
    """A typing error must not open anything."""
    with pytest.raises(ValueError, match="policy must be one of strict, tolerate_suspect_tail"):
        accepts("lenient", classify(TailFacts()))


def test_a_verdict_as_an_error_says_what_and_where() -> None:
    """Path, offset, frame, index and evidence of the bad frame; its own index, where its header still says it."""
    error = e1_proof().error("/store/wal-1")

    assert (error.path, error.offset, error.frame, error.index, error.evidence) == ("/store/wal-1", 8192, 42, 2, "E1")
    assert "a later frame proves" in str(error)
    assert "does not have its checksum" in str(error)


def test_an_error_without_a_header_names_the_next_index() -> None:
    """Where nothing is left of the frame, it is the entry behind the last good one that is missing."""
    rotated = e4_rotated()

    assert attrs.evolve(rotated, facts=attrs.evolve(rotated.facts, last_index=3)).index == 4
    assert rotated.error("/store/wal-1").offset == rotated.facts.end
    assert classify(TailFacts(fault=Reason.BODY, header=header(Kind.STATE)._replace(first_index=0))).index == 1
