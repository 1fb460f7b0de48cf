"""What can happen in a run: calls, what users do, and faults; each step stands for itself."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.errors import LedgerError
from ledger.message import Action
from tests.simulation import people
from tests.simulation.network import Weather
from tests.simulation.server import Unanswered

if TYPE_CHECKING:
    from tests.simulation.world import World


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
class Erase(Step):
    """An operator erases one of the messages so far, wherever it is."""

    which: float
    by: str

    async def strike(self, world: World) -> None:
        await people.erase(world, self.which, self.by)


@dataclass(frozen=True, kw_only=True)
class Crash(Step):
    """A server crashes right before or after one of its next writes."""

    server: str
    operations: int
    is_after: bool
    down_s: float

    async def strike(self, world: World) -> None:
        machine = world.all_machines[self.server]
        machine.down_after_crash_s = self.down_s
        machine.disk.strikes.crash_in = self.operations
        machine.disk.strikes.crash_is_after = self.is_after


@dataclass(frozen=True, kw_only=True)
class Kill(Step):
    """A server is killed, or loses its power, and comes back later."""

    server: str
    down_s: float

    async def strike(self, world: World) -> None:
        world.kill(world.all_machines[self.server], self.down_s)


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
        disk = world.all_machines[self.server].disk
        disk.strikes.is_full = True
        await asyncio.sleep(self.lasts_s)
        disk.strikes.is_full = False


@dataclass(frozen=True, kw_only=True)
class FailSync(Step):
    """One of the next syncs of a server's disk fails."""

    server: str
    syncs: int

    async def strike(self, world: World) -> None:
        world.all_machines[self.server].disk.strikes.fail_sync_in = self.syncs


@dataclass(frozen=True, kw_only=True)
class Rot(Step):
    """A bit of a file at rest flips."""

    server: str

    async def strike(self, world: World) -> None:
        if self.server in world.machines:
            world.rot(world.machines[self.server])


@dataclass(frozen=True, kw_only=True)
class ClockJump(Step):
    """A server's wall clock jumps."""

    server: str
    by_s: float

    async def strike(self, world: World) -> None:
        world.all_machines[self.server].skew_s += self.by_s


@dataclass(frozen=True, kw_only=True)
class Backup(Step):
    """A server's disk is copied; perhaps the server is told that the copy is verified."""

    server: str
    is_verified: bool = False

    async def strike(self, world: World) -> None:
        machine = world.machines.get(self.server)
        if machine is None or machine.is_lost:
            return
        copy = machine.backup()
        world.backups.setdefault(self.server, []).append(copy)
        process = world.listener(self.server)
        if self.is_verified and process is not None:
            position = len(copy.image.entries)
            with contextlib.suppress(LedgerError, Unanswered):
                await process.ask(process.server.record_verified_backup(position, "elsewhere"))


@dataclass(frozen=True, kw_only=True)
class Collect(Step):
    """A server drops the recordings that nothing needs any more, as ``vmledger blobs gc`` does."""

    server: str
    keep_days: int = 90
    """Those of messages that went on are kept for so long."""

    async def strike(self, world: World) -> None:
        process = world.listener(self.server)
        if process is not None:
            with contextlib.suppress(LedgerError, Unanswered):
                await people.collect(process, timedelta(days=self.keep_days))


@dataclass(frozen=True, kw_only=True)
class Restore(Step):
    """A server's disk is replaced by its last backup: its log goes back in time."""

    server: str

    async def strike(self, world: World) -> None:
        backups = world.backups.get(self.server)
        if backups and self.server in world.machines:
            world.restore(world.machines[self.server], backups[-1].backup())


@dataclass(frozen=True, kw_only=True)
class Lose(Step):
    """A server's disk burns, with everything on it."""

    server: str

    async def strike(self, world: World) -> None:
        if self.server in world.machines:
            world.lose(world.machines[self.server])


@dataclass(frozen=True, kw_only=True)
class Recover(Step):
    """A server that was lost is recovered on an empty disk, and starts."""

    server: str
    sources: tuple[str, ...] = ()
    """Whom to ask; none: all others."""

    async def strike(self, world: World) -> None:
        world.recover(self.server, self.sources)


@dataclass(frozen=True, kw_only=True)
class Clone(Step):
    """A copy of a server, made of its last backup, runs beside it for a while."""

    server: str

    async def strike(self, world: World) -> None:
        backups = world.backups.get(self.server)
        if not backups or self.server not in world.machines:
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
        if self.home in world.machines:
            await world.reconfigure(world.layout.move(self.extension, self.home), self.pause_s)


@dataclass(frozen=True, kw_only=True)
class Move(Step):
    """An operator moves a mailbox by command: at its home, or by force at the one that takes it."""

    extension: str
    to: str
    is_forced: bool

    async def strike(self, world: World) -> None:
        with contextlib.suppress(LedgerError, IntegrityError, Unanswered):
            await people.move(world, self)


@dataclass(frozen=True, kw_only=True)
class Join(Step):
    """A new server joins: the others start with the new file, one after the other."""

    pause_s: float

    async def strike(self, world: World) -> None:
        await world.add_server(self.pause_s)


@dataclass(frozen=True, kw_only=True)
class Leave(Step):
    """A server is taken out of the configuration once it is empty; another gets its extensions."""

    server: str
    heir: str

    async def strike(self, world: World) -> None:
        await world.remove_server(self.server, self.heir, self.lasts_s)


@dataclass(frozen=True, kw_only=True)
class Echo(Step):
    """Batches that were sent long ago arrive once more."""

    origin: str
    home: str
    which: float
    """Which of those so far is the first (0 to 1)."""
    count: int

    async def strike(self, world: World) -> None:
        await world.network.echo(self.origin, self.home, self.which, self.count)


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


@dataclass(frozen=True, kw_only=True)
class Greet(Step):
    """The user of a mailbox records a greeting at its home; every server is to get it."""

    server: str
    extension: str

    async def strike(self, world: World) -> None:
        with contextlib.suppress(LedgerError, IntegrityError, Unanswered):
            await people.greet(world, self)


@dataclass(frozen=True, kw_only=True)
class ChangePin(Step):
    """The user of a mailbox chooses a PIN at its home; every server is to check it."""

    server: str
    extension: str
    pin: str

    async def strike(self, world: World) -> None:
        with contextlib.suppress(LedgerError, IntegrityError, Unanswered):
            await people.change_pin(world, self)
