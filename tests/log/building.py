"""Builds the bytes of segments, frame by frame and barrier by barrier, right or wrong as a test needs them.

building = Building()                                # header page and opening STATE, as they are at birth
building.barrier(entries(1), entries(2, b"x" * 900)) # one write: two frames, padded to commit_align
building.barrier(close())
building.file()                                      # the bytes, filled with zeros to the segment's size
"""

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations
from typing import TypeAlias

import attrs

from walstore._log.checksum import crc
from walstore._log.evidence import Verdict, classify, tail_facts
from walstore._log.footer import encode_seal
from walstore._log.frame import Flags, Header, Kind, make_header
from walstore._log.limits import ALIGN, FRAME_HEADER, HEADER_PAGE, align_up
from walstore._log.page import Page, Predecessor
from walstore._log.scan import Scanner

STORE = bytes(range(16))
SECTOR = 512


def noise(length: int, seed: int = 1) -> bytes:
    """Bytes without a zero among them; always the same ones."""
    return bytes(random.Random(seed).choices(range(1, 256), k=length))


@attrs.frozen
class Frame:
    """A frame to be built.  `lag` and `sequence` are as a writer has them, unless given."""

    kind: int
    body: bytes = b""
    flags: int = 0
    first_index: int = 0
    count: int = 0
    lag: int | None = None
    sequence: int | None = None
    link: int | None = None
    tag: int | None = None
    offset: int | None = None
    padding: bytes | None = None


def entries(first: int, payload: bytes = b"payload", **changes: object) -> Frame:
    """An ENTRIES frame with one entry."""
    frame = Frame(Kind.ENTRIES, struct.pack("<I", len(payload)) + payload, first_index=first, count=1)
    return attrs.evolve(frame, **changes)  # type: ignore[arg-type]  # names of fields, of any type


def control(kind: Kind, **changes: object) -> Frame:
    """A control frame.  Neither the scan nor the table looks into its body."""
    return attrs.evolve(Frame(kind, bytes(8)), **changes)  # type: ignore[arg-type]  # as above


Piece: TypeAlias = "Frame | Callable[[Building], Frame]"
"""A frame, or what makes it once its place is known: `Building.seal`."""

OPENING = Frame(Kind.STATE, b"the state in which the segment begins", flags=Flags.OPENING)


