"""The scan: reads the frames of one segment in order, as far as they prove themselves, and says what it met there.

One reader for the store and for the offline tool.  Whatever the bytes are, it ends in time linear in the file's size,
holds one window at a time, and raises nothing but `UnsupportedFormatError`: damage is a `Fault`, not an exception.

    header page | STATE | frame frame frame 000 | frame 00000000 | frame ??? frame 0000000000000000000000 |
                4096                  ^ end of a group, then zeros ^ `end`  ^ `fault.offset`          `size`

Rules of this file:
    1. A frame is taken if and only if it is valid (see `frame`), lies below the limit, continues the chain, and the
       zeros between its body and the next multiple of 64 are zeros.
    2. A frame that ends at p is followed by one at p; or, if everything from p to the next multiple of commit_align is
       zero, by one there: groups end padded.  Where neither begins, and not all is zero to the end, there is a fault.
    3. The first frame is the opening STATE; its link is the CRC of its header page.  No other frame is one.
    4. A length is used after the header's CRC has been checked, and never reaches beyond the file.
    5. With `stop` (the valid end that a successor recorded) nothing at or beyond it is read (PROTOCOL A5).
What a fault means is not decided here but in `evidence`; here are the facts.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Protocol, TypeAlias

import attrs

from ..errors import UnsupportedFormatError
from .checksum import crc
from .frame import KINDS, MAGIC_BYTES, Flags, Header, Kind, parse_header, unsupported
from .limits import ALIGN, FRAME_HEADER, HEADER_PAGE, SPAN_SIZE
from .page import Page
from .probe import NOTHING, Later, Read, is_zero, read_exactly, survey

__all__ = [
    "Fault",
    "Read",
    "Reason",
    "Scanned",
    "Scanner",
    "Span",
    "check_supported",
    "durable_point",
    "opens",
    "proven_end",
]

RECENT = 512
"""How many of the last headers a scan remembers: twice as far back as a durable point can reach."""

_PADS = tuple(bytes(n) for n in range(ALIGN))
ORDINARY = frozenset(
    kind | flags << 8
    for kind, row in KINDS.items()
    for flags in range(256)
    if not flags & ~row.flags and (kind, flags) != (Kind.STATE, Flags.OPENING)
)
"""Kinds and flags (times 256) that need no second look: known here, and not those of a frame that opens a segment."""


class Reason(Enum):
    """What was wrong where a frame was due; the value is for messages."""

    READ = "the bytes could not be read"
    HEADER = "no valid frame header"
    ORDER = "a frame that does not follow the one before it"
    LENGTH = "a frame whose body reaches beyond the end of the file"
    BODY = "a frame whose body does not have its checksum"
    PADDING = "a frame that is not padded with zeros"
    SHORT = "the frames end short of where the next segment says"


_Halt: TypeAlias = tuple[Reason, Header | None]


@attrs.frozen
class Fault:
    """Where the scan had to stop, and what lies there and behind."""

    offset: int
    """Where a frame was due, in bytes."""
    reason: Reason
    sequence: int
    """The sequence that was due."""
    link: int
    """The prev_link that was due."""
    header: Header | None = None
    """The valid header at `offset`, if there is one.  With ORDER it is that of another frame than the one due."""
    later: Later = NOTHING
    """The valid headers from `offset` on (behind the bad frame, where its own header is valid and the one due)."""
    error: str | None = None
    """With READ: what the device said."""


@attrs.frozen
class Span:
    """Whole frames that lie one behind the other, and the bytes of the file that hold them."""

    offset: int
    """Of the first frame, in bytes of the file."""
    data: bytes = attrs.field(repr=False)
    """From `offset` on.  May end with up to a sixteenth that is not part of any of the frames."""
    headers: list[Header]

    def body(self, header: Header) -> memoryview:
        """The body of one of the frames, not copied."""
        at = header.body_offset - self.offset
        return memoryview(self.data)[at : at + header.body_len]


class Scanned(Protocol):
    """What reading a segment leaves behind: by the scan, or by its footer (`sealed`)."""

    @property
    def read(self) -> Read:
        """How the file is read."""

    @property
    def stop(self) -> int | None:
        """The valid end by the successor's word; None for the last segment."""

    @property
    def end(self) -> int:
        """The offset after the last good frame and its padding to 64; 4096 if there is none."""

    @property
    def recent(self) -> Sequence[Header]:
        """The headers of the last good frames, in order."""

    @property
    def fault(self) -> Fault | None:
        """Why the frames end where they do; None: nothing but zeros follows, or the end of the file."""


