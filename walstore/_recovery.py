"""Opening, first half: list, read, judge, replay.  Nothing is written.

    names -> the newest segment is surveyed: what is proven, what is still needed, how it ends
          -> the chain of predecessors is walked back to the oldest segment needed (PROTOCOL A6)
          -> each segment is replayed in order, up to the end that its successor records (A5)
          -> the newest one is replayed up to X, the end of its last proven frame, and then beyond (A2)

What is proven: a frame that a later frame's durable point covers, or that was written before its segment got its name.
Valid frames beyond X count as well, since they may have been acknowledged; `_open` writes them again in a new segment.
Whether what follows the last valid frame is a tear or damage is the evidence table's to say (`_log.evidence`), and
whether that is acceptable is the policy's.
"""

import errno
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

import attrs

from ._config import StorageConfig
from ._disk.seam import Directory, File
from ._log.evidence import Outcome, Verdict, accepts, classify
from ._log.footer import decode_seal
from ._log.frame import Flags, Header, Kind
from ._log.identity import Identity
from ._log.limits import HEADER_PAGE
from ._log.names import IDENTITY, NameKind, classify as classify_name, parse_segment_name
from ._log.page import Page, Predecessor
from ._log.probe import Read
from ._log.replay import Replay, first_needed_of
from ._log.scan import Scanner, Span, durable_point
from ._log.sealed import Sealed, read_sealed
from ._log.state import LogState, Summary
from ._log.tail import tail_facts
from ._log.version import FormatError
from .errors import CorruptionError, UnsupportedFormatError

_KEEP_SHARE = 0.9
_SEQUENCES = 1 << 63
"""Sequences from here on are damage: at a million frames a second they take 292,000 years."""
_CONTROL = frozenset((Kind.STATE, Kind.TRUNCATE, Kind.SNAPSHOT))


@attrs.frozen
class End:
    """The end of the last proven frame of the newest segment: X of PROTOCOL A2."""

    offset: int
    sequence: int
    link: int
    live: bool
    """Whether the newest segment holds, as of X, an entry of the log."""


@attrs.frozen
class Unproven:
    """A valid frame beyond X, to be written again."""

    header: Header
    body: bytes


@attrs.frozen
class Found:
    """What a directory holds."""

    state: LogState
    chain: tuple[tuple[int, str], ...]
    """The segments that the log needs, oldest first: sequence and name."""
    newest: Page
    end: End
    at_end: Summary
    """The state at X."""
    unproven: tuple[Unproven, ...]
    verdict: Verdict
    torn_bytes: int
    closed: bool
    frames: int
    entries: int
    bytes_read: int

    @property
    def last_sequence(self) -> int:
        """The sequence of the last valid frame."""
        return self.unproven[-1].header.sequence if self.unproven else self.end.sequence


@attrs.define
class _Segment:
    """One segment of the chain."""

    name: str
    size: int
    page: Page
    successor: Predecessor | None = None


@attrs.frozen
class _Survey:
    """What a first pass over the newest segment found."""

    proven: int
    needed: int
    scanner: Scanner
    close: bool
    sealed_by_close: bool | None


