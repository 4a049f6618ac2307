"""What the package promises by name: the front door, the public modules, the table of errors, and their docstrings."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import walstore
from walstore import errors

PACKAGE = Path(walstore.__file__).parent

# Beyond the front door.  What lies below `walstore.testing` is offered by it, and may move.
PUBLIC_MODULES = ["walstore.abc", "walstore.errors", "walstore.kv", "walstore.limits", "walstore.testing"]

# PRODUCT section 2 by name, and PROTOCOL C (in ERRORS below): where each is to be found.
PROMISED = {
    "walstore": [
        "open_storage", "open_standalone", "Storage", "StorageConfig",
        "Entry", "Blank", "Normal", "ConfigChange", "SnapshotPointer", "Payload",
        "MembershipConfig", "HardState", "InitialState", "CurrentSnapshotData", "SnapshotHeader",
        "RaftStorage", "StateMachine", "SnapshotView", "SnapshotReader", "SnapshotWriter", "Codec",
        "abc", "errors",
    ],
    "walstore.abc": ["RaftStorage", "StateMachine", "Codec", "FileSystem", "Directory", "File"],
    "walstore.kv": ["KeyValue", "KeyValueCodec", "Put", "Delete", "CompareAndSet"],
    "walstore.limits": ["MAX_FRAME"],
    "walstore.testing": ["SimulatedFileSystem", "MemoryStorage", "check_raft_storage"],
}  # fmt: skip

THE_13_METHODS = [
    "get_membership_config()",
    "get_initial_state()",
    "save_hard_state(hs)",
    "get_log_entries(start, stop)",
    "delete_logs_from(start, stop)",
    "append_entry_to_log(entry)",
    "replicate_to_log(entries)",
    "apply_entry_to_state_machine(index, data)",
    "replicate_to_state_machine(entries)",
    "do_log_compaction()",
    "create_snapshot()",
    "finalize_snapshot_installation(index, term, delete_through, id, snapshot)",
    "get_current_snapshot()",
]

# PROTOCOL C: each class with its bases.
ERRORS: dict[str, tuple[type, ...]] = {
    "WalstoreError": (Exception,),
    "UsageError": (errors.WalstoreError, ValueError),
    "LogGapError": (errors.UsageError,),
    "InvalidRangeError": (errors.UsageError,),
    "HardStateRegressionError": (errors.UsageError,),
    "EntryTooLargeError": (errors.UsageError,),
    "CompactedError": (errors.UsageError,),
    "UnavailableError": (errors.UsageError,),
    "NothingToCompact": (errors.WalstoreError,),
    "CompactionSuperseded": (errors.WalstoreError,),
    "NodeIdMismatchError": (errors.WalstoreError,),
    "StorageLockedError": (errors.WalstoreError,),
    "CorruptionError": (errors.WalstoreError,),
    "UnsupportedFormatError": (errors.CorruptionError,),
    "InvertedLogError": (errors.CorruptionError,),
    "LostAcknowledgementError": (errors.CorruptionError,),
    "SnapshotInvalidError": (errors.WalstoreError,),
    "SnapshotMismatchError": (errors.WalstoreError,),
    "ApplyError": (errors.WalstoreError,),
    "StorageFullError": (errors.WalstoreError, OSError),
    "StorageFailedError": (errors.WalstoreError, OSError),
}


def exception_classes() -> dict[str, type]:
    """Every exception class that errors.py defines."""
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }


def public_names(module: ModuleType) -> list[str]:
    """The names that a module offers: its `__all__`, else what it defines without an underscore."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def public_objects() -> dict[str, object]:
    """Every public class and function under the name of its home, each once, and each public member of a class."""
    found: dict[str, object] = {}
    for module in (walstore, *(importlib.import_module(name) for name in PUBLIC_MODULES)):
        for name in public_names(module) if module is not walstore else dir(walstore):
            value = getattr(module, name)
            if name.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            if not value.__module__.startswith("walstore"):
                continue
            found[f"{value.__module__}.{value.__qualname__}"] = value
            if inspect.isclass(value):
                found.update(public_members(value))
    return found


