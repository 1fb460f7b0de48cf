"""An origin records what became of messages: migrated, refused, sent on elsewhere.

What is to be recorded is decided on each call's whole stream as it stands, so that a repeated
answer records nothing twice, and a message whose mailbox has moved follows it. One append holds all
of a batch.

Source: claims 5 and 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.clock import Clock
from ledger.configuration import Homes
from ledger.errors import ConflictError, NotFoundError, TransientError
from ledger.events import (
    DomainEvent,
    MessageDelivered,
    MessageMigrated,
    MessageRequeued,
    MessageStored,
    MigrationRefused,
    Receipt,
    ServerId,
    Stamp,
    decode,
)
from ledger.ids import message_stream_id
from ledger.migration.audience import AnyEvent, stored_of
from ledger.migration.batch_builder import Delivery
from ledger.storage.group_commit import EventLog

_ATTEMPTS: Final = 10

MAILBOX_MOVED: Final = "mailbox-moved"
OPERATOR: Final = "operator"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a home said about one message."""

    delivery: Delivery
    home: ServerId
    receipt: Receipt | None = None
    """None for a refusal."""
    reason: str = ""
    detail: str = ""


class _Writer:
    """Adds the events that follow in one stream to ``new``, giving each its version."""

    def __init__(self, events: Sequence[AnyEvent], stamp: Stamp, new: list[DomainEvent]) -> None:
        self._stream = events[-1].originator_id
        self._version = events[-1].originator_version
        self._stamp = stamp
        self.events = list(events)
        self._new = new

    def add(self, kind: type[DomainEvent], **fields: object) -> None:
        self._version += 1
        event = kind(
            originator_id=self._stream,
            originator_version=self._version,
            recorded_at=self._stamp.at,
            recorded_by=self._stamp.by,
            **fields,  # type: ignore[arg-type]  # each caller names the fields of its kind
        )
        self._new.append(event)
        self.events.append(event)

    def deliver_here(self, message: MessageStored) -> None:
        """The message turned out to live here: as if it had been stored at its home."""
        self._new.append(
            MessageDelivered(
                originator_id=message_stream_id(message.message_id, self._stamp.by),
                originator_version=1,
                recorded_at=self._stamp.at,
                recorded_by=self._stamp.by,
                message_id=message.message_id,
                call_id=self._stream,
                mailbox=message.mailbox,
                origin=self._stamp.by,
                origin_position=0,
            )
        )


