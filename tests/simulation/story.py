"""The shortest story of a failure: its schedule with every step dropped that it does not need."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.schedules import Schedule
from tests.simulation.world import World


def shrink(schedule: Schedule) -> tuple[Schedule, list[str]]:
    """Drop steps one by one while a checker that failed still fails; gives what it then says."""
    failures = World(schedule).run()
    names = _checkers(failures)
    is_shorter = True
    while is_shorter:
        is_shorter = False
        for step in schedule.steps:
            shorter = schedule.without(step)
            found = World(shorter).run()
            if names & _checkers(found):
                schedule, failures, is_shorter = shorter, found, True
                break
    return schedule, failures


def _checkers(failures: list[str]) -> set[str]:
    return {failure.partition(":")[0] for failure in failures}


def tell(
    schedule: Schedule,
    failures: list[str],
    say: Callable[[str], None] = print,
    again: str = "",
) -> None:
    """Print what happens in a schedule, what was found wrong and how to see that again."""
    homes = ", ".join(f"{n}* lives on {name}" for n, name in enumerate(schedule.names, 1))
    say(f"seed {schedule.seed}: {schedule.servers} servers; {homes}")
    for step in sorted(schedule.steps, key=lambda s: s.at_s):
        lasts = f" for {step.lasts_s:g} s" if step.lasts_s else ""
        say(f"  {step.at_s:7.3f} s  {step.tell()}{lasts}")
    for failure in failures:
        say(f"  WRONG: {failure}")
    say(f"  again: {again or f'make sim SEED={schedule.seed}'}")


def trace(schedule: Schedule, say: Callable[[str], None] = print) -> None:
    """Run a schedule and print every request, event and death in it."""
    world = World(schedule)
    world.network.say = say
    world.run()
    for name, machine in world.machines.items():
        say(f"--- the log of {name}")
        for entry in machine.image.entries:
            origin = f" (from {entry.origin} {entry.origin_position})" if entry.origin else ""
            say(f"{entry.position:4} {entry.plain.decode()[:230]}{origin}")
