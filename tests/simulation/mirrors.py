"""Mirrors in the simulated world, and the recovery of a server whose disk burnt.

All of it is the program's code, over logs in memory and files on a simulated disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ledger.errors import ConflictError, CorruptionError, NotFoundError, TransientError
from ledger.events import IncarnationStarted, MessageStored
from ledger.ids import new_id_factory
from ledger.migration.link import PeerClient
from ledger.migration.log_sharing import LogSharing
from ledger.migration.log_source import LogTarget, PeerSource
from ledger.migration.mirroring import Mirroring
from ledger.storage.blob_care import verify
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.log_copy import CURRENT_COPY, CheckpointFile
from ledger.storage.memory import LogImage
from ledger.storage.merkle import Frontier
from ledger.storage.recorder import Head
from ledger.storage.vault import Vault
from tests.simulation.disk import Crashed, VirtualFiles
from tests.simulation.logs import event_of
from tests.simulation.network import SimulatedLink
from tests.simulation.promises import note_losses
from tests.simulation.server import (
    DATA,
    KeptLog,
    Machine,
    Process,
    SimulatedCheckpoints,
    SimulatedClock,
    SimulatedOffload,
    SimulatedRecorder,
)
from vmledger.blob_needs import needed_blobs
from vmledger.recovery import BetterCopyError, Recovery, UnfinishedCopyError
from vmledger.recovery_folder import RECOVERY, RecoveryFolder
from vmledger.recovery_report import RecoveryReport

if TYPE_CHECKING:
    from tests.simulation.world import World

_COPIES = DATA / "mirrors"
_KEEP_FOR = timedelta(days=90)
_PATIENCE = 5
"""How often an operator lets a recovery try to get a copy before he does without it."""


@dataclass
class SimulatedCopy:
    """An open copy of a log."""

    name: str
    recorder: SimulatedRecorder
    blobs: FilesystemBlobStore
    cosigned: SimulatedCheckpoints
    checkpoint: CheckpointFile


class SimulatedShelf:
    """The copies on a machine's disk, open in one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._machine = process.machine
        self._files = VirtualFiles(process.machine.disk, lambda: process.world.now_s)
        self._open: dict[tuple[str, str], SimulatedCopy] = {}

    def current(self, of: str) -> SimulatedCopy:
        if (of, CURRENT_COPY) not in self._machine.copies:
            self._files.make_directory(_COPIES / of / CURRENT_COPY)
            head = Head(UUID(int=self._process.rng.getrandbits(128)), Frontier())
            self._machine.copies[of, CURRENT_COPY] = KeptLog(LogImage(head), self._machine.disk)
        return self._get(of, CURRENT_COPY)

    def copies(self, of: str) -> Sequence[SimulatedCopy]:
        return [self._get(*key) for key in sorted(self._machine.copies) if key[0] == of]

    def set_aside(self, of: str, at: datetime) -> Path:
        name = f"aside-{at:%Y%m%dT%H%M%S.%fZ}"
        disk, old, new = self._machine.disk, _COPIES / of / CURRENT_COPY, _COPIES / of / name
        crash = disk.step()
        for known in (disk.names, disk.durable_names):
            for path in [path for path in known if old in path.parents]:
                known[new / path.relative_to(old)] = known[path]
                del known[path]
        for folders in (disk.folders, disk.durable_folders):
            for folder in [f for f in folders if f == old or old in f.parents]:
                folders.remove(folder)
                folders.add(new / folder.relative_to(old))
        self._open.pop((of, CURRENT_COPY), None)
        self._machine.copies[of, name] = self._machine.copies.pop((of, CURRENT_COPY))
        if crash:
            raise Crashed
        return new

    def _get(self, of: str, name: str) -> SimulatedCopy:
        if (of, name) not in self._open:
            kept, folder = self._machine.copies[of, name], _COPIES / of / name
            self._open[of, name] = SimulatedCopy(
                name,
                SimulatedRecorder(kept),
                _blobs(self._process, folder / "blobs", self._files),
                SimulatedCheckpoints(kept),
                CheckpointFile(folder, self._files),
            )
        return self._open[of, name]


