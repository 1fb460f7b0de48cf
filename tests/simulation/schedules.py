"""Schedules: what happens in one run, drawn from a seed.

A schedule is a list of steps that stand for themselves: with any of them dropped it is still a
schedule, so that a failing one can be made shorter. Whoever changes how they are drawn changes what
every seed means; those that once failed are therefore kept whole (`tests.simulation.kept`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from uuid import UUID

from ledger.ids import uuid7
from ledger.message import Action
from tests.simulation.faults import (
    Act,
    Backup,
    Call,
    ChangePin,
    ClockJump,
    Clone,
    Collect,
    Crash,
    Cut,
    Echo,
    Erase,
    FailSync,
    Full,
    Greet,
    Join,
    Kill,
    Leave,
    Lose,
    Move,
    Poison,
    Recover,
    Rehome,
    Restore,
    Rot,
    Slow,
    Step,
    Storm,
)
from tests.simulation.network import Weather
from tests.simulation.people import GC_MIN_AGE_S, PINS
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.server import NAMES, START


@dataclass(frozen=True)
class Pace:
    """How much room there is in a schedule."""

    span_s: float
    """Within this time everything begins."""
    scenes_by_s: float
    """Until then scenarios do: each takes some time."""
    lasts_s: tuple[float, ...]
    """How long faults last at most."""
    servers: tuple[int, int, int]
    """Weights of two, three and four of them."""


LONG = Pace(30.0, 12.0, (2.0, 10.0, 20.0), (70, 25, 5))
BRIEF = Pace(10.0, 3.0, (1.0, 3.0, 8.0), (88, 12, 0))
BRIEFLY = 0.7
"""How often a schedule is brief: it has one story and perhaps a fault, and costs half as much.

Each kind finds what the other hardly does: a brief one what must happen close together, a long one
what takes several stories.
"""


@dataclass(frozen=True)
class Schedule:
    """What happens in one run."""

    seed: int
    servers: int
    steps: tuple[Step, ...]
    power_cuts: float = 0.5
    """How often the end of a process is the end of its machine's power."""
    is_signed: bool = False
    """Real signatures; else fast ones."""
    mirrors: tuple[tuple[str, str], ...] = ()
    """(server, mirror): who keeps a copy of whose log."""
    is_witnessed: bool = True
    """The servers co-sign each other's checkpoints, and learn by that too who went back."""

    @property
    def names(self) -> tuple[str, ...]:
        """The servers, each the home of the extensions that begin with its number."""
        return NAMES[: self.servers]

    def without(self, step: Step) -> Schedule:
        """Give the schedule in which one step does not happen."""
        return replace(self, steps=tuple(s for s in self.steps if s is not step))


_SOUND = bytes(0x20 + code % 0x5F for code in range(256))
"""Makes of any bytes some that cannot be taken for the beginning of a file of sound."""


