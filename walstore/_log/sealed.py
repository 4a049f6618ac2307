"""The fast way to read a sealed segment: one checksum over the file, and the headers from its footer.

Believed only as a whole.  Whatever does not fit gives None, and the scan then says what it is: so nothing is decided
here, and a damaged footer costs time, not data.
"""

from bisect import bisect_right
from collections.abc import Iterator

import attrs

from .checksum import crc
from .control import BodyError
from .footer import SealBody, decode_seal
from .frame import Header
from .limits import ALIGN, HEADER_PAGE, SPAN_SIZE
from .page import Page
from .probe import Read, read_exactly
from .scan import ORDINARY, RECENT, Span, check_supported, opens, proven_end
from .tail import ends_sealed

SEALED_MAX = 256 << 20
"""Bytes.  The spans of a sealed segment are all in memory before the first may be used; a longer file is scanned."""


@attrs.frozen
class Sealed:
    """A segment of which every byte has been verified.  Has what `scan.Scanned` asks for."""

    read: Read = attrs.field(repr=False)
    stop: int | None
    spans: list[Span] = attrs.field(repr=False)
    """All frames below `stop`, or all with the SEAL itself, in order."""
    recent: tuple[Header, ...] = attrs.field(repr=False)
    by_close: bool
    """Sealed by a clean close; False: by a rotation."""
    frames: int
    proven_end: int
    """As the scan's: the end of the last frame that a later one, or the segment's name, proves durable."""
    fault: None = None

    @property
    def last(self) -> Header:
        """The header of the last frame."""
        return self.recent[-1]

    @property
    def end(self) -> int:
        """The offset after the last frame and its padding to 64."""
        return self.recent[-1].next_offset


def read_sealed(
    read: Read, size: int, page: Page, *, stop: int | None = None, span_size: int = SPAN_SIZE
) -> Sealed | None:
    """The segment, if it is sealed and whole; None: scan it.  The arguments are those of `scan.Scanner`.

    With `stop`, the frames must end exactly there.  Raises UnsupportedFormatError as the scan does.
    """
    if size > SEALED_MAX:
        return None
    try:
        footer = _footer(read, size, page)
        spans = _spans(read, *footer, page, span_size) if footer else []
    except (OSError, BodyError):
        return None
    if stop is not None:
        spans = list(_below(spans, stop))
    headers = [header for span in spans for header in span.headers]
    if footer is None or not headers or stop not in (None, headers[-1].next_offset) or not _in_place(headers):
        return None
    recent = tuple(headers[-RECENT:])
    return Sealed(
        read=read,
        stop=stop,
        spans=spans,
        recent=recent,
        by_close=footer[1].by_close,
        frames=len(headers),
        proven_end=max(proven_end(recent), page.born_end),
    )


def _footer(read: Read, size: int, page: Page) -> tuple[Span, SealBody] | None:
    """The SEAL frame that ends the file, and what it says, if it is whole and belongs to this segment."""
    seal = ends_sealed(read, size, page.tag)
    if seal is None:
        return None
    span = Span(seal.offset, read_exactly(read, seal.offset, size - seal.offset), [seal])
    if crc(span.body(seal)) != seal.body_crc:
        return None
    body = decode_seal(span.body(seal))
    chained = (page.start_sequence, seal.sequence - body.rows, seal.prev_link)
    return (span, body) if chained == (body.start_sequence, body.start_sequence, body.last_link) else None


def _spans(read: Read, seal: Span, body: SealBody, page: Page, span_size: int) -> list[Span]:
    """The frames in spans, the SEAL last; none if the checksum of the whole does not hold."""
    headers = body.headers(tag=page.tag, first=page.crc)
    starts = body.columns.offset_units
    stops = (*starts[1:], body.offset // ALIGN)
    whole = crc(read_exactly(read, 0, HEADER_PAGE))
    spans = []
    first = 0
    while first < len(headers):
        begin = starts[first] * ALIGN
        after = max(bisect_right(stops, (begin + span_size) // ALIGN, first), first + 1)
        data = read_exactly(read, begin, stops[after - 1] * ALIGN - begin)
        whole = crc(data, whole)
        spans.append(Span(begin, data, headers[first:after]))
        first = after
    return [*spans, seal] if whole == body.whole else []


def _below(spans: list[Span], stop: int) -> Iterator[Span]:
    for span in spans:
        headers = [header for header in span.headers if header.offset < stop]
        if headers:
            yield attrs.evolve(span, headers=headers)


def _in_place(headers: list[Header]) -> bool:
    """Whether the first frame opens the segment, and no other does.  Raises UnsupportedFormatError for the future's."""
    for position, header in enumerate(headers):
        if header.kind | header.flags << 8 not in ORDINARY:
            if opens(header) is (position > 0):
                return False
            check_supported(header)
        elif position == 0:
            return False
    return True
