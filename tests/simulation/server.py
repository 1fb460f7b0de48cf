"""A simulated machine, and the processes of the real program that run on it one after another.

A machine keeps its disk and its log over a restart. A process is one run of the program: when it
dies, none of its ports ever answers again, so nothing of it runs on; its objects are thrown away
and the next process is built over what the disk has.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.configuration import Configuration, Directory, Homes
from ledger.errors import PeerError, TransientError
from ledger.events import PeerLost, PeerReturned, PeerState, ReachabilityEvidence
from ledger.identity import Verifier
from ledger.ids import new_id_factory
from ledger.migration.cosigning import Cosigning
from ledger.migration.deliveries import Deliveries
from ledger.migration.home import Receiver
from ledger.migration.incarnations import Incarnations
from ledger.migration.known_homes import load_homes
from ledger.migration.link import Route
from ledger.migration.log_sharing import Acknowledged, LogSharing
from ledger.migration.mirroring import Mirroring
from ledger.migration.origin import OriginParts
from ledger.migration.reachability import Observers, Reachability
from ledger.migration.settlement import Settlement
from ledger.migration.wire import Busy
from ledger.migration.wire_bytes import encode_answer
from ledger.migration.witness import Witness
from ledger.pin import ScryptCost
from ledger.sealing import MasterKey
from ledger.server import ServerParts, VoicemailServer
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint, MemoryCosignedCheckpoints
from ledger.storage.group_commit import EventLog
from ledger.storage.mailbox_states import MailboxStates
from ledger.storage.memory import LogImage, MemoryLogRecorder
from ledger.storage.peer_cursors import PeerCursor
from ledger.storage.recorder import Plan
from ledger.storage.server_stream import ServerStream
from ledger.storage.vault import Vault
from tests.simulation.disk import Crashed, Disk
from tests.simulation.network import SimulatedLink

if TYPE_CHECKING:
    from tests.simulation.world import World

START = datetime(2026, 3, 1, tzinfo=UTC)
DATA = Path("/data")
SPOOL = DATA / "spool"
_BLOBS = DATA / "blobs"
_SET_ASIDE = SPOOL / "set-aside"
NAMES = ("alpha", "bravo", "charlie", "delta")


class Unanswered(Exception):  # noqa: N818  (what a switch sees: the server is gone)
    """The process died before it answered."""


@dataclass
class KeptLog:
    """A copy of another server's log, on a machine's disk."""

    image: LogImage
    disk: Disk
    checkpoints: MemoryCosignedCheckpoints = field(default_factory=MemoryCosignedCheckpoints)

    def on(self, disk: Disk) -> KeptLog:
        """Copy it to another disk."""
        twin = KeptLog(self.image.copy(), disk)
        twin.checkpoints.rows = dict(self.checkpoints.rows)
        return twin


@dataclass
class Machine:
    """What one server keeps over restarts."""

    id: str
    identity: Any
    verify: Verifier
    disk: Disk
    image: LogImage
    rng: random.Random
    cursors: dict[str, PeerCursor] = field(default_factory=dict)
    checkpoints: MemoryCosignedCheckpoints = field(default_factory=MemoryCosignedCheckpoints)
    skew_s: float = 0.0
    """How far its wall clock is off."""
    process: Process | None = None
    starts: int = 0
    checked_until: int = 0
    """How many events were looked at when the server gave its word last."""
    down_until_s: float = 0.0
    down_after_crash_s: float = 0.0
    """How long it stays down when the next crash strikes."""
    is_clone: bool = False
    is_lost: bool = False
    """Its disk is empty, and it is to be recovered before it starts."""
    named_missing: set[str] = field(default_factory=set)
    """Blobs of which its recovery said that nobody has them."""
    put_off: Counter[str] = field(default_factory=Counter)
    """How often its recovery was put off because of a source that could not give its copy."""
    burnt: LogImage | None = None
    """The log that was lost with the disk."""
    recovers_from: tuple[str, ...] | None = None
    """From whom an operator lets it be recovered; empty: from all others."""
    copies: dict[tuple[str, str], KeptLog] = field(default_factory=dict)
    """Of other servers' logs, by (server, name of the copy)."""
    acknowledged: dict[str, Acknowledged] = field(default_factory=dict)
    """What mirrors said last that they hold of its log."""

    def backup(self) -> Machine:
        """Copy what the disk has, as a backup does."""
        twin = Machine(
            self.id, self.identity, self.verify, self.disk.copy(), self.image.copy(), self.rng
        )
        twin.cursors = dict(self.cursors)
        twin.named_missing = set(self.named_missing)
        twin.checkpoints.rows = dict(self.checkpoints.rows)
        twin.copies = {name: kept.on(twin.disk) for name, kept in self.copies.items()}
        return twin

    @property
    def master(self) -> MasterKey:
        """Its master key, which survives its disk: an operator keeps a copy apart."""
        return _master_key(self.id)

    # --- what the checkers ask of any machine, simulated or real ------------------------------

    @property
    def reader(self) -> SimulatedRecorder:
        return SimulatedRecorder(self)

    @property
    def vault(self) -> Vault:
        """Its keys, for who only opens them."""
        return Vault(self.reader, self.master, random_bytes=bytes)

    def read_blob(self, digest: str) -> bytes:
        assert self.process is not None, "it was started"
        return self.process.blobs.get(digest, self.image.blob_locations.get(digest))

    def is_rotten(self, blob: str) -> bool:
        """Did a bit flip in the file that holds this blob?"""
        inode = self.disk.names.get(self.path_of(blob))
        return inode is not None and inode.is_rotten

    def recordings_in_spool(self) -> list[Path]:
        """Give the recordings that no message was made of yet; a rotten one may stay."""
        return [
            path
            for path, inode in self.disk.names.within(SPOOL)
            if path.suffix == ".zst" and not inode.is_rotten
        ]

    def recordings_set_aside(self) -> Iterator[bytes]:
        for _, inode in self.disk.names.within(_SET_ASIDE):
            yield bytes(inode.content)

    def loose_blobs(self) -> Iterator[tuple[str, bytes]]:
        """Give those that lie in no pack and did not rot, by their digests."""
        for path, inode in self.disk.names.items():
            folder = path.parent
            is_loose = len(folder.name) == 2 and folder.parent == _BLOBS
            if is_loose and not inode.is_rotten:
                yield folder.name + path.name, bytes(inode.content)

    def believed_homes(self) -> Homes | None:
        """Give the homes by which its process acts; None when it does not run."""
        is_running = self.process is not None and not self.process.is_dead
        return self.process.homes if is_running else None

    def path_of(self, blob: str) -> Path:
        location = self.image.blob_locations.get(blob)
        return _loose_path(blob) if location is None else _pack_path(location.pack)


