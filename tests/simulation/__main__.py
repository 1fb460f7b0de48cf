"""Run simulated worlds: ``python -m tests.simulation [--seed N] [--schedules N] [--story]``."""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.simulation.kept import FOLDER, keep, kept_paths, read_kept
from tests.simulation.schedules import MOVING, Schedule, draw_schedule
from tests.simulation.story import shrink, tell, trace
from tests.simulation.summary import Summary
from tests.simulation.world import World, graveyard

Draw = Callable[[int], Schedule]
Bury = Callable[[], None]


def main() -> int:
    asked = _parser().parse_args()
    draw = partial(draw_schedule, moving=asked.moving)
    logging.disable(logging.CRITICAL)
    first = asked.first if asked.first is not None else random.randrange(10**6, 10**9)
    with graveyard() as bury:
        if asked.kept is not None:
            return run_one(read_kept(FOLDER / f"{asked.kept}.json"), asked)
        if asked.seed is not None:
            return run_one(draw(asked.seed), asked)
        if asked.trace:
            return print_traces(draw, first, asked.schedules)
        if asked.until_failure:
            return run_until_failure(asked.skip, asked.schedules, bury)
        return run_many(draw, first, asked.schedules, asked.seconds, bury)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run only this one, and tell its shortest story")
    parser.add_argument("--kept", help="run the schedule that is kept under this name")
    parser.add_argument("--keep", help="keep the shortest story of --seed under this name")
    parser.add_argument("--found", default="", help="what the schedule that is kept found")
    parser.add_argument("--first", type=int, help="the seed to begin with; else a fresh one")
    parser.add_argument("--schedules", type=int, default=1000, help="how many to run")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument(
        "--story", action="store_true", help="tell of a seed also every request and every event"
    )
    parser.add_argument(
        "--until-failure",
        action="store_true",
        help="run those that are kept, then seeds from 0 on; stop at the first that fails",
    )
    parser.add_argument("--skip", type=int, default=0, help="of those, leave out so many")
    parser.add_argument("--trace", action="store_true", help="print only a hash of each run")
    parser.add_argument(
        "--moving", type=float, default=MOVING, help="how often mailboxes are moved (0 to 1)"
    )
    return parser


def run_one(schedule: Schedule, asked: argparse.Namespace) -> int:
    """Run one schedule; when something is wrong tell its shortest story."""
    failures = World(schedule).run()
    if failures:
        schedule, failures = shrink(schedule)
    if asked.keep:
        print(f"kept as {keep(asked.keep, asked.found, schedule).relative_to(Path.cwd())}")
    tell(schedule, failures, again=_again(asked))
    if asked.story:
        trace(schedule)
    return bool(failures)


def _again(asked: argparse.Namespace) -> str:
    if asked.kept is not None:
        return f"make sim ARGS='--kept {asked.kept}'"
    moving = "" if asked.moving == MOVING else f" ARGS='--moving {asked.moving:g}'"
    return f"make sim SEED={asked.seed}{moving}"


def print_traces(draw: Draw, first: int, count: int) -> int:
    """Print a hash of everything that happened in each run, for comparing runs of a seed."""
    for seed in range(first, first + count):
        world = World(draw(seed))
        world.run()
        print(f"{seed}:{world.fingerprint()}")
    return 0


def run_until_failure(skip: int, count: int, bury: Bury) -> int:
    """Run schedules until one fails; print as JSON which, after how many and why, or null."""
    for number in range(skip + 1, skip + count + 1):
        name, schedule = _numbered(number)
        failures = World(schedule).run()
        if failures:
            print(json.dumps({"schedule": name, "schedules": number, "words": failures[0]}))
            return 1
        if number % 50 == 0:
            bury()
    print("null")
    return 0


def _numbered(number: int) -> tuple[str, Schedule]:
    """Give the schedules that are kept, and after them those of seeds."""
    kept = kept_paths()
    if number <= len(kept):
        path = kept[number - 1]
        return f"kept {path.stem}", read_kept(path)
    seed = number - len(kept) - 1
    return f"seed {seed}", draw_schedule(seed)


def run_many(draw: Draw, first: int, count: int, seconds: float | None, bury: Bury) -> int:
    """Run many seeds and print what was done; 1 when one of them failed."""
    print(f"seeds {first} and following", flush=True)
    summary = Summary()
    for seed in _in_time(range(first, first + count), seconds):
        world = World(draw(seed))
        if failures := world.run():
            print(f"seed {seed}: " + "; ".join(failures)[:400], flush=True)
        summary.add(world)
        del world
        if summary.schedules % 50 == 0:
            bury()
    print("\n".join(summary.lines()))
    return bool(summary.failed)


def _in_time(seeds: range, seconds: float | None) -> Iterator[int]:
    end_s = time.monotonic() + seconds if seconds is not None else float("inf")
    for seed in seeds:
        if time.monotonic() >= end_s:
            return
        yield seed


if __name__ == "__main__":
    sys.exit(main())
