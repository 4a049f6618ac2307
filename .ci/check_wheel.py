"""What the gate asks of the wheel: `contents WHEEL` looks into the file, `run DIRECTORY` uses it where it is installed.

The second runs with the interpreter of an environment that holds nothing but the wheel and its dependencies, started
with -I outside the checkout, so that nothing of the checkout can be what is found.
"""

import importlib
import pkgutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path


def contents(wheel: str) -> None:
    """The wheel holds the package whole, typed and licensed, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        fields = HeaderParser().parsestr(archive.read(metadata).decode())
    info = metadata.removesuffix("METADATA")
    checkout = Path(__file__).resolve().parent.parent
    sources = {
        path.relative_to(checkout).as_posix()
        for path in (checkout / "walstore").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert names - sources == {
        info + part
        for part in (
            "METADATA",
            "WHEEL",
            "RECORD",
            "entry_points.txt",
            "licenses/LICENSE-MIT",
            "licenses/LICENSE-APACHE",
        )
    }, sorted(names - sources)
    assert sources <= names, sorted(sources - names)
    assert "walstore/py.typed" in names
    assert fields["License-Expression"] == "MIT OR Apache-2.0"
    required = [field for field in fields.get_all("Requires-Dist", []) if "extra ==" not in field]
    assert sorted(field.split(">=")[0] for field in required) == ["attrs", "crc32c", "trio"], required
    print(f"{Path(wheel).name}: {len(names)} files")


def run(directory: str) -> None:
    """Every module can be imported, and a store keeps what it acknowledged."""
    import trio

    import walstore
    from walstore.kv import KeyValue, KeyValueCodec, Put

    assert walstore.__file__ is not None
    assert Path(walstore.__file__).is_relative_to(sys.prefix), walstore.__file__
    modules = [module.name for module in pkgutil.walk_packages(walstore.__path__, "walstore.")]
    for name in modules:
        importlib.import_module(name)

    async def main() -> None:
        async with walstore.open_standalone(directory, machine=KeyValue, codec=KeyValueCodec()) as db:
            await db.execute(Put(b"key", b"value"))
        async with walstore.open_standalone(directory, machine=KeyValue, codec=KeyValueCodec()) as db:
            assert db.machine[b"key"] == b"value"

    trio.run(main)
    verify = [sys.executable, "-I", "-m", "walstore._walcat", "verify", directory]
    script = [str(Path(sys.executable).with_name("walcat")), "verify", directory]
    for command in (verify, script):
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0, command
    print(f"{len(modules)} modules imported; a store written, opened again and read")


if __name__ == "__main__":
    {"contents": contents, "run": run}[sys.argv[1]](sys.argv[2])
