"""The numbers of the acceptance list, with the tag of each.

The list was drawn from the tests that peers run on their own storages (groups A to K) and from what a Raft core does
and users report (M).  A tag says what became of the peer's test:

* `A` adopted as written, `T` adopted in translation, `R` the peer asserts something that is deliberately different
  here (the case holds this library's answer), `W` wanted: no peer tests it.
* `N` does not apply to a storage of this interface; it is listed for completeness and has no case.

Every number that is not tagged `N` is a case of the kit or stands in `left_out.LEFT_OUT` with its reason.
"""

from collections.abc import Iterator, Mapping
from typing import Final

__all__ = ["GROUPS", "NUMBERS", "WANTED_TAGS"]

GROUPS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "A": ("async-raft: memstore's own tests", {"A": "01-19", "R": "20-24"}),
    "B": ("async-raft: cluster tests, what a storage sees of them", {"T": "01-08", "N": "09"}),
    "C": (
        "openraft: the storage test suite",
        {
            "A": "10 21-22 28-29 44-45",
            "T": "01 02a 02b 02c 02d 03-09 11-20 23-24 27 30-43 46",
            "N": "25-26",
        },
    ),
    "D": (
        "openraft: older storage suites",
        {
            "A": "04 06 09 11 16-17 22-24 27 31-32 34",
            "T": "01-03 05 07 10 12-14 18-21 25-26 33 35",
            "R": "08 15 28-30 36-37",
            "N": "38",
        },
    ),
    "F": (
        "openraft: integration tests, what a storage sees of them",
        {"A": "23 30-32", "T": "01 04-07 09-14 16-22 24-28 34-35", "R": "03", "N": "02 08 15 29 33 36"},
    ),
    "G": ("openraft: stores and examples", {"A": "01", "T": "02-05", "N": "06"}),
    "I": (
        "hashicorp/raft: snapshots, logs, configuration",
        {
            "A": "03-04 06-11 14 19-20",
            "T": "05 16 18 21-24 27-31 33 35-36",
            "R": "02 13",
            "W": "12",
            "N": "01 15 17 25-26 32 34",
        },
    ),
    "J": ("hashicorp/raft-boltdb: the bolt store", {"A": "02 04-06 08-10", "T": "03 07 11", "N": "01 12"}),
    "K": (
        "hashicorp/raft-wal: segments, recovery, crash workloads",
        {
            "A": "02-03 06 10-12 15 23-24 28-29",
            "T": "01 04-05 08-09 13-14 16-19 21-22 26-27 30",
            "N": "07 20 25",
        },
    ),
    "M": ("wanted: what the core does, and what users reported", {"W": "01-86"}),
}
"""For each group: what it is, and its numbers by tag (runs are inclusive)."""

WANTED_TAGS: Final = frozenset("ATRW")
"""The tags that ask for a case."""


def _expand(group: str, tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for tag, runs in tags.items():
        for run in runs.split():
            first, _, last = run.partition("-")
            if last:
                yield from ((f"{group}-{number:02d}", tag) for number in range(int(first), int(last) + 1))
            else:
                yield f"{group}-{first}", tag


NUMBERS: Final[Mapping[str, str]] = {
    number: tag for group, (_, tags) in GROUPS.items() for number, tag in sorted(_expand(group, tags))
}
"""Every number of the list and its tag, in the list's order."""
