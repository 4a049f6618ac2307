"""Damage is told apart from a tear: every bit, every sector and every length of small segments, exhaustively.

What had been proven is never given up in silence.  Of the last barrier, which nothing proves yet, damage is suspect
where anything shows it, and else ambiguous; how often is counted here.
"""

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.log.building import (
    SECTOR,
    Building,
    control,
    entries,
    flipped,
    judge,
    noise,
    reader,
    replaced,
    subsets,
    without,
)
from walstore._log.checksum import crc
from walstore._log.evidence import Outcome, classify, tail_facts
from walstore._log.frame import Header, Kind, make_header
from walstore._log.limits import ALIGN, HEADER_PAGE, MAX_FRAME_BODY
from walstore._log.scan import Scanner
from walstore._log.sealed import read_sealed
from walstore.errors import UnsupportedFormatError


def three_barriers(*, commit_align: int, zero_filled: bool) -> Building:
    """Two barriers behind the birth, one of them of three frames, and a last one of three."""
    building = Building(entries(1, b"a copy"), commit_align=commit_align, zero_filled=zero_filled, size=16384)
    building.barrier(entries(2, noise(90)), control(Kind.STATE), entries(3, noise(150)))
    building.barrier(entries(4, noise(40)))
    building.barrier(entries(5, noise(100)), entries(6, noise(520)), entries(7, noise(30)))
    return building


def bits(part: range) -> range:
    """The numbers of all bits of a range of bytes."""
    return range(8 * part.start, 8 * part.stop)


@pytest.mark.parametrize("zero_filled", [True, False], ids=["zero-filled", "growing"])
@pytest.mark.parametrize("commit_align", [64, 512])
def test_every_bit_of_what_is_proven(commit_align: int, zero_filled: bool) -> None:
    """One flip anywhere in frames that later ones prove, or in the padding between, is corruption."""
    building = three_barriers(commit_align=commit_align, zero_filled=zero_filled)
    file = building.file()

    for bit in bits(range(HEADER_PAGE, building.barriers[-1].start)):
        verdict, _ = judge(flipped(file, bit), building.page)
        assert verdict.outcome is Outcome.CORRUPT, f"bit {bit}: {verdict.label} {verdict.because}"


