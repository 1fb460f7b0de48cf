"""A world of whole servers: it carries out a schedule of calls and faults, and heals."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ledger.errors import (
    ConflictError,
    CorruptionError,
    LedgerError,
    PeerError,
    TransientError,
)
from ledger.identity import verify_signature
from ledger.migration.protocol import OriginState
from ledger.migration.wire_bytes import decode_answer
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.memory import LogImage
from ledger.storage.merkle import Frontier
from ledger.storage.recorder import Head
from ledger.storage.spool import Spool
from tests.simulation.disk import Crashed, Disk, VirtualFiles
from tests.simulation.layout import Layout, configuration, identity_of
from tests.simulation.loop import Stuck, VirtualLoop
from tests.simulation.mirrors import lagging_copies, recover_lost
from tests.simulation.network import Network, Weather
from tests.simulation.promises import (
    check_promise,
    check_receipt,
    note_losses,
    note_spool,
    sound_of,
)
from tests.simulation.remains import Remains
from tests.simulation.server import (
    DATA,
    NAMES,
    Machine,
    Process,
    Unanswered,
    verify_cheaply,
)

if TYPE_CHECKING:
    from tests.simulation.schedules import Schedule

SETTLES_WITHIN_S = 400.0
"""Virtual time after the last fault within which everything must be at its home."""
QUIET_S = 25.0
PROBED_WITHIN_S = 15.0


class World(Remains):
    """Runs one schedule from its start to the checks."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.seed = schedule.seed
        self.rng = random.Random(f"world/{schedule.seed}")
        self.loop = VirtualLoop()
        self.network = Network(self, random.Random(f"network/{schedule.seed}"))
        self.layout = Layout(schedule.servers, mirrors=schedule.mirrors)
        self.layouts: dict[str, Layout] = {}
        self.layouts_used.append(self.layout)
        self.backups: dict[str, list[Machine]] = {}
        self.clones: list[Machine] = []
        self.settled_at_s: float | None = None
        self.sent_while_quiet = 0
        self.recovered_since_settled = 0
        self.deaths = self.power_cuts = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.is_healed = False
        self.failures: list[str] = []

    @property
    def now_s(self) -> float:
        return self.loop.time()

    @property
    def replays_mailboxes(self) -> bool:
        return self.seed % 4 == 0 or bool(self.told.moves)

    def run(self) -> list[str]:
        """Carry out the schedule; gives what was found wrong, empty when nothing was."""
        from tests.simulation.checkers import CHECKERS, check_all  # noqa: PLC0415  (it checks worlds)

        try:
            self.loop.run_and_abandon(self._live())
            self.failures = check_all(self, CHECKERS)
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
        for machine in self.all_machines.values():
            machine.disk.strikes.is_full = False
            machine.disk.strikes.crash_in = machine.disk.strikes.fail_sync_in = None
        for name, machine in self.machines.items():
            if machine.is_lost:
                self.recover(name, ())
        for machine in self.machines.values():
            if self.layouts.get(machine.id) != self.layout and machine.process is not None:
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
                    if self.seed % 3 == 0:
                        await self._stay_quiet()
                    return
            await asyncio.sleep(2.0)

    async def _stay_quiet(self) -> None:
        """Let late repetitions of requests arrive, and count what idle servers send.

        First a home that went back is found out by the next probe of each origin. What comes of
        that is told with the probe behind it.
        """
        recovered = self._recoveries()
        await asyncio.sleep(PROBED_WITHIN_S)
        sent = self.network.sent
        await asyncio.sleep(QUIET_S)
        self.sent_while_quiet = self.network.sent - sent
        self.recovered_since_settled = self._recoveries() - recovered

    def _recoveries(self) -> int:
        """Count how often servers noticed that their log had gone back, and got some of it back."""
        return sum(
            entry.topic in ("incarnation-started", "log-recalled")
            for machine in self.machines.values()
            for entry in machine.image.entries
        )

    async def _requeue_held(self, done: set[UUID]) -> None:
        """An operator sends messages that were refused on their way again, once."""
        for name in self.machines:
            for message_id, call_id in list(self.view(name).held()):
                process = self.listener(name)
                if message_id in done or process is None:
                    continue
                if self.follows_by_itself(self.view(name), message_id):
                    continue
                done.add(message_id)
                try:
                    await process.ask(process.server.requeue_message(call_id, message_id))
                except (LedgerError, Unanswered):
                    continue

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something that belongs to no server."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.told.broken.append(f"the simulation itself failed: {error!r}")

    def gives_word(self, process: Process, answer: bytes) -> None:
        """A server is about to give its word for what it holds."""
        check_promise(self, process)
        check_receipt(self, process, decode_answer(answer, process.machine.id))

    # --- machines -----------------------------------------------------------------------------

    def add_machine(self, name: str, layout: Layout | None = None) -> None:
        rng = random.Random(f"{name}/{self.seed}")
        image = LogImage(Head(UUID(int=rng.getrandbits(128)), Frontier()))
        is_signed = self.schedule.is_signed
        verify = verify_signature if is_signed else verify_cheaply
        machine = Machine(name, identity_of(name, is_signed), verify, Disk(rng), image, rng)
        self.layout = layout or self.layout
        self.machines[name] = machine
        self.histories[name] = [image]
        self.power_on(machine)

    def power_on(self, machine: Machine) -> None:
        """Let a process run on this machine."""
        self.spawn(self._keep_running(machine))

    async def _keep_running(self, machine: Machine) -> None:
        """Start the program, and again whenever it has ended, as a service manager does."""
        while self.machines.get(machine.id) is machine or machine in self.clones:
            if machine.is_lost and machine.recovers_from is None:
                await asyncio.sleep(1.0)
                continue
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
            if machine.is_lost:
                await process.ask(recover_lost(process))
            process.build()
            await process.ask(process.start())
            await process.ended
        except (Crashed, Unanswered, TransientError, ConflictError, CorruptionError, PeerError):
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
        if process.sharing is not None:
            machine.acknowledged |= process.sharing.acknowledged
        machine.down_until_s = max(machine.down_until_s, self.now_s + machine.down_after_crash_s)
        machine.down_after_crash_s = 0.0
        self.deaths += 1
        if self.rng.random() < self.schedule.power_cuts:
            self.power_cuts += 1
            machine.disk.cut_power()
        if not machine.is_clone:
            note_spool(self, machine)

    def kill(self, machine: Machine, down_s: float) -> None:
        machine.down_until_s = self.now_s + down_s
        if machine.process is not None:
            machine.process.die()

    def restore(self, old: Machine, copy: Machine) -> None:
        """Put an older copy in a machine's place: its process ends and its disk is lost."""
        self.kill(old, 0.0)
        copy.starts, copy.skew_s = old.starts, old.skew_s
        self.machines[old.id] = copy
        self.histories[old.id].append(copy.image)
        self.told.restored.append((self.now_s, old.id))
        self.power_on(copy)
        note_losses(self)

    def lose(self, old: Machine) -> None:
        """Let a machine's disk burn: one with an empty disk stands in its place."""
        self.kill(old, 0.0)
        rng = old.rng
        image = LogImage(Head(UUID(int=rng.getrandbits(128)), Frontier()))
        new = Machine(old.id, old.identity, old.verify, Disk(rng), image, rng)
        new.starts, new.skew_s, new.is_lost = old.starts, old.skew_s, True
        new.burnt = old.burnt if old.is_lost else old.image
        new.acknowledged = dict(old.acknowledged)
        self.machines[old.id] = new
        if not old.is_lost:
            self.histories[old.id].append(image)
        else:
            self.histories[old.id][-1] = image
        self.told.restored.append((self.now_s, old.id))
        self.power_on(new)

    def recover(self, name: str, sources: tuple[str, ...]) -> None:
        """An operator lets a lost server be recovered, unless that is going on."""
        machine = self.machines.get(name)
        if machine is not None and machine.is_lost and machine.recovers_from is None:
            machine.recovers_from = sources
            machine.down_until_s = 0.0

    def is_settled(self) -> bool:
        """Is nothing on its way any more, also to no mirror, and no word of a mailbox?"""
        return super().is_settled() and not lagging_copies(self) and not self._is_anybody_sending()

    def _is_anybody_sending(self) -> bool:
        processes = map(self.listener, self.machines)
        statuses = [s for p in processes if p is not None for s in p.deliveries.statuses()]
        return any(status.state is OriginState.STREAMING for status in statuses)

    def start_clone(self, clone: Machine) -> None:
        """Let a second server with the same identity run, over a copy of the first one's disk."""
        clone.is_clone = True
        self.clones.append(clone)
        self.histories[clone.id].append(clone.image)
        self.power_on(clone)

    def retire(self, clone: Machine) -> None:
        """Switch a clone off for good."""
        self.clones.remove(clone)
        if clone.process is not None:
            clone.process.die()
        self.told.restored.append((self.now_s, clone.id))
        note_losses(self)

    async def reconfigure(self, layout: Layout, pause_s: float) -> None:
        """Give all servers a new file, one after the other."""
        self.layout = layout
        self.layouts_used.append(layout)
        for name in list(self.machines):
            if name in self.machines:
                self.kill(self.machines[name], 0.0)
            await asyncio.sleep(pause_s)

    async def add_server(self, pause_s: float) -> None:
        """Let one more server join, if there is a name left."""
        if self.layout.servers < len(NAMES):
            layout = replace(self.layout, servers=self.layout.servers + 1)
            self.add_machine(NAMES[layout.servers - 1], layout)
            await self.reconfigure(layout, pause_s)

    async def remove_server(self, name: str, heir: str, patience_s: float) -> None:
        """Take a server out of the configuration once nothing waits there any more, as one should.

        Another one gets its extensions; what is at home there stays on its disk.
        """
        end_s = self.now_s + patience_s
        while not self._is_empty(name, heir):
            if self.now_s >= end_s:
                return
            await asyncio.sleep(0.5)
        machine = self.machines.pop(name)
        self.left[name] = machine
        if machine.process is not None:
            machine.process.die()
        note_losses(self)
        await self.reconfigure(self.layout.without(name, heir), pause_s=0.2)

    def _is_empty(self, name: str, heir: str) -> bool:
        """May this server leave? It runs, is healthy, and nothing waits there, or for it.

        Nor is anything left to tell of it: what users did there is known where their messages are.
        """
        if self.listener(name) is None or heir not in self.machines or name in self.left:
            return False
        machine, view = self.machines[name], self.view(name)
        is_home = any(home == name for _, home in view.homes.values())
        waits = view.waiting() or list(view.held()) or machine.recordings_in_spool()
        views = [self.view(other) for other in self.machines]
        is_waited_for = any(v.sent_to.get(m) == name for v in views for m in v.waiting())
        is_told = all(done.server != name for _, done in self.untold_actions())
        is_idle = not is_home and not waits and not is_waited_for
        return is_idle and is_told and not self.told.went_back(name)

    def rot(self, machine: Machine) -> None:
        """Flip a bit in one of the machine's files."""
        path = machine.disk.choose()
        if path is not None:
            self.told.rots[machine.id] += 1
            self.told.rotted.add((machine.id, sound_of(bytes(machine.disk.names[path].content))))
            machine.disk.rot(path)

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
            DATA / "spool",
            files=files,
            now_s=lambda: self.now_s,
            monotonic_s=clock.monotonic_s,
            random_bytes=process.vault.random_bytes,
            find_key=process.vault.key,
        )
        return blobs, spool


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # their coroutines were never awaited
            yield gc.collect
            while gc.collect():
                pass  # a coroutine that is closed may leave more behind
    finally:
        gc.unfreeze()
        sys.unraisablehook = hook
        if was_enabled:
            gc.enable()
