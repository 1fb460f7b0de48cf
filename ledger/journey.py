"""Where a message stands with one server: at home there, on its way elsewhere, or gone.

A pure fold over one stream that the server writes: its ``Message`` stream if the message was ever
delivered there, else the ``Call`` stream of a call that it took. A server answers for a message
while it is at home there and while it is leaving; only the next home's receipt ends that. So there
is one answer at any time, whatever happens on the way.

Source: claims 3, 5, 7 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from uuid import UUID

import msgspec

from ledger.events import (
    DomainEvent,
    MessageDelivered,
    MessageErased,
    MessageMigrated,
    MessageRehomed,
    MessageRequeued,
    MessageStored,
    MigrationRefused,
    OpaqueEvent,
    ServerId,
)


class Stage(Enum):
    """How far a message's time at a server has come."""

    AT_HOME = "at-home"
    """It was delivered here, and is here."""
    LEAVING = "leaving"
    """It is to go to another server, which has not acknowledged it."""
    GONE = "gone"
    """Another server acknowledged it, and answers for it."""


class Journey(msgspec.Struct, frozen=True, kw_only=True):
    """A message as one server knows it."""

    message_id: UUID
    call_id: UUID
    stream: UUID
    """Where this server goes on writing about it."""
    mailbox: str
    stage: Stage
    home: ServerId
    """Where it is, or where it is to go."""
    refused: str | None = None
    """Why that home does not take it; None when it was not refused since it was last sent."""
    is_erased: bool = False
    is_delivered: bool = False
    """Does the stream tell that it was delivered here, since it was last sent anywhere?"""

    @property
    def is_here(self) -> bool:
        """Does this server answer for it?"""
        return self.stage is not Stage.GONE

    @property
    def is_undelivered(self) -> bool:
        """Is this its home, and the delivery not told of that the same commit held?

        So it is where a copy of the log ended within that commit, and the server was recovered.
        """
        return self.stage is Stage.AT_HOME and not self.is_delivered


def advance(journey: Journey | None, event: DomainEvent | OpaqueEvent) -> Journey | None:
    """Fold one event about the message."""
    if isinstance(event, MessageStored | MessageDelivered | MessageRehomed):
        return _begin(event, is_erased=journey is not None and journey.is_erased)
    return _go_on(journey, event) if journey is not None else None


def _go_on(journey: Journey, event: DomainEvent | OpaqueEvent) -> Journey:
    after = journey
    match event:
        case MessageRequeued() if journey.stage is not Stage.GONE:
            # (To a home that has acknowledged it, it is only told more.)
            stage = Stage.AT_HOME if event.home == event.recorded_by else Stage.LEAVING
            after = _after(journey, stage, event.home)
        case MigrationRefused() if event.home == journey.home:
            # After its receipt a home refuses only what it has lost: we answer for it again.
            after = _after(journey, Stage.LEAVING, event.home, refused=event.reason)
        case MessageMigrated() if journey.stage is not Stage.AT_HOME:
            after = _after(journey, Stage.GONE, event.home)
        case MessageErased():
            after = msgspec.structs.replace(journey, is_erased=True)
        case _:
            pass
    return after


def _begin(event: MessageStored | MessageDelivered | MessageRehomed, *, is_erased: bool) -> Journey:
    home = event.recorded_by if isinstance(event, MessageDelivered) else event.home
    return Journey(
        message_id=event.message_id,
        call_id=event.originator_id if isinstance(event, MessageStored) else event.call_id,
        stream=event.originator_id,
        mailbox=event.mailbox,
        stage=Stage.AT_HOME if home == event.recorded_by else Stage.LEAVING,
        home=home,
        is_erased=is_erased,
        is_delivered=isinstance(event, MessageDelivered),
    )


def _after(
    journey: Journey, stage: Stage, home: ServerId, *, refused: str | None = None
) -> Journey:
    return msgspec.structs.replace(
        journey, stage=stage, home=home, refused=refused, is_delivered=False
    )


def journey_of(message_id: UUID, events: Iterable[DomainEvent | OpaqueEvent]) -> Journey | None:
    """Fold the events of one stream that are about this message; None when there are none."""
    journey: Journey | None = None
    for event in events:
        if getattr(event, "message_id", None) == message_id:
            journey = advance(journey, event)
    return journey


def in_care_of(
    server: ServerId,
    call: Sequence[DomainEvent | OpaqueEvent],
    own: Callable[[UUID], Sequence[DomainEvent | OpaqueEvent]],
) -> list[Journey]:
    """Give the messages of a call that a server answers for, and are not erased.

    ``call`` is the call's stream as the server has it, ``own`` gives what the server itself wrote
    of a message as its home.
    """
    is_taken_here = bool(call) and call[0].recorded_by == server
    stored = [event.message_id for event in call if isinstance(event, MessageStored)]
    found = [journey_of(m, own(m) or (call if is_taken_here else ())) for m in stored]
    return [j for j in found if j is not None and j.is_here and not j.is_erased]
