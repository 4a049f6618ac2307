"""`tools/walcat verify`: the verdict of an open, without the lock and without a write."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

from walstore import Entry, Normal, Storage, StorageConfig, open_storage
from walstore._walcat import DAMAGE, SOUND, UNREADABLE, main
from walstore.kv import Command, KeyValue, KeyValueCodec, Put

GOLDEN = Path(__file__).parent.parent / "golden" / "v1"


def listing(path: Path) -> dict[str, tuple[bytes, int]]:
    """All files, their bytes and when they were last changed."""
    return {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in path.iterdir()}


def copy(tmp_path: Path, name: str) -> Path:
    """A copy of a golden directory."""
    path = tmp_path / name
    shutil.copytree(GOLDEN / name, path)
    return path


@pytest.mark.parametrize(("name", "verdict"), [("closed", "clean"), ("killed", "clean"), ("torn", "torn")])
def test_a_sound_store_is_told(name: str, verdict: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sound store is described, a torn tail is reported and sound, and not a byte is written."""
    path = copy(tmp_path, name)
    before = listing(path)

    assert main(["verify", str(path)]) == SOUND

    said = capsys.readouterr().out
    assert f"end of the log: {verdict}" in said
    assert "snapshot of term 1 and index 4" in said
    assert said.endswith("sound\n")
    assert listing(path) == before


@pytest.mark.parametrize("pattern", ["IDENTITY", "wal-*", "snap-*"])
def test_damage_is_told(pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Damage to any file that an open believes is found, with its place and with the words of the error of the open."""
    path = copy(tmp_path, "closed")
    file = min(path.glob(pattern))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    before = listing(path)

    assert main(["verify", str(path)]) == DAMAGE

    said = capsys.readouterr().out
    assert str(file) in said
    assert "walcat verify" in said
    assert listing(path) == before


def test_a_missing_snapshot_is_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log refers to its snapshot, so without it the store is not sound."""
    path = copy(tmp_path, "closed")
    min(path.glob("snap-*")).unlink()

    assert main(["verify", str(path)]) == DAMAGE
    assert "missing" in capsys.readouterr().out


def test_what_is_no_store_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without an IDENTITY, and none at all, are told apart from damage."""
    assert main(["verify", str(tmp_path)]) == UNREADABLE
    assert main(["verify", str(tmp_path / "nowhere")]) == UNREADABLE
    assert "cannot be read" in capsys.readouterr().out


def test_usage_is_not_a_finding() -> None:
    """A call that is wrong exits with 2."""
    with pytest.raises(SystemExit) as error:
        main(["verify"])
    assert error.value.code == 2


async def test_a_store_that_is_written_to_is_never_called_damaged(tmp_path: Path) -> None:
    """Beside a busy owner the verdict is "sound", or that the store is in use; a change is not taken for damage."""
    path = tmp_path / "busy"
    verdicts: set[int] = set()

    async def write(storage: Storage[Command, Any], done: trio.Event) -> None:
        while not done.is_set():
            index = storage.last_index + 1
            await storage.append_entry_to_log(Entry(1, index, Normal(Put(b"k", b"v" * 200))))

    async with open_storage(path, node_id=7, machine=KeyValue, codec=KeyValueCodec()) as storage:
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, storage, done)
            for _ in range(3):
                verdicts.add(await trio.to_thread.run_sync(main, ["verify", str(path)]))
            done.set()
        assert main(["verify", str(path)]) == SOUND

    assert verdicts <= {SOUND, UNREADABLE}


async def test_a_live_store_is_read_beside_its_owner(tmp_path: Path) -> None:
    """No lock is taken and none is asked for."""
    path = copy(tmp_path, "killed")
    config = StorageConfig(prepare_ahead=False)
    async with open_storage(path, node_id=7, machine=KeyValue, codec=KeyValueCodec(), config=config):
        assert main(["verify", str(path)]) == SOUND
