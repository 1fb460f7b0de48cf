"""Run simulated worlds: ``python -m tests.simulation [--seed N] [--schedules N] [--story]``."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.simulation.faults import draw_schedule
from tests.simulation.world import World, bury_the_dead


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run only this one")
    parser.add_argument("--first", type=int, default=0, help="where to begin")
    parser.add_argument("--schedules", type=int, default=1000, help="how many to run")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--story", action="store_true", help="tell what happens")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if asked.seed is not None:
        world = World(draw_schedule(asked.seed))
        failures = world.run()
        for step in sorted(world.schedule.steps, key=lambda s: s.at_s):
            print(f"  {step}")
        print("\n".join(failures) or "nothing wrong")
        print(f"{world.network.sent} requests, {world.now_s:.0f} s, {world.loop.steps} steps")
        return bool(failures)
    began_s = time.monotonic()
    failed = 0
    for number in range(asked.schedules):
        world = World(draw_schedule(asked.first + number))
        if failures := world.run():
            failed += 1
            print(f"seed {world.seed}: " + "; ".join(failures)[:400])
        if number % 50 == 49:
            del world
            bury_the_dead()
        if asked.seconds and time.monotonic() - began_s > asked.seconds:
            break
    took_s = time.monotonic() - began_s
    print(f"{number + 1} schedules in {took_s:.1f} s, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