@lru_cache(maxsize=4096)
def _loose_path(digest: str) -> Path:
    return _BLOBS / digest[:2] / digest[2:]


@lru_cache(maxsize=4096)
def _pack_path(name: str) -> Path:
    return _BLOBS / "packs" / f"{name}.pack"


@cache
def _master_key(server_id: str) -> MasterKey:
    return MasterKey(hashlib.sha256(b"master key of " + server_id.encode()).digest())


@cache
def _private_key(server_id: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(server_id.encode()).digest())


@dataclass(frozen=True)
class CheapIdentity:
    """Signs with a keyed hash: what a signature covers is checked, at a fiftieth of the cost."""

    server_id: str

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """What keys are sealed for: that is done as in the program."""
        return _private_key(self.server_id)

    @cached_property
    def public_key(self) -> bytes:
        return self.private_key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self.public_key).digest()


def verify_cheaply(public_key: bytes, signature: bytes, data: bytes, *, peer: str) -> None:
    if hashlib.blake2b(data, key=public_key).digest() != signature:
        raise PeerError("the signature is not by that key", peer=peer)


class SimulatedClock:
    """The loop's time, as this machine's clock shows it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def now(self) -> datetime:
        return START + timedelta(seconds=self._process.world.now_s + self._process.machine.skew_s)

    def monotonic_s(self) -> float:
        return self._process.world.now_s

    async def sleep(self, seconds: float) -> None:
        await self._process.port(asyncio.sleep(seconds))


class SimulatedOffload:
    """Runs blocking work after a moment of virtual time; the process may be dead by then."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def __call__(self, work: Callable[[], Any]) -> Any:
        process = self._process
        luck = process.rng.random()
        if process.is_dead or luck < 0.6:
            return await self._do(work)
        loop = process.world.loop
        future = loop.create_future()
        if luck < 0.85:
            loop.call_soon(self._run, work, future)
        else:
            loop.call_later((luck - 0.85) * 0.1, self._run, work, future)
        return await future

    async def _do(self, work: Callable[[], Any]) -> Any:
        process = self._process
        if not process.is_dead:
            try:
                return work()
            except Crashed:
                process.die()
        return await process.wait_for_ever()

    def _run(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        process = self._process
        if process.is_dead:
            process.unanswered.append(future)
            return
        try:
            result = work()
        except Crashed:
            process.unanswered.append(future)
            process.die()
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)