class Settlement:
    """Writes the ends of messages' journeys into this server's log."""

    def __init__(self, log: EventLog, clock: Clock, homes: Homes) -> None:
        self._log = log
        self._clock = clock
        self._homes = homes

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Record what homes said; durable on return, and nothing that is recorded already.

        Raises TransientError when it cannot be recorded now: then nothing of it is.
        """
        for _ in range(_ATTEMPTS if outcomes else 0):
            streams = await self._streams({o.delivery.call_id for o in outcomes})
            stamp = Stamp(at=self._clock.now(), by=self._homes.this_server)
            new = settle(outcomes, streams, self._homes, stamp)
            if not new:
                return
            try:
                await self._log.append_events(new)
            except IntegrityError:
                continue  # Somebody else wrote to one of the calls: look again.
            return
        if outcomes:
            raise TransientError("calls are being changed by others; receipts are recorded later")

    async def requeue(self, call_id: UUID, message_id: UUID, reason: str) -> ServerId:
        """Send a message (again) to the home that the configuration names; give that home.

        Raises NotFoundError for an unknown message or one without a home, and ConflictError for
        one that has arrived already.
        """
        for _ in range(_ATTEMPTS):
            events = (await self._streams({call_id})).get(call_id, [])
            stamp = Stamp(at=self._clock.now(), by=self._homes.this_server)
            home, new = requeue(message_id, events, self._homes, stamp, reason)
            try:
                await self._log.append_events(new)
            except IntegrityError:
                continue
            return home
        raise TransientError(f"call {call_id} is being changed by others; try again")

    async def _streams(self, calls: set[UUID]) -> dict[UUID, list[AnyEvent]]:
        found = await self._log.read_streams(sorted(calls))
        return {
            stream: [decode(e.plain, f"position {e.position}") for e in entries]
            for stream, entries in found.items()
        }


def settle(
    outcomes: Sequence[Outcome],
    streams: Mapping[UUID, Sequence[AnyEvent]],
    homes: Homes,
    stamp: Stamp,
) -> list[DomainEvent]:
    """Give the events that follow from what homes said."""
    new: list[DomainEvent] = []
    writers = {stream: _Writer(events, stamp, new) for stream, events in streams.items()}
    for outcome in outcomes:
        writer = writers.get(outcome.delivery.call_id)
        if writer is None:
            continue
        if outcome.receipt is not None:
            _settle_migrated(outcome, outcome.receipt, writer)
        else:
            _settle_refused(outcome, homes, writer)
    return new


def requeue(
    message_id: UUID,
    events: Sequence[AnyEvent],
    homes: Homes,
    stamp: Stamp,
    reason: str,
) -> tuple[ServerId, list[DomainEvent]]:
    """Give the events that send a message to its present home, and that home."""
    message = stored_of(message_id, events)
    if message is None or message.recorded_by != stamp.by:
        raise NotFoundError(f"message {message_id} was not taken here; ask the server that did")
    arrived_at = _arrived_at(message_id, events)
    if arrived_at is not None:
        raise ConflictError(f"message {message_id} has arrived at its home {arrived_at}")
    home = _home_of(message, homes)
    if home is None:
        raise NotFoundError(
            f"no server is home to mailbox {message.mailbox}; add it to the configuration first"
        )
    new: list[DomainEvent] = []
    _send_to(home, message, reason, _Writer(events, stamp, new))
    return home, new


def _arrived_at(message_id: UUID, events: Sequence[AnyEvent]) -> ServerId | None:
    """Say where a message is, unless that home refused it later: then it has lost it."""
    home: ServerId | None = None
    for event in events:
        if getattr(event, "message_id", None) != message_id:
            continue
        if isinstance(event, MessageMigrated):
            home = event.home
        elif isinstance(event, MigrationRefused) and event.home == home:
            home = None
    return home


def _settle_migrated(outcome: Outcome, receipt: Receipt, writer: _Writer) -> None:
    """Once a home: again only when it went back and holds the message under a new incarnation."""
    message_id = outcome.delivery.message_id
    for event in writer.events:
        if (
            isinstance(event, MessageMigrated)
            and event.message_id == message_id
            and event.home == outcome.home
            and event.receipt.home_incarnation == receipt.home_incarnation
        ):
            return
    writer.add(
        MessageMigrated,
        message_id=message_id,
        home=outcome.home,
        home_position=receipt.home_position,
        receipt=receipt,
    )


def _settle_refused(outcome: Outcome, homes: Homes, writer: _Writer) -> None:
    """Record a refusal once, and follow the mailbox if it lives elsewhere by our configuration."""
    message = stored_of(outcome.delivery.message_id, writer.events)
    if message is None or _is_settled(outcome, writer.events):
        return
    writer.add(
        MigrationRefused,
        message_id=message.message_id,
        home=outcome.home,
        reason=outcome.reason,
        detail=outcome.detail,
    )
    home = _home_of(message, homes)
    if home is not None and home != outcome.home:
        _send_to(home, message, MAILBOX_MOVED, writer)


def _is_settled(outcome: Outcome, events: Sequence[AnyEvent]) -> bool:
    """Did the message arrive, or was this very refusal recorded since it was last sent?"""
    for event in reversed(events):
        if getattr(event, "message_id", None) != outcome.delivery.message_id:
            continue
        if isinstance(event, MessageMigrated):
            # A home never refuses what it has. This one lost it, and asked for it again.
            return event.home != outcome.home
        if isinstance(event, MigrationRefused) and event.home == outcome.home:
            return event.reason == outcome.reason
        if isinstance(event, MessageRequeued | MessageStored):
            # Sent on to another home since: this answer is an old one.
            return event.home != outcome.home
    return False


def _send_to(home: ServerId, message: MessageStored, reason: str, writer: _Writer) -> None:
    writer.add(MessageRequeued, message_id=message.message_id, home=home, reason=reason)
    if home == message.recorded_by:
        writer.deliver_here(message)


def _home_of(message: MessageStored, homes: Homes) -> ServerId | None:
    return homes.name_of_home(message.mailbox)
