"""Segments are born whole: header page, opening STATE and what must be carried over, synced before they get a name.

So a name proves the bytes up to `born_end` (PROTOCOL A2), a crash in between leaves only a temporary file, and the one
function `SegmentMaker.bear` serves creation, every open, every rotation and a backup.
"""

from collections.abc import Sequence

import attrs

from ._config import StorageConfig
from ._disk.seam import Directory, File, FileSystem
from ._log.control import StateBody
from ._log.draft import Draft, Place, assemble
from ._log.frame import Flags, Header, Kind
from ._log.limits import HEADER_PAGE, align_up
from ._log.names import segment_name
from ._log.page import Page, Predecessor
from ._log.state import Summary

_ZEROS = bytes(1 << 20)


def fill_with_zeros(file: File, size: int) -> None:
    """Writes zeros over [0, size), so that later writes allocate nothing."""
    for offset in range(0, size, len(_ZEROS)):
        file.pwritev(offset, [_ZEROS[: min(len(_ZEROS), size - offset)]])


@attrs.define
class Segment:
    """A segment that is being written: its file, its header page, its frames so far and the place of the next one."""

    name: str
    file: File
    page: Page
    headers: list[Header]
    place: Place

    @property
    def sequence(self) -> int:
        """The segment's own number."""
        return self.page.segment_sequence


@attrs.frozen
class SegmentMaker:
    """Makes the segments of one store."""

    filesystem: FileSystem
    directory: Directory
    config: StorageConfig
    node_id: int
    store_uuid: bytes

    def blank(self, name: str, size: int) -> File:
        """A new file of zeros under a temporary name, prepared as the configuration says.  OSError: nothing stays."""
        file = self.directory.create(name)
        try:
            if self.config.preallocate == "zero":
                fill_with_zeros(file, size)
            elif self.config.preallocate == "fallocate":
                file.allocate(size)
            file.datasync()
        except BaseException:
            file.close()
            self.directory.unlink(name)
            raise
        return file

    def opening(self, summary: Summary, sequence: int) -> Draft:
        """The STATE that opens segment `sequence`."""
        facts = summary.facts
        body = StateBody(facts.hard_state, facts.mark, summary.base(sequence))
        return Draft(Kind.STATE, (body.encode(),), flags=Flags.OPENING)

    def bear(
        self,
        file: File,
        temporary: str,
        size: int,
        *,
        sequence: int,
        start: int,
        summary: Summary,
        predecessor: Predecessor | None,
        drafts: Sequence[Draft] = (),
    ) -> Segment:
        """Writes the beginning of segment `sequence` into `file`, syncs it, and gives it its name.

        `start` is the sequence of the last frame before it.  When this returns the name is durable.  If writing or
        syncing the file fails, `Unborn` is raised: nothing of it counts.  If the name fails, OSError: outcome unknown.
        """
        group = (self.opening(summary, sequence), *drafts)
        born_end = HEADER_PAGE + sum(draft.room for draft in group)
        page = Page(
            node_id=self.node_id,
            store_uuid=self.store_uuid,
            segment_sequence=sequence,
            salt=int.from_bytes(self.filesystem.random_bytes(8), "little"),
            segment_size=max(size, align_up(born_end, self.config.commit_align)),
            commit_align=self.config.commit_align,
            zero_filled=self.config.preallocate != "none",
            first_index=summary.last_index + 1,
            start_sequence=start,
            born_end=born_end,
            created_ns=self.filesystem.time_ns(),
            predecessor=predecessor,
        )
        place = Place(offset=HEADER_PAGE, sequence=start, link=page.crc, durable=start)
        written = assemble(group, page.tag, place, self.config.commit_align, opening=True)
        name = segment_name(sequence, page.first_index)
        try:
            file.pwritev(0, (page.encode(), *written.buffers))
            file.datasync()
        except OSError as error:
            raise Unborn(error) from error
        self.directory.rename(temporary, name)
        self.directory.sync()
        after = attrs.evolve(written.after, durable=written.after.sequence)
        return Segment(name, file, page, list(written.headers), after)


class Unborn(Exception):
    """A segment could not be written before it got its name.  The log is as it was."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause
