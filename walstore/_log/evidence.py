"""The evidence table: what the end of a segment means.  A torn tail is told apart from damage here, and nowhere else.

Three steps, each apart from the others:
    1. `tail_facts` (in `tail`) gathers what can be seen, plus what only the caller knows.
    2. `classify` asks the rows of `TABLE` in their order; the first that holds is the verdict.
    3. `accepts` says whether a policy opens the store all the same.

What a crash may leave, and every row must let pass (strict opens any of it, and keeps exactly the frames in front):
    - of the frames of the last barrier (one write of one or more frames, FORMAT 5.6 at depth 1), any set of 512-byte
      sectors; the others hold what they held before: zeros, where the file was filled with zeros; zeros or anything,
      where it grows;
    - in a file that grows, any length between the old and the new one;
    - never a change in a barrier before the last, nor in a file shortened before its SEAL was synced.
So damage is whatever contradicts that, and the rows say which contradiction each of them sees.  Two facts carry most:
    - A header of 64 bytes at a multiple of 64 lies within one sector: a tear leaves it whole or not at all.
    - In a file filled with zeros, a sector that was not written is all zero.
Where neither is to be had, an acknowledged last frame that rotted looks like one that was torn.  The verdict is then
TORN and `ambiguous` (FORMAT 5.6): it may have dropped what had been acknowledged.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType

import attrs

from ..errors import CorruptionError
from .frame import Kind
from .scan import Reason
from .tail import TailFacts, tail_facts

__all__ = ["POLICIES", "TABLE", "Outcome", "Row", "TailFacts", "Verdict", "accepts", "classify", "tail_facts"]


class Outcome(Enum):
    """What a verdict comes down to."""

    CLEAN = "clean"
    """Nothing is missing and nothing is left over."""
    TORN = "torn"
    """The last barrier was cut short by a crash.  It had not been acknowledged; its frames are dropped."""
    SUSPECT = "suspect"
    """The last barrier is damaged in a way that no crash explains; but nothing proves that it was acknowledged."""
    CORRUPT = "corrupt"
    """Bytes are damaged or missing that had been acknowledged."""
    IO = "io"
    """The device did not give the bytes.  Nothing is known about them."""


Question = Callable[[TailFacts], bool]


@attrs.frozen
class Row:
    """One row of the table: if the answer is yes, that is what it is."""

    label: str
    """As in FORMAT 5.6."""
    name: str
    """Tells rows of one label apart."""
    question: Question
    outcome: Outcome
    sentence: str
    """For people."""
    ambiguous: bool = attrs.field(default=False, kw_only=True)
    """The frame dropped may have been acknowledged and rotted since; nothing on this disk can tell."""


def read_failed(facts: TailFacts) -> bool:
    """No crash makes a read fail, and damage is not shown by it either."""
    return facts.error is not None


def was_cut(facts: TailFacts) -> bool:
    """A zero-filled file has its full size before it has its name, and is shortened only once its SEAL is durable.

    Asked of the last segment only (A5), and not of files that grow (A12).
    """
    return facts.is_last and facts.zero_filled and facts.size < facts.announced and not facts.sealed


def proven_by_a_frame(facts: TailFacts) -> bool:
    """The writer takes the durable point from barriers that had returned: a crash cannot undo those.

    The header suffices, its body may be torn itself: the point was true when the header was made.
    """
    return facts.proof is not None and facts.proof.kind not in (Kind.SYNC, Kind.SEAL, Kind.CLOSE)


def misplaced(facts: TailFacts) -> bool:
    """Frames are numbered in the order of their places, and each takes 64 bytes or more.

    A frame of the same barrier that outlived the one due has a higher number, and room in front of it.  One with the
    number that was due opens a new barrier behind padding that was durable.
    """
    return facts.misplaced is not None


def contradicts_successor(facts: TailFacts) -> bool:
    """The successor names an end that was durable when it was made.  Nothing beyond it is judged (A5)."""
    return not facts.is_last and (facts.fault is not None or not facts.agrees)


def born_damaged(facts: TailFacts) -> bool:
    """The opening STATE and the copies behind it were synced before the rename: the name proves them (A2)."""
    return not facts.opened or facts.end < facts.born_end


def proven_by_the_end(facts: TailFacts) -> bool:
    """As for any frame: by its durable point, never by its mere presence.

    A CLOSE and its SEAL may share a barrier with each other and with data; then the SEAL may outlive the CLOSE.
    """
    return facts.proof is not None and facts.proof.kind in (Kind.SEAL, Kind.CLOSE)


def sealed_over(facts: TailFacts) -> bool:
    """A zero-filled file is shortened only after its SEAL, and so all before it, was synced.

    Of a file that grows this is not asked: there the SEAL itself makes the length, in the barrier that a crash tears.
    """
    return facts.zero_filled and facts.sealed and facts.size < facts.announced and facts.fault is not None


def successor_missing(facts: TailFacts) -> bool:
    """Rotation seals a segment once the name of the next one is durable; a clean close writes CLOSE first (A4)."""
    return facts.is_last and facts.rotated


def applied_is_missing(facts: TailFacts) -> bool:
    """A mark is written behind the entries that it covers, and falls with them when they are deleted (A7)."""
    return facts.mark > facts.last_index


def attested(facts: TailFacts) -> bool:
    """A SYNC frame is written when all before it is durable; its durable point says so."""
    return facts.proof is not None and facts.proof.kind == Kind.SYNC


def clean(facts: TailFacts) -> bool:
    """A barrier of which nothing was written is as if it had never been."""
    return facts.fault is None


def broken_header(facts: TailFacts) -> bool:
    """A tear leaves a header whole or not at all; these are the remains of the very one that was due."""
    return facts.remains


def written_without_header(facts: TailFacts) -> bool:
    """Right behind a frame there is, in its sector, the valid header of the next, or zeros: padding, or not written.

    Not asked of files that grow: a sector that was not written may hold anything there.
    """
    return facts.zero_filled and facts.written


def padding_damaged(facts: TailFacts) -> bool:
    """The last bytes of the body lie in the sector of the padding behind them, so it was written, with zeros.

    Not asked of files that grow: by chance, a sector that was not written can agree with a byte or two of the body.
    """
    return facts.zero_filled and facts.fault is Reason.PADDING


def no_sector_missing(facts: TailFacts) -> bool:
    """A tear would have left one of the frame's sectors all zero; it has none such (A12).

    One-sided: a payload may hold such a sector.  Asked only where the header is valid, of a zero-filled file.
    """
    return facts.zero_filled and facts.zero_sector is False


def one_wrong_bit(facts: TailFacts) -> bool:
    """A tear loses sectors, not a bit; unless the sector is all zero now and held but one bit (A12)."""
    return facts.wrong_bit is not None


def outlived(facts: TailFacts) -> bool:
    """A later frame is there, and its durable point lies before the one that is not: both are of one barrier.

    Of the sectors of one write any may be missing, so this is legal.  It is also what rot in an acknowledged barrier
    of several frames looks like, as long as nothing follows it.
    """
    return facts.later is not None


def visibly_torn(facts: TailFacts) -> bool:
    """A sector that the frame needs is all zero in a zero-filled file: that is what a tear leaves, and rot hardly."""
    return facts.zero_filled and (facts.gap or facts.zero_sector is True)


def anything_else(_: TailFacts) -> bool:
    """Torn, or the last frame of all, acknowledged and then rotted: where files grow, nothing can tell."""
    return True


TABLE: tuple[Row, ...] = (
    Row("E0", "read", read_failed, Outcome.IO, "the file could not be read"),
    Row("E9", "cut", was_cut, Outcome.CORRUPT, "the file is shorter than it was made, and does not end with a seal"),
    Row("E1", "proof", proven_by_a_frame, Outcome.CORRUPT, "a later frame proves that the bad one had been durable"),
    Row("E1", "order", misplaced, Outcome.CORRUPT, "a later frame is where no crash could have left it"),
    Row(
        "E3", "successor", contradicts_successor, Outcome.CORRUPT, "the next segment proves that more had been durable"
    ),
    Row("E3", "born", born_damaged, Outcome.CORRUPT, "these frames were durable before the file got its name"),
    Row(
        "E4", "proof", proven_by_the_end, Outcome.CORRUPT, "a CLOSE or SEAL proves that the bad frame had been durable"
    ),
    Row(
        "E4", "sealed", sealed_over, Outcome.CORRUPT, "the file was sealed and cut to its end, so all of it was durable"
    ),
    Row("E4", "rotated", successor_missing, Outcome.CORRUPT, "the segment was sealed for a next one, which is missing"),
    Row("E5", "mark", applied_is_missing, Outcome.CORRUPT, "entries are missing that had been applied"),
    Row("E6", "sync", attested, Outcome.CORRUPT, "a SYNC frame proves that the bad frame had been durable"),
    Row("E10", "clean", clean, Outcome.CLEAN, "nothing but zeros follows the last frame"),
    Row("E7", "header", broken_header, Outcome.SUSPECT, "a frame header is damaged, which a torn write cannot do"),
    Row(
        "E7",
        "behind",
        written_without_header,
        Outcome.SUSPECT,
        "what follows the last frame is neither zero nor a frame",
    ),
    Row("E7", "padding", padding_damaged, Outcome.SUSPECT, "the padding behind a whole frame is not zero"),
    Row("E7", "sectors", no_sector_missing, Outcome.SUSPECT, "the frame is damaged, and yet every sector was written"),
    Row("E8", "bit", one_wrong_bit, Outcome.SUSPECT, "exactly one bit of the frame is wrong"),
    Row(
        "E2",
        "outlived",
        outlived,
        Outcome.TORN,
        "part of the last barrier is missing, and a later part is not",
        ambiguous=True,
    ),
    Row("E11", "torn", visibly_torn, Outcome.TORN, "the last barrier was cut short by a crash"),
    Row(
        "E11",
        "else",
        anything_else,
        Outcome.TORN,
        "the last frame is not whole, most likely cut short by a crash",
        ambiguous=True,
    ),
)
"""In the order of asking of FORMAT 5.6, corrected by PROTOCOL A5, A7, A12 and B2."""


@attrs.frozen
class Verdict:
    """The row that held, and the facts that it was asked about."""

    row: Row
    facts: TailFacts = attrs.field(repr=False)

    @property
    def label(self) -> str:
        """E0 to E11, for messages and for the evidence field of errors."""
        return self.row.label

    @property
    def outcome(self) -> Outcome:
        """What it comes down to."""
        return self.row.outcome

    @property
    def ambiguous(self) -> bool:
        """Whether a frame was dropped that may have been acknowledged."""
        return self.row.ambiguous

    @property
    def because(self) -> str:
        """The row's sentence, and what there was where the next frame was due."""
        fault = self.facts.fault
        return self.row.sentence if fault is None else f"{self.row.sentence} ({fault.value})"

    @property
    def index(self) -> int:
        """The Raft index that comes first after what is good: the bad frame's own, if its header says one."""
        header = self.facts.header
        return header.first_index if header is not None and header.first_index else self.facts.last_index + 1

    def error(self, path: str) -> CorruptionError:
        """The verdict as an exception, for a policy that does not accept it."""
        facts = self.facts
        return CorruptionError(
            self.because,
            path=path,
            offset=facts.end if facts.fault is None else facts.offset,
            frame=facts.sequence or None,
            index=self.index,
            evidence=self.label,
            found=facts.error,
        )


def classify(facts: TailFacts) -> Verdict:
    """The first row of the table that holds; the last one always does."""
    return next(Verdict(row, facts) for row in TABLE if row.question(facts))


POLICIES: Mapping[str, frozenset[Outcome]] = MappingProxyType(
    {
        "strict": frozenset({Outcome.CLEAN, Outcome.TORN}),
        "tolerate_suspect_tail": frozenset({Outcome.CLEAN, Outcome.TORN, Outcome.SUSPECT}),
    }
)
"""What each policy opens.  No policy opens a corrupt log, or one that could not be read."""


def accepts(policy: str, verdict: Verdict) -> bool:
    """Whether a store of this policy opens on it.  ValueError if there is no such policy."""
    if policy not in POLICIES:
        msg = f"policy must be one of {', '.join(POLICIES)}, not {policy!r}"
        raise ValueError(msg)
    return verdict.outcome in POLICIES[policy]
