"""What this server has in its care of calls whose key is destroyed is erased.

The word that a call is erased and a message of it may come here at the same moment by different
ways: from the server that erased it, and from one that gives back what this log has forgotten.
Each looks for the other before its commit, and once more after it: the later one sees both.

Source: claims 7 and 8.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.clock import Clock
from ledger.errors import TransientError
from ledger.events import CallErased, MessageErased, MessageStored, ServerId, Stamp, decode
from ledger.ids import erasure_stream_id, message_stream_id
from ledger.journey import in_care_of
from ledger.migration.audience import AnyEvent
from ledger.storage.event_log import LogEntry
from ledger.storage.group_commit import EventLog

_ATTEMPTS: Final = 10
Streams: TypeAlias = Mapping[UUID, Sequence[AnyEvent]]


class Why(NamedTuple):
    """Who erased a call, and why."""

    by: str
    reason: str


def erasures_to_record(
    streams: Streams, stamp: Stamp, destroyed: Mapping[UUID, Why] | None = None
) -> list[MessageErased]:
    """Give the events that erase messages of erased calls, as these streams tell of both.

    ``destroyed`` are calls whose key is known to be destroyed though no stream tells why.
    """
    told = [event for events in streams.values() for event in events]
    why = {e.call_id: Why(e.by, e.reason) for e in told if isinstance(e, CallErased)}
    new: list[MessageErased] = []
    for call_id, erased in {**(destroyed or {}), **why}.items():
        cared_for = in_care_of(
            stamp.by,
            streams.get(call_id, ()),
            lambda message_id: streams.get(message_stream_id(message_id, stamp.by), ()),
        )
        versions = {journey.stream: len(streams[journey.stream]) for journey in cared_for}
        for journey in cared_for:
            versions[journey.stream] += 1
            new.append(
                MessageErased(
                    originator_id=journey.stream,
                    originator_version=versions[journey.stream],
                    recorded_at=stamp.at,
                    recorded_by=stamp.by,
                    message_id=journey.message_id,
                    by=erased.by,
                    reason=erased.reason,
                )
            )
    return new


async def erase_what_came_meanwhile(
    log: EventLog, this_server: ServerId, clock: Clock, calls: Collection[UUID]
) -> None:
    """Erase messages of these calls that are in this server's care, if the calls are erased.

    Raises TransientError when that cannot be recorded now.
    """
    for _ in range(_ATTEMPTS if calls else 0):
        found = await log.read_streams([erasure_stream_id(call) for call in calls])
        if not found:
            return
        told = await log.read_streams(list(calls))
        own = [message_stream_id(m, this_server) for m in _messages_in(told.values())]
        streams = found | told | await log.read_streams(own)
        new = erasures_to_record(_decoded(streams), Stamp(at=clock.now(), by=this_server))
        if not new:
            return
        # A crash before this leaves a message in care without a key: it waits, and is shown so,
        # until an operator erases it once more.
        try:
            await log.append_events(new)
        except IntegrityError:
            continue  # Somebody else wrote to one of the streams: look again.
        return
    if calls:
        raise TransientError("messages are being changed by others; this is recorded later")


def _decoded(streams: Mapping[UUID, Sequence[LogEntry]]) -> dict[UUID, list[AnyEvent]]:
    return {s: [decode(entry.plain) for entry in entries] for s, entries in streams.items()}


def _messages_in(streams: Iterable[Sequence[LogEntry]]) -> list[UUID]:
    events = (decode(entry.plain) for entries in streams for entry in entries)
    return [event.message_id for event in events if isinstance(event, MessageStored)]