class Draw:
    """Draws the steps of one schedule."""

    def __init__(self, seed: int, pace: Pace) -> None:
        self.pace = pace
        self.rng = random.Random(f"schedule/{seed}")
        self.count = self.rng.choices((2, 3, 4), pace.servers)[0]
        self.names = NAMES[: self.count]
        self.weights = self.rng.choices(_FAMILIES, (50, 16, 10, 10, 14))[0]

    def when(self) -> float:
        return round(self.rng.uniform(1.0, self.pace.span_s), 3)

    def span(self) -> float:
        return round(self.rng.choice(self.pace.lasts_s) * self.rng.uniform(0.3, 1.0), 3)

    def server(self) -> str:
        return self.rng.choice(self.names)

    def pair(self) -> tuple[str, str]:
        one, other = self.rng.sample(self.names, 2)
        return one, other

    def extension(self, server: str) -> str:
        """Draw a mailbox, mostly of another server."""
        homes = [n for n in range(1, self.count + 1) if self.names[n - 1] != server]
        if self.rng.random() < 0.15:
            homes = [self.names.index(server) + 1]
        return f"{self.rng.choice(homes)}00{self.rng.randrange(2)}"

    def call_id(self, at_s: float) -> UUID:
        time_ms = int((START.timestamp() + at_s) * 1000)
        return uuid7(time_ms, self.rng.randbytes(10))

    def call(self, at_s: float | None = None, server: str | None = None) -> Call:
        rng = self.rng
        at_s, server = at_s or self.when(), server or self.server()
        chunks = rng.choice((1, 1, 1, 2, 3))
        breaks = rng.randrange(chunks) + 1 if chunks > 1 and rng.random() < 0.2 else None
        return Call(
            at_s=at_s,
            server=server,
            extension=self.extension(server),
            audio=rng.randbytes(rng.randrange(80, 300)).translate(_SOUND),
            call_id=self.call_id(at_s),
            chunks=chunks,
            pause_s=rng.choice((0.1, 1.2)) if chunks > 1 else 0.0,
            attempts=rng.choice((1, 2, 6)),
            patience_s=rng.choice((0.5, 4.0)),
            breaks_after=breaks,
        )

    def act(self) -> Act:
        return Act(
            at_s=self.when(),
            which=self.rng.random(),
            action=self.rng.choice(list(Action)),
            by=f"user-{self.rng.getrandbits(32):08x}",
        )

    def faults(self) -> list[Step]:
        """Draw one story of faults."""
        kinds, weights = zip(*self.weights, strict=True)
        kind = self.rng.choices(kinds, weights)[0]
        return kind(self)

    def crash(self) -> list[Step]:
        rng = self.rng
        return [
            Crash(
                at_s=self.when(),
                server=self.server(),
                operations=rng.randint(1, 40),
                is_after=rng.random() < 0.5,
                down_s=rng.choice((0.2, 3.0, 15.0)),
            )
        ]

    def kill(self) -> list[Step]:
        return [Kill(at_s=self.when(), server=self.server(), down_s=self.span(), lasts_s=5.0)]

    def cut(self) -> list[Step]:
        origin, home = self.pair()
        is_one_way = self.rng.random() < 0.4
        return [
            Cut(
                at_s=self.when(),
                lasts_s=self.span(),
                origin=origin,
                home=home,
                is_one_way=is_one_way,
            )
        ]

    def storm(self) -> list[Step]:
        rng = self.rng
        names = ("lose", "lose_answer", "repeat", "damage", "delay")
        chosen = rng.sample(names, rng.randint(1, 3))
        weather = Weather(**{name: round(rng.uniform(0.05, 0.5), 2) for name in chosen})
        return [Storm(at_s=self.when(), lasts_s=self.span(), weather=weather)]

    def slow(self) -> list[Step]:
        return [Slow(at_s=self.when(), lasts_s=self.span(), server=self.server())]

    def full(self) -> list[Step]:
        return [Full(at_s=self.when(), lasts_s=self.span(), server=self.server())]

    def fail_sync(self) -> list[Step]:
        return [FailSync(at_s=self.when(), server=self.server(), syncs=self.rng.randint(1, 6))]

    def rot(self) -> list[Step]:
        return [Rot(at_s=self.when(), server=self.server())]

    def clock_jump(self) -> list[Step]:
        by_s = self.rng.choice((-86400.0, -3.0, 3.0, 3600.0))
        return [ClockJump(at_s=self.when(), server=self.server(), by_s=by_s)]

    def restore(self) -> list[Step]:
        server = self.server()
        return self._backup_then(Restore, server)

    def restore_both(self) -> list[Step]:
        one, other = self.pair()
        return self._backup_then(Restore, one) + self._backup_then(Restore, other)

    def clone(self) -> list[Step]:
        return self._backup_then(Clone, self.server(), lasts_s=self.span())

    def _backup_then(self, kind: type[Step], server: str, lasts_s: float = 0.0) -> list[Step]:
        first, second = sorted((self.when(), self.when()))
        later = kind(at_s=second, lasts_s=lasts_s, server=server)  # type: ignore[call-arg]
        between = self.call(round((first + second) / 2, 3), server)
        after = self.call(round(second + self.rng.uniform(0.6, 3.0), 3), server)
        calls = [call for call in (between, after) if self.rng.random() < 0.6]
        is_verified = self.rng.random() < 0.3
        return [Backup(at_s=first, server=server, is_verified=is_verified), later, *calls]

    def echo(self) -> list[Step]:
        origin, home = self.pair()
        echo = Echo(
            at_s=self.when(),
            origin=origin,
            home=home,
            which=self.rng.random(),
            count=self.rng.randint(1, 3),
        )
        return [echo]

    def restore_and_echo(self) -> list[Step]:
        """One side goes back, and hears what it or its peer once sent."""
        restored = self.restore()
        went_back = max(step.at_s for step in restored if isinstance(step, Restore))
        at_s = round(went_back + self.rng.uniform(0.3, 4.0), 3)
        return restored + [replace(e, at_s=at_s) for _ in range(2) for e in self.echo()]

    def collect(self) -> list[Step]:
        """An origin frees what a home has acknowledged, and then the home loses it."""
        origin, home = self.pair()
        first, second, third, last = sorted(self.when() for _ in range(4))
        number = self.names.index(home) + 1
        call = replace(self.call(second, origin), extension=f"{number}000")
        is_verified = self.rng.random() < 0.4
        return [
            Backup(at_s=first, server=home),
            call,
            *([Backup(at_s=round(third - 0.1, 3), server=home, is_verified=True)] * is_verified),
            Collect(at_s=round(third + GC_MIN_AGE_S, 3), server=origin),
            Restore(at_s=round(last + GC_MIN_AGE_S + 0.1, 3), server=home),
        ]

    def leave(self) -> list[Step]:
        leaver, heir = self.pair()
        return [Leave(at_s=self.when(), lasts_s=15.0, server=leaver, heir=heir)]

    def long_call(self) -> list[Step]:
        """Somebody speaks for a while, perhaps in the middle of something."""
        call = replace(self.call(), chunks=3, pause_s=1.2)
        return [replace(call, breaks_after=self.rng.choice((None, 1, 2)), attempts=6)]

    def rehome(self) -> list[Step]:
        number = self.rng.randint(1, self.count)
        return [
            Rehome(
                at_s=self.when(),
                extension=f"{number}00{self.rng.randrange(2)}",
                home=self.server(),
                pause_s=self.rng.choice((0.0, 1.0, 8.0)),
                lasts_s=10.0,
            )
        ]

    def join(self) -> list[Step]:
        return [Join(at_s=self.when(), pause_s=self.rng.choice((0.0, 5.0)), lasts_s=10.0)]

    def greet(self) -> list[Step]:
        number = self.rng.randint(1, self.count)
        server, extension = self.names[number - 1], f"{number}000"
        steps: list[Step] = []
        for pin in PINS[: self.rng.randint(1, 2)]:
            at_s = self.when()
            steps.append(Greet(at_s=at_s, server=server, extension=extension))
            then_s = round(at_s + 0.1, 3)
            steps.append(ChangePin(at_s=then_s, server=server, extension=extension, pin=pin))
        return steps

    def poison(self) -> list[Step]:
        at_s, server = self.when(), self.server()
        extension = self.extension(server)
        return [
            Poison(
                at_s=at_s,
                server=server,
                extension=extension,
                call_id=self.call_id(at_s),
                message_id=self.call_id(at_s),
            )
        ]