class Reader:
    """Reads the segments of one directory."""

    def __init__(self, directory: Directory, identity: Identity, config: StorageConfig, *, sync: bool = True) -> None:
        """`sync`: what is read is made durable before it is believed, as an open must and a mere reader need not."""
        self._sync = sync
        self._directory = directory
        self._identity = identity
        self._config = config
        self._bytes_read = 0

    def _path(self, name: str) -> str:
        return f"{self._directory.path}/{name}"

    def read(self) -> Found:
        """Reads everything that the log needs.  Raises CorruptionError (or one of its kinds) or OSError."""
        names = segments_in(self._directory)
        if not names:
            msg = "the store has an IDENTITY and no segment: its log is gone"
            raise CorruptionError(msg, path=self._path(IDENTITY))
        newest = self._segment(max(names), names)
        replay = Replay(self._identity.node_id)
        with self._reading(newest) as read:
            survey = self._survey(newest, read)
            chain = self._chain(newest, survey.needed, names)
            if self._sync:
                self._directory.sync()
            for segment in chain[:-1]:
                self._replay_whole(replay, segment)
            at_end, end, unproven = self._replay_newest(replay, newest, survey, read)
            verdict = self._judge(newest, survey, replay.state)
        try:
            state = replay.finish()
        except ValueError as error:
            raise CorruptionError(str(error), path=self._path(chain[0].name)) from error
        return Found(
            state=state,
            chain=tuple((segment.page.segment_sequence, segment.name) for segment in chain),
            newest=newest.page,
            end=end,
            at_end=at_end,
            unproven=tuple(unproven),
            verdict=verdict,
            torn_bytes=newest.size - survey.scanner.end if verdict.outcome is not Outcome.CLEAN else 0,
            closed=survey.close,
            frames=replay.frames,
            entries=replay.entries,
            bytes_read=self._bytes_read,
        )

    def _segment(self, sequence: int, names: dict[int, str]) -> _Segment:
        name = names[sequence]
        with closing(self._directory.open(name)) as file:
            if self._sync:
                file.datasync()
            size = file.size()
            page = read_page(file, self._path(name))
        parsed = parse_segment_name(name)
        identity = self._identity
        for what, expected, found in (
            ("store uuid", identity.store_uuid.hex(), page.store_uuid.hex()),
            ("node id", identity.node_id, page.node_id),
            ("segment sequence and first index", parsed, (page.segment_sequence, page.first_index)),
        ):
            if expected != found:
                msg = f"the segment's {what} is not what this directory expects: files of two stores were mixed"
                raise CorruptionError(msg, path=self._path(name), offset=0, expected=expected, found=found)
        if max(page.segment_sequence, page.start_sequence) >= _SEQUENCES:
            msg = "the segment's numbers are beyond what any store can have written"
            raise CorruptionError(msg, path=self._path(name), offset=0)
        if not page.may_append:
            msg = "the segment has features that this version may read but not append to"
            raise UnsupportedFormatError(msg, path=self._path(name), offset=0)
        return _Segment(name, size, page)

    def _survey(self, newest: _Segment, read: Read) -> _Survey:
        scanner = Scanner(read, newest.size, newest.page)
        page = newest.page
        proven, needed, last = page.start_sequence, 0, None
        sealed_by_close: bool | None = None
        close = False
        for span in self._scan(newest, scanner):
            for header in span.headers:
                proven = max(proven, durable_point(header))
                if header.next_offset <= page.born_end:
                    proven = max(proven, header.sequence)
                if header.kind in _CONTROL:
                    with self._placed(newest, header):
                        said = first_needed_of(header, span.body(header))
                    needed = needed if said is None else max(needed, said)
                elif header.kind == Kind.SEAL:
                    with self._placed(newest, header):
                        sealed_by_close = decode_seal(span.body(header)).by_close
                close = header.kind == Kind.CLOSE or (header.kind == Kind.SEAL and close)
                last = header
        if last is None:
            fault = scanner.fault
            if fault is not None and fault.error is not None:
                raise OSError(errno.EIO, f"{newest.name}: {fault.error} (evidence E0)")
            msg = "the segment has a name, but not the frame that opens it, which was durable before the name"
            raise CorruptionError(
                msg, path=self._path(newest.name), offset=fault.offset if fault else HEADER_PAGE, evidence="E3"
            )
        if sealed_by_close is False:
            msg = "the segment was sealed by a rotation, so there was a newer one, which is gone"
            raise CorruptionError(
                msg, path=self._path(newest.name), offset=last.offset, frame=last.sequence, evidence="E4"
            )
        return _Survey(proven, needed, scanner, close, sealed_by_close)

    def _chain(self, newest: _Segment, needed: int, names: dict[int, str]) -> list[_Segment]:
        chain = [newest]
        before = newest.page.predecessor
        while before is not None and before.segment_sequence >= needed:
            if before.segment_sequence not in names:
                msg = f"segment {before.segment_sequence}, which the log needs, is not there"
                raise CorruptionError(msg, path=self._path(chain[-1].name), expected=f"segments from {needed} on")
            segment = self._segment(before.segment_sequence, names)
            segment.successor = before
            chain.append(segment)
            before = segment.page.predecessor
        chain.reverse()
        return chain

    @contextmanager
    def _reading(self, segment: _Segment) -> Iterator[Read]:
        """The way to read the segment's file.  One file is open at a time, however many segments there are."""
        with closing(self._directory.open(segment.name)) as file:

            def pread(offset: int, length: int) -> bytes:
                data = file.pread(offset, length)
                self._bytes_read += len(data)
                return data

            yield pread

    def _placed(self, segment: _Segment, header: Header) -> "_Placed":
        return _Placed(self._path(segment.name), header)

    def _scan(self, segment: _Segment, scanned: Scanner | Sealed) -> Iterator[Span]:
        try:
            if isinstance(scanned, Sealed):
                spans = scanned.spans
                spans.reverse()
                while spans:
                    yield spans.pop()  # so that a span which is not kept is given back before the next is replayed
            else:
                yield from scanned
        except UnsupportedFormatError as error:
            error.path = self._path(segment.name)
            raise

    def _replay_whole(self, replay: Replay, segment: _Segment) -> None:
        successor = segment.successor
        assert successor is not None
        with self._reading(segment) as read:
            scanned = self._sealed_or_scanned(segment, read, successor.end)
            placed = partial(self._placed, segment)
            for span in self._scan(segment, scanned):
                replay.take_span(
                    span, span.headers, segment.page.segment_sequence, keep=worth_keeping(span), placed=placed
                )
            verdict = classify(tail_facts(scanned, segment.page, segment.size, successor=successor))
        if verdict.outcome is not Outcome.CLEAN:
            raise self._refusal(verdict, segment.name)

    def _sealed_or_scanned(self, segment: _Segment, read: Read, stop: int) -> Scanner | Sealed:
        """The segment by its footer, if it has one and all of it holds; else by a scan, which says what does not."""
        try:
            sealed = read_sealed(read, segment.size, segment.page, stop=stop)
        except UnsupportedFormatError as error:
            error.path = self._path(segment.name)
            raise
        return sealed or Scanner(read, segment.size, segment.page, stop=stop)

    def _replay_newest(
        self, replay: Replay, newest: _Segment, survey: _Survey, read: Read
    ) -> tuple[Summary, End, list[Unproven]]:
        scanner = Scanner(read, newest.size, newest.page)
        sequence = newest.page.segment_sequence
        last: Header | None = None
        at_end: Summary | None = None
        live = False
        unproven: list[Unproven] = []
        placed = partial(self._placed, newest)
        for span in self._scan(newest, scanner):
            keep = worth_keeping(span)
            proven = [header for header in span.headers if header.sequence <= survey.proven]
            if proven:
                replay.take_span(span, proven, sequence, keep=keep, placed=placed)
                last = proven[-1]
            for header in span.headers[len(proven) :]:
                if at_end is None:
                    at_end, live = replay.state.summary(), _ends_in(replay.state, sequence)
                body = span.body(header)
                with placed(header):
                    replay.take(header, body, sequence + 1, keep=keep)
                if header.kind != Kind.SEAL:
                    unproven.append(Unproven(header, bytes(body)))
        if last is None or scanner.end != survey.scanner.end:
            msg = "the segment changed while it was read"
            raise CorruptionError(msg, path=self._path(newest.name))
        if at_end is None:
            at_end, live = replay.state.summary(), _ends_in(replay.state, sequence)
        return at_end, End(last.next_offset, last.sequence, last.crc, live), unproven

    def _judge(self, newest: _Segment, survey: _Survey, state: LogState) -> Verdict:
        facts = tail_facts(
            survey.scanner,
            newest.page,
            newest.size,
            mark=state.facts.mark,
            last_index=state.last_index,
            sector=self._config.sector,
        )
        verdict = classify(facts)
        if accepts(self._config.policy, verdict):
            return verdict
        raise self._refusal(verdict, newest.name)

    def _refusal(self, verdict: Verdict, name: str) -> Exception:
        """A verdict that is not accepted: of the device (E0) or of the bytes."""
        if verdict.outcome is Outcome.IO:
            return OSError(errno.EIO, f"{name}: {verdict.facts.error} (evidence E0)")
        return verdict.error(self._path(name))


