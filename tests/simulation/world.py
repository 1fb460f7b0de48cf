"""A world of whole servers: it carries out a schedule of calls and faults, and heals."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.call import CallState, Recording, store_message
from ledger.configuration import (
    Calls,
    Configuration,
    Directory,
    IdentityFiles,
    Limits,
    Replication,
    ServerEntry,
    Stores,
    parse_claim,
)
from ledger.errors import (
    ConflictError,
    CorruptionError,
    LedgerError,
    NotFoundError,
    TransientError,
)
from ledger.events import AudioFacts, CallStatus, DomainEvent, MessageStored, Stamp
from ledger.identity import ServerIdentity, verify_signature
from ledger.message import Action
from ledger.server import CallReport, NotInCustodyError, StoredMessage
from ledger.server.streams import change_call
from ledger.storage.event_log import LogEntry
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.memory import LogImage
from ledger.storage.merkle import Frontier
from ledger.storage.recorder import Head
from ledger.storage.spool import Spool
from ledger.storage.stored_form import RecordingMetadata, encode, intact_prefix
from tests.simulation.disk import Crashed, Disk, VirtualFiles
from tests.simulation.logs import LogView, event_of
from tests.simulation.loop import Stuck, VirtualLoop
from tests.simulation.network import Network, Weather
from tests.simulation.server import (
    DATA,
    NAMES,
    START,
    CheapIdentity,
    Machine,
    Process,
    Unanswered,
    chunks_of,
    verify_cheaply,
)

if TYPE_CHECKING:
    from tests.simulation.faults import Call, Poison, Schedule

SETTINGS = Replication(
    probe_interval_s=12.0,
    backoff_min_s=1.0,
    backoff_max_s=16.0,
    batch_max_messages=3,
    fresh_for_s=5.0,
)
CALLS = Calls(min_message_duration_s=0.0, recording_grace_s=5.0)
SETTLES_WITHIN_S = 400.0
"""Virtual time after the last fault within which everything must be at its home."""
QUIET_S = 14.0


@dataclass(frozen=True)
class Layout:
    """Who the servers are, and which extensions were moved away from their first home."""

    servers: int
    moved: tuple[tuple[str, str], ...] = ()

    def home_of(self, extension: str) -> str:
        """Give an extension's home."""
        return dict(self.moved).get(extension, NAMES[int(extension[0]) - 1])

    def move(self, extension: str, home: str) -> Layout:
        """Give the layout after an extension got another home."""
        others = tuple(m for m in self.moved if m[0] != extension)
        return Layout(self.servers, (*others, (extension, home)))


@dataclass
class Accepted:
    """A recording that a caller was told is stored."""

    call: Call
    call_id: UUID
    message: StoredMessage
    at_s: float


@dataclass
class Told:
    """What the outside was promised during a run."""

    accepted: dict[UUID, Accepted] = field(default_factory=dict)
    actions: list[tuple[float, UUID, UUID, str]] = field(default_factory=list)
    """(when, call, message, by whom): what a user was told is recorded."""
    lost_with_its_disk: set[UUID] = field(default_factory=set)
    """Calls whose every copy was on disks that were replaced by older copies."""
    rotten: set[tuple[str, str]] = field(default_factory=set)
    """(machine, blob) that lost a bit at rest."""
    rotten_files: set[tuple[str, Path]] = field(default_factory=set)
    poison: set[UUID] = field(default_factory=set)
    restored: list[float] = field(default_factory=list)
    """When a machine went back in time."""
    spooled: list[tuple[float, str, UUID, bytes]] = field(default_factory=list)
    """(when, machine, call, what was received): left in the spool by a process that died."""
    broken: list[str] = field(default_factory=list)
    """Invariants that were broken during the run."""


@cache
def identity_of(name: str, is_signed: bool) -> ServerIdentity | CheapIdentity:
    if not is_signed:
        return CheapIdentity(name)
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    return ServerIdentity(name, key)


