"""Scenarios: faults that are dangerous in one order, which chance alone would hardly ever hit upon.

Each draws its moments, servers and details; what it names is a story that operators know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.faults import (
    Backup,
    Call,
    Crash,
    Cut,
    Echo,
    Greet,
    Kill,
    Move,
    Rehome,
    Restore,
    Rot,
    Step,
    Storm,
)
from tests.simulation.network import Weather
from tests.simulation.server import NAMES

if TYPE_CHECKING:
    from tests.simulation.schedules import Draw


class Scene:
    """Places the steps of one scenario on a server that takes calls and one that is their home."""

    def __init__(self, draw: Draw, servers: int = 2) -> None:
        """It takes so many servers at least."""
        draw.count = max(draw.count, servers)
        draw.names = NAMES[: draw.count]
        self.draw = draw
        self.rng = draw.rng
        self.origin, self.home = draw.pair()
        self.begins_s = round(self.rng.uniform(1.0, draw.pace.scenes_by_s), 3)
        number = draw.names.index(self.home) + 1
        self.extension = f"{number}00{self.rng.randrange(2)}"

    def after(self, least_s: float, most_s: float) -> float:
        """Draw a moment between so many seconds after the beginning."""
        return round(self.begins_s + self.rng.uniform(least_s, most_s), 3)

    def call(self, least_s: float, most_s: float) -> Call:
        """Somebody calls the extension, and whoever answers takes the message in one piece."""
        call = self.draw.call(self.after(least_s, most_s), self.origin)
        return replace(call, extension=self.extension, breaks_after=None, attempts=6)

    def elsewhere(self) -> str:
        """Draw where the mailbox moves to."""
        return self.rng.choice([name for name in self.draw.names if name != self.home])

    def moved(self, least_s: float, most_s: float) -> Step:
        """The mailbox moves: by the file or by command."""
        at_s, to = self.after(least_s, most_s), self.elsewhere()
        if self.rng.random() < 0.5:
            pause_s = self.rng.choice((0.0, 1.0, 4.0, 8.0))
            return Rehome(
                at_s=at_s, extension=self.extension, home=to, pause_s=pause_s, lasts_s=10.0
            )
        is_forced = self.rng.random() < 0.2
        return Move(at_s=at_s, extension=self.extension, to=to, is_forced=is_forced)

    def answers_lost(self, least_s: float, most_s: float) -> Cut:
        """What the home answers does not arrive for a while."""
        return Cut(
            at_s=self.after(least_s, most_s),
            lasts_s=round(self.rng.uniform(3.0, 18.0), 3),
            origin=self.home,
            home=self.origin,
            is_one_way=True,
        )

    def some(self, chance: float, *steps: Step) -> list[Step]:
        """Perhaps these, all or none."""
        return list(steps) if self.rng.random() < chance else []


def rewritten(draw: Draw) -> list[Step]:
    """A log that went back grows past what its home knows of it, before the two meet again."""
    scene = Scene(draw)
    rng = scene.rng
    cut = Cut(
        at_s=scene.after(5.9, 6.0),
        lasts_s=10.0,
        origin=scene.origin,
        home=scene.home,
        is_one_way=rng.random() < 0.3,
    )
    number = draw.names.index(scene.origin) + 1
    greeted = [
        Greet(at_s=scene.after(*span), server=scene.origin, extension=f"{number}000")
        for span in ((0.5, 3.0), (7.0, 14.0))
    ]
    return [
        Backup(at_s=scene.begins_s, server=scene.origin),
        *(scene.call(0.5, 3.0) for _ in range(rng.randint(3, 6))),
        cut,
        Restore(at_s=scene.after(6.0, 6.5), server=scene.origin),
        *(scene.call(7.0, 14.0) for _ in range(rng.randint(3, 8))),
        *scene.some(0.5, *greeted),
    ]


def went_back_twice(draw: Draw) -> list[Step]:
    """A server is restored from the same backup a second time."""
    scene = Scene(draw)
    return [
        Backup(at_s=scene.begins_s, server=scene.origin),
        scene.call(0.5, 3.0),
        Restore(at_s=scene.after(4.0, 6.0), server=scene.origin),
        scene.call(6.0, 10.0),
        Restore(at_s=scene.after(11.0, 20.0), server=scene.origin),
        scene.call(11.0, 22.0),
    ]


def repeated_after_restore(draw: Draw) -> list[Step]:
    """A switch hands a call over again, but not to its end: the server has forgotten the first."""
    scene = Scene(draw)
    call = replace(scene.call(0.5, 1.5), chunks=1, pause_s=0.0)
    restored_s = round(call.at_s + scene.rng.uniform(1.0, 3.0), 3)
    cut = Cut(
        at_s=round(restored_s - 0.1, 3),
        lasts_s=8.0,
        origin=scene.origin,
        home=scene.home,
        is_one_way=False,
    )
    return [
        Backup(at_s=scene.begins_s, server=scene.origin),
        call,
        Restore(at_s=restored_s, server=scene.origin),
        replace(
            call,
            at_s=round(restored_s + scene.rng.uniform(0.6, 3.0), 3),
            audio=call.audio[:40],
        ),
        *scene.some(0.7, cut),
    ]


def moved_while_answers_are_lost(draw: Draw) -> list[Step]:
    """A home has what its origin knows nothing of, and the mailbox moves; the origin goes back."""
    scene = Scene(draw, servers=draw.rng.choice((2, 3)))
    restored = [
        Backup(at_s=scene.after(1.5, 4.0), server=scene.origin),
        Restore(at_s=scene.after(4.0, 22.0), server=scene.origin),
    ]
    moved = scene.moved(1.5, 14.0)
    acts = [
        replace(draw.act(), at_s=round(moved.at_s + scene.rng.uniform(-3.0, 6.0), 3))
        for _ in range(3)
    ]
    return [
        scene.answers_lost(0.0, 0.1),
        *(scene.call(0.2, 3.0) for _ in range(scene.rng.randint(1, 2))),
        moved,
        *scene.some(0.4, *restored),
        *scene.some(0.6, *acts),
        *scene.some(0.3, scene.call(4.0, 22.0)),
    ]


def lost_at_home_and_moved(draw: Draw) -> list[Step]:
    """A home goes back to before a message while its mailbox moves to another."""
    scene = Scene(draw)
    restored = Restore(at_s=scene.after(3.5, 12.0), server=scene.home)
    crash = Crash(
        at_s=round(restored.at_s + scene.rng.uniform(0.0, 0.5), 3),
        server=scene.origin,
        operations=scene.rng.randint(1, 8),
        is_after=scene.rng.random() < 0.3,
        down_s=0.2,
    )
    return [
        Backup(at_s=scene.begins_s, server=scene.home),
        *(scene.call(0.2, 2.0) for _ in range(scene.rng.randint(1, 2))),
        scene.moved(3.0, 6.0),
        restored,
        *scene.some(0.3, scene.answers_lost(3.0, 10.0)),
        *scene.some(0.6, crash),
        *scene.some(0.3, scene.call(4.0, 16.0)),
    ]


def rots_while_down(draw: Draw) -> list[Step]:
    """A server dies while callers speak, and bits flip before it comes back."""
    scene = Scene(draw)
    calls = [
        replace(scene.call(0.0, 0.5), chunks=3, pause_s=1.2) for _ in range(scene.rng.randint(1, 2))
    ]
    rots = [Rot(at_s=scene.after(2.7, 5.5), server=scene.origin) for _ in range(4)]
    killed = Kill(at_s=scene.after(1.3, 2.6), server=scene.origin, down_s=5.0, lasts_s=5.0)
    return [*calls, killed, *rots]


def moved_again_and_again(draw: Draw) -> list[Step]:
    """A mailbox moves from server to server while its owner listens."""
    scene = Scene(draw, servers=3)
    steps: list[Step] = [scene.call(0.0, 1.0)]
    for number in range(scene.rng.randint(2, 4)):
        at_s = 3.0 + 5.0 * number
        steps.append(replace(draw.act(), at_s=scene.after(at_s - 2.0, at_s)))
        to = scene.rng.choice(draw.names)
        moved = Move(
            at_s=scene.after(at_s, at_s + 2.0), extension=scene.extension, to=to, is_forced=False
        )
        steps.append(moved)
    return [*steps, replace(draw.act(), at_s=scene.after(1.0, 20.0))]


def answered_by_a_cache(draw: Draw) -> list[Step]:
    """Something between the servers answers requests with what was answered before."""
    scene = Scene(draw)
    weather = Weather(stale=round(scene.rng.uniform(0.2, 0.7), 2))
    return [
        *(scene.call(0.0, 8.0) for _ in range(scene.rng.randint(2, 4))),
        Storm(at_s=scene.after(0.0, 3.0), lasts_s=10.0, weather=weather),
    ]


def refused_while_the_answer_is_lost(draw: Draw) -> list[Step]:
    """A home goes back, and refuses what it had: its origin dies before it hears of that."""
    scene = Scene(draw)
    moved = Rehome(
        at_s=scene.after(3.0, 6.0),
        extension=scene.extension,
        home=scene.elsewhere(),
        pause_s=4.0,
        lasts_s=10.0,
    )
    restored_s = round(moved.at_s + scene.rng.uniform(0.1, 0.8), 3)
    other = f"{scene.extension[:3]}{1 - int(scene.extension[3])}"
    began_s = round(restored_s + scene.rng.uniform(0.5, 2.0), 3)
    return [
        Backup(at_s=scene.begins_s, server=scene.home),
        scene.call(0.2, 2.0),
        moved,
        Restore(at_s=restored_s, server=scene.home),
        replace(scene.call(0.0, 0.0), at_s=began_s, extension=other),
        Storm(at_s=began_s, lasts_s=4.0, weather=Weather(lose_answer=0.5)),
    ]


def raised_by_late_frames(draw: Draw) -> list[Step]:
    """A home goes back and loses a mailbox: late frames bring what it had."""
    scene = Scene(draw)
    cut = Cut(
        at_s=scene.after(3.0, 3.1),
        lasts_s=round(scene.rng.uniform(6.0, 9.0), 3),
        origin=scene.origin,
        home=scene.home,
        is_one_way=False,
    )
    moved = Rehome(
        at_s=scene.after(4.0, 4.5),
        extension=scene.extension,
        home=scene.elsewhere(),
        pause_s=scene.rng.choice((0.0, 0.3)),
        lasts_s=10.0,
    )
    echo = Echo(
        at_s=scene.after(6.5, 9.0), origin=scene.origin, home=scene.home, which=0.0, count=99
    )
    return [
        Backup(at_s=scene.begins_s, server=scene.home),
        *(scene.call(0.2, 1.5) for _ in range(scene.rng.randint(1, 3))),
        cut,
        Restore(at_s=scene.after(3.3, 3.8), server=scene.home),
        moved,
        echo,
        *scene.some(0.4, scene.call(4.0, 16.0)),
    ]


def given_away_and_forgotten(draw: Draw) -> list[Step]:
    """A server goes back to before it gave a mailbox away, and its owner records a greeting."""
    scene = Scene(draw)
    moved_s = scene.after(1.0, 3.0)
    restored_s = round(moved_s + scene.rng.uniform(1.0, 4.0), 3)
    cuts = [
        Cut(at_s=restored_s, lasts_s=6.0, origin=scene.home, home=other, is_one_way=False)
        for other in draw.names
        if other != scene.home
    ]
    greeted_s = round(restored_s + scene.rng.uniform(0.6, 5.0), 3)
    return [
        Backup(at_s=scene.begins_s, server=scene.home),
        *scene.some(0.5, scene.call(0.2, 4.0)),
        Move(at_s=moved_s, extension=scene.extension, to=scene.elsewhere(), is_forced=False),
        Restore(at_s=restored_s, server=scene.home),
        *scene.some(0.8, *cuts),
        Greet(at_s=greeted_s, server=scene.home, extension=scene.extension),
    ]


def damaged_on_the_way(draw: Draw) -> list[Step]:
    """Callers speak while a cable damages a part of all that goes through it."""
    scene = Scene(draw)
    weather = Weather(damage=round(scene.rng.uniform(0.2, 0.6), 2))
    return [
        *(scene.call(0.0, 9.0) for _ in range(scene.rng.randint(3, 6))),
        Storm(at_s=scene.begins_s, lasts_s=12.0, weather=weather),
    ]


def heard_while_it_travels(draw: Draw) -> list[Step]:
    """Answers take seconds: a user listens to a message that has arrived, and moved on."""
    scene = Scene(draw, servers=3)
    call = replace(scene.call(0.2, 0.3), chunks=1, pause_s=0.0)
    third = next(n for n in draw.names if n not in (scene.home, scene.origin))
    return [
        Storm(at_s=scene.begins_s, lasts_s=12.0, weather=Weather(delay=0.7)),
        call,
        Move(at_s=scene.after(1.0, 5.0), extension=scene.extension, to=third, is_forced=False),
        *(replace(draw.act(), at_s=scene.after(0.5, 7.0)) for _ in range(3)),
    ]


SCENARIOS: tuple[tuple[Callable[[Draw], list[Step]], int], ...] = (
    (rewritten, 14),
    (went_back_twice, 8),
    (repeated_after_restore, 14),
    (moved_while_answers_are_lost, 20),
    (lost_at_home_and_moved, 20),
    (rots_while_down, 10),
    (moved_again_and_again, 10),
    (answered_by_a_cache, 8),
    (refused_while_the_answer_is_lost, 10),
    (raised_by_late_frames, 8),
    (given_away_and_forgotten, 8),
    (damaged_on_the_way, 8),
    (heard_while_it_travels, 8),
)
"""Each with how often it is drawn."""
