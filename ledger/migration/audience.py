"""Who needs to hear of an event, and what must travel with it.

Only events that a server recorded itself are the reason for a parcel (a *trigger*): a message
stored for another home, what its user did to it while it waits, a mailbox's greeting. A parcel
holds the trigger and all earlier events of its stream that the receiver may lack, byte for byte, so
that the receiver can check it without asking back. A message that leaves its home for the next one
brings along all other streams that tell of it: its call's, which another server may have recorded,
and those of still earlier homes.

The topics that may travel, and in which kind of stream, are one table. Both sides use it: what is
not in it is never sent and never accepted.

Source: claims 4 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from ledger.events import (
    EVENT_CLASSES,
    CallAbandoned,
    CallErased,
    CallReceived,
    DomainEvent,
    Event,
    GreetingRecorded,
    GreetingRemoved,
    MailboxHeld,
    MailboxOpened,
    MailboxRehomed,
    MailboxReleased,
    MessageDeleted,
    MessageDelivered,
    MessageErased,
    MessageForwarded,
    MessageHeard,
    MessageMigrated,
    MessageRehomed,
    MessageRequeued,
    MessageRestored,
    MessageSaved,
    MessageStored,
    MigrationRefused,
    OpaqueEvent,
    PinChanged,
    RecordingSetAside,
    ServerId,
    TransferDecided,
)
from ledger.migration.travelling_keys import CALL_RECEIVED
from ledger.migration.wire import Parcel, WireEvent
from ledger.storage.event_log import LogEntry

AnyEvent: TypeAlias = DomainEvent | OpaqueEvent

SENDS: Final = (MessageStored, MessageRehomed, MessageRequeued)
"""What sends a message to the home that it names."""


class StreamKind(Enum):
    """Streams whose events travel."""

    CALL = "call"
    """Written by the server that took the call."""
    MESSAGE = "message"
    """Written by a server that is or was the message's home."""
    MAILBOX = "mailbox"
    """Written by the mailbox's home."""
    ERASURE = "erasure"
    """Written by a server that destroyed the key of a call."""


class Role(Enum):
    """What an event does to a parcel."""

    DELIVERS = "delivers"
    """The reason for a parcel: a message goes to the home that the event names."""
    FOLLOWS = "follows"
    """The reason for a parcel to where the message went."""
    INFORMS = "informs"
    """The reason for a parcel to every server, or to those that the event names."""
    ACCOMPANIES = "accompanies"
    """Travels with others of its stream."""


_CALL: Final = frozenset({StreamKind.CALL})
_MESSAGE: Final = frozenset({StreamKind.MESSAGE})
_MAILBOX: Final = frozenset({StreamKind.MAILBOX})
_ERASURE: Final = frozenset({StreamKind.ERASURE})
_EITHER: Final = _CALL | _MESSAGE
_RULES: Final[dict[type[Event], tuple[frozenset[StreamKind], Role]]] = {
    CallReceived: (_CALL, Role.ACCOMPANIES),
    TransferDecided: (_CALL, Role.ACCOMPANIES),
    CallAbandoned: (_CALL, Role.ACCOMPANIES),
    RecordingSetAside: (_CALL, Role.ACCOMPANIES),
    MessageStored: (_CALL, Role.DELIVERS),
    MessageDelivered: (_MESSAGE, Role.ACCOMPANIES),
    MessageRehomed: (_MESSAGE, Role.DELIVERS),
    MessageRequeued: (_EITHER, Role.DELIVERS),
    MessageMigrated: (_EITHER, Role.ACCOMPANIES),
    MigrationRefused: (_EITHER, Role.ACCOMPANIES),
    MessageHeard: (_EITHER, Role.FOLLOWS),
    MessageSaved: (_EITHER, Role.FOLLOWS),
    MessageDeleted: (_EITHER, Role.FOLLOWS),
    MessageRestored: (_EITHER, Role.FOLLOWS),
    MessageForwarded: (_EITHER, Role.FOLLOWS),
    MessageErased: (_EITHER, Role.FOLLOWS),
    CallErased: (_ERASURE, Role.INFORMS),
    MailboxOpened: (_MAILBOX, Role.INFORMS),
    GreetingRecorded: (_MAILBOX, Role.INFORMS),
    GreetingRemoved: (_MAILBOX, Role.INFORMS),
    PinChanged: (_MAILBOX, Role.INFORMS),
    MailboxRehomed: (_MAILBOX, Role.INFORMS),
    MailboxHeld: (_MAILBOX, Role.INFORMS),
    MailboxReleased: (_MAILBOX, Role.INFORMS),
}

