"""Explore every moment that a model can reach, and hold each against what must never break."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from ledger.migration.protocol import OriginState
from tests.model.servers import Bounds, Model, Rules, World


@dataclass(frozen=True)
class Exploration:
    """What was explored, and the first thing that was wrong."""

    moments: int
    transitions: int
    depth: int
    seconds: float
    problem: str = ""
    story: tuple[str, ...] = ()
    """The shortest way to the problem."""

    def tell(self) -> str:
        """Say it in a line, and the story of a problem below."""
        told = (
            f"{self.moments:,} moments, {self.transitions:,} transitions, depth {self.depth}, "
            f"{self.seconds:.1f} s"
        )
        lines = [told, *([f"WRONG: {self.problem}", *self.story] if self.problem else [])]
        return "\n".join(lines)


def explore(rules: Rules, bounds: Bounds) -> Exploration:
    """Go through all moments, the nearest first, and stop at the first that is wrong.

    At the end, when nothing was, each moment must have a way to one in which all is delivered and
    acknowledged: else something can get stuck.
    """
    began_s = time.monotonic()
    model = Model(rules, bounds)
    start = model.start()
    number_of = {start: 0}
    came: list[tuple[int, str]] = [(-1, "")]
    before: list[list[int]] = [[]]
    depths = [0]
    goals = []
    queue = deque([start])
    transitions = 0

    def result(problem: str, at: int) -> Exploration:
        seconds = time.monotonic() - began_s
        story = tuple(_story(came, at)) if problem else ()
        return Exploration(len(number_of), transitions, depths[-1], seconds, problem, story)

    while queue:
        now = queue.popleft()
        number = number_of[now]
        if is_all_done(now):
            goals.append(number)
        for what, then in model.successors(now):
            transitions += 1
            found = number_of.get(then)
            if found is None:
                found = number_of[then] = len(number_of)
                came.append((number, what))
                before.append([])
                depths.append(depths[number] + 1)
                queue.append(then)
                if problem := next(wrongs(then), ""):
                    return result(problem, found)
            before[found].append(number)
    stuck = _without_a_way(goals, before)
    return result("nothing leads on from here to the end", stuck) if stuck >= 0 else result("", 0)


def wrongs(now: World) -> Iterator[str]:
    """Say what must not be at any moment."""
    if len(set(now.held)) < len(now.held):
        yield f"the home holds a message twice: {now.held}"
    missing = now.receipts - set(now.held)
    if missing and not now.home_restores:
        yield f"the origin holds a receipt for {sorted(missing)}, which the home has not"
    for _, position, log in now.rows:
        if len(log) != position or not set(log) <= set(now.held):
            yield f"the home has tracked {position} events and lacks one of {log}"
    if not now.origin_restores and now.held != now.log[: len(now.held)]:
        yield f"the home holds {now.held}, which is not how {now.log} begins"
    if now.acknowledged > len(now.log) and now.building == now.incarnation:
        is_restored = now.origin_restores > 0
        if not is_restored:
            yield "the origin has acknowledged more than it has"


def is_all_done(now: World) -> bool:
    """Is everything that the origin still knows of at the home, and acknowledged?"""
    everything = set(now.log)
    is_quiet = now.state is OriginState.IDLE and not now.in_flight
    return is_quiet and everything <= set(now.held) and everything <= now.receipts


def _without_a_way(goals: list[int], before: list[list[int]]) -> int:
    """Find the nearest moment that leads to no goal; -1 when each does."""
    reached = bytearray(len(before))
    ahead = list(goals)
    while ahead:
        number = ahead.pop()
        if not reached[number]:
            reached[number] = 1
            ahead.extend(before[number])
    return reached.find(0)


def _story(came: list[tuple[int, str]], at: int) -> Iterator[str]:
    steps = []
    while at > 0:
        at, what = came[at][0], came[at][1]
        steps.append(what)
    yield from (f"  {number}. {what}" for number, what in enumerate(reversed(steps), 1))
