"""Two whole servers on virtual time, each with the real stores, that can be killed and started.

alpha takes calls and is home to 1…, bravo is home to 2…. Their files lie on simulated disks that
forget what was not synced; their logs in real databases.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.configuration import (
    Configuration,
    Directory,
    IdentityFiles,
    ServerEntry,
    Stores,
    parse_claim,
)
from ledger.configuration import Replication as ReplicationSettings
from ledger.errors import TransientError
from ledger.events import DomainEvent, OpaqueEvent, decode
from ledger.identity import ServerIdentity
from ledger.ids import MailboxAddress, uuid7
from ledger.migration.known_homes import load_homes
from ledger.migration.link import Route
from ledger.pin import ScryptCost
from ledger.sealing import KEY_BYTES, MasterKey
from ledger.server import ServerParts, VoicemailServer
from ledger.storage.cosigned_checkpoints import MemoryCosignedCheckpoints
from ledger.storage.event_log import LogEntry, LogRecorder
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.group_commit import EventLog
from ledger.storage.mailbox_states import MailboxStates
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.peer_cursors import MemoryCursorStore
from ledger.storage.server_stream import ServerStream
from ledger.storage.spool import Spool
from ledger.storage.vault import Vault
from tests.integration.crash_table.steps import (
    BLOBS,
    DATA,
    SPOOL,
    CountedCheckpoints,
    CountedCursors,
    CountedFiles,
    Crash,
    Steps,
    count_commits,
)
from tests.simulation.disk import Crashed, Disk, VirtualFiles
from tests.simulation.loop import VirtualLoop
from tests.support.recordings import speech_codes
from vmledger.replication import Replication

START = datetime(2026, 3, 1, tzinfo=UTC)
CLAIMS = {"alpha": "1*", "bravo": "2*"}
OWN_MAILBOX = MailboxAddress("100")
"""Lives at alpha."""
PIN = "2580"
AUDIO = speech_codes()
MEDIA_TYPE = "audio/basic"
SETTINGS = ReplicationSettings(probe_interval_s=5.0, backoff_max_s=8.0)
PATIENCE_S = 120.0

OpenLog = Callable[[], LogRecorder]
"""Opens a log, each time anew, as a new process does."""
MakeLog = Callable[[], OpenLog]
"""Makes an empty log."""


def make_memory_log() -> OpenLog:
    image = MemoryLogRecorder(UUID(int=1)).image
    return partial(MemoryLogRecorder, image=image)


_RUNS_IN: contextvars.ContextVar[Site | None] = contextvars.ContextVar("site", default=None)
"""The server that a task belongs to."""


class World:
    """Both servers, and the tasks that run in them."""

    def __init__(self, crashing: str, crash: Crash | None, make_log: MakeLog) -> None:
        """``make_log`` makes the log of the one that dies; the other's is in memory."""
        self.tasks: dict[asyncio.Task[Any], Site | None] = {}
        keys = {
            name: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
            for name in CLAIMS
        }
        entries = [
            ServerEntry(
                id=name,
                url=f"https://{name}:1",
                public_key=keys[name].public_key().public_bytes_raw(),
                claims=(parse_claim(claim),),
            )
            for name, claim in CLAIMS.items()
        ]
        self.is_cut = False
        """No way between the two."""
        self.is_power_cut = True
        """When a server dies its machine loses its power too; else only the process is killed."""
        self.audio = AUDIO
        """What the caller speaks."""
        self.sites = {
            name: Site(
                self,
                _configuration(name, entries),
                ServerIdentity(name, keys[name]),
                make_log() if name == crashing else make_memory_log(),
            )
            for name in CLAIMS
        }
        self.crashing = self.sites[crashing]
        self.crashing.crash = crash

    @property
    def alpha(self) -> Site:
        return self.sites["alpha"]

    @property
    def bravo(self) -> Site:
        return self.sites["bravo"]

    def make_task(self, loop: Any, work: Any, **how: Any) -> asyncio.Task[Any]:
        """Make a task and note whose it is: what the loop calls for every new task."""
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **how)
        self.tasks[task] = _RUNS_IN.get()
        task.add_done_callback(lambda done: self.tasks.pop(done, None))
        return task

    async def end(self, site: Site | None = None) -> None:
        """End all tasks of a server (None: of all); none of them gets anything done."""
        doomed = [
            t for t, whose in self.tasks.items() if whose is not None and site in (None, whose)
        ]
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)


