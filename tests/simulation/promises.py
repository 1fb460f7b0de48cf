"""What callers and users were promised in a run, and what is checked whenever a server does so."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from ledger.errors import CorruptionError
from ledger.events import MessageStored
from ledger.ids import message_stream_id
from ledger.migration.wire import Accepted, Answer
from ledger.server import StoredMessage
from ledger.storage.event_log import LogEntry, tracking_name
from ledger.storage.memory import LogImage
from tests.simulation.logs import event_of
from tests.simulation.server import SPOOL, Machine, Process
from tests.simulation.sounds import call_of, intact_in

if TYPE_CHECKING:
    from tests.simulation.faults import Call
    from tests.simulation.world import World


@dataclass
class AcceptedCall:
    """A recording that a caller was told is stored."""

    call: Call
    call_id: UUID
    message: StoredMessage
    at_s: float


@dataclass(frozen=True)
class Done:
    """What a user was told is recorded about a message."""

    at_s: float
    server: str
    extension: str
    call_id: UUID
    message_id: UUID
    by: str


@dataclass
class Told:
    """What the outside was promised during a run."""

    accepted: dict[UUID, AcceptedCall] = field(default_factory=dict)
    actions: list[Done] = field(default_factory=list)
    lost_with_its_disk: set[UUID] = field(default_factory=set)
    """Calls whose every copy was on disks that were replaced by older copies."""
    rotted: set[tuple[str, UUID | None]] = field(default_factory=set)
    """(machine, call or stream): of which sound a bit flipped in a file; None: of a pack."""
    rots: Counter[str] = field(default_factory=Counter)
    """How many bits flipped on a machine's disk."""
    erased: set[UUID] = field(default_factory=set)
    """Calls whose message somebody tried to erase: perhaps it is."""
    poison: set[UUID] = field(default_factory=set)
    """Messages that no home can take."""
    no_calls: set[UUID] = field(default_factory=set)
    """Streams whose sounds no caller spoke: greetings, poison."""
    restored: list[tuple[float, str]] = field(default_factory=list)
    """(when, machine): who went back in time, or had a clone that was switched off."""
    moves: list[tuple[str, str]] = field(default_factory=list)
    """(extension, home): moves by command that a server was asked for."""
    echoed: set[tuple[str, str]] = field(default_factory=set)
    """(origin, home): between them frames of long ago arrived once more."""
    spooled: list[tuple[float, str, UUID, bytes]] = field(default_factory=list)
    """(when, machine, call, what was received): left in the spool by a process that died."""
    revived: set[str] = field(default_factory=set)
    """Machines recovered to a history that the log had left: no mirror had a newer one."""
    broken: list[str] = field(default_factory=list)
    """Invariants that were broken during the run."""

    def went_back(self, name: str, since_s: float = 0.0) -> bool:
        """May a machine have forgotten something that it knew at that moment?"""
        return any(who == name and since_s <= at_s for at_s, who in self.restored)


def accept(world: World, process: Process, call: Call, message: StoredMessage) -> None:
    """The caller was told that the message is stored."""
    call_id = call.call_id
    world.told.accepted[call_id] = AcceptedCall(call, call_id, message, world.now_s)
    check_promise(world, process)
    if all(e.topic != "message-stored" for e in process.machine.image.streams.get(call_id, ())):
        world.told.broken.append(f"{process.name} told of call {call_id}, not in its log")
    world.network.note("accepted", call_id, message.is_pending)


def check_promise(world: World, process: Process) -> None:
    """A server gives its word now: every message that its log names must be on its disk."""
    machine = process.machine
    entries = machine.image.entries
    for entry in entries[machine.checked_until :]:
        is_stored = entry.topic == "message-stored" and entry.originator_id not in world.told.erased
        if is_stored and not (
            has_durable_sound(machine, entry) or is_recalled(world, machine, entry)
        ):
            world.told.broken.append(
                f"{process.name} gave its word, and position {entry.position} has no sound "
                "on the disk"
            )
    machine.checked_until = len(entries)


def check_receipt(world: World, process: Process, answer: Answer) -> None:
    """What a receipt says must be committed before it leaves."""
    if not isinstance(answer, Accepted):
        return
    receipt = answer.receipt
    name = tracking_name(receipt.origin, receipt.origin_incarnation)
    tracked, _ = process.machine.image.tracking.get(name, (0, b""))
    if tracked < receipt.origin_position:
        world.told.broken.append(
            f"{process.name} signed for {receipt.origin_position} events of {receipt.origin} "
            f"and has taken in {tracked}"
        )


def sound_of(stored: bytes) -> UUID | None:
    """Give the call (or the mailbox's stream) of a stored form; None for a pack of many."""
    try:
        return call_of(stored)
    except CorruptionError:
        return None


def note_spool(world: World, machine: Machine) -> None:
    """A process died: what its spool holds durably of callers' voices must not vanish."""
    for path, inode in machine.disk.durable_names.within(SPOOL):
        if path.suffix == ".zst" and machine.disk.names.get(path) is inode:
            received = intact_in(bytes(inode.content[: inode.synced_bytes]), machine.vault)
            if received:
                world.told.spooled.append((world.now_s, machine.id, UUID(path.stem), received))


def note_losses(world: World) -> None:
    """Find the recordings that no disk holds any more: nothing could bring them back.

    While a server is lost that is not known: copies of its log may bring them back.
    """
    if any(machine.is_lost for machine in world.machines.values()):
        return
    machines = [*world.machines.values(), *world.clones]
    for call_id, accepted in world.told.accepted.items():
        name = str(accepted.message.message_id).encode()
        holders = [m for m in machines if _holds_message(m.image, call_id, name)]
        # What a log recalled from the home came without its sound, which the home lost later.
        is_silent = world.told.went_back(accepted.call.server) and not any(
            _holds_sound(machine, call_id) for machine in holders
        )
        if not holders or is_silent:
            world.told.lost_with_its_disk.add(call_id)


def is_recalled(world: World, machine: Machine, entry: LogEntry) -> bool:
    """Did a log that went back get this back from where the message is at home, with its sound?"""
    event = event_of(entry)
    assert isinstance(event, MessageStored)
    others = world.all_machines.keys() - {machine.id}
    is_at_home = any(event.message_id in world.view(name).ever_delivered for name in sorted(others))
    is_lost = event.originator_id in world.told.lost_with_its_disk
    return (is_at_home or is_lost) and world.told.went_back(machine.id)


def has_durable_sound(machine: Machine, entry: LogEntry) -> bool:
    """Would the sound of this message outlive a power cut now?"""
    event = event_of(entry)
    assert isinstance(event, MessageStored)
    location = machine.image.blob_locations.get(event.blob)
    own = message_stream_id(event.message_id, machine.id)
    if location is None and own not in machine.image.streams and entry.origin:
        return True  # it came along with another message's events, and is not delivered here
    return machine.disk.is_durable(machine.path_of(event.blob))


def _holds_sound(machine: Machine, call_id: UUID) -> bool:
    events = (event_of(entry) for entry in machine.image.streams.get(call_id, ()))
    blobs = (event.blob for event in events if isinstance(event, MessageStored))
    return any(machine.path_of(blob) in machine.disk.names for blob in blobs)


def _holds_message(image: LogImage, call_id: UUID, message: bytes) -> bool:
    stream = image.streams.get(call_id, ())
    return any(e.topic == "message-stored" and message in e.plain for e in stream)
