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
from typing import Final
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from ledger.events import MessageDelivered, MessageStored, ServerId, encode
from ledger.ids import message_stream_id
from ledger.migration.audience import Role
from ledger.migration.examination import Examined, ForeignEvent, RefusedError
from ledger.migration.wire import Refusal, RefusalReason
from ledger.storage.event_log import LogEntry
from ledger.storage.mapper import to_stored_event

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
        now: datetime,
    ) -> None:
        """Begin with what is held of the streams concerned.

        ``reachable_blobs`` are those that are here already or came along.
        """
        self._this_server = this_server
        self._origin = origin
        self._now = now
        self._blobs = reachable_blobs
        self._held = {s: {e.originator_version: e.plain for e in es} for s, es in held.items()}
        self._foreign: list[ForeignEvent] = []
        self._delivered: list[MessageDelivered] = []
        self.refusals: list[Refusal] = []
        self.needed_blobs: set[str] = set()

    def add(self, parcel: Examined | Refusal) -> None:
        """Take in one parcel, or note why not."""
        if isinstance(parcel, Refusal):
            self.refusals.append(parcel)
            return
        try:
            self._take(parcel)
        except RefusedError as refused:
            self.refusals.append(refused.at(parcel.position))

    @property
    def stored_events(self) -> list[StoredEvent]:
        """All events to append: the origin's first, then this server's own."""
        own = [to_stored_event(event) for event in self._delivered]
        return [f.stored for f in self._foreign] + own

    @property
    def origin_positions(self) -> list[int]:
        """Where the origin's events stand in its log."""
        return [foreign.position for foreign in self._foreign]

    def _take(self, parcel: Examined) -> None:
        message = parcel.message
        is_delivered = message is not None and self._has(message.message_id)
        if parcel.unless_held is not None and not is_delivered:
            raise parcel.unless_held
        if parcel.role is Role.FOLLOWS and not self._is_here(parcel):
            return  # The message was refused; the whole stream comes again when it is sent again.
        try:
            new = self._new_events(parcel)
        except RefusedError as conflict:
            _LOG.error(
                "action=conflict origin=%s stream=%s position=%d detail=%s",
                self._origin,
                parcel.stream,
                parcel.position,
                conflict.detail,
            )
            if is_delivered or parcel.role is Role.FOLLOWS:
                return
            raise
        if is_delivered:
            # A recording that was lost here since then is healed by the one that came along.
            self.needed_blobs.update(d for d in parcel.blobs if d in self._blobs)
        else:
            self._expect_blobs(parcel)
        self._keep(parcel.stream, new)
        if message is not None and not is_delivered:
            self._deliver(message, parcel)

    def _is_here(self, parcel: Examined) -> bool:
        return parcel.message_id is not None and self._has(parcel.message_id)

    def _has(self, message_id: UUID) -> bool:
        return bool(self._held.get(self._own_stream(message_id)))

    def _own_stream(self, message_id: UUID) -> UUID:
        return message_stream_id(message_id, self._this_server)

    def _new_events(self, parcel: Examined) -> list[ForeignEvent]:
        held = self._held.get(parcel.stream, {})
        new: list[ForeignEvent] = []
        for foreign in parcel.events:
            known = held.get(foreign.event.originator_version)
            if known is None:
                new.append(foreign)
            elif known != foreign.plain:
                detail = (
                    f"another event stands at version {foreign.event.originator_version} "
                    f"of stream {parcel.stream}"
                )
                raise RefusedError(RefusalReason.CONFLICT, detail)
        if new and new[0].event.originator_version != len(held) + 1:
            first = new[0].event.originator_version
            detail = f"events of stream {parcel.stream} before version {first} are missing"
            raise RefusedError(RefusalReason.BAD_EVENTS, detail)
        if any(foreign.event.recorded_by != self._origin for foreign in new):
            detail = f"stream {parcel.stream} holds new events of another server"
            raise RefusedError(RefusalReason.BAD_EVENTS, detail)
        return new

    def _expect_blobs(self, parcel: Examined) -> None:
        for digest in parcel.blobs:
            if digest not in self._blobs:
                detail = f"blob {digest} did not come along and is not here"
                raise RefusedError(RefusalReason.AUDIO_MISSING, detail)
        self.needed_blobs.update(parcel.blobs)

    def _keep(self, stream: UUID, new: Sequence[ForeignEvent]) -> None:
        held = self._held.setdefault(stream, {})
        for foreign in new:
            held[foreign.event.originator_version] = foreign.plain
        self._foreign.extend(new)

    def _deliver(self, message: MessageStored, parcel: Examined) -> None:
        delivered = MessageDelivered(
            originator_id=self._own_stream(message.message_id),
            originator_version=1,
            recorded_at=self._now,
            recorded_by=self._this_server,
            message_id=message.message_id,
            call_id=parcel.stream,
            mailbox=message.mailbox,
            origin=self._origin,
            origin_position=parcel.position,
        )
        self._delivered.append(delivered)
        self._held[delivered.originator_id] = {1: encode(delivered)}
