"""What is fuzzed: plain functions from bytes to nothing, each of which opens with its invariant.

A target passes, or raises what is a bug: an AssertionError, or any exception that the code under it may not raise.
They are driven by `fuzz/run.py` (coverage-guided, for hours) and by `tests/test_fuzz_corpus.py` (seeded, for seconds).
Where a checksum stands in front of the code, the target plays the bytes as they are and again with `repair`ed sums.
"""

from collections.abc import Callable

from walstore._log import control
from walstore._log.batch import decode_batch, memberships_of
from walstore._log.container import ContainerError, Verifier
from walstore._log.control import BodyError
from walstore._log.evidence import Outcome, accepts, classify as judge
from walstore._log.footer import TRAILER_STRUCT, decode_seal, encode_seal, parse_trailer
from walstore._log.frame import (
    KINDS,
    Header,
    Kind,
    contradiction,
    entries_table_len,
    header_fault,
    make_header,
    parse_header,
    unsupported,
)
from walstore._log.identity import Identity
from walstore._log.limits import FRAME_HEADER
from walstore._log.names import NameKind, classify, parse_segment_name, parse_snapshot_name, segment_name, snapshot_name
from walstore._log.page import Page
from walstore._log.replay import Replay
from walstore._log.runs import Run
from walstore._log.scan import Scanner
from walstore._log.sealed import read_sealed
from walstore._log.tail import tail_facts
from walstore._log.version import FormatError
from walstore.errors import CorruptionError, UnsupportedFormatError

from . import repair

Target = Callable[[bytes], None]


def frame(data: bytes) -> None:
    """64 bytes are a header that packs to the same bytes again, or none and a reason for it; never an exception."""
    for candidate in (data, repair.header(data)):
        header = parse_header(candidate)
        fault = header_fault(candidate)
        assert (header is None) == (fault is not None)
        if header is None:
            continue
        assert header.pack() == candidate[:FRAME_HEADER]
        assert 0 <= header.durable_sequence <= header.sequence
        assert header.offset < header.body_offset <= header.end <= header.next_offset
        if header.kind in KINDS and unsupported(header) is None and contradiction(header) is None:
            assert entries_table_len(header) <= header.body_len or header.kind != Kind.ENTRIES


def page(data: bytes) -> None:
    """4096 bytes are a page that encodes to the same bytes, FormatError or UnsupportedFormatError; nothing else."""
    for candidate in (data, repair.page(data)):
        try:
            found = Page.decode(candidate)
        except (FormatError, UnsupportedFormatError):
            continue
        if not found.version.is_newer:
            assert found.encode() == candidate[:4096]
        assert found.crc == int.from_bytes(candidate[4092:4096], "little")


def identity(data: bytes) -> None:
    """128 bytes are an identity that encodes to the same bytes, FormatError or UnsupportedFormatError; nothing else."""
    for candidate in (data, repair.identity(data)):
        try:
            found = Identity.decode(candidate)
        except (FormatError, UnsupportedFormatError):
            continue
        if not found.version.is_newer:
            assert found.encode() == candidate


def names(data: bytes) -> None:
    """Any text is classified, and a name that parses is the only one that its numbers make."""
    name = data.decode("utf-8", "surrogateescape")
    kind = classify(name)
    segment, snapshot = parse_segment_name(name), parse_snapshot_name(name)
    assert (kind is NameKind.SEGMENT) == (segment is not None)
    assert (kind is NameKind.SNAPSHOT) == (snapshot is not None)
    assert segment is None or segment_name(*segment) == name
    assert snapshot is None or snapshot_name(*snapshot) == name


BODIES = (
    control.decode_state,
    control.decode_truncate,
    control.decode_snapshot,
    control.decode_sync,
    control.decode_close,
)


def body(data: bytes) -> None:
    """The body of a control frame is a value that encodes to the same bytes, or BodyError; nothing else."""
    decode, rest = BODIES[data[0] % len(BODIES)] if data else BODIES[0], data[1:]
    try:
        found = decode(rest)
    except BodyError:
        pass
    else:
        assert found.encode() == rest
    try:
        membership = control.decode_membership(rest)
    except BodyError:
        return
    assert control.encode_membership(membership) == rest


def seal(data: bytes) -> None:
    """A footer is rows that rebuild headers and encode to the same bytes, or BodyError; nothing else."""
    for candidate in (data, repair.seal(data)):
        trailer = parse_trailer(candidate[-TRAILER_STRUCT.size :])
        try:
            found = decode_seal(candidate)
        except BodyError:
            continue
        assert trailer is not None
        assert trailer.body_len == len(candidate)
        headers = found.headers(tag=7, first=9)
        assert len(headers) == found.rows
        assert encode_seal(headers, found.whole, found.by_close, offset=found.offset) == candidate


def _payload(run: Run, index: int) -> bytes | None:
    try:
        return run.bytes_at(index)
    except CorruptionError:
        return None


def batch(data: bytes) -> None:
    """An ENTRIES body is a run whose entries are bytes or CorruptionError, or BodyError; kept or copied, the same."""
    if len(data) < 4:
        return
    flags, count, term, rest = data[0] & 0x1D, data[1], data[2], data[3:]
    header = make_header(
        kind=Kind.ENTRIES, sequence=1, tag=0, offset=4096, body_len=len(rest), body_crc=0, prev_link=0,
        first_index=10, term=0 if flags & 0x08 else term, count=count, flags=flags,
    )  # fmt: skip
    if contradiction(header) is not None:
        return
    try:
        kept, mark = decode_batch(header, rest, keep=True)
        copied, again = decode_batch(header, rest, keep=False)
    except BodyError:
        return
    assert mark == again
    entries = {index: _payload(kept, index) for index in range(kept.first, kept.stop)}
    assert entries == {index: _payload(copied, index) for index in range(kept.first, kept.stop)}
    terms = [kept.term_at(index) for index in entries]
    assert terms == sorted(terms)
    for index in entries:  # a log that loses entries still holds the others
        for part in (kept.since(index), kept.before(index) if index > kept.first else kept):
            assert all(_payload(part, at) == entries[at] for at in range(part.first, part.stop))
    try:
        memberships_of(kept)
    except (BodyError, CorruptionError):
        return