@cache
def configuration(name: str, layout: Layout, is_signed: bool) -> Configuration:
    """Build what a server's file would say."""
    entries = []
    for number, server in enumerate(NAMES[: layout.servers], 1):
        moved = [ext for ext, home in layout.moved if home == server]
        claims = tuple(parse_claim(text) for text in (f"{number}*", *moved))
        key = identity_of(server, is_signed).public_key
        entries.append(
            ServerEntry(id=server, url=f"https://{server}:1", public_key=key, claims=claims)
        )
    return Configuration(
        server=name,
        file=DATA / "vmledger.toml",
        data=DATA,
        directory=Directory(name, entries),
        stores=Stores(events="sqlite:///x", projections="sqlite:///y", blobs="file:///z"),
        identity=IdentityFiles(signing_key=DATA, tls_key=DATA, tls_certificate=DATA),
        calls=CALLS,
        replication=SETTINGS,
        limits=Limits(concurrent_batches=4),
    )


class World:
    """Runs one schedule from its start to the checks."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.seed = schedule.seed
        self.rng = random.Random(f"world/{schedule.seed}")
        self.loop = VirtualLoop()
        self.network = Network(self, random.Random(f"network/{schedule.seed}"))
        self.layout = Layout(schedule.servers)
        self.machines: dict[str, Machine] = {}
        self.layouts: dict[str, Layout] = {}
        self.layouts_used: list[Layout] = [self.layout]
        self.backups: dict[str, list[Machine]] = {}
        self.clones: list[Machine] = []
        self.told = Told()
        self.settled_at_s: float | None = None
        self.sent_while_quiet = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._views: dict[str, LogView] = {}
        self.is_healed = False
        self.failures: list[str] = []

    @property
    def now_s(self) -> float:
        return self.loop.time()

    def run(self) -> list[str]:
        """Carry out the schedule; gives what was found wrong, empty when nothing was."""
        from tests.simulation.checkers import check_all  # noqa: PLC0415  (it checks worlds)

        try:
            self.loop.run(self._live())
            self.failures = check_all(self)
        except Stuck as stuck:
            self.failures = [f"stuck: {stuck}"]
        return self.failures

    def fingerprint(self) -> str:
        """Give a hash of all requests and all logs of the run."""
        roots = [m.image.head.to_log_head().root.hex() for m in self.machines.values()]
        disks = [sorted(map(str, m.disk.names)) for m in self.machines.values()]
        return hashlib.sha256(repr((self.network.trace, roots, disks)).encode()).hexdigest()

    # --- life ---------------------------------------------------------------------------------

    async def _live(self) -> None:
        for name in NAMES[: self.schedule.servers]:
            self.add_machine(name)
        for step in sorted(self.schedule.steps, key=lambda s: s.at_s):
            await asyncio.sleep(max(0.0, step.at_s - self.now_s))
            self.spawn(step.strike(self))
        end_s = max((s.at_s + s.lasts_s for s in self.schedule.steps), default=0.0)
        await asyncio.sleep(max(0.0, end_s - self.now_s) + 1.0)
        await self._heal()
        await self._settle()

    async def _heal(self) -> None:
        """All faults end; an operator sees to it that every server runs with the newest file."""
        self.is_healed = True
        self.network.weather = Weather()
        self.network.cuts.clear()
        self.network.slow.clear()
        for clone in self.clones:
            self.retire(clone)
        for machine in self.machines.values():
            machine.disk.strikes.is_full = False
            machine.disk.strikes.crash_in = machine.disk.strikes.fail_sync_in = None
            if self.layouts[machine.id] != self.layout and machine.process is not None:
                machine.process.die()
            machine.down_until_s = 0.0
        await asyncio.sleep(2.0)

    async def _settle(self) -> None:
        end_s = self.now_s + SETTLES_WITHIN_S
        requeued: set[UUID] = set()
        while self.now_s < end_s:
            if all(self.listener(name) is not None for name in self.machines):
                await self._requeue_held(requeued)
                if self.is_settled():
                    self.settled_at_s = self.now_s
                    sent = self.network.sent
                    await asyncio.sleep(QUIET_S)
                    self.sent_while_quiet = self.network.sent - sent
                    return
            await asyncio.sleep(2.0)

    def is_settled(self) -> bool:
        """Is nothing on its way any more?"""
        views = {name: self.view(name) for name in self.machines}
        if any(view.waiting() for view in views.values()):
            return False
        arrived = {call for view in views.values() for call in view.delivered_calls}
        held = {call for view in views.values() for call in view.held_calls()}
        wanted = self.told.accepted.keys() - self.told.lost_with_its_disk
        return wanted <= arrived | held

    async def _requeue_held(self, done: set[UUID]) -> None:
        """An operator sends messages that were refused on their way again, once."""
        for name in self.machines:
            for message_id, call_id in list(self.view(name).held()):
                process = self.listener(name)
                if message_id in done or process is None:
                    continue
                done.add(message_id)
                try:
                    await process.ask(process.server.requeue_message(call_id, message_id))
                except (LedgerError, Unanswered):
                    continue

    def view(self, name: str) -> LogView:
        """Give what a machine's log says now."""
        image = self.machines[name].image
        view = self._views.get(name)
        if view is None or view.image is not image:
            view = self._views[name] = LogView(image)
        view.advance()
        return view

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something that belongs to no server."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.told.broken.append(f"the simulation itself failed: {error!r}")

    # --- machines -----------------------------------------------------------------------------

    def add_machine(self, name: str, layout: Layout | None = None) -> None:
        rng = random.Random(f"{name}/{self.seed}")
        image = LogImage(Head(UUID(int=rng.getrandbits(128)), Frontier()))
        is_signed = self.schedule.is_signed
        verify = verify_signature if is_signed else verify_cheaply
        machine = Machine(name, identity_of(name, is_signed), verify, Disk(rng), image, rng)
        self.layout = layout or self.layout
        self.machines[name] = machine
        self.power_on(machine)

    def power_on(self, machine: Machine) -> None:
        """Let a process run on this machine."""
        self.spawn(self._keep_running(machine))

    async def _keep_running(self, machine: Machine) -> None:
        """Start the program, and again whenever it has ended, as a service manager does."""
        while self.machines.get(machine.id) is machine or machine in self.clones:
            wait_s = machine.down_until_s - self.now_s
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, 1.0))
                continue
            if not machine.is_clone:
                self.layouts[machine.id] = self.layout
            await self._run_process(machine)
            await asyncio.sleep(0.5)

    async def _run_process(self, machine: Machine) -> None:
        """Run the program once, from its start to its end."""
        config = configuration(machine.id, self.layout, self.schedule.is_signed)
        machine.process = process = Process(self, machine, config)
        try:
            process.build()
            await process.ask(process.start())
            await process.ended
        except (Crashed, Unanswered, TransientError, CorruptionError):
            process.die()

    def listener(self, name: str) -> Process | None:
        """Give the process that answers at a server's address."""
        machine = self.machines.get(name)
        process = machine.process if machine is not None else None
        return process if process is not None and process.is_listening else None

    def process_died(self, process: Process) -> None:
        """A process ended; what of its disk was not synced may be gone."""
        machine = process.machine
        self.network.note("died", process.name)
        machine.disk.strikes.crash_in = None
        machine.down_until_s = max(machine.down_until_s, self.now_s + machine.down_after_crash_s)
        machine.down_after_crash_s = 0.0
        if self.rng.random() < self.schedule.power_cuts:
            machine.disk.cut_power()
        if not machine.is_clone:
            self.note_spool(machine)

    def kill(self, machine: Machine, down_s: float) -> None:
        machine.down_until_s = self.now_s + down_s
        if machine.process is not None:
            machine.process.die()

    def restore(self, old: Machine, copy: Machine) -> None:
        """Put an older copy in a machine's place: its process ends and its disk is lost."""
        self.kill(old, 0.0)
        copy.starts, copy.skew_s = old.starts, old.skew_s
        self.machines[old.id] = copy
        self.told.restored.append(self.now_s)
        self.power_on(copy)
        self.note_losses()

    def start_clone(self, clone: Machine) -> None:
        """Let a second server with the same identity run, over a copy of the first one's disk."""
        clone.is_clone = True
        self.clones.append(clone)
        self.power_on(clone)

    def retire(self, clone: Machine) -> None:
        """Switch a clone off for good."""
        self.clones.remove(clone)
        if clone.process is not None:
            clone.process.die()
        self.told.restored.append(self.now_s)
        self.note_losses()

    async def reconfigure(self, layout: Layout, pause_s: float) -> None:
        """Give all servers a new file, one after the other."""
        self.layout = layout
        self.layouts_used.append(layout)
        for name in list(self.machines):
            self.kill(self.machines[name], 0.0)
            await asyncio.sleep(pause_s)

    async def add_server(self, pause_s: float) -> None:
        """Let one more server join, if there is a name left."""
        if self.layout.servers < len(NAMES):
            layout = replace(self.layout, servers=self.layout.servers + 1)
            self.add_machine(NAMES[layout.servers - 1], layout)
            await self.reconfigure(layout, pause_s)

    def rot(self, machine: Machine) -> None:
        """Flip a bit in one of the machine's files."""
        path = machine.disk.rot()
        if path is None:
            return
        blobs = {path.parent.name + path.name}
        locations = machine.image.blob_locations.values()
        blobs |= {at.digest for at in locations if at.pack == path.stem}
        self.told.rotten |= {(machine.id, blob) for blob in blobs}
        self.told.rotten_files.add((machine.id, path))

    def check_promise(self, process: Process) -> None:
        """A server gives its word now: every message that its log names must be on its disk."""
        machine = process.machine
        entries = machine.image.entries
        for entry in entries[machine.checked_until :]:
            if entry.topic == "message-stored" and not has_durable_sound(machine, entry):
                self.told.broken.append(
                    f"{process.name} gave its word, and position {entry.position} has no sound "
                    "on the disk"
                )
        machine.checked_until = len(entries)

    def note_spool(self, machine: Machine) -> None:
        """A process died: what its spool holds durably of callers' voices must not vanish."""
        for path, inode in machine.disk.durable_names.items():
            is_recording = path.parent == DATA / "spool" and path.suffix == ".zst"
            if is_recording and machine.disk.names.get(path) is inode:
                received = intact_prefix(bytes(inode.content[: inode.synced_bytes])).received
                if received:
                    self.told.spooled.append((self.now_s, machine.id, UUID(path.stem), received))

    def note_losses(self) -> None:
        """Find the recordings that no disk holds any more: nothing could bring them back."""
        images = [m.image for m in (*self.machines.values(), *self.clones)]
        for call_id in self.told.accepted:
            if not any(_holds_message(image, call_id) for image in images):
                self.told.lost_with_its_disk.add(call_id)

    def stores(self, process: Process, clock: Any) -> tuple[FilesystemBlobStore, Spool]:
        """Open the real stores over the machine's disk."""
        files = VirtualFiles(process.machine.disk, lambda: self.now_s)
        blobs = FilesystemBlobStore(
            DATA / "blobs",
            files=files,
            now_s=lambda: self.now_s,
            new_name=lambda: f"{process.rng.getrandbits(64):016x}",
        )
        spool = Spool(
            DATA / "spool", files=files, now_s=lambda: self.now_s, monotonic_s=clock.monotonic_s
        )
        return blobs, spool

    # --- what people do -----------------------------------------------------------------------

    async def place_call(self, call: Call) -> None:
        """Report a call and hand over its recording, as often as the switch has patience for."""
        call_id = call.call_id
        for attempt in range(call.attempts):
            process = self.listener(call.server)
            if process is not None:
                try:
                    breaks_after = call.breaks_after if attempt == 0 else None
                    message = await self._record(process, call, call_id, breaks_after)
                except (Unanswered, TransientError, CorruptionError, ConnectionError):
                    pass
                except ConflictError:
                    pass  # the broken upload of an earlier attempt is still being noticed
                else:
                    self._accept(process, call, message)
                    return
            await asyncio.sleep(call.patience_s)

    async def _record(
        self, process: Process, call: Call, call_id: UUID, breaks_after: int | None
    ) -> StoredMessage:
        report = CallReport(
            called_extension=call.extension, status=CallStatus.NO_ANSWER, call_id=call_id
        )
        decision = await process.ask(process.server.report_call(report))
        assert decision.transfer, "every extension has a mailbox"
        chunks = chunks_of(call.audio, call.chunks, call.pause_s, breaks_after)
        message: StoredMessage = await process.ask(
            process.server.record_message(call_id, chunks, "audio/basic")
        )
        return message

    async def act(self, which: float, action: Action, by: str) -> None:
        """A user does something to a message, at the server that answers for it."""
        if not self.told.accepted:
            return
        accepted = list(self.told.accepted.values())[int(which * len(self.told.accepted))]
        message_id = accepted.message.message_id
        for name in (accepted.message.home, accepted.call.server):
            process = self.listener(name)
            if process is None:
                continue
            try:
                await process.ask(
                    process.server.act_on_message(accepted.call_id, message_id, action, by)
                )
            except (NotFoundError, NotInCustodyError):
                continue  # this server does not answer for it
            except (LedgerError, Unanswered):
                return
            streams = process.machine.image.streams
            entries = [*streams.get(accepted.call_id, ()), *streams.get(message_id, ())]
            if any(by.encode() in entry.plain for entry in entries):  # else nothing had to change
                self.told.actions.append((self.now_s, accepted.call_id, message_id, by))
            return

    async def poison(self, poison: Poison) -> None:
        """Put a message into a log whose recording is not what its event says."""
        process = self.listener(poison.server)
        if process is None:
            return
        call_id = poison.call_id
        report = CallReport(
            called_extension=poison.extension, status=CallStatus.BUSY, call_id=call_id
        )
        await process.ask(process.server.report_call(report))
        await process.ask(_store_poison(process, call_id, poison.message_id))
        self.told.poison.add(poison.message_id)

    def _accept(self, process: Process, call: Call, message: StoredMessage) -> None:
        call_id = call.call_id
        self.told.accepted[call_id] = Accepted(call, call_id, message, self.now_s)
        self.check_promise(process)
        if all(e.topic != "message-stored" for e in image_of(process).streams.get(call_id, ())):
            self.told.broken.append(f"{process.name} told of call {call_id}, not in its log")
        self.network.note("accepted", call_id, message.is_pending)

    def at(self, seconds: float) -> str:
        return f"{START:%Y-%m-%d} +{seconds:.1f} s"