@pytest.mark.parametrize("fill", [bytes(SECTOR), noise(SECTOR), b"\xff" * SECTOR], ids=["zeros", "noise", "ones"])
@pytest.mark.parametrize("zero_filled", [True, False], ids=["zero-filled", "growing"])
def test_every_sector_of_what_is_proven(zero_filled: bool, fill: bytes) -> None:
    """A sector of proven frames that is lost or overwritten is corruption, also if the last barrier is torn."""
    building = three_barriers(commit_align=512, zero_filled=zero_filled)
    last = building.barriers[-1]
    proven = range(HEADER_PAGE // SECTOR, last.start // SECTOR)
    for missing in subsets(range(last.start // SECTOR + 1, last.stop // SECTOR)):
        file = without(building.file(), missing, last.start)
        for sector in proven:
            verdict, _ = judge(replaced(file, sector * SECTOR, fill), building.page)
            assert verdict.outcome is Outcome.CORRUPT, f"{missing} {sector}: {verdict.label} {verdict.because}"


@pytest.mark.parametrize(
    ("commit_align", "zero_filled", "expected"),
    [
        (64, True, {"E7 header": 1536, "E7 padding": 848, "E7 sectors": 5296}),
        (64, False, {"E7 header": 1536, "E8 bit": 5296, "E2 outlived": 608, "E11 else": 240}),
        (1024, True, {"E7 header": 1536, "E7 padding": 848, "E7 sectors": 5296, "E7 behind, nothing lost": 512}),
        (
            1024,
            False,
            {"E7 header": 1536, "E8 bit": 5296, "E2 outlived": 608, "E11 else": 240, "E11 else, nothing lost": 512},
        ),
    ],
)
def test_every_bit_of_the_last_barrier(commit_align: int, zero_filled: bool, expected: dict[str, int]) -> None:
    """One flip is suspect, or ambiguous, or has cost nothing: then all frames are kept.  How often each row holds."""
    building = three_barriers(commit_align=commit_align, zero_filled=zero_filled)
    file = building.file()
    seen = Counter[str]()

    for bit in bits(building.barriers[-1]):
        verdict, kept = judge(flipped(file, bit), building.page)
        assert verdict.outcome in (Outcome.SUSPECT, Outcome.TORN)
        assert verdict.outcome is Outcome.SUSPECT or verdict.ambiguous or kept == building.headers
        seen[f"{verdict.label} {verdict.row.name}" + ", nothing lost" * (kept == building.headers)] += 1

    assert seen == expected


def test_every_bit_of_a_closed_segment() -> None:
    """After a clean close nothing is ambiguous: one flip anywhere behind the header page is corruption."""
    building = three_barriers(commit_align=512, zero_filled=True)
    building.close()
    file = bytes(building.data)

    for bit in bits(range(HEADER_PAGE, len(file))):
        verdict, _ = judge(flipped(file, bit), building.page)
        assert verdict.outcome is Outcome.CORRUPT, f"bit {bit}: {verdict.label} {verdict.because}"


@pytest.mark.parametrize("closed", [False, True])
def test_every_length_of_a_zero_filled_file(closed: bool) -> None:
    """Such a file is made at its full length and gets shorter only behind its seal: any other length is corruption."""
    building = three_barriers(commit_align=512, zero_filled=True)
    if closed:
        building.close()
    file = bytes(building.data) if closed else building.file()

    for length in range(HEADER_PAGE, len(file)):
        verdict, _ = judge(file[:length], building.page)
        assert verdict.label == "E9", f"length {length}: {verdict.label} {verdict.because}"


def test_every_length_of_a_file_that_grows() -> None:
    """Lengths that a crash can leave open; below what was durable before the name it is corruption."""
    building = three_barriers(commit_align=512, zero_filled=False)
    file = building.file()

    for length in range(HEADER_PAGE, len(file)):
        verdict, kept = judge(file[:length], building.page)
        there = [header for header in building.headers if header.end <= length]
        assert kept == there
        born = building.headers[1].end <= length
        assert verdict.outcome in ((Outcome.CLEAN, Outcome.TORN) if born else (Outcome.CORRUPT,))
        assert verdict.outcome is not Outcome.TORN or verdict.ambiguous


def test_every_bit_below_the_end_that_a_successor_names() -> None:
    """Of a segment that is not the last, a flip below that end is corruption; what lies beyond is not looked at."""
    building = three_barriers(commit_align=512, zero_filled=True)
    file = building.file()
    end = building.headers[-1]
    successor = building.named(end)

    for byte in range(HEADER_PAGE, building.barriers[-1].stop):
        bit = 8 * byte + byte % 8
        verdict, _ = judge(flipped(file, bit), building.page, successor=successor)
        assert verdict.outcome is (Outcome.CORRUPT if bit < 8 * end.next_offset else Outcome.CLEAN)


# ---------------------------------------------------------------------------------------------------------------------
# whatever the bytes are


def looked_at(file: bytes, building: Building, span_size: int) -> tuple[object, ...]:
    """All that reading says of a file.  Fails if it raises, reads out of bounds, or reads too much."""
    page, total = building.page, 0
    inside = reader(file)

    def read(offset: int, length: int) -> bytes:
        nonlocal total
        total += length
        return inside(offset, length)

    scanner = Scanner(read, len(file), page, span_size=span_size)
    headers: list[Header] = []
    try:
        for span in scanner:
            assert [bytes(span.body(header)) for header in span.headers] == [
                file[header.body_offset : header.end] for header in span.headers
            ]
            headers += span.headers
    except UnsupportedFormatError as error:
        return headers, str(error)
    assert total <= 4 * len(file) + HEADER_PAGE
    assert proven_in_order(headers, scanner)
    sectors = [classify(tail_facts(scanner, page, len(file), sector=sector)) for sector in (1, 512, 4096)]
    return headers, scanner.end, scanner.fault, sectors, scanner.recent, scanner.proven_end


def proven_in_order(headers: list[Header], scanner: Scanner) -> bool:
    """Whether the numbers that a scan leaves behind fit each other."""
    ends = [HEADER_PAGE, *(header.next_offset for header in headers)]
    return scanner.end == ends[-1] and scanner.proven_end in ends and scanner.frames == len(headers)


def hostile_files(seed: int) -> Iterator[tuple[Building, bytes]]:
    """Segments mixed with noise, with pieces of themselves, and with forged headers whose checksums agree."""
    rng = random.Random(seed)
    for _ in range(150):
        building = three_barriers(commit_align=rng.choice([64, 512, 4096]), zero_filled=rng.random() < 0.5)
        if rng.random() < 0.3:
            building.close()
        file = bytearray(building.file())
        for _ in range(rng.randrange(1, 12)):
            at = rng.randrange(HEADER_PAGE, len(file)) // ALIGN * ALIGN
            match rng.randrange(4):
                case 0:
                    piece = rng.randbytes(rng.choice([1, 64, 700]))
                case 1:
                    start = rng.randrange(HEADER_PAGE, len(file)) // ALIGN * ALIGN
                    piece = bytes(file[start : start + rng.choice([64, 300, 4096])])
                case 2:
                    piece = bytes(rng.choice([64, 512, 4096]))
                case _:
                    piece = forged(rng, building, at)
            file[at : at + len(piece)] = piece[: len(file) - at]
        yield building, bytes(file)


def forged(rng: random.Random, building: Building, at: int) -> bytes:
    """A header that is valid in this place, with numbers that no writer writes, and perhaps a body that fits it."""
    payload = rng.randbytes(rng.choice([0, 10, 500]))
    after = rng.choice(building.headers)
    return (
        make_header(
            kind=rng.choice([*Kind, 0x85, 0x7F, 0x42]),
            sequence=rng.choice([0, after.sequence, after.sequence + 1, 2**64 - 1, rng.getrandbits(64)]),
            tag=building.page.tag,
            offset=at,
            body_len=rng.choice([len(payload), 0, 100_000, MAX_FRAME_BODY]),
            body_crc=crc(payload),
            prev_link=rng.choice([after.crc, 0]),
            sync_lag=rng.choice([0, 1, 254, 255]),
            first_index=rng.getrandbits(64),
            count=rng.getrandbits(32),
            flags=rng.choice([0, 2, 255]),
        ).pack()
        + payload
    )


@pytest.mark.parametrize("seed", range(4))
def test_hostile_bytes_are_read_within_bounds(seed: int) -> None:
    """Nothing but UnsupportedFormatError, no read beyond the file, each byte a few times, the same in any window."""
    for building, file in hostile_files(seed):
        whole = looked_at(file, building, 8 << 20)
        assert looked_at(file, building, 64) == whole
        assert looked_at(file, building, 1000) == whole
        sealed = read_sealed(reader(file), len(file), building.page)
        assert sealed is None or [header for span in sealed.spans for header in span.headers] == whole[0]


def test_noise_alone() -> None:
    """A file of noise behind its page holds no frame, and its opening is missing."""
    rng = random.Random(11)
    building = Building()
    for length in (0, 1, 63, 64, 65, 5000):
        verdict, kept = judge(bytes(building.page.encode()) + rng.randbytes(length), building.page)
        assert (verdict.outcome, kept) == (Outcome.CORRUPT, [])


def test_a_flood_of_headers_is_read_once() -> None:
    """Valid headers in every place, each with a body as long as allowed, do not make the scan read them again."""
    building = Building(size=1 << 20)
    flood = b"".join(
        make_header(
            kind=Kind.ENTRIES, sequence=1000 + at, tag=building.page.tag, offset=at, body_len=100_000,
            body_crc=1, prev_link=0,
        ).pack()
        for at in range(len(building.data), 1 << 20, ALIGN)
    )  # fmt: skip
    file = bytes(building.data) + flood

    _, end, fault, *_ = looked_at(file, building, 8 << 20)

    assert end == building.headers[-1].next_offset
    assert fault is not None