def _blobs(process: Process, folder: Path, files: VirtualFiles) -> FilesystemBlobStore:
    return FilesystemBlobStore(
        folder,
        files=files,
        now_s=lambda: process.world.now_s,
        new_name=lambda: f"{process.rng.getrandbits(64):016x}",
    )


def join_mirroring(
    process: Process, links: Any, blobs: Any, checkpoints: Any, clock: Any, offload: Any
) -> tuple[LogSharing, Mirroring]:
    """Let a process give its log to its mirrors, and be the mirror of others."""
    machine, directory = process.machine, process.config.directory
    shelf = SimulatedShelf(process)
    sharing = LogSharing(
        identity=machine.identity,
        directory=directory,
        recorder=process.recorder,
        blobs=blobs,
        cosigned=checkpoints,
        shelf=shelf,
        clock=clock,
        offload=offload,
    )
    mirroring = Mirroring(
        links,
        directory=directory,
        shelf=shelf,
        needed=lambda recorder, server: needed_blobs(recorder, server, _KEEP_FOR, clock.now()),
        clock=clock,
        offload=offload,
        verify=machine.verify,
    )
    return sharing, mirroring


async def recover_lost(process: Process) -> None:
    """Recover a machine's log by the program's code."""
    try:
        await _recover_lost(process)
    except Crashed:
        process.die()
        raise


async def _recover_lost(process: Process) -> None:
    world, machine = process.world, process.machine
    clock, offload = SimulatedClock(process), SimulatedOffload(process)
    files = VirtualFiles(machine.disk, lambda: world.now_s)
    folder = RecoveryFolder(DATA, files)
    peers = [peer.id for peer in process.config.directory.peers]
    names = [name for name in machine.recovers_from or peers if name in peers]
    sources = [
        PeerSource(PeerClient(SimulatedLink(process, name, world.network)), offload)
        for name in names
    ]
    target = LogTarget(
        of=machine.id,
        public_key=machine.identity.public_key,
        recorder=SimulatedRecorder(machine),
        blobs=_blobs(process, DATA / "blobs", files),
        cosigned=SimulatedCheckpoints(machine),
        checkpoint=folder.checkpoint,
        verify=machine.verify,
    )
    recovery = Recovery(
        process.config,
        target,
        folder,
        sources,
        vault=Vault(target.recorder, machine.master, process.rng.randbytes),
        offload=offload,
        clock=clock,
        new_id=new_id_factory(clock.now, process.rng.randbytes),
    )
    may_give_up = world.is_healed and _is_everybody_there(world, peers)
    if machine.image.entries and not folder.is_open:
        # It died when it had just finished, and nobody read what it said: 'blobs verify' says it.
        machine.named_missing |= await offload(partial(_verify_blobs, target, clock.now()))
        _end_recovery(world, machine)
        return
    try:
        report = await recovery.run()
    except (ConflictError, CorruptionError) as error:
        is_in_the_way = isinstance(error, ConflictError) or RECOVERY in Path(error.place).parts
        if is_in_the_way:
            # The operator empties the stores, as he is told, and begins anew.
            world.lose(machine)
            world.recover(machine.id, machine.recovers_from or ())
        raise
    except (BetterCopyError, UnfinishedCopyError) as error:
        machine.put_off.update(error.sources)
        if all(machine.put_off[name] > _PATIENCE for name in error.sources):
            # The operator does without them, as he is told.
            machine.recovers_from = tuple(name for name in names if name not in error.sources)
        raise
    except NotFoundError:
        if not (may_give_up and _is_everybody_there(world, peers)):
            raise TransientError("nobody who was asked knows anything: later again") from None
        folder.finish()  # the operator gives up, and starts with nothing
        if any(_is_holder(world, machine.id, name) for name in names):
            world.told.broken.append(f"the recovery of {machine.id} found no copy")
    else:
        assert machine.burnt is not None
        _check_recovered(world, machine, machine.burnt, report)
    _end_recovery(world, machine)


