"""Between domain events and the library's stored events: the plain JSON is the state.

Source: claim 10.
"""

from __future__ import annotations

from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent

from ledger.errors import CorruptionError
from ledger.events import DomainEvent, OpaqueEvent, decode, encode
from ledger.storage.event_log import LogEntry


def to_stored_event(event: DomainEvent | OpaqueEvent) -> StoredEvent:
    """Encode an event for a recorder: ``state`` is its JSON."""
    return StoredEvent(event.originator_id, event.originator_version, event.topic, encode(event))


def to_domain_event(stored: StoredEvent | LogEntry, place: str = "") -> DomainEvent | OpaqueEvent:
    """Decode what a recorder gave back.

    Raises CorruptionError when it is not valid, or is not the event that its row says it is.
    """
    plain = stored.plain if isinstance(stored, LogEntry) else stored.state
    where = place or f"stream {stored.originator_id} version {stored.originator_version}"
    event = decode(plain, where)
    row = (stored.originator_id, stored.originator_version, stored.topic)
    inside = (event.originator_id, event.originator_version, event.topic)
    if row != inside:
        raise CorruptionError(
            "a row of the log names another event than it holds",
            place=where,
            expected=str(row),
            found=str(inside),
            advice="restore the log from a backup or a mirror",
        )
    return event


class LedgerMapper(Mapper[UUID]):
    """The library's mapper for our events: its ``MAPPER_TOPIC``. Compresses nothing itself."""

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        return to_stored_event(domain_event)  # type: ignore[arg-type]  # ours satisfy the protocol

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        return to_domain_event(stored_event)