_FAULTS = (
    (Draw.crash, 30),
    (Draw.kill, 14),
    (Draw.cut, 12),
    (Draw.storm, 14),
    (Draw.slow, 4),
    (Draw.full, 8),
    (Draw.fail_sync, 4),
    (Draw.rot, 5),
    (Draw.clock_jump, 4),
    (Draw.restore, 12),
    (Draw.restore_both, 5),
    (Draw.clone, 4),
    (Draw.rehome, 6),
    (Draw.join, 3),
    (Draw.greet, 5),
    (Draw.poison, 4),
    (Draw.echo, 4),
    (Draw.collect, 3),
    (Draw.leave, 3),
)
"""What may go wrong, and how often it is drawn."""

_PAST = (
    (Draw.restore, 20),
    (Draw.restore_both, 15),
    (Draw.restore_and_echo, 20),
    (Draw.clone, 10),
    (Draw.collect, 10),
    (Draw.echo, 10),
    (Draw.storm, 10),
    (Draw.crash, 10),
    (Draw.kill, 5),
)
"""Mostly servers that go back in time."""

_DISKS = (
    (Draw.long_call, 25),
    (Draw.crash, 25),
    (Draw.kill, 10),
    (Draw.full, 12),
    (Draw.fail_sync, 12),
    (Draw.rot, 12),
    (Draw.restore, 6),
)
"""Mostly disks that forget, fill up and rot."""

