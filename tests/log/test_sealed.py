"""The fast way to read a sealed segment gives what the scan gives, or nothing at all."""

import random

import pytest

from tests.log.building import Building, Frame, control, entries, flipped, reader, replaced, scan
from walstore._log import sealed
from walstore._log.checksum import crc
from walstore._log.evidence import classify, tail_facts
from walstore._log.footer import encode_seal
from walstore._log.frame import Flags, Kind
from walstore._log.limits import ALIGN, HEADER_PAGE
from walstore._log.sealed import read_sealed
from walstore.errors import UnsupportedFormatError


def closed(*more: Frame, by_close: bool = True, commit_align: int = 512) -> Building:
    """A segment with a few barriers that was sealed."""
    building = Building(entries(1, b"a copy"), commit_align=commit_align)
    for index in range(2, 12):
        building.barrier(entries(index, bytes([index]) * (index * 53)), control(Kind.STATE))
    if more:
        building.barrier(*more)
    if by_close:
        building.barrier(control(Kind.CLOSE))
    building.barrier(building.seal(by_close), align=ALIGN)
    return building


@pytest.mark.parametrize("span_size", [1, 500, 4096, 1 << 20])
@pytest.mark.parametrize("by_close", [True, False])
def test_it_agrees_with_the_scan(span_size: int, by_close: bool) -> None:
    """Headers, bodies, end, proven end, verdict; in spans of whole frames that begin with one."""
    building = closed(by_close=by_close)
    file, page = bytes(building.data), building.page
    scanner, headers = scan(file, page)

    found = read_sealed(reader(file), len(file), page, span_size=span_size)

    assert found is not None
    assert [header for span in found.spans for header in span.headers] == headers == building.headers
    for span in found.spans:
        assert span.offset == span.headers[0].offset
        assert len(span.data) <= max(span_size, 1152)  # the longest frame, the SEAL
        assert all(bytes(span.body(header)) == file[header.body_offset : header.end] for header in span.headers)
    assert (found.end, found.last, found.frames, found.recent, found.proven_end, found.fault, found.stop) == (
        scanner.end, scanner.last, scanner.frames, scanner.recent, scanner.proven_end, scanner.fault, scanner.stop,
    )  # fmt: skip
    assert found.by_close is by_close
    facts = tail_facts(found, page, len(file))
    assert facts == tail_facts(scanner, page, len(file))
    assert classify(facts).row.name == ("clean" if by_close else "rotated")


def test_with_a_successor_it_ends_where_that_says() -> None:
    """CLOSE and SEAL lie beyond the recorded end and are left out; another end is left to the scan."""
    building = closed()
    file, page = bytes(building.data), building.page
    last = building.headers[-3]

    found = read_sealed(reader(file), len(file), page, stop=last.next_offset, span_size=900)

    assert found is not None
    assert [header for span in found.spans for header in span.headers] == building.headers[:-2]
    assert (found.last, found.stop) == (last, last.next_offset)
    assert classify(tail_facts(found, page, len(file), successor=building.named(last))).label == "E10"
    for stop in (HEADER_PAGE, last.next_offset - ALIGN, last.next_offset + ALIGN, 1 << 20):
        assert read_sealed(reader(file), len(file), page, stop=stop) is None


def test_any_changed_bit_leaves_it_to_the_scan() -> None:
    """In frames, padding, columns or trailer; one bit of each byte."""
    building = closed()
    file, page = bytes(building.data), building.page
    rng = random.Random(5)

    for byte in range(len(file)):
        bad = flipped(file, 8 * byte + rng.randrange(8))
        assert read_sealed(reader(bad), len(bad), page) is None


def test_a_file_that_is_not_sealed_is_left_to_the_scan() -> None:
    """Without a SEAL at its very end, and where the device fails."""
    building = closed()

    def failing(offset: int, length: int) -> bytes:
        raise OSError(5, "gone")

    assert read_sealed(reader(building.file()), len(building.file()), building.page) is None
    assert read_sealed(failing, len(building.data), building.page) is None
    assert read_sealed(reader(building.file()[:HEADER_PAGE]), HEADER_PAGE, building.page) is None


def test_a_long_file_is_left_to_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """All its spans would be in memory at once."""
    building = closed()
    file = bytes(building.data)
    monkeypatch.setattr(sealed, "SEALED_MAX", len(file) - 1)

    assert read_sealed(reader(file), len(file), building.page) is None


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 999},
        {"link": 999},
        {"body": bytes(128)},
        {"kind": Kind.STATE},
    ],
)
def test_a_seal_that_is_valid_and_does_not_fit(change: dict[str, object]) -> None:
    """Its own checksums hold, but it is not the next frame, or not the footer of this file."""
    building = closed()
    seal = building.headers.pop()
    del building.data[seal.offset :]
    building._sequence, building._link = seal.sequence - 1, seal.prev_link
    frame = building.seal()
    changed = Frame(**{"kind": frame.kind, "body": frame.body, **change})  # type: ignore[arg-type]  # fields by name
    building.barrier(changed, align=ALIGN)
    file = bytes(building.data)

    assert read_sealed(reader(file), len(file), building.page) is None


def test_a_seal_of_another_beginning() -> None:
    """The columns begin with another sequence than the header page says."""
    building = closed()
    page = Building(entries(1, b"a copy"), commit_align=512, start_sequence=41).page
    file = replaced(bytes(building.data), 0, page.encode())

    assert read_sealed(reader(file), len(file), page) is None


@pytest.mark.parametrize("frame", [Frame(Kind.STATE, b"x", flags=Flags.OPENING), Frame(Kind.STATE, b"x")])
def test_opening_frames_are_where_they_belong(frame: Frame) -> None:
    """One that is not the first, or a first frame that is none, is left to the scan, which says what it is."""
    building = closed(frame) if frame.flags else closed()
    if not frame.flags:
        first, seal = building.headers[0], building.headers.pop()
        columns = [first._replace(flags=0), *building.headers[1:]]
        del building.data[seal.offset :]
        building._sequence, building._link = seal.sequence - 1, seal.prev_link
        body = encode_seal(columns, offset=seal.offset, whole=crc(building.data), by_close=True)
        building.barrier(Frame(Kind.SEAL, body), align=ALIGN)
    file = bytes(building.data)

    assert read_sealed(reader(file), len(file), building.page) is None


def test_frames_of_the_future_are_refused_as_by_the_scan() -> None:
    """An unknown kind raises; one that may be ignored is taken."""
    building = closed(Frame(0x42, b"unknown"))
    file = bytes(building.data)
    with pytest.raises(UnsupportedFormatError, match="unknown kind 0x42"):
        read_sealed(reader(file), len(file), building.page)

    building = closed(Frame(0xC2, b"ignorable"))
    file = bytes(building.data)
    assert read_sealed(reader(file), len(file), building.page) is not None
