"""An origin records what homes answered: messages migrated, refused, sent on; keys that are kept.

What is to be recorded is decided on each whole stream as it stands, so that a repeated answer
records nothing twice, and a message whose mailbox has moved follows it. One append holds all of a
batch. The stream is that of the call where the server took it, and the message's own where the
server was its home.

Source: claims 5 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.clock import Clock
from ledger.configuration import Homes
from ledger.errors import ConflictError, NotFoundError, TransientError
from ledger.events import (
    DomainEvent,
    MessageDelivered,
    MessageMigrated,
    MessageRehomed,
    MessageRequeued,
    MigrationRefused,
    Receipt,
    ServerId,
    Stamp,
    decode,
)
from ledger.ids import erasure_stream_id, message_stream_id
from ledger.journey import Journey, Stage, journey_of
from ledger.migration.audience import SENDS, AnyEvent, is_erased, stored_of
from ledger.migration.batch_builder import Delivery
from ledger.migration.erased_messages import erase_what_came_meanwhile
from ledger.migration.erasure_answers import answers_to_record
from ledger.migration.refusal_reason import RefusalReason
from ledger.migration.wire import Refusal
from ledger.storage.group_commit import EventLog

_ATTEMPTS: Final = 10

MAILBOX_MOVED: Final = "mailbox-moved"
OPERATOR: Final = "operator"

Streams: TypeAlias = Mapping[UUID, Sequence[AnyEvent]]


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
        self._add(kind, self._stream, self._version, fields)

    def send_to(self, home: ServerId, journey: Journey, reason: str) -> None:
        """Send the message (again); here it is at its home at once."""
        self.add(MessageRequeued, message_id=journey.message_id, home=home, reason=reason)
        if home == self._stamp.by:
            self.deliver_here(journey)

    def deliver_here(self, journey: Journey) -> None:
        """The message turned out to live here: as if it had been stored at its home."""
        own = message_stream_id(journey.message_id, self._stamp.by)
        if own == self._stream:
            self._version += 1  # it had left, and is back
        version = self._version if own == self._stream else 1
        fields = {
            "message_id": journey.message_id,
            "call_id": journey.call_id,
            "mailbox": journey.mailbox,
            "origin": self._stamp.by,
            "origin_position": 0,
        }
        self._add(MessageDelivered, own, version, fields)

    def _add(
        self, kind: type[DomainEvent], stream: UUID, version: int, fields: Mapping[str, object]
    ) -> None:
        event = kind(
            originator_id=stream,
            originator_version=version,
            recorded_at=self._stamp.at,
            recorded_by=self._stamp.by,
            **fields,  # type: ignore[arg-type]  # each caller names the fields of its kind
        )
        self._new.append(event)
        if stream == self._stream:
            self.events.append(event)


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
        if outcomes:
            ids = {o.delivery.stream for o in outcomes}
            ids |= {self._own_stream(o.delivery.message_id) for o in outcomes}
            await self._append(
                ids, lambda streams, stamp: settle(outcomes, streams, self._homes, stamp)
            )
        # A crash before this leaves a message in care without a key, until it is erased again.
        refused = [o.delivery for o in outcomes if o.reason == RefusalReason.KEY_DESTROYED]
        if refused:
            await self._erase_what_is_back(refused)

    async def _erase_what_is_back(self, refused: Sequence[Delivery]) -> None:
        """Erase messages that their home forgot and refused, if this log tells that they are."""
        told = await self._streams({delivery.stream for delivery in refused})
        journeys = [journey_of(one.message_id, told.get(one.stream, ())) for one in refused]
        await erase_what_came_meanwhile(
            self._log,
            self._homes.this_server,
            self._clock,
            {journey.call_id for journey in journeys if journey is not None},
        )

    async def record_erasures(self, peer: ServerId, answers: Mapping[UUID, Refusal | None]) -> None:
        """Record what a peer said to the erasure of calls: None for each whose key it destroyed.

        Raises TransientError when it cannot be recorded now: then nothing of it is.
        """
        if answers:
            ids = {erasure_stream_id(call_id) for call_id in answers}
            await self._append(
                ids, lambda streams, stamp: answers_to_record(answers, peer, streams, stamp)
            )

    async def requeue(self, call_id: UUID, message_id: UUID, reason: str) -> ServerId:
        """Send a message (again) to the present home of its mailbox; give that home.

        Raises NotFoundError for an unknown message or one without a home, and ConflictError for
        one that has arrived already.
        """
        own = self._own_stream(message_id)
        home = ""

        def decide(streams: Streams, stamp: Stamp) -> list[DomainEvent]:
            nonlocal home
            events = streams.get(own) or streams.get(call_id, [])
            home, new = requeue(message_id, events, self._homes, stamp, reason)
            return new

        await self._append({call_id, own}, decide)
        return home

    async def send_again(self, stream: UUID, message_id: UUID, reason: str) -> None:
        """Send a message of a re-homed mailbox again, whose home did not know that it is."""
        own = self._own_stream(message_id)

        def decide(streams: Streams, stamp: Stamp) -> list[DomainEvent]:
            events = streams.get(stream, [])
            journey = journey_of(message_id, events)
            if journey is None or journey.mailbox not in self._homes.rehomed:
                return []
            if journey.is_erased:
                return []
            if journey.refused != RefusalReason.NOT_MY_MAILBOX:
                return []
            if _is_over(stream, own, streams):
                return []
            return requeue(message_id, events, self._homes, stamp, reason)[1]

        await self._append({stream, own}, decide)

    async def deliver(self, known: Journey) -> None:
        """Deliver a message at its home here, whose delivery a log that was cut off lacks."""
        own = self._own_stream(known.message_id)

        def decide(streams: Streams, stamp: Stamp) -> list[DomainEvent]:
            events, new = streams.get(known.stream, []), list[DomainEvent]()
            journey = journey_of(known.message_id, events)
            is_over = _is_over(known.stream, own, streams)
            if journey is not None and journey.is_undelivered and not is_over:
                _Writer(events, stamp, new).deliver_here(journey)
            return new

        await self._append({known.stream, own}, decide)

    async def hand_over(self, journeys: Sequence[Journey]) -> int:
        """Send messages that are at home here to the present homes of their mailboxes.

        Gives how many; those that have been sent already are not sent again.
        """
        ids = {stream for j in journeys for stream in (j.stream, j.call_id)}
        count = 0

        def decide(streams: Streams, stamp: Stamp) -> list[DomainEvent]:
            nonlocal count
            new = hand_over(journeys, streams, self._homes, stamp)
            count = len(new)
            return new

        # A crash after this commit leaves messages that are on their way; before it, the next start
        # finds them at a server that is not their home.
        await self._append(ids, decide)
        return count

    def _own_stream(self, message_id: UUID) -> UUID:
        return message_stream_id(message_id, self._homes.this_server)

    async def _append(
        self, ids: set[UUID], decide: Callable[[Streams, Stamp], list[DomainEvent]]
    ) -> None:
        for _ in range(_ATTEMPTS):
            streams = await self._streams(ids)
            stamp = Stamp(at=self._clock.now(), by=self._homes.this_server)
            new = decide(streams, stamp)
            if not new:
                return
            try:
                await self._log.append_events(new)
            except IntegrityError:
                continue  # Somebody else wrote to one of the streams: look again.
            return
        raise TransientError("messages are being changed by others; this is recorded later")

    async def _streams(self, ids: set[UUID]) -> Streams:
        found = await self._log.read_streams(sorted(ids))
        return {
            stream: [decode(e.plain, f"position {e.position}") for e in entries]
            for stream, entries in found.items()
        }


def _is_over(stream: UUID, own: UUID, streams: Streams) -> bool:
    """Was the message at home here since this stream told of it? Then ``own`` tells the rest."""
    return own != stream and own in streams


def settle(
    outcomes: Sequence[Outcome], streams: Streams, homes: Homes, stamp: Stamp
) -> list[DomainEvent]:
    """Give the events that follow from what homes said."""
    new: list[DomainEvent] = []
    writers = {stream: _Writer(events, stamp, new) for stream, events in streams.items()}
    for outcome in outcomes:
        delivery = outcome.delivery
        writer = writers.get(delivery.stream)
        own = message_stream_id(delivery.message_id, stamp.by)
        if writer is None or _is_over(delivery.stream, own, streams):
            continue
        journey = journey_of(delivery.message_id, writer.events)
        if journey is None or journey.stage is Stage.AT_HOME:
            continue  # It came back since then: what another home says of it is old.
        if delivery.version < since_last_delivery(writer.events)[0].originator_version:
            continue  # It came back and left again, as a log that went back was told meanwhile.
        if journey.is_erased and outcome.receipt is None:
            continue  # Nobody wants it to go anywhere any more.
        if outcome.receipt is not None:
            _settle_migrated(outcome, outcome.receipt, journey, writer)
        else:
            _settle_refused(outcome, journey, homes, writer)
    return new


def requeue(
    message_id: UUID, events: Sequence[AnyEvent], homes: Homes, stamp: Stamp, reason: str
) -> tuple[ServerId, list[DomainEvent]]:
    """Give the events that send a message to its present home, and that home."""
    journey = journey_of(message_id, events)
    if journey is None or events[0].recorded_by != stamp.by:
        raise NotFoundError(f"message {message_id} was not taken here; ask the server that did")
    if journey.stage is not Stage.LEAVING:
        raise ConflictError(f"message {message_id} has arrived at its home {journey.home}")
    if journey.is_erased:
        raise ConflictError(f"message {message_id} is erased, and goes nowhere any more")
    home = homes.name_of_home(journey.mailbox)
    if home is None:
        raise NotFoundError(
            f"no server is home to mailbox {journey.mailbox}; add it to the configuration first"
        )
    new: list[DomainEvent] = []
    _Writer(events, stamp, new).send_to(home, journey, reason)
    return home, new


def hand_over(
    journeys: Sequence[Journey], streams: Streams, homes: Homes, stamp: Stamp
) -> list[DomainEvent]:
    """Give the events that send messages away which are at home here and whose mailbox is not."""
    new: list[DomainEvent] = []
    for known in journeys:
        journey = journey_of(known.message_id, streams.get(known.stream, ()))
        call = streams.get(known.call_id, ())
        message = stored_of(known.message_id, call)
        home = homes.name_of_home(known.mailbox)
        is_to_go = home not in (None, stamp.by)
        if journey is None or journey.stage is not Stage.AT_HOME or message is None or not is_to_go:
            continue
        if journey.is_erased or is_erased(known.message_id, call):
            continue  # here, or by the server that took the call before it heard of our receipt
        _Writer(streams[known.stream], stamp, new).add(
            MessageRehomed,
            message_id=journey.message_id,
            call_id=journey.call_id,
            mailbox=journey.mailbox,
            home=home,
            epoch=homes.epoch_of(journey.mailbox),
            blob_size_bytes=message.blob_size_bytes,
        )
    return new


def _settle_migrated(outcome: Outcome, receipt: Receipt, journey: Journey, writer: _Writer) -> None:
    """Once a home: again when it had lost the message, or holds it under a new incarnation."""
    message_id = outcome.delivery.message_id
    for event in since_last_delivery(writer.events):
        if (
            journey.stage is Stage.GONE
            and isinstance(event, MessageMigrated)
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


def _settle_refused(outcome: Outcome, journey: Journey, homes: Homes, writer: _Writer) -> None:
    """Record a refusal once, and follow the mailbox if it lives elsewhere as far as we know."""
    if _is_settled(outcome, since_last_delivery(writer.events)):
        return
    writer.add(
        MigrationRefused,
        message_id=journey.message_id,
        home=outcome.home,
        reason=outcome.reason,
        detail=outcome.detail,
    )
    home = homes.name_of_home(journey.mailbox)
    if home is not None and home != outcome.home:
        writer.send_to(home, journey, MAILBOX_MOVED)


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
        if isinstance(event, SENDS):
            # Sent on to another home since: this answer is an old one.
            return event.home != outcome.home
    return False


def since_last_delivery(events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
    """Give what a home recorded of a message since it came to it last; other streams whole."""
    starts = (n for n, event in enumerate(events) if isinstance(event, MessageDelivered))
    return events[max(starts, default=0) :]
