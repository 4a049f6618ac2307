"""`walcat verify DIR`: reads a store without its lock and without writing a byte, and says whether it is sound.

It is the reader of an open, and gives its verdict; so whatever an open refuses is told here with the same words.  A
store that is being written to changes under the reader: what then looks like damage is read again, and is called
damage only if nothing has changed while it was read.

Exit status: 0 sound (a torn tail is reported, and is sound), 2 usage, 3 damage, 4 cannot be read; never 1.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from ._config import StorageConfig
from ._disk.os_fs import OsFileSystem
from ._disk.seam import Directory
from ._log.identity import Identity
from ._log.names import IDENTITY, snapshot_name
from ._log.version import FormatError
from ._recovery import Found, Reader
from ._snapshot_files import as_corruption, verify_file
from .errors import CorruptionError, UnsupportedFormatError

SOUND, DAMAGE, UNREADABLE = 0, 3, 4
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.02


def verify(directory: Directory) -> list[str]:
    """What there is to say of a sound store, a line each.  Raises what an open would raise."""
    with closing(directory.open(IDENTITY)) as file:
        data = file.pread(0, file.size())
    try:
        identity = Identity.decode(data)
    except FormatError as error:
        msg = f"the identity of the store is damaged: {error}"
        raise CorruptionError(msg, path=f"{directory.path}/{IDENTITY}", offset=0) from error
    found = Reader(directory, identity, StorageConfig(), sync=False).read()
    snapshot = found.state.facts.snapshot
    if snapshot is not None:
        name = snapshot_name(snapshot.header.term, snapshot.header.index)
        with as_corruption(directory, name):
            verify_file(directory, name, snapshot)
    return [f"node {identity.node_id}, store {identity.store_uuid.hex()}", *_told(found)]


def steadily(directory: Directory, path: str) -> list[str]:
    """`verify`, again and again while the store is being written to.  BlockingIOError if it never holds still."""
    for _ in range(_ATTEMPTS):
        before = _look(path)
        try:
            return verify(directory)
        except (CorruptionError, OSError):
            if _look(path) == before:
                raise
        time.sleep(_PAUSE_SECONDS)
    msg = f"{path} is being written to, and changed each time that it was read; look again when it is closed"
    raise BlockingIOError(msg)


def _look(path: str) -> list[tuple[str, int, int]]:
    """What changes when the store is written to: names, sizes, times."""
    with os.scandir(path) as found:
        return sorted((one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in found)


def _told(found: Found) -> list[str]:
    state, facts = found.state, found.state.facts
    lines = [
        f"{len(found.chain)} segments: {', '.join(name for _, name in found.chain)}",
        f"log from index {state.first_index} to index {state.last_index}, last term {state.last_term}",
        f"term {facts.hard_state.current_term}, vote {facts.hard_state.voted_for}, applied mark {facts.mark}",
    ]
    if facts.snapshot is not None:
        header = facts.snapshot.header
        lines.append(f"snapshot of term {header.term} and index {header.index}, {facts.snapshot.size} bytes")
    verdict = found.verdict
    lines.append(f"end of the log: {verdict.outcome.value} ({verdict.label}): {verdict.because}")
    if found.torn_bytes:
        lines.append(f"{found.torn_bytes} bytes behind the end are not part of the log")
    if verdict.ambiguous:
        lines.append("ambiguous: it cannot be told whether the last frame was torn, or acknowledged and damaged since")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Runs the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="walcat",
        description="Reads a store, offline or live, and says whether it is sound; it writes nothing.",
        epilog="exit status: 0 sound, 2 usage, 3 damage, 4 cannot be read",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    checking = commands.add_parser("verify", help="read everything that the log needs, and prove it")
    checking.add_argument("directory", metavar="DIR", help="the directory of the store")
    options = parser.parse_args(arguments)
    try:
        with closing(OsFileSystem().open_directory(options.directory, create=False)) as directory:
            print(*steadily(directory, options.directory), "sound", sep="\n")
    except UnsupportedFormatError as error:
        print(f"cannot be read: {error}")
        return UNREADABLE
    except CorruptionError as error:
        print(f"damaged: {error}")
        return DAMAGE
    except OSError as error:
        print(f"cannot be read: {error}")
        return UNREADABLE
    return SOUND


def run() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
