"""Run simulated worlds: ``python -m tests.simulation [--seed N] [--schedules N] [--story]``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from functools import partial

from tests.simulation.schedules import MOVING, Schedule, draw_schedule
from tests.simulation.story import shrink, tell, trace
from tests.simulation.world import World, graveyard

Draw = Callable[[int], Schedule]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run only this one")
    parser.add_argument("--first", type=int, default=0, help="where to begin")
    parser.add_argument("--schedules", type=int, default=1000, help="how many to run")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument(
        "--story", action="store_true", help="tell of a seed also every request and every event"
    )
    parser.add_argument(
        "--until-failure", action="store_true", help="stop at the first; its JSON is the last line"
    )
    parser.add_argument("--trace", action="store_true", help="print only a hash of each run")
    parser.add_argument(
        "--moving", type=float, default=MOVING, help="how often mailboxes are moved (0 to 1)"
    )
    asked = parser.parse_args()
    draw = partial(draw_schedule, moving=asked.moving)
    logging.disable(logging.CRITICAL)
    with graveyard() as bury:
        if asked.seed is not None:
            return run_one(draw, asked.seed, asked.story)
        if asked.trace:
            return print_traces(draw, asked.first, asked.schedules)
        if asked.until_failure:
            return run_until_failure(draw, asked.first, asked.schedules, bury)
        return run_many(draw, asked.first, asked.schedules, asked.seconds, bury)


def run_one(draw: Draw, seed: int, with_trace: bool) -> int:
    """Run one seed; when something is wrong tell its shortest story."""
    schedule = draw(seed)
    failures = World(schedule).run()
    if failures:
        schedule, failures = shrink(schedule)
    tell(schedule, failures)
    if with_trace:
        trace(schedule)
    return bool(failures)


def print_traces(draw: Draw, first: int, count: int) -> int:
    """Print a hash of everything that happened in each run, for comparing runs of a seed."""
    for seed in range(first, first + count):
        world = World(draw(seed))
        world.run()
        print(f"{seed}:{world.fingerprint()}")
    return 0


def run_until_failure(draw: Draw, first: int, count: int, bury: Callable[[], None]) -> int:
    """Run seeds until one fails; print which, after how many and why, or null."""
    for number in range(count):
        failures = World(draw(first + number)).run()
        if failures:
            found = {"seed": first + number, "schedules": number + 1, "words": failures[0]}
            print(json.dumps(found))
            return 1
        if number % 50 == 49:
            bury()
    print("null")
    return 0


def run_many(
    draw: Draw, first: int, count: int, seconds: float | None, bury: Callable[[], None]
) -> int:
    """Run many seeds; 1 when one of them failed."""
    began_s = time.monotonic()
    began_cpu_s = time.process_time()
    done = failed = 0
    while done < count and (seconds is None or time.monotonic() - began_s < seconds):
        world = World(draw(first + done))
        if failures := world.run():
            failed += 1
            print(f"seed {world.seed}: " + "; ".join(failures)[:400], flush=True)
        done += 1
        del world
        if done % 50 == 0:
            bury()
    took_s = time.monotonic() - began_s
    cpu_s = time.process_time() - began_cpu_s
    print(f"{done} schedules in {took_s:.1f} s ({cpu_s * 1000 / done:.1f} ms of processor each)")
    print(f"{failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
