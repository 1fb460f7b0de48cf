"""Run simulated worlds: ``python -m tests.simulation [--seed N] [--schedules N] [--story]``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable

from tests.simulation.faults import draw_schedule
from tests.simulation.world import World, graveyard


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run only this one")
    parser.add_argument("--first", type=int, default=0, help="where to begin")
    parser.add_argument("--schedules", type=int, default=1000, help="how many to run")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--story", action="store_true", help="tell what happens")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with graveyard() as bury:
        if asked.seed is not None:
            return tell(asked.seed)
        return run_many(asked.first, asked.schedules, asked.seconds, bury)


def tell(seed: int) -> int:
    """Run one seed and tell what happened in it."""
    world = World(draw_schedule(seed))
    failures = world.run()
    for step in sorted(world.schedule.steps, key=lambda s: s.at_s):
        print(f"  {step}")
    print("\n".join(failures) or "nothing wrong")
    print(f"{world.network.sent} requests, {world.now_s:.0f} s, {world.loop.steps} steps")
    return bool(failures)


def run_many(first: int, count: int, seconds: float | None, bury: Callable[[], None]) -> int:
    """Run many seeds; 1 when one of them failed."""
    began_s = time.monotonic()
    began_cpu_s = time.process_time()
    done = failed = 0
    while done < count and (seconds is None or time.monotonic() - began_s < seconds):
        world = World(draw_schedule(first + done))
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
