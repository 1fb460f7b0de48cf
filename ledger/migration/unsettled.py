"""Which messages of this server have not arrived anywhere yet, by its own log.

Read once at the start of the server, so that a message whose mailbox has moved in the configuration
follows it, and one whose home is gone does not wait for a peer that nobody will contact.

Source: claims 5 and 13.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from ledger.events import (
    DomainEvent,
    MessageDelivered,
    MessageErased,
    MessageMigrated,
    MessageRequeued,
    MessageStored,
    MigrationRefused,
    OpaqueEvent,
    ServerId,
    decode,
)
from ledger.storage.group_commit import EventLog

_PAGE: Final = 2000
_TOPICS: Final = frozenset(
    str(kind.__struct_config__.tag)
    for kind in (
        MessageStored,
        MessageRequeued,
        MigrationRefused,
        MessageMigrated,
        MessageDelivered,
        MessageErased,
    )
)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A message that waits at the server that took its call."""

    call_id: UUID
    message_id: UUID
    mailbox: str
    home: ServerId
    """Where it is to go."""
    refused: bool = False
    """That home does not take it: it is held."""


async def find_unsettled(log: EventLog, this_server: ServerId) -> list[Unsettled]:
    """Read the whole log; give the messages in the order in which they were stored."""
    waiting: dict[UUID, Unsettled] = {}
    reopened: dict[UUID, UUID] = {}
    position = 0
    while page := await log.read(position + 1, _PAGE):
        position = page[-1].position
        for entry in page:
            if entry.topic in _TOPICS and entry.origin is None:
                event = decode(entry.plain, f"position {entry.position}")
                _fold(waiting, event, this_server)
                if isinstance(event, MigrationRefused) and event.message_id not in waiting:
                    reopened[event.message_id] = event.originator_id
    return [*waiting.values(), *await _find_reopened(log, reopened)]


async def _find_reopened(log: EventLog, calls: Mapping[UUID, UUID]) -> list[Unsettled]:
    """Give those of these messages whose home lost them after it had acknowledged them."""
    found: list[Unsettled] = []
    streams = await log.read_streams(list(dict.fromkeys(calls.values()))) if calls else {}
    for message_id, call_id in calls.items():
        standing: Unsettled | None = None
        for entry in streams.get(call_id, []):
            event = decode(entry.plain, f"position {entry.position}")
            if getattr(event, "message_id", None) == message_id:
                standing = _after(standing, event)
        if standing is not None:
            found.append(standing)
    return found


def _after(standing: Unsettled | None, event: DomainEvent | OpaqueEvent) -> Unsettled | None:
    """Follow one message through its call's stream; None once it is erased."""
    if isinstance(event, MessageStored):
        return Unsettled(event.originator_id, event.message_id, event.mailbox, event.home)
    if standing is None or isinstance(event, MessageErased):
        return None
    if isinstance(event, MessageRequeued):
        return replace(standing, home=event.home, refused=False)
    return replace(standing, refused=True) if isinstance(event, MigrationRefused) else standing


def _fold(
    waiting: dict[UUID, Unsettled], event: DomainEvent | OpaqueEvent, this_server: ServerId
) -> None:
    match event:
        case MessageStored() if event.home != this_server:
            waiting[event.message_id] = Unsettled(
                event.originator_id, event.message_id, event.mailbox, event.home
            )
        case MessageRequeued() | MigrationRefused() if event.message_id in waiting:
            after = _after(waiting[event.message_id], event)
            assert after is not None, "neither of them erases"
            waiting[event.message_id] = after
        case MessageMigrated() | MessageDelivered() | MessageErased():
            waiting.pop(event.message_id, None)
        case _:
            pass
