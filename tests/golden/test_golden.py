"""Directories that version 0.1.0 wrote, in format 1.0: every later version must read them (P11).

They are never made anew: a test that could write what it reads would not notice that the format has changed.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest

from walstore import HardState, MembershipConfig, StorageConfig, open_storage
from walstore._log.control import encode_membership
from walstore.kv import KeyValue, KeyValueCodec

HERE = Path(__file__).parent


@attrs.frozen
class Golden:
    """What a directory holds."""

    last_index: int
    last_term: int
    last_applied: int
    membership: MembershipConfig
    log: str
    machine: int
    torn: bool
    closed: bool


EXPECTED = {
    "v1/closed": Golden(40, 4, 19, MembershipConfig({7, 9}), "755e856dc274929f", 17, torn=False, closed=True),
    "v1/killed": Golden(39, 4, 19, MembershipConfig({7, 9}), "bdd403c15237d8c7", 17, torn=False, closed=False),
    "v1/torn": Golden(39, 4, 19, MembershipConfig({7, 9}), "bdd403c15237d8c7", 17, torn=True, closed=False),
}


async def digest(storage: Any) -> str:
    """A digest of the whole log: term, index, kind and bytes of every entry."""
    whole = hashlib.sha256()
    for entry in await storage.get_log_entries(0, 2**64 - 1):
        payload = entry.payload
        kind = type(payload).__name__
        data = b""
        if kind == "Normal":
            data = KeyValueCodec().encode(payload.data)
        elif kind in ("ConfigChange", "SnapshotPointer"):
            data = encode_membership(payload.membership)
        whole.update(f"{entry.term} {entry.index} {kind} {data.hex()}\n".encode())
    return whole.hexdigest()[:16]


@pytest.mark.parametrize("name", EXPECTED)
async def test_golden_directories_open(name: str, tmp_path: Path) -> None:
    """A directory of an earlier version opens with all that it held, and goes on."""
    expected = EXPECTED[name]
    path = tmp_path / "store"
    shutil.copytree(HERE / name, path)
    config = StorageConfig(prepare_ahead=False)

    async with open_storage(path, node_id=7, machine=KeyValue, codec=KeyValueCodec(), config=config) as storage:
        state = await storage.get_initial_state()
        machine = storage.machine
        assert isinstance(machine, KeyValue)
        found = Golden(
            state.last_log_index,
            state.last_log_term,
            state.last_applied_log,
            state.membership,
            await digest(storage),
            len(machine),
            torn=storage.recovery.torn,
            closed=storage.recovery.closed,
        )
        assert found == expected
        assert state.hard_state == HardState(4, 0)
        assert storage.current_snapshot is not None
        assert (storage.current_snapshot.index, storage.current_snapshot.term) == (4, 1)
    async with open_storage(path, node_id=7, machine=KeyValue, codec=KeyValueCodec(), config=config) as storage:
        assert await digest(storage) == expected.log
