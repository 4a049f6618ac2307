"""The long campaigns, with their figures: `python -m tests.crash.campaign [points|rot|lives|all] [--help]`.

points  every crash point of every workload, each subset of what was not synced up to the bound, sampled beyond it,
        and recovery itself to depth two
rot     every single bit of a small store flipped, every length cut, every 512-byte sector zeroed
lives   six lives of a store for each seed, with random calls, power cuts and what they leave carried on
"""

import argparse
import sys
import time
from functools import partial

import trio

from .explorer import Tally, explore
from .lives import live
from .rot import cuts, flips, try_all, zeroed
from .stores import judged, small_store
from .test_every_point import driven
from .test_rot import total
from .workloads import TINY, WORKLOADS, ZEROED

CONFIGS = {"growing": TINY, "zero-filled": ZEROED}


def points(bound: int, every: int) -> bool:
    """Explores the workloads.  Raises at the first violation."""
    everything = Tally()
    started = time.perf_counter()
    for config_name, config in CONFIGS.items():
        for name, workload in WORKLOADS.items():
            driver = trio.run(driven, workload, config, lambda _: None)
            tally = explore(
                driver.disk, driver.steps, config, bound=bound, inner_bound=max(bound // 8, 4), inner_every=every
            )
            print(f"{config_name:12} {name:12} {tally}", flush=True)
            for field in ("prefixes", "states", "recoveries", "exhaustive", "sampled", "ambiguous"):
                setattr(everything, field, getattr(everything, field) + getattr(tally, field))
    outer = everything.recoveries - everything.states  # each of these was recovered from twice
    print(
        f"{everything.prefixes} prefixes, {everything.exhaustive} of them exhaustively; {outer} crash states; "
        f"{everything.states - outer} more in recoveries cut short; {everything.ambiguous} ambiguous; "
        f"{time.perf_counter() - started:.1f} s, violations: 0"
    )
    return True


def rot() -> bool:
    """Damages the small store in every way."""
    sound = True
    for config_name, config in CONFIGS.items():
        for kind, files in zip(("killed", "closed"), trio.run(small_store, config), strict=True):
            size = sum(len(files[name]) for name in judged(files))
            for what, damage in (("bits flipped", flips), ("lengths cut", cuts), ("sectors zeroed", zeroed)):
                started = time.perf_counter()
                vanishing = what != "bits flipped" and (config_name == "growing" or what == "sectors zeroed")
                found = total(
                    [try_all(files, name, damage(files[name]), config, may_vanish=vanishing) for name in judged(files)]
                )
                seconds = time.perf_counter() - started
                print(f"{config_name} {kind} ({size} bytes), {what}: {found} [{seconds:.1f} s]", flush=True)
                sound = sound and not found.wrong
                for wrong in found.wrong[:10]:
                    print(f"    {wrong}")
    return sound


def lives(seeds: int) -> bool:
    """Lives the lives of so many seeds.  Raises at the first violation."""
    for config_name, config in CONFIGS.items():
        started = time.perf_counter()
        compared = sum(trio.run(partial(live, seed, config, lives=6, steps=14)) for seed in range(seeds))
        seconds = time.perf_counter() - started
        print(
            f"{config_name}: {seeds} seeds, {compared} recoveries compared, {seconds:.1f} s, violations: 0", flush=True
        )
    return True


def main(arguments: list[str]) -> int:
    """Runs what was asked for; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", default="all", choices=("points", "rot", "lives", "all"))
    parser.add_argument("--bound", type=int, default=256, help="crash states a prefix, at most (points)")
    parser.add_argument("--every", type=int, default=1, help="cut the recovery of every so many-th state (points)")
    parser.add_argument("--seeds", type=int, default=3000, help="how many stores to live through (lives)")
    options = parser.parse_args(arguments)
    sound = True
    if options.what in ("points", "all"):
        sound = points(options.bound, options.every) and sound
    if options.what in ("lives", "all"):
        sound = lives(options.seeds) and sound
    if options.what in ("rot", "all"):
        sound = rot() and sound
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