def public_members(owner: type) -> Iterator[tuple[str, object]]:
    """The methods and properties that the class itself defines; a docstring may come from the method it overrides."""
    for name, value in vars(owner).items():
        if name.startswith("_"):
            continue
        if inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod):
            yield f"{owner.__module__}.{owner.__qualname__}.{name}", getattr(owner, name)


def test_the_front_door_names_each_export_twice() -> None:
    """`X as X` is what tells a type checker that a name is public; nothing comes in under another name, or by star."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    aliases = [
        alias for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    ]

    assert [alias.name for alias in aliases if alias.asname != alias.name] == []
    assert all(isinstance(node, ast.ImportFrom | ast.Assign | ast.Expr) for node in tree.body), "only a front door"


def test_what_has_no_underscore_is_public() -> None:
    """The modules of the package without an underscore are the public ones, no more and no fewer."""
    found = {f"walstore.{module.name}" for module in pkgutil.iter_modules([str(PACKAGE)])}

    assert {name for name in found if not name.startswith("walstore._")} == set(PUBLIC_MODULES)


def test_the_front_door_offers_nothing_by_accident() -> None:
    """What `dir(walstore)` shows without an underscore is what the front door names, and public modules."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    modules = {name.removeprefix("walstore.").split(".")[0] for name in PUBLIC_MODULES}

    assert {name for name in dir(walstore) if not name.startswith("_")} - modules == named - modules


@pytest.mark.parametrize("home", PROMISED)
def test_what_is_promised_is_there(home: str) -> None:
    """Every name that the product promises can be imported from its home."""
    module = importlib.import_module(home)

    assert [name for name in PROMISED[home] if not hasattr(module, name)] == []


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_public_modules_list_what_they_offer(name: str) -> None:
    """A module that shows names of other modules has an `__all__`, which is true and has each once."""
    module = importlib.import_module(name)
    foreign = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", name).startswith("walstore._")
    ]
    listed = getattr(module, "__all__", None)

    assert listed is not None or not foreign, f"shows {foreign} without an __all__"
    if listed is not None:
        assert len(set(listed)) == len(listed)
        assert [key for key in listed if not hasattr(module, key)] == []


def test_the_13_methods_have_the_arguments_of_the_trait() -> None:
    """The interface is the trait's, in snake case, with the arguments in the trait's order, and all are async."""
    found = []
    for line in THE_13_METHODS:
        method = getattr(walstore.RaftStorage, line.split("(")[0])
        assert inspect.iscoroutinefunction(method), line
        parameters = list(inspect.signature(method).parameters)[1:]
        found.append(f"{method.__name__}({', '.join(parameters)})")

    assert found == THE_13_METHODS
    assert {line.split("(")[0] for line in THE_13_METHODS} == walstore.RaftStorage.__abstractmethods__


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_has_its_bases_and_stands_at_the_front_door(name: str) -> None:
    """Each row of the table of errors is a class with exactly those bases, exported, with a text of its own."""
    error = getattr(errors, name)

    assert error.__bases__ == ERRORS[name]
    assert getattr(walstore, name) is error
    assert "__doc__" in vars(error)


def test_there_is_no_error_beside_the_table() -> None:
    """A new class of error is a decision: it goes into the table first."""
    assert set(exception_classes()) == set(ERRORS)


@pytest.mark.parametrize("name", sorted(exception_classes()))
def test_no_error_is_also_one_of_trio(name: str) -> None:
    """`except trio.BrokenResourceError` never catches ours: the roof alone knows trio, and says so in the docstring."""
    assert not [base for base in getattr(errors, name).__mro__ if base.__module__.startswith("trio")]


def test_every_public_object_says_what_it_is() -> None:
    """Each public class, function, method and property has a docstring, its own or the one that it inherits."""
    silent = [name for name, value in public_objects().items() if not inspect.getdoc(value)]

    assert silent == []


def test_every_file_says_what_it_is_for() -> None:
    """A file without a docstring has no reason to be one file."""
    silent = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert silent == []


def test_the_package_is_typed() -> None:
    """`py.typed` stands in the package, so type checkers read our annotations."""
    assert (PACKAGE / "py.typed").is_file()
