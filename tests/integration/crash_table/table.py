"""Runs the table: each use case, killed at each of its steps, brought to rest and examined."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from tests.integration.crash_table.checks import (
    describe,
    find_faults,
    find_faults_of,
    is_at_rest,
)
from tests.integration.crash_table.steps import Crash
from tests.integration.crash_table.use_cases import UseCase
from tests.integration.crash_table.world import MakeLog, World, eventually, live
from tests.simulation.disk import Crashed


@dataclass(frozen=True)
class Row:
    """What became of one crash."""

    crash: Crash
    step: str
    left: str
    """What was on the disk and in the log before the next start."""
    finisher: str
    """Who finished it."""
    faults: tuple[str, ...]


def steps_of(case: UseCase, make_log: MakeLog) -> list[str]:
    """Run a use case without a crash; gives its durable steps."""

    async def story(world: World) -> list[str]:
        await case.prepare(world)
        await case.act(world)
        steps = list(world.crashing.steps.taken)
        assert case.is_done(world), "the use case does not do what it is for"
        return steps

    return live(lambda: World(case.crashing, None, make_log), story)


def crash_everywhere(
    case: UseCase, make_log: MakeLog, *, is_power_cut: bool = True
) -> Iterator[Row]:
    """Run a use case twice for every step: the step not applied, and applied."""
    for number, step in enumerate(steps_of(case, make_log), 1):
        for is_applied in (False, True):
            crash = Crash(number, is_applied)
            yield live(
                lambda crash=crash: World(case.crashing, crash, make_log),
                partial(crash_once, case=case, crash=crash, step=step, is_power_cut=is_power_cut),
            )


async def crash_once(
    world: World, case: UseCase, crash: Crash, step: str, *, is_power_cut: bool
) -> Row:
    """Run the use case to the crash, start again, repeat what nobody answered, and look."""
    world.is_power_cut = is_power_cut
    await case.prepare(world)
    known_events = len(world.crashing.entries())
    with contextlib.suppress(Crashed):  # it shows only when the one who died was asked directly
        await case.act(world)
    assert world.crashing.steps.is_dead, f"nobody died at {step}"
    assert world.crashing.steps.taken[-1] == step, "the run was not the same as without a crash"
    await world.crashing.go_down()
    left = describe(world, known_events)
    was_done = case.is_done(world)
    await world.crashing.boot()
    faults = await find_faults_of(world, world.crashing)
    finisher = "done already" if was_done else "the start" if case.is_done(world) else ""
    finisher = await _go_on(world, case, finisher)
    faults += await come_to_rest(world, case)
    return Row(crash, step, left, finisher, tuple(faults))


async def _go_on(world: World, case: UseCase, finisher: str) -> str:
    """Let each do its part; gives who finished the use case, if nobody had."""
    world.is_cut = False
    if case.repeat is not None:
        await case.repeat(world)
        return finisher or case.asker
    if not finisher:
        await eventually(partial(case.is_done, world))
    return finisher or "shipping"


async def come_to_rest(world: World, case: UseCase) -> list[str]:
    """Wait until nothing is on its way any more; say what is wrong then."""
    faults = [] if await eventually(partial(is_at_rest, world)) else ["it never came to rest"]
    if not case.is_done(world):
        faults.append("it was never done")
    return faults + await find_faults(world)
