"""What an implementer gives to the kit (`Harness`) and what a case gets from it (`Lab`)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from ..._types import Blank, Entry, HardState, Normal
from ...abc import Codec, FileSystem, RaftStorage, StateMachine
from ..simulated import SimulatedFileSystem
from ._machine import ClientRequest, ClientResponse, KitCodec, KitMachine

Store: TypeAlias = RaftStorage[ClientRequest, ClientResponse]
MachineFactory: TypeAlias = Callable[[], StateMachine[ClientRequest, ClientResponse]]
Mode: TypeAlias = Literal["live", "reopened", "crashed"]

MODES: tuple[Mode, ...] = ("live", "reopened", "crashed")
KIT_CODEC: Codec[ClientRequest] = KitCodec()
NO_CONFIG: Mapping[str, object] = MappingProxyType({})


class Harness(ABC):
    """One fresh, empty directory, or whatever else holds a store.  The kit makes a new one for every run of a case.

    `can` says which of these it is able to do:

    * "reopen": `open` after `close` finds what was stored;
    * "crash": `open` after `crash` finds what was durable, and not what was not;
    * "disk": the store is in the directory `path` of the simulated file system `disk`, in the format of walstore, and
      the `forge` methods work.  Cases that need it are about walstore's own files.  They may set `disk` and `path`
      to another disk, and `filesystem` to a wrapper of it, which the opens that follow are then to use.
    """

    can: frozenset[str] = frozenset()
    disk: SimulatedFileSystem | None = None
    path: str = "/store"
    filesystem: FileSystem | None = None
    """What an open goes through; None: `disk` itself."""

    @abstractmethod
    async def open(
        self,
        *,
        node_id: int = 0,
        machine: MachineFactory = KitMachine,
        codec: Codec[ClientRequest] = KIT_CODEC,
        config: Mapping[str, object] = NO_CONFIG,
    ) -> Store:
        """Opens the store in the directory.

        `config` holds settings by the names of `walstore.StorageConfig`; a store that has no such setting ignores it.
        While one store is open, a second open goes to the same directory, where the store must refuse it.
        """

    @abstractmethod
    async def close(self) -> None:
        """Closes the open store cleanly.  Silent if none is open."""

    async def crash(self) -> None:
        """Forgets the open store without closing it, and drops what was not durable.  Only with "crash"."""
        raise NotImplementedError

    def machine(self, store: Store) -> KitMachine:
        """The live state machine of an open store."""
        machine: KitMachine = getattr(store, "machine")  # noqa: B009  (not in the interface: a store may differ)
        return machine

    async def forge_inverted(self, *, log_last: tuple[int, int], snapshot: tuple[int, int]) -> None:
        """Fills the empty directory so that log and snapshot contradict each other.  Only with "disk".

        Both are (term, index).  The log holds blank entries 1 to index, the last one of the given term and the others
        of term 1; the frames that say so are valid and follow each other; the current snapshot is a whole, valid file
        of the given term and index with the members {3, 4, 5}.  No store writes such a directory: an open must refuse.
        """
        raise NotImplementedError

    async def remove(self) -> None:
        """The kit is done with it: close what is open and remove what was made.  Called once, always."""
        await self.close()


class Lab:
    """One run of one case: a store on a fresh harness, and the mode in which `turn` turns it."""

    def __init__(self, factory: Callable[[], Harness], mode: Mode = "live") -> None:
        self.mode: Mode = mode
        self.harness = factory()
        self._factory = factory
        self._store: Store | None = None
        self._options: dict[str, Any] = {}
        self._others: list[Lab] = []

    @property
    def live(self) -> bool:
        """Whether `turn` leaves the store open."""
        return self.mode == "live"

    @property
    def store(self) -> Store:
        """The open store."""
        if self._store is None:
            msg = "no store is open"
            raise RuntimeError(msg)
        return self._store

    @property
    def machine(self) -> KitMachine:
        """The live state machine of the open store.  Another object after every turn and install."""
        return self.harness.machine(self.store)

    async def open(
        self,
        *,
        node_id: int = 0,
        machine: MachineFactory = KitMachine,
        codec: Codec[ClientRequest] = KIT_CODEC,
        config: Mapping[str, object] = NO_CONFIG,
    ) -> Store:
        """Opens the store.  The later opens of this lab take the same arguments unless told otherwise.

        In the mode "crashed" the setting `sync_apply` is on unless the case sets it: the applied mark is volatile
        until a later frame carries it (PROTOCOL A9), and most cases are not about that.
        """
        if self.mode == "crashed":
            config = {"sync_apply": True, **config}
        self._options = {"node_id": node_id, "machine": machine, "codec": codec, "config": config}
        return await self._open()

    async def _open(self) -> Store:
        if self._store is not None:
            msg = "the lab's store is open already"
            raise RuntimeError(msg)
        self._store = await self.harness.open(**self._options)
        return self._store

    async def log10(self, applied: Mapping[int, ClientRequest] | None = None) -> Store:
        """Opens LOG10: hard state (1, Some(0)), log t1:1..10, all blank, nothing applied.

        `applied` is what the case will apply over it.  As a log keeps only what is in it, these entries are Normal
        where the store is turned afterwards (PROTOCOL B12), and blank, as upstream has them, where it is not.
        """
        store = await self.open()
        await store.save_hard_state(HardState(1, 0))
        normal = {} if self.live or applied is None else applied
        entries: list[Entry[ClientRequest]] = [
            Entry(1, index, Normal(normal[index]) if index in normal else Blank()) for index in range(1, 11)
        ]
        await store.replicate_to_log(entries)
        return store

    async def turn(self) -> Store:
        """The checkpoint: the same store in mode "live", else the store after a reopen or a crash.  Assert after it."""
        if self.mode == "reopened":
            return await self.reopen()
        if self.mode == "crashed":
            return await self.crash()
        return self.store

    async def reopen(self, **options: Any) -> Store:
        """Closes the store if it is open, and opens it again.  `options` (those of `open`) replace earlier ones."""
        await self.close()
        self._options.update(options)
        return await self._open()

    async def crash(self, **options: Any) -> Store:
        """Drops what was not durable, and opens the store again.  Needs the ability "crash"."""
        self._store = None
        await self.harness.crash()
        self._options.update(options)
        return await self._open()

    async def close(self) -> None:
        """Closes the store cleanly if it is open."""
        self._store = None
        await self.harness.close()

    def another(self) -> "Lab":
        """A second lab, in the same mode, on a second fresh harness."""
        lab = Lab(self._factory, self.mode)
        self._others.append(lab)
        return lab

    async def finish(self) -> None:
        """Closes and removes everything.  Called by the kit."""
        for lab in self._others:
            await lab.finish()
        self._store = None
        await self.harness.remove()