class _Placed:
    """Turns what replay says of a whole frame that makes no sense into a CorruptionError with its place."""

    def __init__(self, path: str, header: Header) -> None:
        self._path = path
        self._header = header

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        header = self._header
        if isinstance(error, CorruptionError):
            if error.path is None:
                error.path, error.offset, error.frame = self._path, header.offset, header.sequence
        elif isinstance(error, ValueError):
            raise CorruptionError(
                f"the frame is whole, and yet it makes no sense: {error}",
                path=self._path,
                offset=header.offset,
                frame=header.sequence,
                index=header.first_index or None,
            ) from error


def _ends_in(state: LogState, segment: int) -> bool:
    """Whether the last entry of the log is in that segment; runs are in the order of their segments."""
    return bool(state.log) and state.log.runs[-1].segment == segment


def worth_keeping(span: Span) -> bool:
    """Whether the span may live on as the memory of its entries (PROTOCOL B9): at least 90 percent is payload."""
    payload = sum(header.body_len - 5 * header.count for header in span.headers if header.kind == Kind.ENTRIES)
    return payload >= _KEEP_SHARE * len(span.data)


def read_page(file: File, path: str) -> Page:
    """A segment's header page.  Raises CorruptionError or UnsupportedFormatError."""
    try:
        return Page.decode(file.pread(0, HEADER_PAGE))
    except FormatError as error:
        msg = f"the segment's header page is damaged: {error}"
        raise CorruptionError(msg, path=path, offset=0, evidence="E3") from error
    except UnsupportedFormatError as error:
        error.path, error.offset = path, 0
        raise


