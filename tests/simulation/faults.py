"""What happens in a run: calls, what users do, and faults, drawn from a seed.

A schedule is a list of steps that stand for themselves: with any of them dropped it is still a
schedule, so that a failing one can be made shorter.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING
from uuid import UUID

from ledger.errors import LedgerError
from ledger.ids import uuid7
from ledger.message import Action
from tests.simulation import people
from tests.simulation.network import Weather
from tests.simulation.server import NAMES, START, Unanswered

if TYPE_CHECKING:
    from tests.simulation.world import World

SPAN_S = 30.0
"""Within this time everything begins."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that happens at a moment."""

    at_s: float
    lasts_s: float = 0.0

    async def strike(self, world: World) -> None:
        """Let it happen."""
        raise NotImplementedError

    def tell(self) -> str:
        """Say what happens, in one line."""
        shown = [f for f in fields(self) if f.repr and f.name not in ("at_s", "lasts_s")]
        values = ", ".join(f"{f.name} {getattr(self, f.name)}" for f in shown)
        return f"{type(self).__name__}: {values}"


@dataclass(frozen=True, kw_only=True)
class Call(Step):
    """A caller leaves a message."""

    server: str
    extension: str
    audio: bytes = field(repr=False)
    call_id: UUID = field(repr=False)
    chunks: int = 1
    pause_s: float = 0.0
    attempts: int = 1
    patience_s: float = 3.0
    breaks_after: int | None = None
    """The first upload breaks off after so many pieces."""

    async def strike(self, world: World) -> None:
        await people.place_call(world, self)


@dataclass(frozen=True, kw_only=True)
class Act(Step):
    """A user does something to one of the messages so far, wherever it is."""

    which: float
    action: Action
    by: str

    async def strike(self, world: World) -> None:
        await people.act(world, self.which, self.action, self.by)


@dataclass(frozen=True, kw_only=True)
class Crash(Step):
    """A server crashes right before or after one of its next writes."""

    server: str
    operations: int
    is_after: bool
    down_s: float

    async def strike(self, world: World) -> None:
        machine = world.machines[self.server]
        machine.down_after_crash_s = self.down_s
        machine.disk.strikes.crash_in = self.operations
        machine.disk.strikes.crash_is_after = self.is_after


@dataclass(frozen=True, kw_only=True)
class Kill(Step):
    """A server is killed, or loses its power, and comes back later."""

    server: str
    down_s: float

    async def strike(self, world: World) -> None:
        world.kill(world.machines[self.server], self.down_s)


@dataclass(frozen=True, kw_only=True)
class Cut(Step):
    """Nothing gets from one server to another; perhaps not the other way either."""

    origin: str
    home: str
    is_one_way: bool

    async def strike(self, world: World) -> None:
        ways = [(self.origin, self.home)]
        if not self.is_one_way:
            ways.append((self.home, self.origin))
        world.network.cuts.update(ways)
        await asyncio.sleep(self.lasts_s)
        world.network.cuts.subtract({way: min(1, world.network.cuts[way]) for way in ways})


@dataclass(frozen=True, kw_only=True)
class Storm(Step):
    """The network loses, repeats, delays and damages for a while."""

    weather: Weather

    async def strike(self, world: World) -> None:
        world.network.weather = self.weather
        await asyncio.sleep(self.lasts_s)
        world.network.weather = Weather()


@dataclass(frozen=True, kw_only=True)
class Slow(Step):
    """A server answers late or too late."""

    server: str

    async def strike(self, world: World) -> None:
        world.network.slow[self.server] += 1
        await asyncio.sleep(self.lasts_s)
        world.network.slow[self.server] = max(0, world.network.slow[self.server] - 1)


@dataclass(frozen=True, kw_only=True)
class Full(Step):
    """A server's disk is full for a while."""

    server: str

    async def strike(self, world: World) -> None:
        disk = world.machines[self.server].disk
        disk.strikes.is_full = True
        await asyncio.sleep(self.lasts_s)
        disk.strikes.is_full = False


@dataclass(frozen=True, kw_only=True)
class FailSync(Step):
    """One of the next syncs of a server's disk fails."""

    server: str
    syncs: int

    async def strike(self, world: World) -> None:
        world.machines[self.server].disk.strikes.fail_sync_in = self.syncs


@dataclass(frozen=True, kw_only=True)
class Rot(Step):
    """A bit of a file at rest flips."""

    server: str

    async def strike(self, world: World) -> None:
        world.rot(world.machines[self.server])


