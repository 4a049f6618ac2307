"""What the journals of a rolled-back directory say, in both directions: records to write, and records that were read.

One directory `<journal>/<digest of the store's path>/` holds

    names             a journal of creates, renames and unlinks that were not synced
    file-<inode>      a journal of the bytes and lengths of one file that were not synced
    keep-<inode>      a hard link to a file whose name was taken away, until that is synced

A record is written before its change and does not know whether the change came to be: the process may have been killed
in between, and an error may be reported for what was done and for what was not.  That is found out going back from
what is there now.
"""

import hashlib
import os
import struct
from typing import NamedTuple

from walstore.testing._journal import Journal
from walstore.testing._simulated_file import Change, SimulatedInode
from walstore.testing._simulated_names import SimulatedFolder

_CHANGE = struct.Struct("<QQQ?")
_NAMES = struct.Struct("<QH")


class NameRecord(NamedTuple):
    """A change of names: no `old` for a create, no `new` for an unlink."""

    old: str
    new: str
    removed: int
    """The inode that loses its name by an unlink, or by being replaced; 0 if none does."""


def place_of(store: str, journal: str) -> str:
    """The directory with the journals of this store."""
    digest = hashlib.blake2b(os.fsencode(os.path.realpath(store)), digest_size=8).hexdigest()
    return os.path.join(journal, digest)


def numbers(place: str, prefix: str) -> list[int]:
    """The inodes that have a file of this kind here."""
    return [int(name.removeprefix(prefix)) for name in os.listdir(place) if name.startswith(prefix)]


def pack_change(offset: int, length: int, old_size: int, before: bytes, *, gradual: bool) -> bytes:
    """The record of a write of `length` bytes at `offset`, or (0 bytes) of a change of length."""
    return _CHANGE.pack(offset, length, old_size, gradual) + before


def pack_names(record: NameRecord) -> bytes:
    """The record of a change of names."""
    old, new = os.fsencode(record.old), os.fsencode(record.new)
    return _NAMES.pack(record.removed, len(old)) + old + new


def unpack_names(payload: bytes) -> NameRecord:
    """What `pack_names` packed."""
    removed, length = _NAMES.unpack_from(payload)
    names = payload[_NAMES.size :]
    return NameRecord(os.fsdecode(names[:length]), os.fsdecode(names[length:]), removed)


def read_file(number: int, current: bytes, journal: Journal) -> SimulatedInode:
    """A file as the simulated one that would have the same choices in a power cut."""
    content = bytearray(current)
    pending = []
    for _, payload in reversed(journal.records()):
        offset, length, old_size, gradual = _CHANGE.unpack_from(payload)
        before = payload[_CHANGE.size :]
        after = bytes(content[offset : offset + length])
        change = Change(offset, before, after, old_size, len(content), gradual)
        pending.append(change)
        change.undo(content)
    inode = SimulatedInode(number, current)
    inode.pending = pending[::-1]
    return inode


def read_names(
    path: str, current: dict[str, int], records: list[NameRecord], files: dict[int, SimulatedInode]
) -> SimulatedFolder:
    """A directory as the simulated one that would have the same choices in a power cut.

    Of its files, those that are not in `files` are stand-ins with nothing but their numbers.
    """
    names = dict(current)
    done: list[tuple[NameRecord, int]] = []
    for record in reversed(records):
        if not record.old:
            number = names.pop(record.new, 0)
        elif record.old in names:
            number = 0
        elif record.new:
            number = names.pop(record.new)
            names[record.old] = number
            if record.removed:
                names[record.new] = record.removed
        else:
            number = names[record.old] = record.removed
        if number:
            done.append((record, number))
    involved = (*names.values(), *(number for _, number in done))
    inodes = {number: files.get(number) or SimulatedInode(number) for number in involved}
    folder = SimulatedFolder(path, {name: inodes[number] for name, number in names.items()})
    for record, number in reversed(done):
        if not record.old:
            folder.create(record.new, inodes[number])
        elif record.new:
            folder.rename(record.old, record.new)
        else:
            folder.unlink(record.old)
    return folder
