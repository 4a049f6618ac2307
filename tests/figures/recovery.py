"""How long an open takes and what memory it needs: `python -m tests.figures.recovery [DIR]`.

A million 128-byte entries that were appended in batches of 512, and a hundred thousand that were appended one by one,
are opened in a fresh process each, beside reading the same bytes and checksumming them.  The stores are made first,
which takes a minute or two, and removed at the end.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

import crc32c
import trio

from walstore import Entry, Normal, StateMachine, open_storage
from walstore.abc import SnapshotView

WORKLOADS = {"1,000,000 entries in batches of 512": (1_000_000, 512), "100,000 entries one by one": (100_000, 1)}
SIZE = 128
ROUNDS = 5


class Nothing(StateMachine[bytes, None]):
    """A machine that keeps nothing, so that the log alone is measured."""

    def apply(self, index: int, data: bytes) -> None:
        """Forgets it."""

    def capture(self) -> SnapshotView:
        """The view of nothing."""
        return NoView()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Takes nothing."""


class NoView(SnapshotView):
    """Nothing."""

    def chunks(self) -> Iterator[bytes]:
        """Nothing."""
        return iter(())


async def make(path: Path, total: int, batch: int) -> None:
    """A store with that many entries."""
    data = os.urandom(SIZE)
    async with open_storage(path, node_id=1, machine=Nothing) as storage:
        for start in range(1, total + 1, batch):
            stop = min(start + batch, total + 1)
            await storage.replicate_to_log([Entry(1, index, Normal(data)) for index in range(start, stop)])


async def measure(path: Path) -> tuple[float, int, int]:
    """Seconds to open, entries, and peak memory of the process in KiB."""
    began = time.perf_counter()
    async with open_storage(path, node_id=1, machine=Nothing) as storage:
        seconds = time.perf_counter() - began
        return seconds, storage.recovery.entries, peak_memory()


def peak_memory() -> int:
    """The most memory that this program has held so far, in KiB (that of Linux: the parent's is not counted)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def read_and_checksum(path: Path) -> tuple[float, int]:
    """Seconds to read the segments in pieces of 8 MiB and checksum them, and their size in bytes."""
    began = time.perf_counter()
    size = 0
    for name in sorted(path.glob("wal-*")):
        with name.open("rb", buffering=0) as file:
            while data := file.read(8 << 20):
                crc32c.crc32c(data)
                size += len(data)
    return time.perf_counter() - began, size


def child(path: Path) -> None:
    """One measurement, printed for the parent."""
    bare = peak_memory()
    seconds, entries, peak = trio.run(measure, path)
    print(seconds, entries, peak, bare)


def main(where: str | None) -> None:
    """Makes the stores and measures them."""
    for title, (total, batch) in WORKLOADS.items():
        path = Path(tempfile.mkdtemp(prefix="walstore-figures-", dir=where))
        try:
            trio.run(make, path / "store", total, batch)
            seconds, plain = [], []
            peak = bare = 0.0
            for _ in range(ROUNDS):
                plain.append(read_and_checksum(path / "store"))
                command = [sys.executable, "-m", "tests.figures.recovery", "--child", str(path / "store")]
                said = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
                seconds.append(float(said[0]))
                peak, bare = float(said[2]), float(said[3])
            middle, reading = median(seconds), median(one for one, _ in plain)
            each, mebibytes = middle / total * 1e6, plain[0][1] / 2**20
            print(f"{title}, {total * SIZE / 2**20:.0f} MiB of payload:")
            print(f"    open {middle:.3f} s ({min(seconds):.3f} to {max(seconds):.3f}), {each:.2f} us an entry")
            print(f"    peak memory {peak / 1024:.0f} MiB, {bare / 1024:.0f} of it before the open")
            print(f"    read and checksum the same {mebibytes:.0f} MiB {reading:.3f} s, ratio {middle / reading:.1f}")
        finally:
            shutil.rmtree(path)


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(Path(sys.argv[-1]))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else None)