def _verify(data: bytes, step: int) -> tuple[object, ...]:
    """What a verifier says of the bytes when they come in slices of `step`."""
    verifier = Verifier()
    payload = bytearray()
    try:
        for start in range(0, len(data), step):
            for chunk in verifier.feed(data[start : start + step]):
                payload += chunk
        verifier.finish()
    except ContainerError as error:
        return type(error), error.reason, error.offset
    assert verifier.complete
    assert verifier.size + verifier.trailing == len(data)
    return bytes(payload), verifier.header, verifier.size, verifier.checksum


def container(data: bytes) -> None:
    """A snapshot is verified or refused with ContainerError, and the same whole as in pieces; nothing else."""
    for candidate in (data, repair.container(data)):
        whole = _verify(candidate, max(len(candidate), 1))
        assert _verify(candidate, 1021) == whole
        assert _verify(candidate, 61) == whole


SEGMENT = Page(
    node_id=1,
    store_uuid=bytes(range(16)),
    segment_sequence=1,
    salt=7,
    segment_size=1 << 20,
    commit_align=512,
    zero_filled=True,
    first_index=1,
    start_sequence=0,
    born_end=4096,
    created_ns=0,
    predecessor=None,
)
"""The header page in front of every segment that `scan` and `replay` are given."""


def _segment(data: bytes) -> bytes:
    """A segment file: the page, and the bytes behind their first one, repaired as far as that one says."""
    how, rest = (data[0], data[1:]) if data else (0, b"")
    file = SEGMENT.encode() + rest
    if how & 1:
        return repair.frames(file, SEGMENT.tag, SEGMENT.crc, body=how & 2 != 0, chain=how & 4 != 0)
    return file


def _scanner(file: bytes, span_size: int) -> Scanner:
    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(file), "a read beyond the file"
        return file[offset : offset + length]

    return Scanner(read, len(file), SEGMENT, span_size=span_size)


def _scan(file: bytes, span_size: int) -> tuple[object, ...]:
    """All that a scan finds, and where it says that it ends."""
    scanner = _scanner(file, span_size)
    headers: list[Header] = []
    try:
        for span in scanner:
            for header in span.headers:
                assert bytes(span.body(header)) == file[header.body_offset : header.end]
            headers += span.headers
    except UnsupportedFormatError as error:
        return "unsupported", headers, str(error)
    end = headers[-1].next_offset if headers else 4096
    assert scanner.end == end
    assert scanner.last == (headers[-1] if headers else None)
    assert scanner.fault is not None or not any(file[end:]), "bytes were passed over in silence"
    return headers, scanner.end, scanner.fault


def scan(data: bytes) -> None:
    """A scan gives whole frames and a fault, in any spans the same, or UnsupportedFormatError; nothing else."""
    file = _segment(data)
    assert _scan(file, 1 << 20) == _scan(file, 256)


def sealed(data: bytes) -> None:
    """The fast path gives the frames that the scan finds, or None, or UnsupportedFormatError; nothing else."""
    file = _segment(data)
    scanner = _scanner(file, 1 << 20)
    try:
        fast = read_sealed(scanner.read, len(file), SEGMENT)
    except UnsupportedFormatError:
        return
    if fast is None:
        return
    found = [(header, bytes(span.body(header))) for span in fast.spans for header in span.headers]
    if any(parse_header(header.pack()) != header for header, _ in found):
        return  # rows that were forged with their checksums: replay has to refuse them
    slow = [(header, bytes(span.body(header))) for span in scanner for header in span.headers]
    assert found == slow
    assert (fast.end, fast.last) == (scanner.end, scanner.last)


def tail(data: bytes) -> None:
    """Every end of a file gets one verdict with a label of the table, the same each time; nothing else."""
    file = _segment(data)
    scanner = _scanner(file, 1 << 20)
    try:
        scanner.finish()
    except UnsupportedFormatError:
        return
    for sector in (1, 512):
        facts = tail_facts(scanner, SEGMENT, len(file), sector=sector)
        verdict = judge(facts)
        assert verdict == judge(facts)
        assert verdict.label.startswith("E")
        assert accepts("strict", verdict) <= accepts("tolerate_suspect_tail", verdict)
        if verdict.outcome is Outcome.CLEAN:
            assert not any(file[scanner.end :]), "bytes were passed over in silence"
        if not accepts("tolerate_suspect_tail", verdict):
            assert "walcat verify" in str(verdict.error("wal"))


def replay(data: bytes) -> None:
    """Frames that prove themselves are a state, ValueError or CorruptionError, however they contradict each other."""
    file = _segment(data)
    scanner = _scanner(file, 1 << 20)
    taken = Replay(node_id=1)
    try:
        fast = read_sealed(scanner.read, len(file), SEGMENT)
        for span in scanner if fast is None else fast.spans:
            for header in span.headers:
                taken.take(header, span.body(header), 1, keep=True)
        state = taken.finish()
    except (ValueError, CorruptionError):
        return
    assert state.first_index <= state.last_index + 1
    assert state.facts.mark <= state.last_index


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (frame, page, identity, names, body, seal, batch, container, scan, sealed, tail, replay)
}

__all__ = ["SEGMENT", "TARGETS", "Target"]
