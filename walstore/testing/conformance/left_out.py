"""The numbers that have no case, each with its reason.  At most one in twenty."""

from typing import Final

__all__ = ["LEFT_OUT"]

LEFT_OUT: Final[dict[str, str]] = {
    "G-04": "there is one format version; that every released one opens is held by tests/golden, with real directories",
    "J-03": "there is no read-only open: a directory is read without a lock, and unchanged, by tools/walcat",
}
