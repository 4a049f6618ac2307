"""The cases by their numbers.

A case is a coroutine function that takes a `Lab` and raises if the store is wrong.  Its number is that of the line of
the acceptance list it stands for: the group's letter, a hyphen, two digits, perhaps a letter.
"""

import importlib
import pkgutil
import re
from collections.abc import Awaitable, Callable, Iterable

import attrs

from ._lab import MODES, Lab, Mode
from .left_out import LEFT_OUT as LEFT_OUT

CaseFunction = Callable[[Lab], Awaitable[None]]

_NUMBER = re.compile(r"[A-Z]-\d\d[a-z]?")
_registered: dict[str, "Case"] = {}


@attrs.frozen
class Case:
    """One numbered case."""

    number: str
    function: CaseFunction
    reads: bool
    needs: frozenset[str]

    @property
    def doc(self) -> str:
        """The behaviour, in a sentence."""
        return (self.function.__doc__ or "").strip()

    def missing(self, can: Iterable[str]) -> frozenset[str]:
        """What the case needs and a harness with these abilities cannot do."""
        return self.needs - frozenset(can)

    def modes(self, can: Iterable[str]) -> tuple[Mode, ...]:
        """The modes in which it runs on a harness with these abilities: none if it lacks one that the case needs."""
        abilities = frozenset(can)
        if self.missing(abilities):
            return ()
        if self.reads:
            return ("live",)
        ability = {"live": None, "reopened": "reopen", "crashed": "crash"}
        return tuple(mode for mode in MODES if ability[mode] is None or ability[mode] in abilities)


def case(number: str, *, reads: bool = False, needs: Iterable[str] = ()) -> Callable[[CaseFunction], CaseFunction]:
    """Registers the decorated coroutine function under `number`.

    `reads`: the case changes nothing that a reopen could lose, or does all its reopening itself; it runs live only.
    `needs`: abilities ("reopen", "crash", "disk") without which a harness cannot run it at all.
    """

    def register(function: CaseFunction) -> CaseFunction:
        if not _NUMBER.fullmatch(number):
            msg = f"{number!r} is not the number of a case"
            raise ValueError(msg)
        if number in _registered or number in LEFT_OUT:
            msg = f"case {number} is registered twice"
            raise ValueError(msg)
        if not (function.__doc__ or "").strip():
            msg = f"case {number} does not say what it shows"
            raise ValueError(msg)
        _registered[number] = Case(number, function, reads, frozenset(needs))
        return function

    return register


def cases() -> list[Case]:
    """All cases, in the order of their numbers."""
    package = importlib.import_module(__package__ or "")
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        if module.startswith("group_"):
            importlib.import_module(f"{package.__name__}.{module}")
    return [_registered[number] for number in sorted(_registered)]
