"""Whole replicating servers in memory, on virtual time, with links that can be cut and spoiled."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.caller import SeenCaller, seal_caller
from ledger.configuration import Directory, Limits, Replication, ServerEntry, parse_claim
from ledger.errors import TransientError
from ledger.events import (
    AudioFacts,
    Caller,
    CallReceived,
    CallStatus,
    DecisionReason,
    DomainEvent,
    MessageDelivered,
    MessageStored,
    OpaqueEvent,
    TransferDecided,
    decode,
)
from ledger.identity import ServerIdentity
from ledger.ids import MailboxAddress, uuid7
from ledger.migration.cosigning import Cosigning
from ledger.migration.deliveries import Deliveries
from ledger.migration.home import Receiver
from ledger.migration.incarnations import Incarnations
from ledger.migration.known_homes import load_homes
from ledger.migration.link import Route
from ledger.migration.origin import OriginParts
from ledger.migration.reachability import Observers, Reachability
from ledger.migration.settlement import Settlement
from ledger.migration.witness import Witness
from ledger.sealing import MasterKey
from ledger.storage import stored_form
from ledger.storage.callers import Callers
from ledger.storage.cosigned_checkpoints import MemoryCosignedCheckpoints
from ledger.storage.event_log import Append
from ledger.storage.group_commit import EventLog
from ledger.storage.mapper import to_stored_event
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.memory_blobs import MemoryBlobStore
from ledger.storage.peer_cursors import MemoryCursorStore
from ledger.storage.sealed_form import seal
from ledger.storage.sealed_recording import open_recording
from ledger.storage.server_stream import ServerStream
from ledger.storage.vault import Vault
from tests.simulation.loop import VirtualLoop

START = datetime(2026, 3, 1, tzinfo=UTC)
SETTINGS = Replication(
    probe_interval_s=5.0, backoff_min_s=1.0, backoff_max_s=60.0, batch_max_messages=4
)


_RUNNING: list[Site] = []


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a test on virtual time, and stop the sites that it started."""

    async def whole() -> Any:
        try:
            return await main
        finally:
            while _RUNNING:
                await _RUNNING.pop().stop()

    return VirtualLoop().run(whole())


CALLER = Caller(number="100")


