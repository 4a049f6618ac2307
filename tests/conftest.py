"""What all tests share: the Hypothesis profiles, and the watch over file descriptors.

Tests find the package because `pythonpath` in pyproject.toml names the checkout; helpers of one directory are imported
by their full name (`from tests.log.helpers import ...`).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("walstore", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile(
    "deep",
    parent=settings.get_profile("walstore"),
    derandomize=False,
    max_examples=20_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("walstore")

DESCRIPTORS = Path("/proc/self/fd")


def _open_files_below(directory: str) -> set[tuple[str, str]]:
    """The descriptors of this process that refer to something below `directory`, with their targets."""
    found = set()
    for descriptor in os.listdir(DESCRIPTORS):
        try:
            target = os.readlink(DESCRIPTORS / descriptor)
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if target.startswith(directory):
            found.add((descriptor, target))
    return found


@pytest.fixture(autouse=True)
def no_leaked_descriptors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fails a test that leaves a file of a real store open: what `os.open` gave, no ResourceWarning reports."""
    if not DESCRIPTORS.exists():  # not Linux
        yield
        return
    base = str(tmp_path_factory.getbasetemp())
    before = _open_files_below(base)

    yield

    leaked = _open_files_below(base) - before
    assert not leaked, f"left open: {sorted(leaked)}"
