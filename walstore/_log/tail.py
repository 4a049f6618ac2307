"""Gathering the facts about the end of a segment, for `evidence` to ask about.

Most of them the scan has already; some need a closer look at a few sectors of the file.
"""

import attrs

from .footer import parse_trailer
from .frame import Header, Kind, parse_header
from .limits import ALIGN, FRAME_HEADER, HEADER_PAGE, SECTOR, TRAILER
from .page import Page, Predecessor
from .probe import Read, examine_body, is_zero, looks_like, read_exactly
from .scan import Fault, Reason, Scanned


@attrs.frozen(kw_only=True)
class TailFacts:
    """All that the questions are asked about.  The defaults are those of a segment that ends cleanly."""

    # of the file
    error: str | None = None
    """A read failed or came short."""
    is_last: bool = True
    """No successor names this segment's end."""
    zero_filled: bool = True
    """The file had been filled with zeros before the segment began."""
    size: int = 0
    announced: int = 0
    """The size that the header page says the file was made with."""
    sealed: bool = False
    """The file ends with a whole trailer, which names a valid SEAL header whose frame ends there."""

    # of the frames
    end: int = 0
    born_end: int = 0
    """The end of the frames that were durable before the file got its name."""
    opened: bool = True
    """There is at least the opening STATE."""
    agrees: bool = True
    """The last good frame is the one that the successor names; True for the last segment."""
    rotated: bool = False
    """The last good frame is a SEAL with no CLOSE in front of it: the next segment had its name by then."""
    mark: int = 0
    """The effective applied mark (PROTOCOL A7), or whatever else the caller knows to have been in the log."""
    last_index: int = 0
    """Index of the last entry, or of the snapshot, that was recovered."""

    # of the fault
    fault: Reason | None = None
    offset: int = 0
    sequence: int = 0
    """Of the frame that was due at the fault; 0 without one."""
    header: Header | None = None
    """Its own valid header, in the chain; None if there is no such."""
    proof: Header | None = None
    """A later header that says that this frame was durable."""
    misplaced: Header | None = None
    """A later header where no crash could leave it."""
    later: Header | None = None
    """The first later header of all."""
    remains: bool = False
    """What lies there is not a valid header, and yet is visibly what is left of the one that was due."""
    gap: bool = False
    """From where the frame was due, its sector is all zero.  (Where it was due behind zeros, see `written`.)"""
    written: bool = False
    """The sector that holds the end of the last good frame was written behind it, and not with a valid header."""
    zero_sector: bool | None = None
    """A sector of the bad frame is all zero; None where there is no such frame, or sectors cannot be told apart."""
    wrong_bit: int | None = None
    """The offset of the one bit that is wrong in its body."""


def tail_facts(
    scan: Scanned,
    page: Page,
    size: int,
    *,
    mark: int = 0,
    last_index: int = 0,
    sector: int = SECTOR,
    successor: Predecessor | None = None,
) -> TailFacts:
    """The facts about a segment that has been read to its end.

    `size` is the file's, in bytes.  `mark` is the effective applied mark (PROTOCOL A7) and `last_index` the index of
    the last entry or snapshot that was recovered: give them for the last segment.  `sector` is what the disk writes
    whole, in bytes; a number that is no multiple of 64 switches off what rests on sectors (E7).  `successor` is what
    the next segment's header page records of this one; its end must be the scan's `stop`.
    Reads a little more of the file; what the device refuses becomes E0.
    """
    stop = None if successor is None else successor.end
    if sector < 1 or scan.stop != stop:
        msg = f"sector is {sector}; the scan stops at {scan.stop}, the successor's record says {stop}"
        raise ValueError(msg)
    fault, recent = scan.fault, scan.recent
    kinds = [header.kind for header in recent[-2:]]
    facts = TailFacts(
        error=None if fault is None else fault.error,
        is_last=successor is None,
        zero_filled=page.zero_filled,
        size=size,
        announced=page.segment_size,
        end=scan.end,
        born_end=page.born_end,
        opened=bool(recent),
        agrees=successor is None or (bool(recent) and _names(successor, recent[-1])),
        rotated=kinds[-1:] == [Kind.SEAL] and kinds != [Kind.CLOSE, Kind.SEAL],
        mark=mark,
        last_index=last_index,
    )
    try:
        if facts.is_last and facts.error is None:
            facts = attrs.evolve(facts, sealed=ends_sealed(scan.read, size, page.tag) is not None)
        if fault is not None:
            facts = _with_fault(facts, fault, scan.read, page.tag, sector)
    except OSError as error:
        facts = attrs.evolve(facts, error=str(error))
    return facts


def _names(successor: Predecessor, last: Header) -> bool:
    return (successor.last_sequence, successor.last_link) == (last.sequence, last.crc)


def ends_sealed(read: Read, size: int, tag: int) -> Header | None:
    """The valid header of the SEAL frame with which the file ends, as its last 64 bytes say; None if they do not.

    A payload could hold such a trailer, but not the header of this segment and this place that it must name.
    """
    if size < HEADER_PAGE + FRAME_HEADER + TRAILER:
        return None
    trailer = parse_trailer(read_exactly(read, size - TRAILER, TRAILER))
    if trailer is None or trailer.offset + FRAME_HEADER + trailer.body_len != size:
        return None
    header = parse_header(read_exactly(read, trailer.offset, FRAME_HEADER), tag=tag, offset=trailer.offset)
    sealed = header is not None and header.kind == Kind.SEAL and header.end == size
    return header if sealed else None


def _with_fault(facts: TailFacts, fault: Fault, read: Read, tag: int, sector: int) -> TailFacts:
    """Adds what is known of the fault."""
    later = fault.later
    facts = attrs.evolve(
        facts,
        fault=fault.reason,
        offset=fault.offset,
        sequence=fault.sequence,
        header=None if fault.reason is Reason.ORDER else fault.header,
        proof=later.proof,
        misplaced=later.misplaced,
        later=later.first,
    )
    if fault.reason is Reason.BODY and fault.header is not None:
        body = examine_body(read, fault.header, facts.size, sector)
        return attrs.evolve(facts, zero_sector=body.zero_sector, wrong_bit=body.wrong_bit)
    if fault.reason is Reason.HEADER and sector % ALIGN == 0:
        return _with_place(facts, fault, read, tag, sector)
    return facts


def _with_place(facts: TailFacts, fault: Fault, read: Read, tag: int, sector: int) -> TailFacts:
    """Looks at the sectors in which the missing header may have been: behind the last frame, and where one was due."""
    behind = _rest_of_sector(read, facts.end, facts.size, sector)
    here = _rest_of_sector(read, facts.offset, facts.size, sector)
    header = read_exactly(read, facts.offset, min(FRAME_HEADER, facts.size - facts.offset))
    return attrs.evolve(
        facts,
        written=not is_zero(behind, 0, len(behind)),
        gap=is_zero(here, 0, len(here)),
        remains=looks_like(header, offset=facts.offset, tag=tag, sequence=fault.sequence, link=fault.link),
    )


def _rest_of_sector(read: Read, offset: int, size: int, sector: int) -> bytes:
    """From `offset` to the end of its sector, or of the file."""
    return read_exactly(read, offset, min(sector - offset % sector, max(size - offset, 0)))