def _verify_blobs(target: LogTarget, now: datetime) -> set[str]:
    needed = sorted(needed_blobs(target.recorder, target.of, _KEEP_FOR, now))
    return set(verify(target.blobs, needed, target.recorder.locate_blobs(needed)).missing)


def _is_everybody_there(world: World, names: Sequence[str]) -> bool:
    return all(world.listener(name) is not None or world.machines[name].is_lost for name in names)


def _end_recovery(world: World, machine: Machine) -> None:
    machine.is_lost = False
    machine.recovers_from = None
    machine.checked_until = len(machine.image.entries)
    note_losses(world)


def _is_holder(world: World, lost: str, mirror: str) -> bool:
    machine = world.machines.get(mirror)
    kept = machine.copies.get((lost, CURRENT_COPY)) if machine is not None else None
    # Its checkpoint is in two files: what is asked is that one flipped bit is not too many.
    return kept is not None and bool(kept.image.entries) and world.told.rots[mirror] <= 1


def _could_give(world: World, of: str, mirror: str, lost: LogImage) -> bool:
    """Is there a copy that grows, of just this history, with something in it and its checkpoint?"""
    if not _is_holder(world, of, mirror):
        return False
    machine = world.machines[mirror]
    image = machine.copies[of, CURRENT_COPY].image
    files = VirtualFiles(machine.disk, lambda: world.now_s)
    file = CheckpointFile(_COPIES / of / CURRENT_COPY, files)
    is_signed = file.read(image.head.to_log_head()) is not None
    return is_signed and _agree(image, lost, len(image.entries))


def _agree(one: LogImage, other: LogImage, position: int) -> bool:
    """Is one the other's beginning, as far as both go and up to there?"""
    position = min(position, len(one.entries), len(other.entries))
    return one.frontiers[position].root() == other.frontiers[position].root()


def _check_recovered(
    world: World, machine: Machine, lost: LogImage, report: RecoveryReport
) -> None:
    """What a source had acknowledged is back, or the statement says that it is not."""
    image = machine.image
    reached = {source.name for source in report.sources if not source.problem}
    went_back = sum(name == machine.id for _, name in world.told.restored) > 1
    for mirror, said in machine.acknowledged.items():
        is_cloned = any(clone.id == mirror for clone in world.clones)  # which of them said it?
        if mirror not in reached or is_cloned or world.told.went_back(mirror):
            continue
        position = said.position
        is_back = (
            position <= report.position
            and position < len(lost.frontiers)
            and image.frontiers[position].root() == lost.frontiers[position].root()
        )
        # Else it may have been said of a log that had been lost before, or be named as missing.
        is_certain = not went_back or (
            report.is_whole and _is_held(world, mirror, machine.id, lost, position)
        )
        if not is_back and is_certain:
            world.told.broken.append(
                f"{mirror} acknowledged {position} events of {machine.id}, and "
                f"{report.position} are recovered from {sorted(reached)}"
            )
    is_former = not _agree(image, lost, report.position)
    if is_former and not any(_could_give(world, machine.id, name, lost) for name in reached):
        world.told.revived.add(machine.id)
    world.told.broken += [
        f"{machine.id} is recovered, and nothing is said of the other log that {name} has"
        for name in _contradicting(world, machine, reached, report.position)
        if name not in report.other_histories
    ]
    _check_sounds(world, machine, report)


def _check_sounds(world: World, machine: Machine, report: RecoveryReport) -> None:
    """Every sound is back, or named as missing."""
    image = machine.image
    named = machine.named_missing
    named |= {blob.digest for blob in report.missing}
    migrated = {
        event_of(entry).message_id for entry in image.entries if entry.topic == "message-migrated"
    }
    for entry in image.entries:
        event = event_of(entry) if entry.topic == "message-stored" else None
        if not isinstance(event, MessageStored) or entry.origin is not None:
            continue
        if event.originator_id in world.told.erased:
            continue
        is_here = machine.disk.is_durable(machine.path_of(event.blob))
        if not is_here and event.blob not in named and event.message_id not in migrated:
            world.told.broken.append(
                f"{machine.id} is recovered without the sound of {event.message_id}, and nothing "
                "is said of that"
            )