def segments_in(directory: Directory) -> dict[int, str]:
    """The segments by sequence.  CorruptionError if a name looks like one of ours and is not, or is there twice."""
    found: dict[int, str] = {}
    for name in directory.names():
        kind = classify_name(name)
        if kind is NameKind.MALFORMED:
            msg = "the name looks like a file of the store, and is not one"
            raise CorruptionError(msg, path=f"{directory.path}/{name}")
        parsed = parse_segment_name(name) if kind is NameKind.SEGMENT else None
        if parsed is not None:
            if parsed[0] in found:
                msg = f"segment {parsed[0]} is there twice, the other time as {found[parsed[0]]}"
                raise CorruptionError(msg, path=f"{directory.path}/{name}")
            found[parsed[0]] = name
    return found


def is_only_begun(file: File) -> bool:
    """Whether a segment without an IDENTITY beside it is the rest of an unfinished creation: it opens a pristine log
    and holds nothing else (PROTOCOL A11)."""
    try:
        page = Page.decode(file.pread(0, HEADER_PAGE))
    except (FormatError, UnsupportedFormatError):
        return False
    scanner = Scanner(file.pread, file.size(), page)
    replay = Replay(page.node_id)
    for span in scanner:
        for header in span.headers:
            if not header.flags & Flags.OPENING:
                return False
            try:
                replay.take(header, span.body(header), page.segment_sequence, keep=False)
            except (ValueError, CorruptionError):
                return False
    return scanner.fault is None and replay.frames == 1 and replay.state.pristine