class VirtualClock:
    """The time of the running loop."""

    def now(self) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time())

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class InPlace:
    """An `Offload` that runs work in place."""

    async def __call__(self, work: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return work()


class MemoryLink:
    """A link to a receiver in the same process. ``fault`` may spoil each exchange."""

    def __init__(self, sender: str, home: Site, delay_s: float = 0.001) -> None:
        self.peer = home.id
        self._sender = sender
        self._home = home
        self._delay_s = delay_s
        self.is_cut = False
        self.seen: list[Route] = []
        self.before: Callable[[Route, bytes], Awaitable[bytes]] | None = None
        """Gets the request; gives what arrives, or raises."""
        self.after: Callable[[Route, bytes], Awaitable[bytes]] | None = None
        """Gets the answer; gives what arrives, or raises."""

    async def exchange(self, route: Route, body: bytes) -> bytes:
        await asyncio.sleep(self._delay_s)
        self._expect_way()
        self.seen.append(route)
        if self.before is not None:
            body = await self.before(route, body)
        async with self._home.receiver.admission.enter(self._sender, len(body)):
            answer = await self._home.receiver.handle(self._sender, route, body)
        await asyncio.sleep(self._delay_s)
        self._expect_way()
        return await self.after(route, answer) if self.after is not None else answer

    async def probe(self) -> None:
        await asyncio.sleep(self._delay_s)
        self._expect_way()

    async def close(self) -> None:
        pass

    def _expect_way(self) -> None:
        if self.is_cut or not self._home.is_up:
            raise TransientError(f"no way to {self.peer}")


@dataclass
class Disk:
    """What survives a restart of a site."""

    recorder: Any
    blobs: Any = field(default_factory=MemoryBlobStore)
    cursors: Any = field(default_factory=MemoryCursorStore)
    checkpoints: Any = field(default_factory=MemoryCosignedCheckpoints)

    def copy(self) -> Disk:
        """Make a backup."""
        twin = Disk(MemoryLogRecorder(image=self.recorder.image.copy()))
        twin.blobs.loose = dict(self.blobs.loose)
        twin.blobs.packs = dict(self.blobs.packs)
        twin.cursors.cursors = dict(self.cursors.cursors)
        twin.checkpoints.rows = dict(self.checkpoints.rows)
        return twin


class Site:
    """One server: its log, its receiver and its shipping."""

    def __init__(
        self, server: str, directory: Directory, key: Ed25519PrivateKey, seed: int
    ) -> None:
        self.id = server
        self.directory = directory
        self.identity = ServerIdentity(server, key)
        self.rng = random.Random(seed)
        self.disk = Disk(MemoryLogRecorder(UUID(int=seed + 1)))
        self.is_up = False
        self.is_witnessed = False
        """Are the others asked to sign where its log is?"""
        self.links: dict[str, MemoryLink] = {}
        self.settings = SETTINGS
        self.clock: Any = VirtualClock()
        self.offload: Any = InPlace()

    def new_id(self) -> UUID:
        return uuid7(int(self.clock.now().timestamp() * 1000), self.rng.randbytes(10))

    def make_vault(self) -> Vault:
        """Open its keys, by a master key that outlives its disk."""
        master = MasterKey(hashlib.sha256(self.id.encode()).digest())
        return Vault(self.disk.recorder, master, random.Random(self.id).randbytes)

    async def start(self) -> None:
        clock, offload = self.clock, self.offload
        self.log = EventLog(self.disk.recorder, offload)
        self.vault = self.make_vault()
        self.homes = load_homes(self.disk.recorder, self.directory)
        self.reachability = Reachability(self.links, self.settings, clock)
        incarnations = Incarnations(self.id, self.log, clock, self.new_id)
        self.cosigning = Cosigning(
            self.links,
            identity=self.identity,
            directory=self.directory,
            log=self.log,
            store=self.disk.checkpoints,
            incarnations=incarnations,
            clock=clock,
            offload=offload,
        )
        parts = OriginParts(
            identity=self.identity,
            homes=self.homes,
            log=self.log,
            blobs=self.disk.blobs,
            vault=self.vault,
            clock=clock,
            offload=offload,
            rng=self.rng,
            settings=self.settings,
            incarnations=incarnations,
            settlement=Settlement(self.log, clock, self.homes),
            cursors=self.disk.cursors,
            observer=Observers((self.reachability, self.cosigning)),
        )
        self.deliveries = Deliveries(parts, self.links)
        self.receiver = Receiver(
            identity=self.identity,
            homes=self.homes,
            log=self.log,
            blobs=self.disk.blobs,
            vault=self.vault,
            clock=clock,
            offload=offload,
            rng=self.rng,
            limits=Limits(),
            witness=Witness(
                identity=self.identity,
                directory=self.directory,
                store=self.disk.checkpoints,
                server_stream=ServerStream(self.id, self.log, clock),
                clock=clock,
                offload=offload,
            ),
            on_inbound=self.deliveries.inbound,
        )
        self.is_up = True
        _RUNNING.append(self)
        if self.is_witnessed:
            await self.cosigning.start()
        await self.deliveries.start()

    async def stop(self) -> None:
        self.is_up = False
        await self.deliveries.stop()
        await self.cosigning.stop()

    async def restart(self, disk: Disk | None = None) -> None:
        await self.stop()
        image = (disk or self.disk).recorder.image
        survived = disk or self.disk
        self.disk = Disk(
            MemoryLogRecorder(image=image),
            survived.blobs,
            survived.cursors,
            survived.checkpoints,
        )
        await self.start()

    async def take_call(
        self, extension: str, audio: bytes = b"hello", *, home: str | None = None
    ) -> MessageStored:
        """Store a message as a server does: audio first, then its events."""
        call_id, now = self.new_id(), self.clock.now()
        mailbox = f"{extension}@default"
        key, wrapped = self.vault.new_key(call_id)
        metadata = stored_form.RecordingMetadata(call_id=call_id, server=self.id, started_at=now)
        stored = seal(stored_form.encode(audio, metadata), key, self.vault.random_bytes)
        blob = hashlib.sha256(stored).hexdigest()
        self.disk.blobs.put(blob, stored)
        common: dict[str, Any] = {
            "originator_id": call_id,
            "recorded_at": now,
            "recorded_by": self.id,
        }
        target = home or self.home_of(extension)
        message = MessageStored(
            **common,
            originator_version=3,
            message_id=self.new_id(),
            mailbox=mailbox,
            home=target,
            blob=blob,
            blob_size_bytes=len(stored),
            audio=AudioFacts(
                digest=key.keyed_digest(hashlib.sha256(audio).hexdigest()),
                size_bytes=len(audio),
                container="raw",
                codec="pcmu",
                sample_rate_hz=8000,
                channels=1,
                duration_ms=1,
            ),
            is_sealed=True,
        )
        events = [
            CallReceived(
                **common,
                originator_version=1,
                called_extension=extension,
                context="default",
                status=CallStatus.BUSY,
                personal=seal_caller(CALLER, key, self.vault.random_bytes),
            ),
            TransferDecided(
                **common,
                originator_version=2,
                to_voicemail=True,
                reason=DecisionReason.CALLED_PARTY_BUSY,
                mailbox=mailbox,
                home=target,
                is_remote=True,
                is_reachable=True,
            ),
            message,
        ]
        await self.log.append(Append([to_stored_event(e) for e in events], keys=[wrapped]))
        return message

    def caller_of(self, call_id: UUID) -> SeenCaller:
        """Say who called, as this server shows it."""
        received = decode(self.disk.recorder.read_streams([call_id])[call_id][0].plain)
        assert isinstance(received, CallReceived)
        return Callers(self.vault).see_one(call_id, received.personal)

    def home_of(self, extension: str) -> str:
        entry = self.directory.home_of(MailboxAddress(extension))
        assert entry is not None
        return entry.id

    def events(self) -> list[DomainEvent | OpaqueEvent]:
        return [decode(entry.plain) for entry in self.disk.recorder.read(1, 100_000)]

    def of_kind(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events() if isinstance(event, kind)]

    def delivered(self) -> list[UUID]:
        return [event.message_id for event in self.of_kind(MessageDelivered)]

    def audio_of(self, message: MessageStored) -> bytes:
        location = self.disk.recorder.locate_blobs([message.blob]).get(message.blob)
        return open_recording(self.disk.blobs.get(message.blob, location), self.vault.key)


EXTENSIONS = {"alpha": "1*", "bravo": "2*", "charlie": "3*"}


def make_sites(ids: Iterable[str] = ("alpha", "bravo"), **extensions: str) -> dict[str, Site]:
    """Make servers that know each other. ``extensions`` says otherwise than EXTENSIONS."""
    ids = list(ids)
    keys = {
        server: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(server.encode()).digest())
        for server in ids
    }
    claims = EXTENSIONS | extensions
    entries = [
        ServerEntry(
            id=server,
            url=f"https://{server}:1",
            public_key=keys[server].public_key().public_bytes_raw(),
            claims=(parse_claim(claims[server]),),
        )
        for server in ids
    ]
    sites = {
        server: Site(server, Directory(server, entries), keys[server], seed)
        for seed, server in enumerate(ids)
    }
    for one in sites.values():
        one.links = {o.id: MemoryLink(one.id, o) for o in sites.values() if o is not one}
    return sites


async def eventually(claim: Callable[[], bool], within_s: float = 300.0) -> None:
    """Let virtual time pass until the claim is true; fail when it is not in time."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + within_s
    while not claim():
        assert loop.time() < end_s, "it did not come true"
        await asyncio.sleep(0.05)


async def quiet(for_s: float = 30.0) -> None:
    """Let virtual time pass, so that what must not happen could."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(for_s)