_PROFILES = (
    (Draw.greet, 50),
    (Draw.crash, 12),
    (Draw.kill, 10),
    (Draw.restore, 10),
    (Draw.storm, 10),
    (Draw.cut, 10),
    (Draw.join, 5),
    (Draw.rot, 4),
)
"""Mostly greetings and PINs."""

_CONFIGURATION = (
    (Draw.rehome, 30),
    (Draw.leave, 20),
    (Draw.join, 6),
    (Draw.long_call, 10),
    (Draw.cut, 10),
    (Draw.kill, 8),
    (Draw.crash, 8),
    (Draw.storm, 5),
    (Draw.restore, 6),
)
"""Mostly operators who change the configuration."""

_FAMILIES = (_FAULTS, _PAST, _DISKS, _PROFILES, _CONFIGURATION)
"""From one of these a schedule draws: faults that belong together meet more often."""


MOVING = 0.2
"""How often mailboxes are moved by command in a run."""


def draw_moves(seed: int, draw: Draw, moving: float) -> list[Step]:
    """Draw the moves of a run, and more of what they have to stand.

    From a source of their own, so that they come on top of what the seed means without them.
    """
    rng = random.Random(f"moves/{seed}")
    if rng.random() >= moving:
        return []
    draw.rng = rng
    extension = f"{rng.randint(1, draw.count)}00{rng.randrange(2)}"
    moves: list[Step] = [
        Move(at_s=draw.when(), extension=extension, to=draw.server(), is_forced=rng.random() < 0.25)
        for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))
    ]
    calls = [replace(draw.call(), extension=extension) for _ in range(rng.randint(1, 3))]
    acts = [draw.act() for _ in range(rng.randint(0, 3))]
    faults = [step for _ in range(rng.choice((0, 0, 1, 2))) for step in draw.faults()]
    return [*moves, *calls, *acts, *faults]


ERASING = 0.12
"""How often messages are erased in a run."""


def draw_erasures(seed: int, draw: Draw, erasing: float = ERASING) -> list[Step]:
    """Draw perhaps erasures, and what they have to stand; from a source of their own."""
    rng = random.Random(f"erasures/{seed}")
    if rng.random() >= erasing:
        return []
    draw.rng = rng
    erasures: list[Step] = [
        Erase(at_s=draw.when(), which=rng.random(), by=f"operator-{rng.getrandbits(32):08x}")
        for _ in range(rng.randint(1, 3))
    ]
    calls: list[Step] = [draw.call() for _ in range(rng.randint(0, 2))]
    kinds = (Draw.restore, Draw.crash, Draw.cut, Draw.kill, Draw.storm)
    faults = [step for _ in range(rng.choice((0, 1, 1, 2))) for step in rng.choice(kinds)(draw)]
    return [*erasures, *calls, *faults]


SCENES = 0.15
"""How often something that takes several faults in one order happens in a run."""


def draw_scene(seed: int, draw: Draw, staged: float = SCENES) -> list[Step]:
    """Draw perhaps a scenario: it too comes on top, from a source of its own."""
    rng = random.Random(f"scenarios/{seed}")
    if rng.random() >= staged:
        return []
    draw.rng = rng
    kinds, weights = zip(*SCENARIOS, strict=True)
    scene: list[Step] = rng.choices(kinds, weights)[0](draw)
    return scene


MIRRORED = 0.12
"""How often servers have mirrors, and one of them is lost."""


