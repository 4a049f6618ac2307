"""Looking closer: zeros, headers behind a fault, the remains of one, and long bodies."""

import pytest

from tests.log.building import SECTOR, Building, entries, flipped, noise, reader, replaced
from walstore._log.frame import Kind, make_header
from walstore._log.limits import ALIGN, FRAME_HEADER
from walstore._log.probe import WINDOW, examine_body, is_zero, looks_like, survey


@pytest.mark.parametrize("length", [0, 1, 65535, 65536, 65537, 200_000])
def test_zeros_of_any_length(length: int) -> None:
    """Zeros are zeros up to the last byte, and not beyond."""
    data = b"\1" + bytes(length) + b"\1"

    assert is_zero(data, 1, length + 1)
    assert not is_zero(data, 0, length + 1)
    assert not is_zero(data, 1, length + 2)


def headers_at(tag: int, *rows: tuple[int, int, int]) -> bytes:
    """A file with headers of empty frames: offset, sequence, lag."""
    file = bytearray(WINDOW + 8192)
    for offset, sequence, lag in rows:
        file[offset : offset + FRAME_HEADER] = make_header(
            kind=Kind.SYNC, sequence=sequence, tag=tag, offset=offset, body_len=0, body_crc=0, prev_link=0, sync_lag=lag
        ).pack()
    return bytes(file)


@pytest.mark.parametrize(
    ("row", "proves", "out_of_place"),
    [
        ((8192, 11, 1), True, False),
        ((8192, 11, 2), False, False),
        ((8192, 12, 2), True, False),
        ((8192, 12, 255), False, False),
        ((8192, 12, 0), False, False),
        ((8192, 10, 1), False, True),
        ((8192, 9, 1), False, True),
        ((4096 + 64, 11, 1), True, False),
        ((4096 + 64, 12, 2), True, True),
        ((WINDOW - 64, 11, 1), True, False),
        ((WINDOW, 11, 1), True, False),
    ],
)
def test_what_a_later_header_says(row: tuple[int, int, int], proves: bool, out_of_place: bool) -> None:
    """Frame 10 was due at 4096.  Who names it durable, proves it; who has its number or no room, is out of place."""
    file = headers_at(5, row)

    later = survey(reader(file), 4096, len(file), tag=5, sequence=10, room=(4096, 10))

    assert (later.count, later.zeros) == (1, False)
    assert later.first is not None
    assert later.first.offset == row[0]
    assert later.proof == (later.first if proves else None)
    assert later.misplaced == (later.first if out_of_place else None)


def test_the_first_of_each_sort_is_remembered() -> None:
    """And all are counted."""
    file = headers_at(5, (4160, 11, 3), (5120, 12, 2), (6144, 13, 1), (7168, 3, 1), (8192, 4, 1))

    later = survey(reader(file), 4096, len(file), tag=5, sequence=10, room=(4096, 10))

    found = [header and header.sequence for header in (later.first, later.proof, later.misplaced)]
    assert (later.count, found) == (5, [11, 12, 3])


def test_look_alikes_are_refused() -> None:
    """Headers of another tag, of another place, not at a multiple of 64, or within a frame that is stepped over."""
    file = headers_at(5, (8192, 11, 1))
    header = file[8192 : 8192 + FRAME_HEADER]
    holder = make_header(
        kind=Kind.ENTRIES, sequence=12, tag=6, offset=4096, body_len=8192, body_crc=0, prev_link=0, sync_lag=1
    )
    for copy in (
        replaced(bytes(len(file)), 8192 + ALIGN, header),
        replaced(bytes(len(file)), 8192 + 4, header),
    ):
        assert survey(reader(copy), 4096, len(copy), tag=5, sequence=10, room=(4096, 10)).count == 0
    assert survey(reader(file), 4096, len(file), tag=6, sequence=10, room=(4096, 10)).count == 0
    held = replaced(replaced(file, 4096, holder.pack()), 8192, headers_at(6, (8192, 11, 1))[8192 : 8192 + FRAME_HEADER])
    assert survey(reader(held), 4096, len(held), tag=6, sequence=10, room=(4096, 10)).count == 1


def test_a_stray_magic_hides_no_header() -> None:
    """Bytes like those of a magic, a little before a header, in no place for one."""
    file = headers_at(5, (8192, 11, 1))

    for at in (8192 - 4, 8192 - 63):
        stray = replaced(file, at, file[8192:8196])
        assert survey(reader(stray), 4096, len(stray), tag=5, sequence=10, room=(4096, 10)).count == 1


def test_a_frame_is_stepped_over_across_windows() -> None:
    """What lies in the body of a valid header is not looked at, however long it is."""
    holder = make_header(
        kind=Kind.ENTRIES, sequence=12, tag=5, offset=4096, body_len=WINDOW, body_crc=0, prev_link=0, sync_lag=1
    )
    rows = [(offset, 13, 1) for offset in (WINDOW + 64, WINDOW + 4096, WINDOW + 4096 + 64)]
    file = replaced(headers_at(5, *rows), 4096, holder.pack())

    assert survey(reader(file), 4096, len(file), tag=5, sequence=10, room=(4096, 10)).count == 2


def test_the_remains_of_a_header_are_known_by_three_of_five_fields() -> None:
    """Magic, sequence, tag, place and link; any two of them may be gone, not three."""
    header = make_header(kind=Kind.SYNC, sequence=10, tag=5, offset=8192, body_len=0, body_crc=0, prev_link=77)
    fields = {"magic": 1, "sequence": 11, "tag": 6, "offset_units": 1, "prev_link": 78}

    def known(*broken: str) -> bool:
        data = header._replace(**{name: fields[name] for name in broken}, header_crc=0).pack()
        return looks_like(data, offset=8192, tag=5, sequence=10, link=77)

    for first in fields:
        for second in fields:
            assert known(first, second)
            assert all(not known(first, second, third) for third in fields if len({first, second, third}) == 3)


def test_a_whole_header_of_something_else_is_no_remains() -> None:
    """A payload may hold the same sequence of another segment; and a piece of a header is not judged."""
    header = make_header(kind=Kind.SYNC, sequence=10, tag=6, offset=8192, body_len=0, body_crc=0, prev_link=77)

    assert not looks_like(header.pack(), offset=8192, tag=5, sequence=10, link=77)
    assert not looks_like(header.pack()[:63], offset=8192, tag=6, sequence=10, link=77)


@pytest.mark.parametrize("at", [0, WINDOW - 9000, WINDOW, 2 * WINDOW + 11])
def test_a_long_body_is_looked_at_in_windows(at: int) -> None:
    """Wherever the one wrong bit is, it is found across windows; and the file may end with the body."""
    payload = bytes(2 * WINDOW) + noise(5000)
    building = Building(size=1 << 22, zero_filled=False)
    building.barrier(entries(1, payload))
    header = building.headers[-1]
    file = flipped(building.file()[: header.end], 8 * (header.body_offset + at))

    looked = examine_body(reader(file), header, len(file), 3 * SECTOR)

    assert looked.wrong_bit == header.body_offset + at
    assert looked.zero_sector is True