def _configuration(name: str, entries: list[ServerEntry]) -> Configuration:
    return Configuration(
        server=name,
        file=DATA / "vmledger.toml",
        data=DATA,
        directory=Directory(name, entries),
        stores=Stores(events="sqlite:///e", projections="sqlite:///p", blobs="file:///data/blobs"),
        identity=IdentityFiles(
            signing_key=DATA, tls_key=DATA, tls_certificate=DATA, master_key=DATA
        ),
        replication=SETTINGS,
    )


class Site:
    """One server: what it keeps over a restart, and the process that runs now."""

    def __init__(
        self, world: World, config: Configuration, identity: ServerIdentity, open_log: OpenLog
    ) -> None:
        self.id = config.server
        self.config = config
        self.identity = identity
        self.disk = Disk(random.Random(self.id))
        self.crash: Crash | None = None
        """Where the next process dies, once its steps are counted."""
        self._world = world
        self._open_log = open_log
        self._recorder: LogRecorder | None = None
        self._cursors = MemoryCursorStore()
        self._checkpoints = MemoryCosignedCheckpoints()
        self._rng = random.Random(f"ids/{self.id}")
        self._keys = random.Random(f"keys/{self.id}")
        self._master = MasterKey(self._keys.randbytes(KEY_BYTES))
        self.died = asyncio.Event()
        self.steps = Steps(self.died.set)
        self.is_listening = False

    @property
    def recorder(self) -> LogRecorder:
        """The log, also of a process that died: until the next one opens it."""
        assert self._recorder is not None, "the server was never started"
        return self._recorder

    @property
    def vault(self) -> Vault:
        """Its keys."""
        return Vault(self.recorder, self._master, self._keys.randbytes)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let what is started in here belong to this server."""
        token = _RUNS_IN.set(self)
        try:
            yield
        finally:
            _RUNS_IN.reset(token)

    async def boot(self, *, is_counted: bool = False) -> None:
        """Start a process over what the disk and the database have; Crashed when it dies in it."""
        self.died = asyncio.Event()
        self.steps = Steps(self.died.set)
        if is_counted:
            self.count()
        if self._recorder is not None:
            self._recorder.close()
        self._recorder = self._open_log()
        count_commits(self.recorder, self.steps)
        await self.ask(self._start())

    def count(self) -> None:
        """Count steps from here on, and die at the chosen one."""
        self.steps.crash = self.crash
        self.steps.is_counting = True

    async def _start(self) -> None:
        clock, offload = VirtualClock(), InPlace()
        files = CountedFiles(self.files, self.steps)
        log = EventLog(self.recorder, offload)
        blobs = FilesystemBlobStore(
            BLOBS,
            files=files,
            now_s=clock.monotonic_s,
            new_name=lambda: f"{self._rng.getrandbits(64):016x}",
        )
        vault = self.vault
        self.homes = load_homes(self.recorder, self.config.directory)
        stream = ServerStream(self.id, log, clock)
        peer = next(site for site in self._world.sites.values() if site is not self)
        self.replication = Replication(
            self.config,
            self.homes,
            identity=self.identity,
            links={peer.id: Link(self._world, self, peer)},
            log=log,
            blobs=blobs,
            vault=vault,
            cursors=CountedCursors(self._cursors, self.steps),
            checkpoints=CountedCheckpoints(self._checkpoints, self.steps),
            server_stream=stream,
            clock=clock,
            offload=offload,
            new_id=self.new_id,
            rng=self._rng,
        )
        self.server = VoicemailServer(
            ServerParts(
                config=self.config,
                homes=self.homes,
                log=log,
                mailboxes=MailboxStates(log),
                blobs=blobs,
                spool=Spool(
                    SPOOL,
                    files=files,
                    monotonic_s=clock.monotonic_s,
                    now_s=clock.monotonic_s,
                    random_bytes=self._keys.randbytes,
                    find_key=vault.key,
                ),
                vault=vault,
                clock=clock,
                offload=offload,
                blob_offload=offload,
                new_id=self.new_id,
                random_bytes=self._rng.randbytes,
                pin_cost=ScryptCost(n=2, r=1),
                server_stream=stream,
                reachability=self.replication.reachability,
                deliveries=self.replication.deliveries,
            ),
            software_version="1",
        )
        await self.server.start()
        await self.replication.start()
        self.is_listening = True

    async def ask(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Ask this server for something; Crashed when it dies before it answers."""
        with self.inside():
            task = asyncio.create_task(work)
        return await self.outcome(task)

    async def outcome(self, task: asyncio.Task[Any]) -> Any:
        """Wait for a task of this server, or for its death."""
        death = asyncio.ensure_future(self.died.wait())
        await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if self.steps.is_dead:
            raise Crashed
        return task.result()

    async def go_down(self) -> None:
        """End the process, whatever it is doing."""
        self.is_listening = False
        self.steps.die()
        await self._world.end(self)
        if self._world.is_power_cut:
            self.disk.cut_power()

    def new_id(self) -> UUID:
        return uuid7(int(VirtualClock().now().timestamp() * 1000), self._rng.randbytes(10))

    @property
    def files(self) -> VirtualFiles:
        return VirtualFiles(self.disk, VirtualClock().monotonic_s)

    def entries(self) -> list[LogEntry]:
        return self.recorder.read(1, 10_000)

    def events(self) -> list[DomainEvent | OpaqueEvent]:
        return [decode(entry.plain) for entry in self.entries()]

    def of_kind(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events() if isinstance(event, kind)]


