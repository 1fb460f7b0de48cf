"""A home compares examined parcels with what it holds, and assembles the one append that follows.

Pure: what is held comes in as an argument. An event that is held already, byte for byte, is
skipped; so the same batch a second time assembles nothing. Another event at the same place of a
stream is a conflict and is said loudly; it stops the delivery of a message that is not here yet,
and cannot undo one that is.

Source: claim 7.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from ledger.events import (
    CallErased,
    DomainEvent,
    MessageDelivered,
    MessageErased,
    MessageRequeued,
    MessageStored,
    ServerId,
    Stamp,
    decode,
    encode,
)
from ledger.ids import message_stream_id
from ledger.journey import Journey, Stage, in_care_of, journey_of
from ledger.migration.audience import AnyEvent, Role, StreamKind
from ledger.migration.erasure_answers import answer_to_record
from ledger.migration.examination import Examined, ForeignEvent, RefusedError
from ledger.migration.refusal_reason import RefusalReason
from ledger.migration.wire import Refusal
from ledger.storage.event_log import LogEntry
from ledger.storage.mapper import to_stored_event

MORE_TOLD: Final = "more-told"
"""Why a message is sent again to a home that has it."""

_LOG: Final = logging.getLogger(__name__)


class Assembly:
    """What one batch adds to this server's log."""

    def __init__(
        self,
        *,
        this_server: ServerId,
        origin: ServerId,
        held: Mapping[UUID, Sequence[LogEntry]],
        reachable_blobs: Collection[str],
        reachable_keys: Collection[UUID],
        destroyed_keys: Collection[UUID],
        now: datetime,
    ) -> None:
        """Begin with what is held of the streams concerned.

        ``reachable_blobs`` are those that are here already or came along; so are
        ``reachable_keys``, the calls with a key. ``destroyed_keys`` are calls whose key was
        destroyed here.
        """
        self._this_server = this_server
        self._origin = origin
        self._now = now
        self._blobs = reachable_blobs
        self._keys = reachable_keys
        self._destroyed = destroyed_keys
        self._held = {s: {e.originator_version: e.plain for e in es} for s, es in held.items()}
        self._foreign: list[ForeignEvent] = []
        self._own: list[DomainEvent] = []
        self.refusals: list[Refusal] = []
        self.needed_blobs: set[str] = set()
        self.blobs_needed_anew: set[str] = set()
        """Of those: what nothing here may have needed until now."""
        self.calls: set[UUID] = set()
        """Those of which something is taken in: their keys are to be kept."""
        self.erased_calls: set[UUID] = set()
        """Those whose keys are to be destroyed."""

    def add(self, parcel: Examined | Refusal) -> None:
        """Take in one parcel, or note why not."""
        if isinstance(parcel, Refusal):
            self.refusals.append(parcel)
            return
        try:
            if parcel.erasure is not None:
                self._take_erasure(parcel, parcel.erasure)
            else:
                self._take(parcel)
        except RefusedError as refused:
            self.refusals.append(refused.at(parcel.position))

    @property
    def stored_events(self) -> list[StoredEvent]:
        """All events to append: the origin's first, then this server's own."""
        own = [to_stored_event(event) for event in self._own]
        return [f.stored for f in self._foreign] + own

    @property
    def foreign_events(self) -> list[AnyEvent]:
        """Those of the origin's events that are new here."""
        return [foreign.event for foreign in self._foreign]

    @property
    def origin_positions(self) -> list[int]:
        """Where the origin's events stand in its log."""
        return [foreign.position for foreign in self._foreign]

    def _take(self, parcel: Examined) -> None:
        journey = self._journey(parcel.message_id)
        is_here = journey is not None and journey.is_here
        if parcel.unless_held is not None and not is_here:
            raise parcel.unless_held
        if parcel.role is Role.FOLLOWS and journey is None:
            return  # The message was refused; the whole stream comes again when it is sent again.
        try:
            new = self._new_events(parcel)
        except RefusedError as conflict:
            self._tell(parcel, conflict)
            if is_here or parcel.role is Role.FOLLOWS:
                return
            raise
        if is_here:
            # A recording that was lost here since then is healed by the one that came along.
            self.needed_blobs.update(d for d in parcel.blobs if d in self._blobs)
        else:
            self._expect_blobs(parcel)
            self._expect_keys(parcel)
            if parcel.message is not None and parcel.kind is StreamKind.MESSAGE:
                self._expect_stored(parcel.message, new)
        self.calls.update(parcel.calls, parcel.sealed_calls)
        self._keep(new)
        if parcel.message is not None and self._comes_to_stay(parcel):
            self._deliver(parcel.message, parcel)
        elif new:
            self._tell_on(parcel.message_id)

    def _tell(self, parcel: Examined, conflict: RefusedError) -> None:
        _LOG.error(
            "action=conflict origin=%s stream=%s position=%d detail=%s",
            self._origin,
            parcel.stream,
            parcel.position,
            conflict.detail,
        )

    def _comes_to_stay(self, parcel: Examined) -> bool:
        """Is the message to be delivered with this parcel?

        Not when it is at home here. A message that is leaving for another home and comes back from
        a former one has come back; its leaving is over. When it is the call's server that sends it
        again, nothing has changed: the next home may have it already, and is asked.
        """
        journey = self._journey(parcel.message_id)
        if journey is None or not journey.is_here:
            return True
        is_back = journey.stage is Stage.LEAVING and parcel.kind is StreamKind.MESSAGE
        return is_back and parcel.unless_held is None

    def _tell_on(self, message_id: UUID | None) -> None:
        """What was told of a message that left this server goes to where it went."""
        journey = self._journey(message_id)
        if journey is None or journey.stage is Stage.AT_HOME or journey.is_erased:
            return
        self._record(MessageRequeued, journey.message_id, home=journey.home, reason=MORE_TOLD)

    def _journey(self, message_id: UUID | None) -> Journey | None:
        """How does the message stand here, with all of this batch so far?"""
        if message_id is None:
            return None
        return journey_of(message_id, self._told_in(self._own_stream(message_id)))

    def _told_in(self, stream: UUID) -> list[AnyEvent]:
        held = self._held.get(stream, {})
        return [decode(held[version]) for version in sorted(held)]

    def _own_stream(self, message_id: UUID) -> UUID:
        return message_stream_id(message_id, self._this_server)

    def _new_events(self, parcel: Examined) -> list[ForeignEvent]:
        """Give those that are not held. Raises RefusedError for a conflict or a gap.

        Of a message that was at home elsewhere, what is held of a stream is kept where the two
        differ: a log that went back has written it twice, and the message is not to blame.
        """
        new: list[ForeignEvent] = []
        streams: dict[UUID, list[ForeignEvent]] = {}
        for foreign in parcel.events:
            streams.setdefault(foreign.event.originator_id, []).append(foreign)
        for stream, events in streams.items():
            try:
                new += self._new_of_stream(stream, events)
            except RefusedError as conflict:
                if parcel.kind is not StreamKind.MESSAGE:
                    raise
                self._tell(parcel, conflict)
        if parcel.kind is not StreamKind.MESSAGE:
            self._expect_of_origin(parcel, new)
        return sorted(new, key=lambda foreign: foreign.position)

    def _new_of_stream(self, stream: UUID, events: Sequence[ForeignEvent]) -> list[ForeignEvent]:
        held = self._held.get(stream, {})
        new: list[ForeignEvent] = []
        for foreign in events:
            known = held.get(foreign.event.originator_version)
            if known is None:
                new.append(foreign)
            elif known != foreign.plain:
                detail = (
                    f"another event stands at version {foreign.event.originator_version} "
                    f"of stream {stream}"
                )
                raise RefusedError(RefusalReason.CONFLICT, detail)
        if new and new[0].event.originator_version != len(held) + 1:
            first = new[0].event.originator_version
            detail = f"events of stream {stream} before version {first} are missing"
            raise RefusedError(RefusalReason.BAD_EVENTS, detail)
        return new

    def _expect_of_origin(self, parcel: Examined, new: Sequence[ForeignEvent]) -> None:
        if any(foreign.event.recorded_by != self._origin for foreign in new):
            detail = f"stream {parcel.stream} holds new events of another server"
            raise RefusedError(RefusalReason.BAD_EVENTS, detail)

    def _expect_blobs(self, parcel: Examined) -> None:
        for digest in parcel.blobs:
            if digest not in self._blobs:
                detail = f"blob {digest} did not come along and is not here"
                raise RefusedError(RefusalReason.AUDIO_MISSING, detail)
        self.needed_blobs.update(parcel.blobs)
        self.blobs_needed_anew.update(parcel.blobs)

    def _expect_keys(self, parcel: Examined) -> None:
        for call_id in parcel.sealed_calls:
            if call_id in self._destroyed and parcel.message is not None:
                detail = f"call {call_id} was erased here, and this message of it is not known"
                raise RefusedError(RefusalReason.KEY_DESTROYED, detail)
            if call_id not in self._keys:
                detail = f"the key of call {call_id} did not come along and is not here"
                raise RefusedError(RefusalReason.KEY_MISSING, detail)

    def _take_erasure(self, parcel: Examined, erasure: CallErased) -> None:
        if self._is_erased_already(erasure):
            return  # By this server, or on the word of another: its key is destroyed.
        new = self._new_events(parcel)
        self._erase(erasure)
        self._keep(new)

    def _erase(self, erasure: CallErased) -> None:
        """Destroy a key, and erase what this server has in its care of the call.

        Never a message that the server which erases did not know of: nobody asked for that.
        """
        cared_for = in_care_of(
            self._this_server,
            self._told_in(erasure.call_id),
            lambda message_id: self._told_in(self._own_stream(message_id)),
        )
        for journey in cared_for:
            if journey.message_id not in erasure.message_ids:
                detail = f"message {journey.message_id} of the call is here, and not erased"
                raise RefusedError(RefusalReason.STILL_NEEDED, detail)
        for journey in cared_for:
            why = {"by": erasure.by, "reason": erasure.reason}
            self._record(MessageErased, journey.message_id, stream=journey.stream, **why)
        self.erased_calls.add(erasure.call_id)

    def _is_erased_already(self, erasure: CallErased) -> bool:
        """Is another erasure of the call held? What the origin refused to erase is over then."""
        stream = self._told_in(erasure.originator_id)
        if not stream or stream[0] == erasure:
            return False
        if stream[0].recorded_by == self._this_server:
            stamp = Stamp(at=self._now, by=self._this_server)
            answer = answer_to_record(stream, self._origin, stamp)
            if answer is not None:
                self._add(answer)
        return True

    def _expect_stored(self, message: MessageStored, new: Sequence[ForeignEvent]) -> None:
        """The event that stored the message is here or comes along; no other is in its place."""
        held = self._held.get(message.originator_id, {}).get(message.originator_version)
        is_new = any(foreign.event == message for foreign in new)
        if not is_new and (held is None or decode(held) != message):
            detail = f"another event stands where message {message.message_id} was stored"
            raise RefusedError(RefusalReason.CONFLICT, detail)

    def _keep(self, new: Sequence[ForeignEvent]) -> None:
        for foreign in new:
            held = self._held.setdefault(foreign.event.originator_id, {})
            held[foreign.event.originator_version] = foreign.plain
        self._foreign.extend(new)

    def _deliver(self, message: MessageStored, parcel: Examined) -> None:
        self._record(
            MessageDelivered,
            message.message_id,
            call_id=message.originator_id,
            mailbox=message.mailbox,
            origin=self._origin,
            origin_position=parcel.position,
        )

    def _record(
        self,
        kind: type[MessageDelivered | MessageRequeued | MessageErased],
        message_id: UUID,
        stream: UUID | None = None,
        **fields: Any,
    ) -> None:
        """Add an event of this server, to its own stream of the message or where it is told."""
        stream = stream or self._own_stream(message_id)
        event = kind(
            originator_id=stream,
            originator_version=len(self._held.get(stream, {})) + 1,
            recorded_at=self._now,
            recorded_by=self._this_server,
            message_id=message_id,
            **fields,
        )
        self._add(event)

    def _add(self, event: DomainEvent) -> None:
        """Add an event of this server."""
        held = self._held.setdefault(event.originator_id, {})
        held[event.originator_version] = encode(event)
        self._own.append(event)
