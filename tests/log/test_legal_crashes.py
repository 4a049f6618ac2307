"""Every crash that may happen is let pass, and keeps exactly the frames in front of what it lost; exhaustively.

The last barrier of a small segment is cut in every way that the model of FORMAT 5.6 allows: any set of its 512-byte
sectors not written (in a file that grows, under any new length besides, with zeros or with something else in the place
of what is missing).  The file and its earlier barriers stay as they are.
"""

from collections import Counter

import pytest

from tests.log.building import SECTOR, Building, Piece, control, entries, judge, noise, subsets, surviving, without
from walstore._log.evidence import Outcome, Verdict
from walstore._log.frame import Kind
from walstore._log.limits import HEADER_PAGE, align_up

ZEROS = bytes(2 * SECTOR)
ONE_BIT = bytes(700) + b"\x10" + bytes(700)


LAST_BARRIERS: dict[str, tuple[Piece, ...]] = {
    "one small frame": (entries(9, b"small"),),
    "one frame of many sectors": (entries(9, noise(2500)),),
    "a body of zeros": (entries(9, bytes(2000)),),
    "a body with one bit": (entries(9, ONE_BIT),),
    "a body that ends a byte into a sector": (entries(9, noise(SECTOR - 64 - 4 + 1)),),
    "three frames in two sectors": (entries(9, noise(200)), entries(10, noise(300)), entries(11, noise(100))),
    "three frames, the first the largest": (entries(9, noise(1600)), entries(10, b"middle"), control(Kind.STATE)),
    "three frames, the middle one of zeros": (
        entries(9, noise(380)),
        entries(10, bytes(1900)),
        entries(11, noise(700)),
    ),
    "three frames, each of whole sectors": (
        entries(9, noise(SECTOR - 68)),
        entries(10, noise(2 * SECTOR - 68)),
        entries(11, noise(SECTOR - 68)),
    ),
    "three frames, the middle one of pages": (entries(9, b"first"), entries(10, noise(2100)), entries(11, b"last")),
    "six frames without bodies": tuple(control(Kind.STATE, body=b"") for _ in range(6)),
    "data, CLOSE and SEAL at once": (entries(9, noise(500)), control(Kind.CLOSE), Building.seal),
    "CLOSE and SEAL at once": (control(Kind.CLOSE), Building.seal),
    "CLOSE alone": (control(Kind.CLOSE),),
}


def built(pieces: tuple[Piece, ...], *, commit_align: int, zero_filled: bool) -> Building:
    """A segment whose last barrier is the one to be cut."""
    building = Building(entries(1, b"a copy"), commit_align=commit_align, zero_filled=zero_filled, size=HEADER_PAGE * 6)
    building.barrier(entries(2, b"alone"))
    building.barrier(entries(3, b"x" * 150), control(Kind.STATE), entries(4, b"y" * 600))
    building.barrier(*pieces)
    return building


