"""Many lives with power cuts between them leave what was acknowledged, and nothing that was not planned."""

import pytest

from .lives import live
from .workloads import TINY, ZEROED

SEEDS = 40
CONFIGS = {"growing": TINY, "zero-filled": ZEROED}


@pytest.mark.parametrize("config", CONFIGS)
async def test_lives(config: str) -> None:
    """Each life of each seed begins with a state that the one before may leave."""
    compared = 0
    for seed in range(SEEDS):
        compared += await live(seed, CONFIGS[config], lives=6, steps=12)

    assert compared == SEEDS * 5
