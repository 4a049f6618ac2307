"""`tools/demo`: kill a store again and again while it is written to, and see that nothing acknowledged is lost.

Exit status: 0 if everything that was acknowledged is there, byte for byte, and nothing else is; 1 if not; 2 for input
that cannot be used.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from walstore._demo.ledger import summary
from walstore._demo.lines import Lines, UnusableInput, named_files, standard_library
from walstore._demo.parent import Options, Run

LASTING = Path("/var/tmp")  # by custom on a disk, where /tmp may be in memory
"""Where the store is made, if it exists and no other place was named."""


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = argparse.ArgumentParser(
        prog="tools/demo",
        description="Writes lines of text into a key-value store, in a process that is killed with SIGKILL at random"
        " moments. Every second kill is also a power cut. At the end, all that was acknowledged must be there.",
    )
    made.add_argument("files", nargs="*", metavar="FILE", help="text files (default: Python's standard library)")
    made.add_argument("--kills", type=_count, default=30, metavar="N", help="how often to kill (30)")
    made.add_argument("--tasks", type=_positive, default=512, metavar="N", help="how many tasks write at once (512)")
    made.add_argument("--no-barriers", action="store_true", help="leave all syncs out: this must lose lines")
    made.add_argument(
        "--seconds-per-life", type=float, metavar="S", help="kill after S seconds on average, however far the work is"
    )
    made.add_argument("--seed", type=int, metavar="N", help="for the moments and the power cuts")
    made.add_argument("--keep", type=Path, metavar="DIR", help="make the store in DIR, a new directory, and leave it")
    return made


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _positive(text: str) -> int:
    number = _count(text)
    if not number:
        raise ValueError
    return number


@contextmanager
def workplace(keep: Path | None) -> Iterator[Path]:
    """A new directory, removed at the end unless it is to be kept."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    made = Path(tempfile.mkdtemp(prefix="walstore-demo-", dir=LASTING if LASTING.is_dir() else None))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    asked = parser().parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    options = Options(
        kills=asked.kills,
        tasks=asked.tasks,
        barriers=not asked.no_barriers,
        seconds_per_life=asked.seconds_per_life,
        seed=seed,
    )
    try:
        lines = Lines(named_files(asked.files) if asked.files else standard_library())
        with workplace(asked.keep) as directory:
            run = Run(directory, lines, options)
            good = run.run()
    except (UnusableInput, FileExistsError) as error:
        print(f"tools/demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntools/demo: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    print(summary(lines, run.ledger, run.figures))
    print(f"{'seed':14}{seed}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