def _contradicting(
    world: World, machine: Machine, sources: Iterable[str], recovered: int
) -> Iterator[str]:
    """Name sources with a copy that the recovered log contradicts, and does not tell of either."""
    image = machine.image
    told = [event_of(entry) for entry in image.entries[:recovered]]
    begun = [e for e in told if isinstance(e, IncarnationStarted) and e.recorded_by == machine.id]
    left = {e.previous for e in begun} | {e.incarnation for e in begun[:-1]}
    for name in sources:
        mirror = world.machines[name]
        for (of, copy), kept in mirror.copies.items():
            position = len(kept.image.entries)
            is_known = of == machine.id and kept.image.head.incarnation not in left
            if not is_known or position > recovered or world.told.rots[name]:
                continue
            files = VirtualFiles(mirror.disk, lambda: world.now_s)
            word = CheckpointFile(_COPIES / of / copy, files).read(kept.image.head.to_log_head())
            if word is not None and not _agree(kept.image, image, position):
                yield name


def _is_held(world: World, mirror: str, of: str, lost: LogImage, position: int) -> bool:
    """Does a mirror hold this much of just this history of a log?"""
    images = [kept.image for key, kept in world.machines[mirror].copies.items() if key[0] == of]
    return any(
        position < min(len(image.frontiers), len(lost.frontiers))
        and image.frontiers[position].root() == lost.frontiers[position].root()
        for image in images
    )


def lagging_copies(world: World) -> list[str]:
    """Say which copies are not what their logs are."""
    return [text for text, _ in _differences(world)]


def copies_equal_their_logs(world: World) -> Iterator[str]:
    """A copy is a beginning of its server's log, event by event, and signed."""
    for text, is_behind in _differences(world):
        if not is_behind:
            yield text


def copies_hold_what_was_sent(world: World) -> Iterator[str]:
    """Every blob that a copy has is the one that its name says, where no bit flipped since."""
    for name, machine in world.machines.items():
        files = VirtualFiles(machine.disk, lambda: world.now_s)
        for (of, copy), kept in machine.copies.items() if not world.told.rots[name] else ():
            store = FilesystemBlobStore(_COPIES / of / copy / "blobs", files=files)
            loose = {blob.digest: None for blob in store.list_loose()}
            for digest, location in (loose | kept.image.blob_locations).items():
                try:
                    store.get(digest, location)
                except NotFoundError:
                    continue  # its source had it no more
                except CorruptionError as error:
                    yield f"the copy of {of} at {name} is damaged: {error}"


def _differences(world: World) -> Iterator[tuple[str, bool]]:
    for server, mirror in world.schedule.mirrors:
        if server not in world.machines or mirror not in world.machines:
            continue
        own, machine = world.machines[server].image, world.machines[mirror]
        kept = machine.copies.get((server, CURRENT_COPY))
        where = f"the copy of {server} at {mirror}"
        if kept is None:
            yield f"{where} is not there", True
            continue
        copied = len(kept.image.entries)
        if copied < len(own.entries):
            yield f"{where} has {copied} of {len(own.entries)} events", True
        if [_of(e) for e in kept.image.entries] != [_of(e) for e in own.entries[:copied]]:
            yield f"{where} is another log", False
        files = VirtualFiles(machine.disk, lambda: world.now_s)
        file = CheckpointFile(_COPIES / server / CURRENT_COPY, files)
        if file.read(kept.image.head.to_log_head()) is None:
            yield f"{where} has no checkpoint", True


def _of(entry: Any) -> tuple[Any, ...]:
    return (entry.position, entry.plain, entry.origin, entry.origin_position)