TRAVELLING: Final[dict[str, tuple[frozenset[StreamKind], Role]]] = {
    str(kind.__struct_config__.tag): rule for kind, rule in _RULES.items()
}
"""Topic → in which streams it travels, and what it does to a parcel. All else stays at home."""

TRIGGERS: Final = frozenset(t for t, (_, role) in TRAVELLING.items() if role != Role.ACCOMPANIES)
"""Topics that may be the reason for a parcel."""


def role_of(event: AnyEvent) -> Role | None:
    """Say what an event does to a parcel; None for one that this program cannot interpret."""
    rule = TRAVELLING.get(event.topic) if not isinstance(event, OpaqueEvent) else None
    return rule[1] if rule is not None else None


def is_forbidden(event: AnyEvent, kind: StreamKind) -> bool:
    """May no other server record this in a stream of that kind?

    An unknown topic may be a newer program's: it is kept without being understood.
    """
    rule = TRAVELLING.get(event.topic)
    return event.topic in EVENT_CLASSES if rule is None else kind not in rule[0]


def is_for(event: AnyEvent, peer: ServerId, destination: ServerId | None) -> bool:
    """Say whether a peer needs to hear of an event of this server.

    ``destination`` is where the event's message is to go as its whole stream now stands
    (`destination_of`): a message that was sent on elsewhere leaves its first home alone. What a
    home records of its own messages names no destination, and stays there.
    """
    role = role_of(event)
    if role is None or role is Role.ACCOMPANIES or not may_be_for(event, peer):
        return False
    return role is Role.INFORMS or peer == destination


def may_be_for(event: AnyEvent, peer: ServerId) -> bool:
    """Say as much of `is_for` as is known without the event's stream."""
    if isinstance(event, CallErased):
        return peer in event.told_to
    return not isinstance(event, SENDS) or event.home == peer


def destination_of(message_id: UUID, events: Sequence[AnyEvent]) -> ServerId | None:
    """Say where a message of this stream is to go: the home named last."""
    named = (e for e in events if isinstance(e, SENDS))
    homes = [event.home for event in named if event.message_id == message_id]
    return homes[-1] if homes else None


def is_erased(message_id: UUID, events: Sequence[AnyEvent]) -> bool:
    """Was the message erased before it arrived anywhere? Then its audio must not travel."""
    return any(isinstance(e, MessageErased) and e.message_id == message_id for e in events)


def stored_of(message_id: UUID, events: Sequence[AnyEvent]) -> MessageStored | None:
    """Find the event that stored this message."""
    found = (e for e in events if isinstance(e, MessageStored) and e.message_id == message_id)
    return next(found, None)


@dataclass(frozen=True, slots=True)
class Shipment:
    """A parcel for one peer, before its audio is read."""

    parcel: Parcel
    stream: UUID
    """The trigger's."""
    blobs: tuple[tuple[str, int], ...] = ()
    """Digest and size of each blob that it needs: a recording, or what a PIN is checked against."""
    message: MessageStored | None = None
    """The message that it delivers; None for a parcel that only tells more."""
    calls: tuple[UUID, ...] = ()
    """Those whose beginning is in the parcel: the receiver needs their keys."""
    version: int = 0
    """The trigger's, in its stream."""
    erased: UUID | None = None
    """The call whose key it asks the receiver to destroy."""

    @property
    def told_bytes(self) -> int:
        """Length of the events in the parcel."""
        return sum(len(memoryview(event.plain)) for event in self.parcel.events)