async def _store_poison(process: Process, call_id: UUID, message_id: UUID) -> None:
    """Store a message as a defective program would: its facts are not those of its sound."""
    parts = process.server.parts
    now = parts.clock.now()
    metadata = RecordingMetadata(call_id=call_id, server=parts.config.server, started_at=now)
    stored = encode(b"poison", metadata)
    digest = hashlib.sha256(stored).hexdigest()
    await parts.offload(lambda: parts.blobs.put(digest, stored))
    facts = AudioFacts(
        digest=hashlib.sha256(b"other").hexdigest(),
        size_bytes=6,
        container="raw",
        codec="pcmu",
        sample_rate_hz=8000,
        channels=1,
        duration_ms=1,
    )
    recording = Recording(
        message_id=message_id, blob=digest, blob_size_bytes=len(stored), audio=facts
    )
    stamp = Stamp(at=now, by=parts.config.server)

    def decide(state: CallState) -> list[DomainEvent]:
        event = store_message(state, recording, stamp)
        return [event] if event is not None else []

    await change_call(parts.log, call_id, decide)


def image_of(process: Process) -> LogImage:
    return process.machine.image


def has_durable_sound(machine: Machine, entry: LogEntry) -> bool:
    """Would the sound of this message outlive a power cut now? Not asked of others' refused ones."""
    event = event_of(entry)
    assert isinstance(event, MessageStored)
    location = machine.image.blob_locations.get(event.blob)
    if location is None and event.message_id not in machine.image.streams and entry.origin:
        return True  # it came along with another message's events, and is not delivered here
    name = (
        Path("packs", f"{location.pack}.pack") if location else Path(event.blob[:2], event.blob[2:])
    )
    return machine.disk.is_durable(DATA / "blobs" / name)


def _holds_message(image: LogImage, call_id: UUID) -> bool:
    return any(e.topic == "message-stored" for e in image.streams.get(call_id, ()))


@contextmanager
def graveyard() -> Iterator[Callable[[], None]]:
    """Run worlds in here: what their dead processes left is thrown away only when that is asked.

    Otherwise Python would close their coroutines some time, and run each ``finally`` in them, which
    a crashed program never does. Gives the function that throws everything away, between two runs.
    """
    hook = sys.unraisablehook
    was_enabled = gc.isenabled()
    gc.disable()
    sys.unraisablehook = lambda _: None
    gc.collect()
    gc.freeze()
    try:
        yield gc.collect
    finally:
        gc.collect()
        gc.unfreeze()
        sys.unraisablehook = hook
        if was_enabled:
            gc.enable()