def sectors_of(building: Building) -> list[int]:
    """The sectors of the last barrier that hold anything; of the others nobody can tell whether they were written."""
    last = building.barriers[-1]
    numbers = range(last.start // SECTOR, align_up(last.stop, SECTOR) // SECTOR)
    return [number for number in numbers if any(building.data[number * SECTOR : (number + 1) * SECTOR])]


def accepted(lost: bytes, building: Building) -> Verdict:
    """The verdict, which must be one that opens, and keep what is there."""
    verdict, kept = judge(lost, building.page)
    assert verdict.outcome in (Outcome.CLEAN, Outcome.TORN), f"{verdict.label} {verdict.because}"
    assert kept == surviving(lost, building)
    rest = lost[kept[-1].next_offset :]
    assert (verdict.outcome is Outcome.CLEAN) == (not any(rest))
    return verdict


@pytest.mark.parametrize("commit_align", [64, 512, 4096])
@pytest.mark.parametrize("name", LAST_BARRIERS)
def test_any_sectors_of_the_last_barrier_may_be_missing_in_a_zero_filled_file(name: str, commit_align: int) -> None:
    """Whatever set of sectors was not written, the verdict opens, and what is in front of the first loss is kept."""
    building = built(LAST_BARRIERS[name], commit_align=commit_align, zero_filled=True)
    start = building.barriers[-1].start

    for missing in subsets(sectors_of(building)):
        accepted(without(building.file(), missing, start), building)


@pytest.mark.parametrize("fill", [ZEROS, noise(SECTOR, 2)], ids=["zeros", "noise"])
@pytest.mark.parametrize("commit_align", [64, 4096])
@pytest.mark.parametrize("name", LAST_BARRIERS)
def test_any_length_and_any_sectors_may_be_lost_in_a_file_that_grows(name: str, commit_align: int, fill: bytes) -> None:
    """The new length may have come to the disk with or without the bytes; what is missing may hold anything."""
    building = built(LAST_BARRIERS[name], commit_align=commit_align, zero_filled=False)
    last = building.barriers[-1]
    whole = building.file()

    for length in sorted({last.start, last.start + 77, (last.start + last.stop) // 2, last.stop - SECTOR, last.stop}):
        sectors = [number for number in sectors_of(building) if number * SECTOR < length]
        for missing in subsets(sectors):
            accepted(without(whole[: max(length, last.start)], missing, last.start, fill), building)


def test_a_file_may_have_grown_by_zeros_alone() -> None:
    """A length that ran ahead of the bytes by more than the barrier is no damage."""
    building = built(LAST_BARRIERS["one small frame"], commit_align=512, zero_filled=False)

    for more in range(0, 1100, 37):
        verdict, kept = judge(building.file() + bytes(more), building.page)
        assert (verdict.outcome, kept) == (Outcome.CLEAN, building.headers)


def test_only_what_is_visibly_a_tear_is_not_ambiguous() -> None:
    """In a zero-filled file a lost sector shows; where a later frame outlived it, or nothing shows, it is ambiguous."""
    seen = Counter[tuple[str, bool]]()
    for pieces in LAST_BARRIERS.values():
        building = built(pieces, commit_align=4096, zero_filled=True)
        for missing in subsets(sectors_of(building)):
            verdict = accepted(without(building.file(), missing, building.barriers[-1].start), building)
            seen[verdict.row.name, verdict.ambiguous] += 1

    assert set(seen) == {("clean", False), ("torn", False), ("outlived", True)}


def test_a_lost_header_can_leave_the_middle_of_its_body_where_a_frame_might_begin() -> None:
    """Then nothing shows whether a frame was torn here or one rotted there: legal, and ambiguous."""
    building = built((entries(9, noise(100)), entries(10, noise(1500))), commit_align=512, zero_filled=True)
    start = building.barriers[-1].start
    lost = without(building.file(), (start // SECTOR,), start)
    first, second = building.headers[-2:]
    lost = lost[:start] + building.data[start : first.next_offset] + lost[first.next_offset :]

    verdict, kept = judge(lost, building.page)

    assert second.offset < start + SECTOR
    assert (verdict.row.name, verdict.ambiguous, kept[-1]) == ("else", True, first)


def test_a_close_and_its_seal_in_one_write_prove_nothing_for_each_other() -> None:
    """The SEAL that outlived its CLOSE, in a file as long as it was, is what a torn write leaves, not corruption."""
    building = built((control(Kind.CLOSE, body=noise(SECTOR)), Building.seal), commit_align=4096, zero_filled=True)
    start = building.barriers[-1].start

    verdict, kept = judge(without(building.file(), (start // SECTOR,), start), building.page)

    assert (verdict.label, verdict.outcome, kept) == ("E2", Outcome.TORN, building.headers[:-2])


@pytest.mark.parametrize("zero_filled", [True, False], ids=["zero-filled", "growing"])
def test_a_seal_may_be_torn_behind_a_close_that_is_durable(zero_filled: bool) -> None:
    """The store was closed all the same: CLOSE is kept, and what there is of the SEAL does not matter."""
    building = built((control(Kind.CLOSE),), commit_align=512, zero_filled=zero_filled)
    building.barrier(control(Kind.SEAL, body=noise(3000)), align=64)

    for missing in subsets(sectors_of(building)):
        verdict = accepted(without(building.file(), missing, building.barriers[-1].start), building)
        assert verdict.outcome is Outcome.CLEAN or verdict.label == "E11"


@pytest.mark.parametrize("lost", [0, 1, 20, 40, 70])
def test_a_barrier_of_more_frames_than_a_durable_point_can_count(lost: int) -> None:
    """Frames more than 254 behind the last barrier prove nothing, so none of them turns a tear into corruption."""
    frames = tuple(entries(index, noise(40, index)) for index in range(9, 309))
    building = Building(commit_align=4096, size=HEADER_PAGE * 12)
    building.barrier(entries(1))
    last = building.barrier(*frames)

    verdict = accepted(without(building.file(), (last.start // SECTOR + lost,), last.start), building)

    assert (verdict.label, verdict.facts.later is not None) == ("E2", True)
