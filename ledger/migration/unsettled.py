"""Which messages of this server have not arrived anywhere yet, by its own log.

Read once at the start of the server, so that a message whose mailbox has moved in the configuration
follows it, and one whose home is gone does not wait for a peer that nobody will contact.

Source: claims 5 and 13.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    position = 0
    while page := await log.read(position + 1, _PAGE):
        position = page[-1].position
        for entry in page:
            if entry.topic in _TOPICS and entry.origin is None:
                _fold(waiting, decode(entry.plain, f"position {entry.position}"), this_server)
    return list(waiting.values())


def _fold(
    waiting: dict[UUID, Unsettled], event: DomainEvent | OpaqueEvent, this_server: ServerId
) -> None:
    match event:
        case MessageStored() if event.home != this_server:
            waiting[event.message_id] = Unsettled(
                event.originator_id, event.message_id, event.mailbox, event.home
            )
        case MessageRequeued() | MigrationRefused() if event.message_id in waiting:
            old = waiting[event.message_id]
            is_refused = isinstance(event, MigrationRefused)
            home = old.home if is_refused else event.home
            waiting[event.message_id] = Unsettled(
                old.call_id, old.message_id, old.mailbox, home, is_refused
            )
        case MessageMigrated() | MessageDelivered() | MessageErased():
            waiting.pop(event.message_id, None)
        case _:
            pass
