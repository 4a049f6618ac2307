"""Gathering the facts: the closer look at a bad frame, at the place of a missing one, and at the end of a file."""

import attrs
import pytest

from tests.log.building import SECTOR, Building, control, entries, flipped, noise, reader, replaced, scan
from walstore._log.footer import encode_seal, parse_trailer
from walstore._log.frame import Header, Kind
from walstore._log.limits import ALIGN, FRAME_HEADER, HEADER_PAGE
from walstore._log.scan import Reason, Scanner
from walstore._log.tail import TailFacts, ends_sealed, tail_facts


def built(payload: bytes = noise(1500), *, sequence: int | None = None, **how: object) -> Building:
    """One barrier with one entry, then the last one with `payload`."""
    building = Building(**how)  # type: ignore[arg-type]  # the builder's own keywords
    building.barrier(entries(1))
    building.barrier(entries(2, payload, sequence=sequence))
    return building


def facts_of(file: bytes, building: Building, sector: int = SECTOR) -> TailFacts:
    """The facts about the end of that file."""
    return tail_facts(scan(file, building.page)[0], building.page, len(file), sector=sector)


# ---------------------------------------------------------------------------------------------------------------------
# behind a fault


def test_behind_a_bad_frame_there_must_be_room_for_those_between() -> None:
    """A valid header says where its frame ends; the next number may follow at once, the one after it not."""
    for sequence, out_of_place in ((43, False), (44, True)):
        building = Building(commit_align=64)
        building.barrier(entries(1))
        building.barrier(entries(2), entries(3, sequence=sequence, lag=255))
        bad = building.headers[-2]
        file = flipped(building.file(), 8 * bad.body_offset)

        facts = facts_of(file, building)

        assert (facts.fault, facts.header, facts.later) == (Reason.BODY, bad, building.headers[-1])
        assert (facts.misplaced is not None) is out_of_place


def test_a_frame_that_does_not_follow_is_not_the_one_that_was_due() -> None:
    """Its header is a later one; of the one due nothing is known."""
    building = built(sequence=50)

    facts = facts_of(building.file(), building)

    assert (facts.fault, facts.header, facts.later) == (Reason.ORDER, None, building.headers[-1])


def test_a_payload_that_holds_a_segment_is_no_evidence() -> None:
    """A whole log inside an entry, even one of this store, does not make a torn frame look proven."""
    inner = built()
    inner.close()
    building = built(bytes(inner.data), size=65536)

    facts = facts_of(replaced(building.file(), building.headers[-1].offset, bytes(SECTOR)), building)

    assert (facts.fault, facts.later, facts.proof, facts.misplaced) == (Reason.HEADER, None, None, None)
    assert facts.gap


# ---------------------------------------------------------------------------------------------------------------------
# a bad body


def test_a_wrong_bit_is_named_with_its_place() -> None:
    """The offset of the byte in the file; and there is no zero sector."""
    building = built()
    at = building.headers[-1].body_offset + 1234

    facts = facts_of(flipped(building.file(), 8 * at + 3), building)

    assert (facts.fault, facts.header, facts.wrong_bit, facts.zero_sector) == (
        Reason.BODY, building.headers[-1], at, False,
    )  # fmt: skip


@pytest.mark.parametrize(("sector", "named"), [(1, False), (64, False), (512, False), (4096, True)])
def test_a_wrong_bit_in_a_sector_of_zeros_may_have_been_all_that_was_lost(sector: int, named: bool) -> None:
    """PROTOCOL A12: such a sector may never have been written; a sector that holds something else was."""
    building = built(noise(400) + bytes(700) + b"\4" + bytes(1500) + noise(100))
    last = building.headers[-1]
    at = last.body_offset + 4 + 1100

    facts = facts_of(replaced(building.file(), at, b"\0"), building, sector)

    assert (facts.wrong_bit is not None) is named


@pytest.mark.parametrize(("sector", "zero"), [(1, None), (100, None), (64, True), (512, True), (4096, False)])
def test_a_lost_sector_shows_at_its_own_size(sector: int, zero: bool | None) -> None:
    """Where sectors do not begin at multiples of 64, no tear can be told by them."""
    building = built()
    lost = building.headers[-1].offset + SECTOR

    facts = facts_of(replaced(building.file(), lost, bytes(SECTOR)), building, sector)

    assert (facts.fault, facts.zero_sector) == (Reason.BODY, zero)


