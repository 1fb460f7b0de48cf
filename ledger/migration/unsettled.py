"""Which messages of this server are not where they belong, by its own log.

Those that have not arrived anywhere yet, those of a re-homed mailbox that are still at home here,
and those that were stored at their home here, or sent back to it, and of whose delivery the log
does not tell. Read at the start of the server and whenever a mailbox gets another home, so that
messages follow their mailbox, and one whose home is gone does not wait for a peer that nobody will
contact.

Source: claims 5 and 13.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from uuid import UUID

from ledger.configuration import Homes
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
    decode,
)
from ledger.journey import Journey, Stage, advance, journey_of
from ledger.storage.group_commit import EventLog

_SPAN: Final = 5000
_TOPICS: Final = tuple(
    str(kind.__struct_config__.tag)
    for kind in (
        MessageStored,
        MessageRehomed,
        MessageRequeued,
        MigrationRefused,
        MessageMigrated,
        MessageDelivered,
        MessageErased,
    )
)


async def find_unsettled(
    log: EventLog, homes: Homes, mailboxes: Collection[str] | None = None
) -> list[Journey]:
    """Read the whole log; give the messages in the order in which they were stored.

    ``mailboxes``: only of these. What is at home here counts where the log names another home; by a
    change of the configuration alone, what has arrived stays.
    """
    unsettled = _Unsettled(homes, mailboxes)
    head = (await log.head()).position
    for start in range(1, head + 1, _SPAN):
        for entry in await log.read_topics(_TOPICS, start, min(start + _SPAN - 1, head)):
            if entry.origin is None:
                unsettled.take(decode(entry.plain, f"position {entry.position}"))
    return [*unsettled.found.values(), *await _find_reopened(log, unsettled)]


class _Unsettled:
    """Keeps only those that are not where they belong: their number does not grow with the log."""

    def __init__(self, homes: Homes, mailboxes: Collection[str] | None) -> None:
        self._homes = homes
        self._mailboxes = mailboxes
        self.found: dict[UUID, Journey] = {}
        self.reopened: dict[UUID, UUID] = {}
        """Refused after they had arrived somewhere: message -> stream."""

    def take(self, event: DomainEvent | OpaqueEvent) -> None:
        if self._is_told_of_before(event):
            return
        match event:
            case MessageStored() | MessageDelivered() | MessageRehomed():
                self.reopened.pop(event.message_id, None)
                self._put(event.message_id, advance(self.found.get(event.message_id), event))
            case MessageRequeued() | MigrationRefused() if event.message_id in self.found:
                self._put(event.message_id, advance(self.found[event.message_id], event))
            case MigrationRefused():
                self.reopened[event.message_id] = event.originator_id
            case MessageMigrated() | MessageErased():
                self.found.pop(event.message_id, None)
            case _:
                pass

    def _is_told_of_before(self, event: DomainEvent | OpaqueEvent) -> bool:
        """Is this of a call whose message came here as to its home since?

        A log that went back may get it back behind what it recorded then.
        """
        message_id: UUID | None = getattr(event, "message_id", None)
        known = self.found.get(message_id) if message_id is not None else None
        return known is not None and known.stream != known.call_id == event.originator_id

    def _put(self, message_id: UUID, journey: Journey | None) -> None:
        if journey is not None and self.is_wanted(journey):
            self.found[message_id] = journey
        else:
            self.found.pop(message_id, None)

    def is_wanted(self, journey: Journey) -> bool:
        mailbox = journey.mailbox
        if self._mailboxes is not None and mailbox not in self._mailboxes:
            return False
        if journey.is_undelivered:
            return not journey.is_erased
        if journey.stage is Stage.AT_HOME:
            return mailbox in self._homes.rehomed and not self._homes.is_ours(mailbox)
        return journey.stage is Stage.LEAVING and not journey.is_erased


async def _find_reopened(log: EventLog, unsettled: _Unsettled) -> list[Journey]:
    """Give those whose home lost them after it had acknowledged them."""
    wanted: Mapping[UUID, UUID] = {
        message_id: stream
        for message_id, stream in unsettled.reopened.items()
        if message_id not in unsettled.found
    }
    streams = await log.read_streams(list(dict.fromkeys(wanted.values()))) if wanted else {}
    journeys = (
        journey_of(
            message_id, [decode(e.plain, f"position {e.position}") for e in streams.get(stream, [])]
        )
        for message_id, stream in wanted.items()
    )
    return [j for j in journeys if j is not None and unsettled.is_wanted(j)]
