"""What all files and directories of a simulated disk come to in one power cut."""

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import TypeAlias

from walstore.testing._simulated_file import FilePlan, SimulatedInode
from walstore.testing._simulated_names import NamePlan, SimulatedFolder

Contents: TypeAlias = Mapping[str, Mapping[str, tuple[int, bytes | bytearray]]]
"""Directory, then name, then (file number, bytes): a disk with nothing pending.  The bytes are not to be changed."""

Choose: TypeAlias = Callable[[str, str, int, int], int]
"""(kind, path, offset, count) -> which of `count` versions a power cut leaves: 0 the durable one, count - 1 the newest.
Kind is "name", "size" or "sector"; the offset is a sector's."""

Names: TypeAlias = dict[str, SimulatedInode]


def contents_of(
    folders: Iterable[SimulatedFolder],
    names_of: Callable[[SimulatedFolder, NamePlan], Names],
    bytes_of: Callable[[str, FilePlan], bytes],
) -> Contents:
    """The disk where these two functions choose; a file with two names is asked for once."""
    contents: dict[str, dict[str, tuple[int, bytes | bytearray]]] = {}
    done: dict[int, bytes | bytearray] = {}
    for folder in folders:
        names = folder.plan()
        image = contents[folder.path] = {}
        for name, inode in (folder.entries if names is None else names_of(folder, names)).items():
            number = inode.number
            data = done.get(number)
            if data is None:
                plan = inode.plan()
                data = inode.survivor() if plan is None else bytes_of(f"{folder.path}/{name}", plan)
                done[number] = data
            image[name] = (number, data)
    return contents


def sampled(folders: Iterable[SimulatedFolder], random: Random) -> Contents:
    """A disk by chance."""
    return contents_of(folders, lambda _, plan: plan.sample(random), lambda _, plan: plan.sample(random))


def chosen(folders: Iterable[SimulatedFolder], choose: Choose) -> Contents:
    """A disk by choice.  A choice that would lose a renamed file has the rename done."""

    def names_of(folder: SimulatedFolder, plan: NamePlan) -> Names:
        picks = plan.pick(lambda name, count: choose("name", f"{folder.path}/{name}", 0, count), forward=True)
        return plan.build(picks)

    def bytes_of(path: str, plan: FilePlan) -> bytes:
        # Durable first, newest last, even where they are the same and there was another in between.
        sizes = [plan.sizes[0], *(size for size in plan.sizes[1:] if size != plan.newest)]
        if plan.sizes != [plan.newest]:
            sizes.append(plan.newest)
        size = sizes[choose("size", path, 0, len(sizes))] if len(sizes) > 1 else sizes[0]
        return plan.build(size, [choose("sector", path, offset, len(chain)) for offset, chain in plan.sectors])

    return contents_of(folders, names_of, bytes_of)