def test_only_sectors_of_header_and_body_count() -> None:
    """PROTOCOL A12: the zeros behind the body are padding, which nobody misses."""
    building = built(noise(600))

    facts = facts_of(replaced(building.file(), building.headers[-1].body_offset + 20, b"\0\0"), building)

    assert (facts.fault, facts.zero_sector) == (Reason.BODY, False)


def test_the_last_sector_counts_as_a_whole() -> None:
    """Its part of the body is zero, but a later frame in it shows that it was written."""
    building = Building(commit_align=64)
    building.barrier(entries(1))
    building.barrier(entries(2, noise(1200) + bytes(300)), entries(3))
    bad = building.headers[-2]
    end = bad.end - bad.end % SECTOR
    assert bad.body_offset + 4 + 1200 <= end < bad.end

    facts = facts_of(replaced(building.file(), bad.body_offset + 50, b"\0\0"), building)

    assert (facts.fault, facts.zero_sector) == (Reason.BODY, False)


# ---------------------------------------------------------------------------------------------------------------------
# the place of a missing header


@pytest.mark.parametrize(
    ("at", "new", "written", "gap"),
    [
        (0, bytes(SECTOR), False, True),
        (0, bytes(64), False, False),
        (0, noise(64), False, False),
        (-8, b"\1", False, True),
        (-4096 + 64 + 128, b"\1", True, False),
    ],
)
def test_the_sectors_where_a_header_was_due(at: int, new: bytes, written: bool, gap: bool) -> None:
    """Zero up to the end of the sector behind the last frame, and where the next page begins: nothing was written."""
    building = built()
    last = building.headers[-1]

    facts = facts_of(replaced(replaced(building.file(), last.offset, bytes(64)), last.offset + at, new), building)

    assert (facts.fault, facts.written, facts.gap) == (Reason.HEADER, written, gap)


def test_without_sectors_nothing_is_said_about_them() -> None:
    """`sector=1`, for tears of any size: no remains, no gap, nothing written."""
    building = built()

    facts = facts_of(flipped(building.file(), 8 * building.headers[-1].offset + 70), building, 1)

    assert (facts.fault, facts.remains, facts.written, facts.gap) == (Reason.HEADER, False, False, False)
    assert facts_of(flipped(building.file(), 8 * building.headers[-1].offset + 70), building).remains


# ---------------------------------------------------------------------------------------------------------------------
# the end of the file, and the caller's part


def test_a_seal_at_the_end_of_the_file() -> None:
    """The trailer names a valid SEAL header whose frame ends with the file; else the file is not sealed."""
    building = built()
    building.close()
    file, seal = bytes(building.data), building.headers[-1]

    assert ends_sealed(reader(file), len(file), building.page.tag) == seal
    assert ends_sealed(reader(file), len(file), building.page.tag + 1) is None
    for broken in (
        file[:HEADER_PAGE],
        building.file(),
        file + bytes(ALIGN),
        flipped(file, 8 * len(file) - 400),
        flipped(file, 8 * seal.offset + 99),
        file[:8192] + file[-ALIGN:],
    ):
        assert ends_sealed(reader(broken), len(broken), building.page.tag) is None


def test_a_trailer_and_its_seal_must_agree_on_the_length() -> None:
    """A whole trailer that names a valid SEAL header whose body is shorter is not the end of a sealed file."""
    building = built()
    building.barrier(control(Kind.SEAL, body=bytes(128)), align=ALIGN)
    at = building.headers[-1].offset
    trailer = encode_seal(building.headers[:-1], offset=at, whole=0, by_close=True)[-ALIGN:]
    file = bytes(building.data[: at + FRAME_HEADER]).ljust(at + FRAME_HEADER + len_of(trailer) - ALIGN, b"\0") + trailer

    assert len_of(trailer) != 128
    assert ends_sealed(reader(file), len(file), building.page.tag) is None


