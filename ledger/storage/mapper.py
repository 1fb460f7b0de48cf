"""Between domain events and the library's stored events: the plain JSON is the state.

Source: claim 10.
"""

from __future__ import annotations

from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent

from ledger.errors import CorruptionError
from ledger.events import EVENT_CLASSES, DomainEvent, OpaqueEvent, decode, encode
from ledger.storage.event_log import LogEntry


def to_stored_event(event: DomainEvent | OpaqueEvent) -> StoredEvent:
    """Encode an event for a recorder: ``state`` is its JSON."""
    return StoredEvent(event.originator_id, event.originator_version, event.topic, encode(event))


def to_domain_event(stored: StoredEvent | LogEntry, place: str = "") -> DomainEvent | OpaqueEvent:
    """Decode what a recorder gave back.

    Raises CorruptionError when it is not valid, or is not the event that its row says it is.
    """
    plain = stored.plain if isinstance(stored, LogEntry) else stored.state
    try:
        event = decode(plain)
    except CorruptionError:
        # Once more for an error that says where: the place is not worth its time for each event.
        return decode(plain, place or _place(stored))
    if (
        event.originator_id != stored.originator_id
        or event.originator_version != stored.originator_version
        or (type(event) is not EVENT_CLASSES.get(stored.topic) and event.topic != stored.topic)
    ):
        raise CorruptionError(
            "a row of the log names another event than it holds",
            place=place or _place(stored),
            expected=f"{stored.topic} of {_place(stored)}",
            found=f"{event.topic} of {_place(event)}",
            advice="restore the log from a backup or a mirror",
        )
    return event


def _place(event: StoredEvent | LogEntry | DomainEvent | OpaqueEvent) -> str:
    return f"stream {event.originator_id} version {event.originator_version}"


class LedgerMapper(Mapper[UUID]):
    """The library's mapper for our events: its ``MAPPER_TOPIC``. Compresses nothing itself."""

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        return to_stored_event(domain_event)  # type: ignore[arg-type]  # ours satisfy the protocol

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        return to_domain_event(stored_event)