def draw_disaster(
    seed: int, draw: Draw, mirrored: float = MIRRORED
) -> tuple[list[Step], tuple[tuple[str, str], ...]]:
    """Draw perhaps mirrors, and a server that is lost and recovered; from a source of its own."""
    rng = random.Random(f"mirrors/{seed}")
    if rng.random() >= mirrored:
        return [], ()
    draw.rng = rng
    lost, mirror = draw.pair()
    others = [name for name in draw.names if name not in (lost, mirror)]
    mirrors = [(lost, mirror), *((lost, name) for name in others if rng.random() < 0.5)]
    if rng.random() < 0.4:
        mirrors.append((mirror, lost))
    lost_s = draw.when()
    then_s = round(lost_s + rng.uniform(1.0, 12.0), 3)
    number = draw.names.index(lost) + 1
    steps: list[Step] = [Lose(at_s=lost_s, server=lost)]
    for _ in range(rng.randint(1, 3)):
        before = draw.call(max(0.5, round(lost_s - rng.uniform(0.0, 8.0), 3)), draw.server())
        steps.append(replace(before, extension=f"{number}000"))
    sources = rng.choice(((), (mirror,), (mirror, *others)))
    steps.append(Recover(at_s=then_s, server=lost, sources=sources))
    for server, at_s in ((lost, then_s), (mirror, lost_s - 4.0), (mirror, then_s)):
        if rng.random() < 0.35:
            steps.append(
                Crash(
                    at_s=max(0.5, round(at_s + rng.uniform(0.0, 2.0), 3)),
                    server=server,
                    operations=rng.randint(1, 30),
                    is_after=rng.random() < 0.5,
                    down_s=rng.choice((0.2, 3.0)),
                )
            )
    if rng.random() < 0.3:
        at_s = round(then_s + rng.uniform(2.0, 10.0), 3)
        steps.append(Lose(at_s=at_s, server=rng.choice((lost, mirror))))
    return steps, tuple(mirrors)


def draw_schedule(seed: int, moving: float = MOVING) -> Schedule:
    """Draw what happens in the run of this seed; ``moving`` weighs the moves of mailboxes."""
    is_brief = random.Random(f"pace/{seed}").random() < BRIEFLY
    return (draw_brief if is_brief else draw_long)(seed, moving)


def draw_brief(seed: int, moving: float = MOVING) -> Schedule:
    """Draw one story, with hardly anything beside it."""
    draw = Draw(seed, BRIEF)
    rng = draw.rng
    steps: list[Step] = [draw.call() for _ in range(rng.randint(1, 2))]
    steps += [draw.act() for _ in range(rng.choice((0, 0, 1)))]
    steps += draw.faults() if rng.random() < 0.45 else []
    power_cuts = rng.choice((0.0, 0.5, 1.0))
    story = rng.choices(("fault", "scene", "disaster", "erasures"), (72, 14, 7, 7))[0]
    mirrors: tuple[tuple[str, str], ...] = ()
    if moves := draw_moves(seed, draw, moving):
        steps += moves
    elif story == "fault":
        steps += draw.faults()
    elif story == "scene":
        steps += draw_scene(seed, draw, staged=1.0)
    elif story == "erasures":
        steps += draw_erasures(seed, draw, erasing=1.0)
    else:
        disaster, mirrors = draw_disaster(seed, draw, mirrored=1.0)
        steps += disaster
    return _schedule(seed, draw, steps, power_cuts, mirrors)


def draw_long(seed: int, moving: float = MOVING) -> Schedule:
    """Draw several stories, which meet."""
    draw = Draw(seed, LONG)
    rng = draw.rng
    steps: list[Step] = [draw.call() for _ in range(rng.randint(1, 5))]
    steps += [draw.act() for _ in range(rng.choice((0, 0, 1, 2)))]
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))):
        steps += draw.faults()
    power_cuts = rng.choice((0.0, 0.5, 1.0))
    steps += draw_moves(seed, draw, moving)
    steps += draw_scene(seed, draw)
    disaster, mirrors = draw_disaster(seed, draw)
    steps += disaster
    steps += draw_erasures(seed, draw)
    return _schedule(seed, draw, steps, power_cuts, mirrors)


def _schedule(
    seed: int,
    draw: Draw,
    steps: list[Step],
    power_cuts: float,
    mirrors: tuple[tuple[str, str], ...],
) -> Schedule:
    return Schedule(
        seed,
        draw.count,
        tuple(steps),
        power_cuts=power_cuts,
        is_signed=seed % 20 == 0,
        mirrors=mirrors,
        is_witnessed=seed % 3 == 0,
    )
