"""Act on a message: heard, saved, deleted, restored, by the server that answers for it.

Source: claims 3 and 7.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger import message
from ledger.errors import CallerError, NotFoundError, TransientError
from ledger.events import DomainEvent, OpaqueEvent, ServerId, Stamp, decode
from ledger.ids import message_stream_id
from ledger.journey import journey_of
from ledger.message import Action, MessageState
from ledger.server.parts import ServerParts
from ledger.storage.event_log import Append, LogEntry
from ledger.storage.mapper import to_stored_event
from ledger.storage.message_streams import in_log_order

_ATTEMPTS: Final = 10


class NotInCustodyError(CallerError):
    """Another server answers for the message now; ask that one."""

    def __init__(self, message_id: UUID, custodian: ServerId) -> None:
        super().__init__(f"message {message_id} is now at its home {custodian}; ask that server")
        self.custodian = custodian


Decide: TypeAlias = Callable[[MessageState, UUID, int, Stamp], DomainEvent | None]
"""Makes the next event of a message, for a stream and version; None: nothing is to change."""


Complete: TypeAlias = Callable[[DomainEvent], Awaitable[Append]]
"""Says what is committed with the next event of a message, the event itself included."""


async def act_on_message(
    parts: ServerParts, call_id: UUID, message_id: UUID, action: Action, by: str
) -> bool:
    """Do something to a message; durable on return. False, and nothing, if nothing would change.

    Raises NotFoundError, NotInCustodyError, or ConflictError for what cannot be done to it.
    """

    def decide(state: MessageState, stream: UUID, version: int, stamp: Stamp) -> DomainEvent | None:
        return message.act(state, action, stream=stream, version=version, by=by, stamp=stamp)

    return await change_message(parts, call_id, message_id, decide)


async def alone(event: DomainEvent) -> Append:
    """Commit nothing with it."""
    return Append([to_stored_event(event)])


async def change_message(
    parts: ServerParts,
    call_id: UUID,
    message_id: UUID,
    decide: Decide,
    complete: Complete = alone,
) -> bool:
    """Record what is decided of a message that this server answers for; durable on return.

    ``complete`` adds what has to be committed with it. False when nothing was to change. Raises as
    `act_on_message`, and what ``decide`` and ``complete`` raise.
    """
    for _ in range(_ATTEMPTS):
        event = await _next(parts, call_id, message_id, decide)
        if event is None:
            return False
        try:
            await parts.log.append(await complete(event))
        except IntegrityError:
            continue
        return True
    raise TransientError(f"message {message_id} is being changed by others; try again")


async def _next(
    parts: ServerParts, call_id: UUID, message_id: UUID, decide: Decide
) -> DomainEvent | None:
    own = message_stream_id(message_id, parts.config.server)
    streams = await parts.log.read_with_earlier([call_id, own])
    state = message.project(message_id, events_of(in_log_order(streams)))
    if state is None:
        raise NotFoundError(f"message {message_id} is not known here")
    stream = own if own in streams else call_id
    version = len(streams[stream]) + 1
    _expect_custody(parts, message_id, events_of(streams[stream]))
    return decide(state, stream, version, Stamp(at=parts.clock.now(), by=parts.config.server))


def events_of(entries: Iterable[LogEntry]) -> list[DomainEvent | OpaqueEvent]:
    """Read the events of entries."""
    return [decode(entry.plain, f"position {entry.position}") for entry in entries]


def _expect_custody(
    parts: ServerParts, message_id: UUID, events: list[DomainEvent | OpaqueEvent]
) -> None:
    journey = journey_of(message_id, events)
    if journey is None:
        raise NotFoundError(f"message {message_id} is not known here")
    if not journey.is_here or events[0].recorded_by != parts.config.server:
        raise NotInCustodyError(message_id, journey.home)