@dataclass(frozen=True, kw_only=True)
class ClockJump(Step):
    """A server's wall clock jumps."""

    server: str
    by_s: float

    async def strike(self, world: World) -> None:
        world.machines[self.server].skew_s += self.by_s


@dataclass(frozen=True, kw_only=True)
class Backup(Step):
    """A server's disk is copied."""

    server: str

    async def strike(self, world: World) -> None:
        world.backups.setdefault(self.server, []).append(world.machines[self.server].backup())


@dataclass(frozen=True, kw_only=True)
class Restore(Step):
    """A server's disk is replaced by its last backup: its log goes back in time."""

    server: str

    async def strike(self, world: World) -> None:
        if backups := world.backups.get(self.server):
            world.restore(world.machines[self.server], backups[-1].backup())


@dataclass(frozen=True, kw_only=True)
class Clone(Step):
    """A copy of a server, made of its last backup, runs beside it for a while."""

    server: str

    async def strike(self, world: World) -> None:
        if not (backups := world.backups.get(self.server)):
            return
        clone = backups[-1].backup()
        world.start_clone(clone)
        await asyncio.sleep(self.lasts_s)
        if clone in world.clones:
            world.retire(clone)


@dataclass(frozen=True, kw_only=True)
class Rehome(Step):
    """A mailbox gets another home: the servers start with the new file, one after the other."""

    extension: str
    home: str
    pause_s: float

    async def strike(self, world: World) -> None:
        await world.reconfigure(world.layout.move(self.extension, self.home), self.pause_s)


@dataclass(frozen=True, kw_only=True)
class Join(Step):
    """A new server joins: the others start with the new file, one after the other."""

    pause_s: float

    async def strike(self, world: World) -> None:
        await world.add_server(self.pause_s)


@dataclass(frozen=True, kw_only=True)
class Poison(Step):
    """A server holds a message that no home can take: its recording is not what its event says."""

    server: str
    extension: str
    call_id: UUID = field(repr=False)
    message_id: UUID = field(repr=False)

    async def strike(self, world: World) -> None:
        try:
            await people.poison(world, self)
        except (LedgerError, Unanswered):
            return


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

    @property
    def names(self) -> tuple[str, ...]:
        """The servers, each the home of the extensions that begin with its number."""
        return NAMES[: self.servers]

    def without(self, step: Step) -> Schedule:
        """Give the schedule in which one step does not happen."""
        rest = tuple(s for s in self.steps if s is not step)
        return Schedule(self.seed, self.servers, rest, self.power_cuts, self.is_signed)


_SOUND = bytes(0x20 + code % 0x5F for code in range(256))
"""Makes of any bytes some that cannot be taken for the beginning of a file of sound."""


class _Draw:
    """Draws the steps of one schedule."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"schedule/{seed}")
        self.count = self.rng.choices((2, 3, 4), (70, 25, 5))[0]
        self.names = NAMES[: self.count]

    def when(self) -> float:
        return round(self.rng.uniform(1.0, SPAN_S), 3)

    def span(self) -> float:
        return round(self.rng.choice((2.0, 10.0, 20.0)) * self.rng.uniform(0.3, 1.0), 3)

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

    def call(self) -> Call:
        rng = self.rng
        at_s, server = self.when(), self.server()
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
        kinds, weights = zip(*_FAULTS, strict=True)
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
        return [Backup(at_s=first, server=server), later]

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
    (_Draw.crash, 30),
    (_Draw.kill, 14),
    (_Draw.cut, 12),
    (_Draw.storm, 14),
    (_Draw.slow, 4),
    (_Draw.full, 8),
    (_Draw.fail_sync, 4),
    (_Draw.rot, 5),
    (_Draw.clock_jump, 4),
    (_Draw.restore, 7),
    (_Draw.restore_both, 4),
    (_Draw.clone, 3),
    (_Draw.rehome, 5),
    (_Draw.join, 2),
    (_Draw.poison, 3),
)


def draw_schedule(seed: int) -> Schedule:
    """Draw what happens in the run of this seed."""
    draw = _Draw(seed)
    rng = draw.rng
    steps: list[Step] = [draw.call() for _ in range(rng.randint(1, 5))]
    steps += [draw.act() for _ in range(rng.choice((0, 0, 1, 2)))]
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))):
        steps += draw.faults()
    return Schedule(
        seed,
        draw.count,
        tuple(steps),
        power_cuts=rng.choice((0.0, 0.5, 1.0)),
        is_signed=seed % 20 == 0,
    )
