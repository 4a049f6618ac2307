"""Bytes at rest that change: refused with evidence, or without effect; never a shorter log in silence."""

import pytest

from .rot import Verdicts, cuts, flips, try_all, zeroed
from .stores import judged, segments, small_store
from .workloads import TINY, ZEROED

STEP = 37
"""Every so many-th byte in the ordinary run; `python -m tests.crash.campaign rot` takes every one."""

CONFIGS = {"growing": TINY, "zero-filled": ZEROED}
AT_REST = {"killed": 0, "closed": 1}


def total(found: list[Verdicts]) -> Verdicts:
    """The sum of all verdicts."""
    return Verdicts(
        tried=sum(one.tried for one in found),
        refused=sum(one.refused for one in found),
        same=sum(one.same for one in found),
        ambiguous=sum(one.ambiguous for one in found),
        vanished=sum(one.vanished for one in found),
        wrong=[what for one in found for what in one.wrong],
    )


@pytest.mark.parametrize("at_rest", AT_REST)
@pytest.mark.parametrize("config", CONFIGS)
async def test_flipped_bits_are_found(config: str, at_rest: str) -> None:
    """A flipped bit is refused or without effect; only the last frame of a growing, unclosed file can be ambiguous."""
    files = (await small_store(CONFIGS[config]))[AT_REST[at_rest]]

    found = total([try_all(files, name, flips(files[name], STEP), CONFIGS[config]) for name in judged(files)])

    assert found.wrong == []
    assert found.refused > found.tried // 4
    if (config, at_rest) != ("growing", "killed"):
        assert found.ambiguous == 0


@pytest.mark.parametrize("at_rest", AT_REST)
async def test_cut_files_are_found(at_rest: str) -> None:
    """A file of a zero-filled store that was cut at any length is refused, or what was cut off was of no account."""
    files = (await small_store(ZEROED))[AT_REST[at_rest]]

    found = total([try_all(files, name, cuts(files[name], STEP), ZEROED) for name in judged(files)])

    assert found.wrong == []
    assert found.ambiguous == 0


@pytest.mark.parametrize("at_rest", AT_REST)
async def test_zeroed_sectors_are_found(at_rest: str) -> None:
    """A zeroed sector is refused or has no effect, unless it held all of the last frame, which then leaves no trace."""
    files = (await small_store(ZEROED))[AT_REST[at_rest]]

    found = {name: try_all(files, name, zeroed(files[name]), ZEROED, may_vanish=True) for name in judged(files)}

    assert total([*found.values()]).wrong == []
    assert {name for name, verdicts in found.items() if verdicts.vanished} <= {segments(files)[-1]}
    assert total([*found.values()]).vanished <= 1


async def test_a_growing_file_can_only_lose_its_end_unseen() -> None:
    """A growing file that is cut loses frames from its end; nothing on one disk shows it (see `expect_durable`)."""
    files = (await small_store(TINY))[0]
    name = segments(files)[-1]

    found = try_all(files, name, cuts(files[name], STEP), TINY, may_vanish=True)

    assert found.wrong == []
    assert found.vanished > 0
