"""Who calls in a simulation, and what must be known of that: all at home, nothing in a log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from ledger.caller import CallerState
from ledger.events import AnyCaller, Caller, CallReceived
from ledger.storage.callers import Callers
from ledger.storage.event_log import LogEntry
from ledger.storage.vault import Vault
from tests.simulation.logs import event_of
from tests.simulation.server import Machine

if TYPE_CHECKING:
    from tests.simulation.remains import Remains
    from tests.simulation.world import World

NUMBER: Final = "+49301234"
"""What every caller's number begins with; stands nowhere else."""
NAME: Final = "Ann Unmistakable"


def caller_of(call_id: UUID) -> Caller:
    """Give who made a call: another number for each."""
    return Caller(number=f"{NUMBER}{call_id.int % 10**6:06}", name=NAME)


def nobody_is_named_in_a_log(world: Remains) -> Iterator[str]:
    """No event of any log, or of a copy of one, holds a caller's number or name as it is."""
    signs = NUMBER.encode(), NAME.encode()
    for name, machine in world.all_machines.items():
        for entry in _entries(machine):
            if any(sign in entry.plain for sign in signs) or _is_open(entry):
                yield f"position {entry.position} of {name} names who called"


def _entries(machine: Any) -> Iterator[LogEntry]:
    yield from machine.image.entries
    for kept in getattr(machine, "copies", {}).values():
        yield from kept.image.entries


def _is_open(entry: LogEntry) -> bool:
    if entry.topic != "call-received":
        return False
    event = event_of(entry)
    return isinstance(event, CallReceived) and isinstance(event.personal, Caller)


def homes_know_who_called(world: World) -> Iterator[str]:
    """Each server opens the callers of the messages at home there, and they are the right ones."""
    for name, machine in world.machines.items():
        for call_id, caller in _at_home(world, name, machine):
            seen = Callers(_vault(machine)).see_one(call_id, caller)
            if seen.state is not CallerState.KNOWN or seen.caller != caller_of(call_id):
                yield f"{name} shows the caller of call {call_id} as {seen}"


def _at_home(world: World, name: str, machine: Machine) -> Iterator[tuple[UUID, AnyCaller]]:
    calls = {event.call_id for _, event in world.view(name).delivered}
    for call_id in calls & world.told.accepted.keys() - world.told.erased:
        for entry in machine.image.streams.get(call_id, ()):
            event = event_of(entry)
            if isinstance(event, CallReceived):
                yield call_id, event.personal


def _vault(machine: Machine) -> Vault:
    return Vault(machine.reader, machine.master, machine.rng.randbytes)
