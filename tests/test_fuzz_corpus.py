"""The fuzz targets, replayed: every seed, every input that once found something, and seeded mutations of both.

The same functions are driven for hours by `fuzz/run.py`.  Here they run for seconds and the same way each time: the
random numbers come from the name of the target, so a failure can be repeated by running its test again.
"""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from fuzz import repair
from fuzz.seeds import seeds, write
from fuzz.targets import TARGETS
from walstore._log.page import Page
from walstore._log.version import FormatError
from walstore.errors import UnsupportedFormatError

CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus"
MUTANTS = 4000
NUMBERS = (0, 1, 2, 63, 64, 127, 128, 255, 4096, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def inputs(target: str) -> list[bytes]:
    """The seeds of a target, and what once found a bug in it."""
    found = sorted(path for path in (CORPUS / target).glob("*") if path.is_file())
    return [*seeds()[target], *(path.read_bytes() for path in found)]


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """`data` after one to four small changes: bits, bytes, numbers, cuts, repeats, and pieces of `other`."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(rng.choice((len(out), min(len(out), 192))) + 1)  # most fields stand in front
        length = rng.choice((1, 2, 4, 8, 64, 512))
        match rng.randrange(7):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(out):
                out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                width = rng.choice((1, 2, 4, 8))
                out[at : at + width] = (rng.choice(NUMBERS) % 256**width).to_bytes(width, "little")
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = out[at : at + length]
            case 5:
                start = rng.randrange(len(other) + 1)
                out[at : at + length] = other[start : start + length]
            case _:
                out[at:at] = bytes(length)
    return bytes(out)


def mutants(target: str) -> Iterator[bytes]:
    """A fixed sequence of mutations of what the target is seeded with."""
    rng = random.Random(target)
    pool = inputs(target)
    for _ in range(MUTANTS):
        yield mutate(rng.choice(pool), rng.choice(pool), rng)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_keeps_its_invariant(target: str) -> None:
    """No seed, no input of old and no mutation of them breaks what the target's first line says."""
    for data in (b"", b"\0", bytes(64), bytes(5000), *inputs(target), *mutants(target)):
        try:
            TARGETS[target](data)
        except BaseException as error:
            error.add_note(f"target {target}, input {data.hex()}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_states_its_invariant(target: str) -> None:
    """Each target opens with what must hold, in one line."""
    doc = TARGETS[target].__doc__

    assert doc is not None
    assert "\n" not in doc
    assert doc.endswith(".")


def test_mutation_is_the_same_each_time() -> None:
    """Two runs try the same inputs, and these are not all alike."""
    first = list(mutants("page"))

    assert first == list(mutants("page"))
    assert len(set(first)) > MUTANTS * 3 // 4


def test_a_broken_invariant_is_found() -> None:
    """A target that holds for every seed and not beyond them falls within the budget, checksums notwithstanding."""

    def only_nodes_one_and_three(data: bytes) -> None:
        try:
            page = Page.decode(repair.page(data))
        except (FormatError, UnsupportedFormatError):
            return
        assert page.node_id in {1, 3}

    def play(played: Iterable[bytes]) -> None:
        for data in played:
            only_nodes_one_and_three(data)

    play(inputs("page"))
    with pytest.raises(AssertionError):
        play(mutants("page"))


def test_seeds_can_be_written_as_files(tmp_path: Path) -> None:
    """A fuzzer that reads directories starts from the same inputs."""
    write(tmp_path)

    assert {path.name: sorted(file.read_bytes() for file in path.iterdir()) for path in tmp_path.iterdir()} == {
        target: sorted(found) for target, found in seeds().items()
    }