class Building:
    """A segment as its writer makes it.  `barriers` are the ranges of bytes that one write covered each."""

    def __init__(
        self,
        *born: Frame,
        commit_align: int = 4096,
        zero_filled: bool = True,
        size: int = 32768,
        start_sequence: int = 40,
        salt: int = 7,
        predecessor: Predecessor | None = None,
    ) -> None:
        frames = (OPENING, *born)
        born_end = HEADER_PAGE + sum(align_up(FRAME_HEADER + len(frame.body), ALIGN) for frame in frames)
        self.page = Page(
            node_id=1,
            store_uuid=STORE,
            segment_sequence=9,
            salt=salt,
            segment_size=size,
            commit_align=commit_align,
            zero_filled=zero_filled,
            first_index=1,
            start_sequence=start_sequence,
            born_end=born_end,
            created_ns=0,
            predecessor=predecessor,
        )
        self.data = bytearray(self.page.encode())
        self.headers: list[Header] = []
        self.barriers: list[range] = []
        self._sequence = start_sequence - 1
        self._link = self.page.crc
        self._durable = start_sequence
        self.barrier(*frames)

    @property
    def born(self) -> range:
        """The bytes that were durable before the file got its name."""
        return self.barriers[0]

    def barrier(self, *pieces: Piece, align: int | None = None) -> range:
        """One write of these frames, and a sync that returned before the next one."""
        start = len(self.data)
        for piece in pieces:
            self._frame(piece if isinstance(piece, Frame) else piece(self))
        self.data += bytes(align_up(len(self.data), align or self.page.commit_align) - len(self.data))
        self._durable = self._sequence
        self.barriers.append(range(start, len(self.data)))
        return self.barriers[-1]

    def _frame(self, frame: Frame) -> None:
        self._sequence = self._sequence + 1 if frame.sequence is None else frame.sequence
        header = make_header(
            kind=frame.kind,
            sequence=self._sequence,
            tag=self.page.tag if frame.tag is None else frame.tag,
            offset=len(self.data) if frame.offset is None else frame.offset,
            body_len=len(frame.body),
            body_crc=crc(frame.body),
            prev_link=self._link if frame.link is None else frame.link,
            sync_lag=max(self._sequence - self._durable, 0) if frame.lag is None else frame.lag,
            first_index=frame.first_index,
            count=frame.count,
            flags=frame.flags,
        )
        self._link = header.crc
        self.headers.append(header)
        self.data += header.pack() + frame.body
        room = align_up(len(self.data), ALIGN) - len(self.data)
        self.data += bytes(room) if frame.padding is None else frame.padding

    def skip(self, frames: int, room: int) -> None:
        """Leaves out frames, as if they had been written and lost."""
        self._sequence += frames
        self.data += bytes(room)

    def seal(self, by_close: bool = True) -> Frame:
        """The SEAL frame for where the data ends now."""
        at = len(self.data)
        return Frame(Kind.SEAL, encode_seal(self.headers, offset=at, whole=crc(self.data), by_close=by_close))

    def close(self) -> None:
        """CLOSE and SEAL, synced one after the other; the file then ends with the SEAL."""
        self.barrier(control(Kind.CLOSE))
        self.barrier(self.seal(), align=ALIGN)

    def file(self) -> bytes:
        """The bytes as they lie on the disk: filled up with zeros, where the file was made so."""
        size = self.page.segment_size if self.page.zero_filled else 0
        return bytes(self.data).ljust(size, b"\0")

    def named(self, header: Header) -> Predecessor:
        """What a successor says of this segment, if `header` is that of the last frame that was durable."""
        return Predecessor(self.page.segment_sequence, header.next_offset, header.sequence, header.crc)


def reader(file: bytes) -> Callable[[int, int], bytes]:
    """Reads a file in memory, and nothing beyond its end."""

    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(file), f"[{offset}, {offset + length}) of {len(file)}"
        return file[offset : offset + length]

    return read


def scan(file: bytes, page: Page, *, stop: int | None = None, span_size: int = 8 << 20) -> tuple[Scanner, list[Header]]:
    """A finished scan, and the headers that it gave out."""
    scanner = Scanner(reader(file), len(file), page, stop=stop, span_size=span_size)
    return scanner, [header for span in scanner for header in span.headers]


def judge(
    file: bytes,
    page: Page,
    *,
    mark: int = 0,
    last_index: int = 0,
    sector: int = SECTOR,
    successor: Predecessor | None = None,
) -> tuple[Verdict, list[Header]]:
    """The verdict on a segment, and the headers of what is kept of it."""
    scanner, headers = scan(file, page, stop=successor.end if successor else None)
    facts = tail_facts(scanner, page, len(file), mark=mark, last_index=last_index, sector=sector, successor=successor)
    return classify(facts), headers


def flipped(file: bytes, bit: int) -> bytes:
    """The file with one bit (of byte bit // 8) changed."""
    changed = bytearray(file)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def replaced(file: bytes, at: int, new: bytes) -> bytes:
    """The file with other bytes in one place."""
    return file[:at] + new + file[at + len(new) :]


def subsets(items: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All subsets, the empty one first."""
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


def without(file: bytes, sectors: tuple[int, ...], low: int, fill: bytes = bytes(SECTOR)) -> bytes:
    """The file with sectors not written at or above `low`: below it they hold what was there before."""
    lost = bytearray(file)
    for sector in sectors:
        start, stop = max(sector * SECTOR, low), min((sector + 1) * SECTOR, len(file))
        lost[start:stop] = fill[: stop - start]
    return bytes(lost)


def surviving(lost: bytes, building: Building) -> list[Header]:
    """The frames that are there, up to the first that is not: what any recovery has to keep."""
    kept = []
    for header in building.headers:
        there = lost[header.offset : header.next_offset]
        if len(there) < header.end - header.offset or not building.data.startswith(there, header.offset):
            break
        kept.append(header)
    return kept
