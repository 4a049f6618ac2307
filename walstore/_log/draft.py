"""From planned frames to the bytes of one barrier group.

A draft is a frame before it has a place: kind and body, without sequence, offset, link and durable point.  It gets
them when it is written, not when it is planned: a call can still be withdrawn until then, and the durable point must be
that of the moment of writing, or it would prove less than it could (PROTOCOL B2).

    one group, one write, one barrier:
    | header | body | 0..63 zeros | header | body | 0..63 zeros | ... | zeros to commit_align |
    ^ offset, a multiple of commit_align                                                      ^ the next group

So a page that was acknowledged is never written again, and many small calls that share a barrier share its pages.
"""

from collections.abc import Sequence

import attrs

from .checksum import crc
from .frame import Header, make_header
from .limits import ALIGN, FRAME_HEADER, align_up
from .runs import Bytes


@attrs.frozen
class Draft:
    """A frame to be written.  `buffers` are its body, end to end."""

    kind: int
    buffers: tuple[Bytes, ...]
    flags: int = 0
    first_index: int = 0
    term: int = 0
    count: int = 0
    table_width: int = 0

    @property
    def body_len(self) -> int:
        """The length of the body in bytes."""
        return sum(map(len, self.buffers))

    @property
    def room(self) -> int:
        """The bytes that the frame takes, padded to where the next one may begin."""
        return align_up(FRAME_HEADER + self.body_len, ALIGN)


@attrs.frozen
class Place:
    """Where the next frame goes, and what it follows."""

    offset: int
    sequence: int
    link: int
    durable: int


@attrs.frozen
class Group:
    """The bytes of a barrier group, its frames' headers, and the place after it."""

    buffers: tuple[Bytes, ...]
    headers: tuple[Header, ...]
    after: Place


def assemble(drafts: Sequence[Draft], tag: int, place: Place, commit_align: int, *, opening: bool = False) -> Group:
    """Gives the drafts their places.

    The first draft of a segment (`opening`) repeats the sequence that it follows; every other takes the next one.
    """
    buffers: list[Bytes] = []
    headers: list[Header] = []
    offset, sequence, link = place.offset, place.sequence, place.link
    for draft in drafts:
        if opening:
            opening = False
        else:
            sequence += 1
        body_crc = body_len = 0
        for buffer in draft.buffers:
            body_crc = crc(buffer, body_crc)
            body_len += len(buffer)
        header = make_header(
            sequence=sequence,
            tag=tag,
            offset=offset,
            body_len=body_len,
            body_crc=body_crc,
            prev_link=link,
            sync_lag=sequence - place.durable,
            first_index=draft.first_index,
            term=draft.term,
            count=draft.count,
            kind=draft.kind,
            flags=draft.flags,
            table_width=draft.table_width,
        )
        headers.append(header)
        link = header.crc
        end = offset + FRAME_HEADER + body_len
        offset = align_up(end, ALIGN)
        buffers.append(header.pack())
        buffers.extend(draft.buffers)
        if offset > end:
            buffers.append(bytes(offset - end))
    aligned = align_up(offset, commit_align)
    if aligned > offset:
        buffers.append(bytes(aligned - offset))
    return Group(tuple(buffers), tuple(headers), Place(aligned, sequence, link, place.durable))
