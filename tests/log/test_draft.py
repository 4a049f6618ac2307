"""From drafts to the bytes of a barrier group: every frame gets the one place that it can have."""

from itertools import pairwise

import attrs
import pytest
from hypothesis import given, strategies as st

from tests.log.building import Building, reader
from tests.log.histories import NODE, TAG, assembled, batch, normal
from walstore._log.checksum import crc
from walstore._log.draft import Draft, Group, Place, assemble
from walstore._log.frame import Flags, Header, Kind, parse_header
from walstore._log.limits import HEADER_PAGE, LAG_UNKNOWN, align_up
from walstore._log.page import Page
from walstore._log.scan import Scanner

buffers = st.lists(st.binary(min_size=1, max_size=100), max_size=3).map(tuple)
drafts = st.builds(
    Draft,
    kind=st.sampled_from([Kind.TRUNCATE, Kind.SYNC, Kind.CLOSE, Kind.SNAPSHOT]),
    buffers=buffers,
    first_index=st.integers(0, 2**64 - 1),
    term=st.integers(0, 2**64 - 1),
)
OPENING = Draft(Kind.STATE, (b"state",), flags=Flags.OPENING)


def joined(group: Group) -> bytes:
    """The bytes of a group, in one piece."""
    return b"".join(group.buffers)


@given(drafts)
def test_a_draft_knows_its_room(draft: Draft) -> None:
    """Its room is its header and its body, up to where the next frame may begin: what `assemble` makes of it."""
    group = assembled([draft])

    assert draft.body_len == len(b"".join(draft.buffers))
    assert draft.room == align_up(64 + draft.body_len, 64) == len(joined(group))


@given(st.lists(drafts, min_size=1, max_size=4), st.sampled_from([64, 512, 4096]), st.integers(1, 5))
def test_frames_lie_one_behind_the_other(few: list[Draft], align: int, pages: int) -> None:
    """Each at the next multiple of 64 with zeros before it, linked to the one before, numbered without a gap."""
    place = Place(pages * align_up(4096, align), sequence=80, link=0x1234, durable=78)
    group = assemble(few, TAG, place, align)
    data = joined(group)

    offset, sequence, link = place.offset, place.sequence, place.link
    for draft, header in zip(few, group.headers, strict=True):
        sequence += 1
        at = offset - place.offset
        assert parse_header(data, at, tag=TAG, offset=offset) == header
        assert (header.sequence, header.prev_link, header.durable_sequence) == (sequence, link, 78)
        assert (header.kind, header.first_index, header.term) == (draft.kind, draft.first_index, draft.term)
        body = data[at + 64 : at + 64 + header.body_len]
        assert body == b"".join(draft.buffers)
        assert header.body_crc == crc(body)
        offset, link = offset + draft.room, header.crc
        assert not any(data[header.end - place.offset : offset - place.offset])
    assert not any(data[offset - place.offset :])
    assert group.after == Place(align_up(offset, align), sequence, link, durable=78)
    assert place.offset + len(data) == group.after.offset


def test_a_group_ends_at_a_multiple_of_the_alignment() -> None:
    """What was acknowledged shares no page with what is written next; many calls of one group share theirs."""
    place = Place(HEADER_PAGE, 0, 0, 0)
    one = assemble([OPENING], TAG, place, 4096)
    three = assemble([OPENING] * 3, TAG, place, 4096)

    assert one.after.offset == three.after.offset == 2 * 4096
    assert len(joined(one)) == len(joined(three)) == 4096


def test_the_frame_that_opens_a_segment_uses_up_no_number() -> None:
    """It repeats the sequence that it follows (and so proves it durable); the next frame takes the next one."""
    group = assemble([OPENING, Draft(Kind.SYNC, ())], TAG, Place(HEADER_PAGE, 40, 5, durable=40), 64, opening=True)

    assert [header.sequence for header in group.headers] == [40, 41]
    assert [header.sync_lag for header in group.headers] == [0, 1]
    assert group.after.sequence == 41


def test_a_durable_point_that_is_too_far_back_is_unknown() -> None:
    """Eight bits hold the lag: beyond 254 frames it proves nothing rather than too much."""
    group = assemble([Draft(Kind.SYNC, ())] * 256, TAG, Place(HEADER_PAGE, 10, 0, durable=10), 64)

    assert [header.sync_lag for header in group.headers[:2]] == [1, 2]
    assert [header.durable_sequence for header in group.headers[252:]] == [10, 10, 0, 0]
    assert group.headers[-1].sync_lag == LAG_UNKNOWN


def test_a_draft_says_nothing_that_it_was_not_told() -> None:
    """Flags, index, term, count and width are 0 in the header of a frame without entries; no buffer is empty."""
    group = assembled([Draft(Kind.SYNC, (bytes(64),)), Draft(Kind.CLOSE, ())])

    for header in group.headers:
        assert (header.flags, header.first_index, header.term, header.count, header.table_width) == (0, 0, 0, 0, 0)
    assert [len(buffer) for buffer in group.buffers] == [64, 64, 64]


def test_a_group_of_nothing_changes_nothing() -> None:
    """No frame, no byte, the same place."""
    place = Place(4096, 3, 4, 2)

    assert assemble([], TAG, place, 4096) == Group((), (), place)


def test_a_durable_point_beyond_the_frame_is_a_mistake() -> None:
    """A frame that claims to have been durable before it was written would prove what is not so."""
    with pytest.raises(ValueError, match="sync_lag -1"):
        assemble([Draft(Kind.SYNC, ())], TAG, Place(4096, 3, 0, durable=5), 64)


@given(st.lists(st.lists(drafts, min_size=1, max_size=3), max_size=4), st.sampled_from([64, 512, 4096]))
def test_a_scan_finds_what_was_assembled(groups: list[list[Draft]], align: int) -> None:
    """Group after group, every frame is read back with its body, and the scan ends behind the last one."""
    page = attrs.evolve(Building().page, commit_align=align, node_id=NODE)
    data, headers, last = _segment(page, groups)

    scanner = Scanner(reader(data), len(data), page)
    found = [(header, bytes(span.body(header))) for span in scanner for header in span.headers]

    bodies = [b"".join(draft.buffers) for group in ([OPENING], *groups) for draft in group]
    assert found == list(zip(headers, bodies, strict=True))
    assert scanner.fault is None
    assert scanner.end == last
    assert all(later.prev_link == header.crc for header, later in pairwise(headers))


def _segment(page: Page, groups: list[list[Draft]]) -> tuple[bytes, list[Header], int]:
    """The bytes of a segment, the headers in it and the end of its last frame."""
    start = page.start_sequence
    group = assemble([OPENING], page.tag, Place(4096, start, page.crc, start), page.commit_align, opening=True)
    data, headers = page.encode() + joined(group), list(group.headers)
    for few in groups:
        group = assemble(few, page.tag, attrs.evolve(group.after, durable=group.after.sequence), page.commit_align)
        data += joined(group)
        headers += group.headers
    return data, headers, headers[-1].next_offset


def test_the_draft_of_a_batch_holds_what_a_header_says_of_it() -> None:
    """First index, term, count and the width of the table go into the header as the draft has them."""
    draft, _ = batch(normal(7, 3, 3), mark=5, overwrite=True)
    (header,) = assembled([draft]).headers

    assert (header.first_index, header.term, header.count, header.table_width) == (7, 3, 2, 4)
    assert header.flags == Flags.MARK | Flags.OVERWRITE