def len_of(trailer: bytes) -> int:
    """The length of the body that a trailer names."""
    parsed = parse_trailer(trailer)
    assert parsed is not None
    return parsed.body_len


@pytest.mark.parametrize(
    ("kinds", "rotated"),
    [((), False), ((Kind.CLOSE,), False), ((Kind.SEAL,), True), ((Kind.CLOSE, Kind.SEAL), False)],
)
def test_a_seal_without_a_close_is_a_rotation(kinds: tuple[Kind, ...], rotated: bool) -> None:
    """PROTOCOL A4."""
    building = Building()
    for kind in kinds:
        building.barrier(control(kind))

    assert facts_of(building.file(), building).rotated is rotated


@pytest.mark.parametrize("changes", [{}, {"last_sequence": 40}, {"last_link": 1}])
def test_the_last_frame_is_held_against_the_successors_record(changes: dict[str, int]) -> None:
    """Its sequence and its link; a segment without a frame agrees with none."""
    building = built()
    named = attrs.evolve(building.named(building.headers[1]), **changes)
    file = building.file()

    scanner, _ = scan(file, building.page, stop=named.end)
    facts = tail_facts(scanner, building.page, len(file), successor=named)

    assert (facts.is_last, facts.agrees) == (False, not changes)
    empty, _ = scan(file[:HEADER_PAGE], building.page, stop=named.end)
    assert not tail_facts(empty, building.page, HEADER_PAGE, successor=named).agrees


def test_beyond_a_successors_end_nothing_is_read() -> None:
    """PROTOCOL A5: not even to see whether the file is sealed; those bytes may be unreadable."""
    building = built()
    building.close()
    file, named = bytes(building.data), building.named(building.headers[2])

    def read(offset: int, length: int) -> bytes:
        assert offset + length <= named.end
        return file[offset : offset + length]

    scanner = Scanner(read, len(file), building.page, stop=named.end).finish()
    facts = tail_facts(scanner, building.page, len(file), successor=named)

    assert (facts.error, facts.fault, facts.agrees) == (None, None, True)


def test_the_scan_and_the_successor_must_speak_of_one_end() -> None:
    """Facts of a scan that went elsewhere would be worthless."""
    building = built()
    file = building.file()
    scanner, _ = scan(file, building.page)

    with pytest.raises(ValueError, match="the scan stops at None"):
        tail_facts(scanner, building.page, len(file), successor=building.named(building.headers[1]))
    with pytest.raises(ValueError, match="sector is 0"):
        tail_facts(scanner, building.page, len(file), sector=0)


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_a_device_that_fails_under_the_closer_look(fails_at: int) -> None:
    """Whatever read fails, the facts carry the error, and the verdict will be E0."""
    building = built()
    file = flipped(building.file(), 8 * building.headers[-1].offset + 70)
    calls = 0
    inside = reader(file)
    failing = False

    def read(offset: int, length: int) -> bytes:
        nonlocal calls
        calls += failing
        if failing and calls > fails_at:
            raise OSError(5, "gone")
        return inside(offset, length)

    scanner = Scanner(read, len(file), building.page).finish()
    failing = True

    facts = tail_facts(scanner, building.page, len(file))

    assert facts.error == "[Errno 5] gone"


def test_what_the_caller_knows_is_passed_on() -> None:
    """Marks and indexes, the page's numbers and the file's size."""
    building = built()
    file = building.file()
    scanner, headers = scan(file, building.page)

    facts = tail_facts(scanner, building.page, len(file), mark=1, last_index=2)

    assert facts == TailFacts(
        size=len(file),
        announced=building.page.segment_size,
        end=headers[-1].next_offset,
        born_end=building.page.born_end,
        mark=1,
        last_index=2,
    )


def test_headers_are_compared_as_a_whole() -> None:
    """The facts keep the headers themselves, so that a message can say all about them."""
    building = built()
    last: Header = building.headers[-1]

    facts = facts_of(replaced(building.file(), last.end, b"\1"), building)

    assert (facts.fault, facts.header, facts.offset, facts.sequence) == (Reason.PADDING, last, last.offset, 42)
