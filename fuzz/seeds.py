"""Where fuzzing begins: inputs for each target that the encoders of the package made, so they reach its last line.

Random bytes stop at the first checksum.  A seed is what a writer would have written, and mutation leads away from it.
`python -m fuzz.seeds DIRECTORY` writes them as files, in the layout that a fuzzer reads.
"""

import sys
from pathlib import Path

from walstore._log import control
from walstore._log.batch import encode_batch
from walstore._log.checksum import crc
from walstore._log.container import pack
from walstore._log.draft import Draft, Place, assemble
from walstore._log.footer import encode_seal
from walstore._log.frame import Flags, Header, Kind
from walstore._log.identity import Identity
from walstore._log.names import segment_name, snapshot_name, snapshot_temporary
from walstore._log.page import Page, Predecessor
from walstore._types import HardState, MembershipConfig, SnapshotHeader

from .targets import SEGMENT, TARGETS

NORMAL, BLANK, CONFIG_CHANGE = 1, 2, 3
JOINT = MembershipConfig(frozenset({1, 2, 3}), frozenset({3, 4}))
SNAPSHOT = SnapshotHeader("snapshot 1", 2, 3, JOINT, 2, b"engine")
RECORD = control.SnapshotRecord(SNAPSHOT, 8192, 0x12345678)
EMPTY = control.Base(0, 0, 0, pointer=False, snapshot=None, first_needed=1)

BODIES: list[tuple[int, control.StateBody | control.TruncateBody | control.SnapshotBody | control.SyncBody]] = [
    (0, control.StateBody(HardState(3, 2), 5)),
    (0, control.StateBody(HardState(), 0, EMPTY)),
    (0, control.StateBody(HardState(2), 3, control.Base(4, 9, 2, pointer=True, snapshot=RECORD, first_needed=1))),
    (1, control.TruncateBody(4, control.TO_THE_END, 3, 1)),
    (2, control.SnapshotBody(RECORD, 4, 9, 2, keep_suffix=True, mark=5, first_needed=1)),
    (3, control.SyncBody(7)),
]


def _control(kind: Kind, body: bytes, flags: int = 0) -> Draft:
    return Draft(kind, (body,), flags)


def _entries(first: int, terms: list[int], kinds: list[int], *, mark: int | None, overwrite: bool = False) -> Draft:
    payloads = [
        control.encode_membership(JOINT) if kind == CONFIG_CHANGE else b"" if kind == BLANK else b"entry %d" % index
        for index, kind in enumerate(kinds, first)
    ]
    return encode_batch(first, terms, bytes(kinds), payloads, mark=mark, overwrite=overwrite)[0]


OPENING = _control(Kind.STATE, control.StateBody(HardState(), 0, EMPTY).encode(), Flags.OPENING)

LOG = [
    OPENING,
    _entries(1, [1, 1, 1], [NORMAL, NORMAL, NORMAL], mark=None),
    _control(Kind.STATE, control.StateBody(HardState(2, 1), 0).encode()),
    _entries(4, [1, 2], [CONFIG_CHANGE, BLANK], mark=2),
    _entries(5, [3], [NORMAL], mark=None, overwrite=True),
    _control(Kind.TRUNCATE, control.TruncateBody(5, control.TO_THE_END, 2, 1).encode()),
    _control(Kind.SYNC, control.SyncBody(3).encode()),
    _control(
        Kind.SNAPSHOT,
        control.SnapshotBody(
            control.SnapshotRecord(SnapshotHeader("s", 1, 3, MembershipConfig(frozenset({1}))), 4136, 1),
            first_index=4, last_index=4, last_term=1, keep_suffix=True, mark=3, first_needed=1,
        ).encode(),
    ),
    _control(Kind.CLOSE, control.CloseBody(3).encode()),
]  # fmt: skip


def segment(drafts: list[Draft], group: int, *, sealed: bool = False) -> tuple[bytes, list[Header]]:
    """What follows the header page: the drafts in barrier groups of `group`, then zeros or a footer; their headers."""
    out = bytearray()
    headers: list[Header] = []
    place = Place(4096, 0, SEGMENT.crc, 0)
    for start in range(0, len(drafts), group):
        made = assemble(drafts[start : start + group], SEGMENT.tag, place, SEGMENT.commit_align, opening=not start)
        out += b"".join(made.buffers)
        headers += made.headers
        place = Place(made.after.offset, made.after.sequence, made.after.link, made.after.sequence)
    if sealed:
        whole = crc(bytes(out), crc(SEGMENT.encode()))
        footer = Draft(Kind.SEAL, (encode_seal(headers, whole, by_close=True, offset=place.offset),))
        out += b"".join(assemble([footer], SEGMENT.tag, place, 64).buffers)
    else:
        out += bytes(1024)
    return bytes(out), headers


def _segments() -> list[bytes]:
    """Segments behind the byte that says how the target repairs them: not at all, headers only, all of it."""
    files = [segment(LOG, 1)[0], segment(LOG, 3)[0], segment(LOG, 2, sealed=True)[0], segment(LOG[:1], 1)[0], b""]
    return [bytes([how]) + file for how in (0, 1, 7) for file in files]


def _pages() -> list[bytes]:
    follower = Page(
        node_id=3, store_uuid=bytes(16), segment_sequence=9, salt=2**64 - 1, segment_size=1 << 26, commit_align=4096,
        zero_filled=False, first_index=77, start_sequence=5, born_end=8192, created_ns=1,
        predecessor=Predecessor(segment_sequence=8, end=8192, last_sequence=5, last_link=3),
    )  # fmt: skip
    return [SEGMENT.encode(), follower.encode()]


def _batches() -> list[bytes]:
    """Bodies of ENTRIES behind the flags, the count and the term that the target puts in their header."""
    drafts = [draft for draft in LOG if draft.kind == Kind.ENTRIES]
    return [bytes([draft.flags, draft.count, draft.term]) + b"".join(draft.buffers) for draft in drafts]


def seeds() -> dict[str, list[bytes]]:
    """At least one input for each target."""
    _, headers = segment(LOG, 2)
    found = {
        "frame": [header.pack() for header in headers],
        "page": _pages(),
        "identity": [Identity(node_id=1, store_uuid=bytes(16), created_ns=1).encode()],
        "names": [
            *(name.encode() for name in (segment_name(1, 1), snapshot_name(2, 3), snapshot_temporary(4))),
            *(b"LOCK", b"IDENTITY.tmp", b"other"),
        ],
        "body": [bytes([kind]) + body.encode() for kind, body in BODIES]
        + [b"\0" + control.encode_membership(JOINT), bytes([4]) + control.CloseBody(7).encode()],
        "seal": [
            encode_seal(headers, 5, by_close, offset=headers[-1].next_offset) for by_close in (False, True)
        ] + [encode_seal(headers[:1], 5, by_close=False, offset=8192)],
        "batch": _batches(),
        "container": [
            b"".join(pack(SNAPSHOT, pieces, chunk_size=64)) for pieces in ([], [b"payload"], [bytes(range(256))] * 2)
        ],
        "scan": _segments(),
        "sealed": [bytes([how]) + segment(LOG, 2, sealed=True)[0] for how in (0, 1, 7)],
        "tail": _segments(),
        "replay": _segments(),
    }  # fmt: skip
    assert found.keys() == TARGETS.keys()
    return found


def write(directory: Path) -> None:
    """Writes every seed as `<directory>/<target>/seed-<number>`."""
    for target, inputs in seeds().items():
        (directory / target).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (directory / target / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
