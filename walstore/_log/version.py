"""Versions and features: what each file begins with, and who may read it.

IDENTITY and every segment begin with the same 48 bytes, little endian:

    off  field      type  meaning
    ---  ---------  ----  ----------------------------------------------------------------------------------------
      0  magic      16 B  89 "WALSTORE" 0D 0A 1A 0A, then 00 00 00 in a segment and "ID" 00 in IDENTITY.  A first byte
                          that is not ASCII, both line ends and an end-of-file mark: a transfer as text shows itself
     16  major      u16   1.  Newer: refused
     18  minor      u16   0.  Newer: read all the same
     20  reserved   u32   0
     24  compat     u64   features that a reader may know nothing of: it goes on
     32  ro_compat  u64   features without which one may read, and not append
     40  incompat   u64   features without which one may do neither

Rules that keep the format readable for ever:
    1. magic, major and minor and the masks stay where they are, and the checksum stays at the end, in every version.
    2. A field never changes its meaning.  New fields take bytes that were reserved, under a mask bit or a new minor.
    3. Features are stamped on each file, so an upgrade begins with the next segment and rewrites none.
"""

import attrs

from ..errors import UnsupportedFormatError

MAGIC_PREFIX = b"\x89WALSTORE\r\n\x1a\n"
MAJOR = 1
MINOR = 0
KNOWN_COMPAT = 0
KNOWN_RO_COMPAT = 0
KNOWN_INCOMPAT = 0


class FormatError(ValueError):
    """A header page or an identity that does not prove itself: damage, or not ours.  The text says which rule broke.

    Whether damage here is corruption or a creation that a crash cut short is decided where the whole directory is
    known, so this is not yet a `CorruptionError`.
    """


@attrs.frozen
class Version:
    """The version and the feature masks of a file.  By default those that this version writes."""

    major: int = MAJOR
    minor: int = MINOR
    compat: int = 0
    ro_compat: int = 0
    incompat: int = 0

    @property
    def may_append(self) -> bool:
        """Whether this version may write on from such a file; if not, it may still read it."""
        return not self.ro_compat & ~KNOWN_RO_COMPAT

    @property
    def is_newer(self) -> bool:
        """Whether the file may hold fields that this version does not know: reserved bytes need not be zero then."""
        unknown = self.compat & ~KNOWN_COMPAT | self.ro_compat & ~KNOWN_RO_COMPAT
        return self.minor > MINOR or unknown != 0

    def check(self, what: str) -> None:
        """Raises UnsupportedFormatError if this version may not read such a file, FormatError if no version could."""
        if self.major == 0:
            msg = f"the {what} has major version 0, which never was"
            raise FormatError(msg)
        if self.major > MAJOR:
            msg = f"the {what} has format {self.major}.{self.minor}; this version reads up to {MAJOR}"
            raise UnsupportedFormatError(msg, expected=MAJOR, found=self.major)
        unknown = self.incompat & ~KNOWN_INCOMPAT
        if unknown:
            msg = f"the {what} needs features that this version does not have"
            raise UnsupportedFormatError(msg, expected=f"{KNOWN_INCOMPAT:#x}", found=f"{self.incompat:#x}")


CURRENT = Version()
"""What this version writes."""
