"""Read, decide, append: the loop that every use case shares.

A stream has one writer, this server, but several requests may concern one call at the same time.
The log refuses the second event of a version, and the loser decides again on what is then there.

Source: claim 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger import call
from ledger.call import CallState
from ledger.errors import NotFoundError, TransientError
from ledger.events import DomainEvent, OpaqueEvent, decode
from ledger.storage.group_commit import EventLog

Events = Sequence[DomainEvent]
_ATTEMPTS: Final = 10


async def read_stream(log: EventLog, stream: UUID) -> list[DomainEvent | OpaqueEvent]:
    """Give a stream's events in the order of their versions; empty if there is none."""
    entries = (await log.read_streams([stream])).get(stream, [])
    return [decode(entry.plain, f"position {entry.position}") for entry in entries]


async def load_call(log: EventLog, call_id: UUID) -> CallState:
    """Give the state of a call; raises NotFoundError if this server took no such call."""
    state = call.project(None, await read_stream(log, call_id))
    if state is None:
        raise NotFoundError(
            f"call {call_id} is not known here; report it with POST /v1/calls first"
        )
    return state


async def change_call(
    log: EventLog, call_id: UUID, decide: Callable[[CallState], Events]
) -> tuple[CallState, Events]:
    """Append what ``decide`` makes of the call's state; durable on return.

    Gives the state that was decided on and the events appended (none: nothing had to change).
    Raises what ``decide`` raises, and TransientError when others keep changing the same call.
    """
    for _ in range(_ATTEMPTS):
        state = await load_call(log, call_id)
        events = decide(state)
        if not events:
            return state, ()
        try:
            await log.append_events(events)
        except IntegrityError:
            continue
        return state, events
    raise TransientError(f"call {call_id} is being changed by others; try again")