def durable_point(header: Header) -> int:
    """The sequence up to which this frame proves all frames durable; 0: it proves nothing.

    No frame can have been durable when it was submitted, so one that claims it of itself is not listened to.
    """
    point = header.durable_sequence
    return point if point < header.sequence else 0


def proven_end(headers: Sequence[Header]) -> int:
    """The end of the last frame that a later one proves durable; 0 if there is none.  `headers` are a piece of chain.

    Durable points never fall along the chain, so the last one that is known is the highest.
    """
    point = next(filter(None, map(durable_point, reversed(headers))), 0)
    back = headers[-1].sequence - point if point else len(headers)
    return headers[-1 - back].next_offset if back < len(headers) else 0


def opens(header: Header) -> bool:
    """Whether it is the STATE that opens a segment."""
    return header.kind == Kind.STATE and header.flags & Flags.OPENING != 0


def check_supported(header: Header) -> None:
    """Raises UnsupportedFormatError, without a path, if only a newer version understands the frame."""
    reason = unsupported(header)
    if reason is not None:
        raise UnsupportedFormatError(
            f"a frame that only a newer version can read: {reason}",
            offset=header.offset,
            frame=header.sequence,
            index=header.first_index or None,
        )


class Scanner:
    """Iterate over it once for the spans; afterwards `end`, `last`, `recent`, `proven_end` and `fault` are final.

    `read(offset, length)` returns the bytes there, or raises OSError, which ends the scan as a fault.  `size` is the
    file's length.  `span_size` bounds a window in bytes, except for a single frame that is longer.
    Raises UnsupportedFormatError (without a path) after the frames before one that only a newer version understands.
    """

    def __init__(
        self, read: Read, size: int, page: Page, *, stop: int | None = None, span_size: int = SPAN_SIZE
    ) -> None:
        self.read = read
        self.stop = stop
        self.end = HEADER_PAGE
        self.last: Header | None = None
        self.recent: tuple[Header, ...] = ()
        self.frames = 0
        self.fault: Fault | None = None
        self._proven = HEADER_PAGE
        self._page = page
        self._tag = page.tag
        self._limit = size if stop is None else min(size, stop)
        self._span_size = max(span_size, FRAME_HEADER)
        self._due = HEADER_PAGE  # where the next frame is looked for
        self._future: Header | None = None  # the next frame, if this version does not understand it
        self._sequence = page.start_sequence
        self._link = page.crc
        self._spans = self._scan()

    def __iter__(self) -> Iterator[Span]:
        return self._spans

    def finish(self) -> "Scanner":
        """Scans what is left, without handing out spans; returns itself."""
        for _ in self._spans:
            pass
        return self

    @property
    def proven_end(self) -> int:
        """The end of the last frame that is known to have been durable: by a later frame, or by the segment's name.

        A successor's header may know of more.
        """
        born = self._page.born_end
        return max(self._proven, born if born <= self.end else 0)

    def _scan(self) -> Iterator[Span]:
        want = self._span_size
        while want:
            start = self._due
            length = max(min(want, self._limit - start), 0)
            try:
                data = read_exactly(self.read, start, length)
            except OSError as error:
                self._fail(error)
                return
            headers: list[Header] = []
            want, halt = self._walk(data, start, headers)
            if headers:
                self._settle(headers)
                yield self._span(start, data, headers)
            if self._future is not None:
                check_supported(self._future)
            if halt is not None:
                self._stop_at(*halt)

    def _walk(self, data: bytes, start: int, headers: list[Header]) -> tuple[int, _Halt | None]:
        """Takes the frames of one window.

        Returns how many bytes the next window needs, or 0 and why there is none.
        This is the hot loop: local names, one `parse_header` a frame, no object but the header.  Of the header, by
        position: 1 is header_crc, 2 sequence, 5 body_len, 6 body_crc, 7 prev_link, 12 kind, 13 flags.
        """
        size, limit, tag, mask = len(data), self._limit, self._tag, self._page.commit_align - 1
        final = start + size >= limit
        view = memoryview(data)
        sequence, link = self._sequence, self._link
        ordinary = ORDINARY if self.last else frozenset()
        at = 0
        want = 0
        halt: _Halt | None = None
        while True:
            header = parse_header(data, at, tag=tag, offset=start + at) if data.startswith(MAGIC_BYTES, at) else None
            if header is None:
                skip = -(start + at) & mask
                if size - at < max(skip, FRAME_HEADER) and not final:
                    want = max(self._span_size, skip, FRAME_HEADER)
                elif skip and is_zero(data, at, min(at + skip, size)):
                    at += skip
                    continue
                else:
                    halt = (Reason.HEADER, None)
                break
            if header[2] != sequence or header[7] != link:
                halt = (Reason.ORDER, header)
                break
            stop = at + FRAME_HEADER + header[5]
            after = stop + 63 & -64
            if after > size and not final and start + stop <= limit:
                want = max(self._span_size, after - at)
                break
            if stop > size:
                halt = (Reason.LENGTH, header)
                break
            if crc(view[at + FRAME_HEADER : stop]) != header[6]:
                halt = (Reason.BODY, header)
                break
            if (
                after != stop
                and not data.startswith(_PADS[after - stop], stop)
                and not (after > size and is_zero(data, stop, size))
            ):
                halt = (Reason.PADDING, header)
                break
            if header[12] | header[13] << 8 not in ordinary:
                if opens(header) is bool(ordinary):
                    halt = (Reason.ORDER, header)
                    break
                if unsupported(header):
                    self._future = header
                    break
                ordinary = ORDINARY
            headers.append(header)
            sequence += 1
            link = header[1]
            at = after
        self._due = start + at
        self._sequence, self._link = sequence, link
        return want, halt

    def _settle(self, headers: list[Header]) -> None:
        self.last = headers[-1]
        self.end = self.last.next_offset
        self.frames += len(headers)
        self.recent = (*self.recent, *headers[-RECENT:])[-RECENT:]
        self._proven = max(self._proven, proven_end(self.recent))

    def _span(self, start: int, data: bytes, headers: list[Header]) -> Span:
        offset = headers[0].offset
        used = min(self.end - start, len(data))
        if offset > start or (len(data) - used) * 16 > len(data):
            data = data[offset - start : used]
        return Span(offset, data, headers)

    def _stop_at(self, reason: Reason, header: Header | None) -> None:
        """No further frame can be taken: looks at everything behind, and decides whether that is a fault at all."""
        sequence = self._sequence
        if header is None or reason is Reason.ORDER:
            start, room = self._due, (self.end, sequence)
        else:
            start, room = header.next_offset, (header.next_offset, sequence + 1)
        try:
            later = survey(self.read, start, self._limit, tag=self._tag, sequence=sequence, room=room)
        except OSError as error:
            self._fail(error)
            return
        offset = self._due
        if reason is Reason.HEADER and later.zeros:
            if self.stop in (None, self.end):
                return
            reason, offset = Reason.SHORT, self.end
        self.fault = Fault(offset, reason, sequence, self._link, header, later)

    def _fail(self, error: OSError) -> None:
        self.fault = Fault(self._due, Reason.READ, self._sequence, self._link, error=str(error))