def build_shipment(
    trigger: LogEntry,
    stream: Sequence[tuple[LogEntry, AnyEvent]],
    peer: ServerId,
    others: Sequence[tuple[LogEntry, AnyEvent]] = (),
) -> Shipment | None:
    """Make the parcel of a trigger for a peer; None when the trigger does not concern it.

    ``stream`` is the trigger's whole stream as it now stands; ``others`` are the other streams that
    tell of a message that was at home here.
    """
    stay = _since_last_delivery(stream)
    event = next((e for entry, e in stay if entry.position == trigger.position), None)
    if event is None:
        return None  # The message came back since then: what it was sent away for is over.
    message_id: UUID | None = getattr(event, "message_id", None)
    events = [event for _, event in stay]
    destination = destination_of(message_id, events) if message_id is not None else None
    if not is_for(event, peer, destination):
        return None
    upto = [entry for entry, _ in stream if entry.position <= trigger.position]
    if role_of(event) is Role.INFORMS:
        if _is_older_pin(event, events):
            return None
        blobs = profile_blobs(event)
        erased = event.call_id if isinstance(event, CallErased) else None
        return Shipment(_parcel(upto, blobs), trigger.originator_id, blobs, erased=erased)
    assert message_id is not None
    if role_of(event) is Role.FOLLOWS:
        before = [e for entry, e in stay if entry.position < trigger.position]
        is_leaving = destination_of(message_id, before) is not None
        parcel, calls = _parcel(upto, ()), calls_in(stream)
        return Shipment(parcel, trigger.originator_id, calls=calls) if is_leaving else None
    return _delivering(trigger, message_id, events, peer, [*others, *stream])


def _delivering(
    trigger: LogEntry,
    message_id: UUID,
    events: Sequence[AnyEvent],
    peer: ServerId,
    story: Sequence[tuple[LogEntry, AnyEvent]],
) -> Shipment | None:
    """Make the parcel that brings a message to a home, with all that is told of it."""
    told = [event for _, event in story]
    message = stored_of(message_id, told)
    if message is None or is_erased(message_id, told) or _is_elsewhere(message_id, events, peer):
        return None
    blobs = ((message.blob, message.blob_size_bytes),)
    # In the order of this log, the trigger last: that is the order in which things happened.
    upto = [entry for entry, _ in story if entry.position <= trigger.position]
    parcel = sorted(upto, key=lambda entry: entry.position)
    return Shipment(
        _parcel(parcel, blobs),
        trigger.originator_id,
        blobs,
        message,
        calls_in(story),
        trigger.originator_version,
    )


def calls_in(story: Iterable[tuple[LogEntry, AnyEvent]]) -> tuple[UUID, ...]:
    """Give the calls whose keys open what these tell: those that begin or have a message here.

    (What begins a call may be a newer program's word, and is sealed all the same.)
    """
    calls: dict[UUID, None] = {}
    for entry, event in story:
        is_sealed = isinstance(event, MessageStored) and event.is_sealed
        if is_sealed or entry.topic == CALL_RECEIVED:
            calls[entry.originator_id] = None
    return tuple(calls)


def _since_last_delivery(
    stream: Sequence[tuple[LogEntry, AnyEvent]],
) -> Sequence[tuple[LogEntry, AnyEvent]]:
    """Give what a home recorded of a message since it came to it last; other streams whole."""
    starts = (n for n, (_, event) in enumerate(stream) if isinstance(event, MessageDelivered))
    return stream[max(starts, default=0) :]


def profile_blobs(event: AnyEvent) -> tuple[tuple[str, int], ...]:
    """Give digest and size of what an event of a mailbox's own stream names: one blob or none."""
    if isinstance(event, GreetingRecorded):
        return ((event.blob, event.blob_size_bytes),)
    if isinstance(event, PinChanged) and event.verifier is not None:
        return ((event.verifier, event.verifier_size_bytes),)
    return ()


def _is_older_pin(event: AnyEvent, events: Sequence[AnyEvent]) -> bool:
    """Was the PIN changed again since then?

    The parcel of that change brings this event along, and what the older PIN was checked against is
    thrown away as soon as it may be: nobody needs it, and whoever has it can find out the PIN.
    """
    changes = [e for e in events if isinstance(e, PinChanged)]
    return isinstance(event, PinChanged) and event is not changes[-1]


def _is_elsewhere(message_id: UUID, events: Sequence[AnyEvent], peer: ServerId) -> bool:
    """Did another home acknowledge the message after all? Then it must not arrive twice.

    A receipt counts until the message is sent on: that happens after one only when the home that
    gave it has lost what it had.
    """
    home: ServerId | None = None
    for event in events:
        if getattr(event, "message_id", None) != message_id:
            continue
        if isinstance(event, MessageMigrated):
            home = event.home
        elif isinstance(event, MessageRequeued):
            home = None
    return home not in (None, peer)


def _parcel(entries: Sequence[LogEntry], blobs: Sequence[tuple[str, int]]) -> Parcel:
    return Parcel(
        position=entries[-1].position,
        events=tuple(WireEvent(e.position, msgspec.Raw(e.plain)) for e in entries),
        blobs=tuple(digest for digest, _ in blobs),
    )
