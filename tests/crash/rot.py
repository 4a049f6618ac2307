"""Damage of every kind to a small store at rest, and what an open makes of it.

The rule (P3): a typed error, or exactly the same state; never a shorter log in silence.  What no single disk can rule
out is counted, and only where it may be:
* ambiguous: a damaged last frame, where nothing that is left proves that it had been acknowledged; the report says so;
* vanished: the last frame is wiped out without a trace (a zeroed sector that held all of it; a growing file, cut), so
  that what is left is what it would be without it.  `expect_durable` shows it, and is asked here.
"""

from collections.abc import Iterator
from typing import Any

import attrs

from walstore import StorageConfig, WalstoreError
from walstore._machine import rebuild
from walstore._open import _identity
from walstore._recovery import Reader
from walstore.kv import KeyValue, KeyValueCodec
from walstore.testing.simulated import SimulatedFileSystem

from .explorer import PATH, Seen, seen

SECTOR = 512
CODEC = KeyValueCodec()
Files = dict[str, bytes]


@attrs.define
class Verdicts:
    """What came of each piece of damage."""

    tried: int = 0
    refused: int = 0
    same: int = 0
    ambiguous: int = 0
    vanished: int = 0
    wrong: list[str] = attrs.field(factory=list)

    def __str__(self) -> str:
        return (
            f"{self.tried} tried: {self.refused} refused, {self.same} without effect, {self.ambiguous} ambiguous, "
            f"{self.vanished} vanished, {len(self.wrong)} wrong"
        )


def files_of(disk: SimulatedFileSystem) -> Files:
    """All files of the store and their bytes."""
    directory = disk.open_directory(PATH, create=False)
    found = {}
    for name in directory.names():
        file = directory.open(name)
        found[name] = file.pread(0, file.size())
        file.close()
    directory.close()
    return found


def disk_with(files: Files) -> SimulatedFileSystem:
    """A disk that holds just these files."""
    return SimulatedFileSystem(
        contents={PATH: {name: (number, data) for number, (name, data) in enumerate(files.items(), 1)}}
    )


@attrs.frozen
class Inside:
    """What a directory holds, as far as an open believes it."""

    holds: Seen
    content: dict[bytes, bytes]
    last_sequence: int
    ambiguous: bool


def inside(files: Files, config: StorageConfig) -> Inside:
    """Reads the directory as an open does, up to where it would begin to write.  Raises what the open raises."""
    directory = disk_with(files).open_directory(PATH, create=False)
    identity = _identity(directory)
    assert identity is not None
    try:
        found = Reader(directory, identity, config).read()
        machine, _ = rebuild(KeyValue, CODEC, config, directory, found.state)
    finally:
        directory.close()
    live: Any = machine.live
    return Inside(seen(found.state), dict(live), found.last_sequence, found.verdict.ambiguous)


def flips(data: bytes, step: int = 1) -> Iterator[tuple[str, bytes]]:
    """The bytes with each single bit flipped; `step`: only of each so many-th byte."""
    for offset in range(0, len(data), step):
        for bit in range(8):
            changed = bytearray(data)
            changed[offset] ^= 1 << bit
            yield f"bit {bit} of byte {offset}", bytes(changed)


def cuts(data: bytes, step: int = 1) -> Iterator[tuple[str, bytes]]:
    """The bytes cut at each length."""
    for size in range(0, len(data), step):
        yield f"cut to {size} bytes", data[:size]


def zeroed(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The bytes with each 512-byte sector zeroed, where that changes anything."""
    for offset in range(0, len(data), SECTOR):
        end = min(offset + SECTOR, len(data))
        if any(data[offset:end]):
            yield f"sector at {offset} zeroed", data[:offset] + bytes(end - offset) + data[end:]


def try_all(
    files: Files,
    name: str,
    damages: Iterator[tuple[str, bytes]],
    config: StorageConfig,
    *,
    may_vanish: bool = False,
) -> Verdicts:
    """Opens the store with each piece of damage to the file `name`."""
    whole = inside(files, config)
    verdicts = Verdicts()
    for what, data in damages:
        verdicts.tried += 1
        try:
            found = inside({**files, name: data}, config)
        except WalstoreError:
            verdicts.refused += 1
            continue
        except Exception as error:  # noqa: BLE001  anything else is what this looks for
            verdicts.wrong.append(f"{name}: {what}: {error!r}")
            continue
        if (found.holds, found.content) == (whole.holds, whole.content):
            verdicts.same += 1
        elif found.ambiguous and found.last_sequence >= whole.last_sequence - 1:
            verdicts.ambiguous += 1
        elif may_vanish and found.last_sequence < whole.last_sequence:
            verdicts.vanished += 1
        else:
            verdicts.wrong.append(f"{name}: {what}: a shorter or another log in silence")
    return verdicts