class SimulatedRecorder(MemoryLogRecorder):
    """The log in memory, on a disk that fills up and under a program that crashes."""

    def __init__(self, machine: Machine | KeptLog) -> None:
        super().__init__(image=machine.image)
        self._disk = machine.disk

    def _transact(self, appends: Any) -> Plan:
        crash = self._disk.step()
        plan = super()._transact(appends)
        if crash:
            raise Crashed
        return plan

    def start_incarnation(self, incarnation: Any) -> Any:
        crash = self._disk.step()
        head = super().start_incarnation(incarnation)
        if crash:
            raise Crashed
        return head


class SimulatedCursors:
    """The hints of a machine, on its disk."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def load(self, peer: str) -> PeerCursor | None:
        return self._machine.cursors.get(peer)

    def save(self, cursor: PeerCursor) -> None:
        crash = self._machine.disk.step()
        self._machine.cursors[cursor.peer] = cursor
        if crash:
            raise Crashed


class SimulatedCheckpoints:
    """The co-signed checkpoints of a machine, on its disk."""

    def __init__(self, machine: Machine | KeptLog) -> None:
        self._machine = machine
        self.newest = machine.checkpoints.newest
        self.all = machine.checkpoints.all

    def add(self, new: CosignedCheckpoint, after: int) -> bool:
        crash = self._machine.disk.step()
        is_kept = self._machine.checkpoints.add(new, after)
        if crash:
            raise Crashed
        return is_kept


class Process:
    """One run of the program."""

    def __init__(self, world: World, machine: Machine, config: Configuration) -> None:
        self.world = world
        self.machine = machine
        self.name = f"{machine.id}{'!' if machine.is_clone else ''}#{machine.starts}"
        self.config = config
        self.rng = random.Random(f"{world.seed}/{self.name}")
        self.is_dead = False
        self.is_listening = False
        self.unanswered: list[asyncio.Future[Any]] = []
        self.ended: asyncio.Future[None] = world.loop.create_future()
        self.sharing: LogSharing | None = None
        self.mirroring: Mirroring | None = None
        self._death: list[asyncio.Future[Any]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        machine.starts += 1

    def build(self) -> None:
        """Open the stores and join the parts; raises what the disk raises."""
        machine, config = self.machine, self.config
        clock, offload = SimulatedClock(self), SimulatedOffload(self)
        self.recorder = SimulatedRecorder(machine)
        log = EventLog(self.recorder, offload)
        self.log = log
        # Draws from its own source, so that a key changes nothing of the luck of a schedule.
        keys = random.Random(f"{self.world.seed}/keys/{self.name}")
        vault = self.vault = Vault(self.recorder, machine.master, keys.randbytes)
        blobs, spool = self.world.stores(self, clock)
        directory: Directory = config.directory
        self.homes = load_homes(self.recorder, directory)
        new_id = new_id_factory(clock.now, self.rng.randbytes)
        links = {p.id: SimulatedLink(self, p.id, self.world.network) for p in directory.peers}
        stream = ServerStream(config.server, log, clock)
        self._changes: asyncio.Queue[ReachabilityEvidence] = asyncio.Queue()
        self._stream = stream
        reachability = Reachability(
            links, config.replication, clock, on_change=self._changes.put_nowait
        )
        incarnations = Incarnations(config.server, log, clock, new_id)
        checkpoints = SimulatedCheckpoints(machine)
        self.cosigning = Cosigning(
            links,
            identity=machine.identity,
            directory=directory,
            log=log,
            store=checkpoints,
            incarnations=incarnations,
            clock=clock,
            offload=offload,
            verify=machine.verify,
        )
        self.deliveries = Deliveries(
            OriginParts(
                identity=machine.identity,
                homes=self.homes,
                log=log,
                blobs=blobs,
                vault=vault,
                clock=clock,
                offload=offload,
                rng=self.rng,
                settings=config.replication,
                incarnations=incarnations,
                settlement=Settlement(log, clock, self.homes),
                cursors=SimulatedCursors(machine),
                observer=Observers((reachability, self.cosigning)),
                verify=machine.verify,
            ),
            links,
        )
        if self.world.schedule.mirrors:
            from tests.simulation.mirrors import join_mirroring  # noqa: PLC0415  (it needs this)

            self.sharing, self.mirroring = join_mirroring(
                self, links, blobs, checkpoints, clock, offload
            )
        self.receiver = Receiver(
            identity=machine.identity,
            homes=self.homes,
            log=log,
            blobs=blobs,
            vault=vault,
            clock=clock,
            offload=offload,
            rng=self.rng,
            limits=config.limits,
            witness=Witness(
                identity=machine.identity,
                directory=directory,
                store=checkpoints,
                server_stream=stream,
                clock=clock,
                offload=offload,
                verify=machine.verify,
            ),
            on_inbound=self.deliveries.inbound,
            sharing=self.sharing,
        )
        self.server = VoicemailServer(
            ServerParts(
                config=config,
                homes=self.homes,
                log=log,
                mailboxes=MailboxStates(log),
                blobs=blobs,
                spool=spool,
                vault=vault,
                clock=clock,
                offload=offload,
                blob_offload=offload,
                new_id=new_id,
                random_bytes=self.rng.randbytes,
                pin_cost=ScryptCost(n=2, r=1),
                server_stream=stream,
                reachability=reachability,
                deliveries=self.deliveries,
            ),
            software_version="simulated",
        )
        self.blobs = blobs

    async def start(self) -> None:
        """Start as the program does: recover, ship, then listen."""
        await self.server.start()
        self.spawn(self._record_changes())
        if self.world.schedule.is_witnessed:
            await self.cosigning.start()
        await self.deliveries.start()
        if self.mirroring is not None:
            await self.mirroring.start()
        self.is_listening = True

    async def _record_changes(self) -> None:
        while True:
            evidence = await self._changes.get()
            kind = PeerLost if evidence.state is PeerState.DOWN else PeerReturned
            try:
                await self._stream.record(kind, evidence=evidence)
            except TransientError:
                continue

    async def handle(self, sender: str, route: Route, body: bytes) -> bytes:
        """Answer a peer, as the replication listener does."""
        try:
            async with self.receiver.admission.enter(sender, len(body)):
                return await self.receiver.handle(sender, route, body)
        except TransientError as error:
            return encode_answer(Busy(retry_after_s=error.retry_after_s))

    def die(self) -> None:
        """End here and now: nothing of this process runs on."""
        if self.is_dead:
            return
        self.is_dead = True
        self.is_listening = False
        self.ended.set_result(None)
        for future in self._death:
            if not future.done():
                future.set_exception(Unanswered())
        self.world.process_died(self)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something inside this process."""
        task = self.world.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def outcome(self, task: asyncio.Task[Any]) -> Any:
        """Wait from outside for what a task of this process gives.

        Raises TransientError when the process dies first: the connection breaks.
        """
        try:
            return await self._or_death(task)
        except Unanswered:
            raise TransientError("the connection broke") from None

    async def ask(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Ask this process as a switch does; Unanswered when it dies first."""
        return await self._or_death(self.spawn(work))

    async def _or_death(self, task: asyncio.Task[Any]) -> Any:
        future = self.world.loop.create_future()
        if self.is_dead:
            raise Unanswered

        def tell(done: asyncio.Task[Any]) -> None:
            if done.cancelled() or future.done():
                return
            error = done.exception()
            if isinstance(error, Crashed):
                return  # its death tells
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())

        task.add_done_callback(tell)
        self._death.append(future)
        try:
            return await future
        finally:
            self._death.remove(future)

    async def port(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something outside for this process; once it is dead there is no answer."""
        try:
            result = await work
        except Exception:
            if self.is_dead:
                await self.wait_for_ever()
            raise
        if self.is_dead:
            await self.wait_for_ever()
        return result

    async def wait_for_ever(self) -> None:
        """Wait for an answer that a dead process never gets."""
        future = self.world.loop.create_future()
        self.unanswered.append(future)
        await future


async def chunks_of(
    audio: bytes,
    count: int,
    pause_s: float,
    breaks_after: int | None = None,
    taken: Callable[[bytes], None] | None = None,
) -> AsyncIterator[bytes]:
    """Hand over a recording in pieces, as a switch does while the caller speaks.

    ``taken`` is told what the server has taken in so far.
    """
    size = max(1, -(-len(audio) // count))
    for number, start in enumerate(range(0, len(audio), size)):
        if number == breaks_after:
            raise ConnectionError("the switch is gone")
        if number:
            await asyncio.sleep(pause_s)
        yield audio[start : start + size]
        if taken is not None:
            taken(audio[: start + size])