class Link:
    """The way from one server to the other: the real bytes, straight to the receiver."""

    def __init__(self, world: World, sender: Site, home: Site) -> None:
        self.peer = home.id
        self._world, self._sender, self._home = world, sender, home

    async def exchange(self, route: Route, body: bytes) -> bytes:
        await self.probe()
        receiver = self._home.replication.receiver
        with self._home.inside():
            task = asyncio.create_task(receiver.handle(self._sender.id, route, body))
        try:
            answer: bytes = await self._home.outcome(task)
        except Crashed:
            raise TransientError("the connection broke") from None
        await self.probe()
        return answer

    async def probe(self) -> None:
        await asyncio.sleep(0.001)
        if self._world.is_cut or not self._home.is_listening:
            raise TransientError(f"no way to {self.peer}")

    async def close(self) -> None:
        pass


class VirtualClock:
    """The time of the running loop."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic_s())

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class InPlace:
    """An `Offload` that runs work in place."""

    async def __call__(self, work: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return work()


async def spoken(audio: bytes, breaks_off_after: int | None = None) -> AsyncIterator[bytes]:
    """Hand over audio in four pieces, more than a second apart, as a caller speaks."""
    size = -(-len(audio) // 4)
    for number in range(4):
        if number == breaks_off_after:
            raise ConnectionError("the switch is gone")
        yield audio[number * size : (number + 1) * size]
        await asyncio.sleep(1.1)


async def eventually(claim: Callable[[], bool]) -> bool:
    """Let virtual time pass until the claim is true; False when it never was."""
    end_s = asyncio.get_running_loop().time() + PATIENCE_S
    while not claim():
        if asyncio.get_running_loop().time() > end_s:
            return False
        await asyncio.sleep(0.25)
    return True


def live(make: Callable[[], World], story: Callable[[World], Coroutine[Any, Any, Any]]) -> Any:
    """Let a story happen in a world of its own, on virtual time; give its end."""

    async def whole() -> Any:
        world = make()
        asyncio.get_running_loop().set_task_factory(world.make_task)
        try:
            for site in world.sites.values():
                await site.boot()
            return await story(world)
        finally:
            for site in world.sites.values():
                site.steps.die()
            await world.end()
            for site in world.sites.values():
                site.recorder.close()

    return VirtualLoop().run(whole())
