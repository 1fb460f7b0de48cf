"""What this server holds that another one recorded: the answer to a server whose log went back.

Stretch by stretch of this log, each bounded, so that a server with millions of events answers as
calmly as one with ten. Whole streams are given, as far as they are held: so each answer makes sense
by itself, and the same stretch may be asked for again. (Of one that is longer than an answer may
be, the beginning.) A server is told only what it recorded itself, and gets only blobs that its own
events name.

Source: claims 5 and 8.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from ledger.events import (
    DomainEvent,
    MessageDelivered,
    MessageStored,
    OpaqueEvent,
    ServerId,
    decode,
)
from ledger.migration.audience import TRAVELLING, calls_in, profile_blobs
from ledger.migration.wire import (
    MAX_HEADER_BYTES,
    MAX_RECALLED,
    RecallAnswer,
    RecalledEvent,
    TrackedRow,
)
from ledger.storage.event_log import LogEntry
from ledger.storage.group_commit import EventLog
from ledger.storage.vault import FoundKey

_LOG: Final = logging.getLogger(__name__)

_TOPICS: Final = tuple(TRAVELLING)
_SPAN: Final = 1000
"""Positions that are looked at in one question to the log."""
_MOST_POSITIONS: Final = 20_000
"""Of one answer: others wait for the log meanwhile."""
_ENOUGH: Final = 1000
"""Events found after which an answer is given."""
_MOST_BYTES: Final = MAX_HEADER_BYTES // 4
"""Of the events in one answer: well below what the asker reads."""


FindKeys: TypeAlias = Callable[[Collection[UUID]], Awaitable[Mapping[UUID, FoundKey]]]
Seal: TypeAlias = Callable[[Mapping[UUID, FoundKey]], bytes]


async def former_events(
    log: EventLog,
    asker: ServerId,
    after: int,
    tracked: tuple[TrackedRow, ...],
    *,
    find_keys: FindKeys,
    seal: Seal,
) -> RecallAnswer:
    """Give what ``asker`` recorded and this log holds, in a stretch behind ``after``.

    ``seal`` seals keys for the asker.
    """
    head = await log.head()
    start = min(after, head.position)
    through, streams = await _find(log, asker, start, head.position)
    entries = await _whole(log, asker, streams)
    while len(_fitting(entries)) < len(entries) and through - start > 1:
        through, streams = await _find(log, asker, start, start + (through - start) // 2)
        entries = await _whole(log, asker, streams)
    if len(_fitting(entries)) < len(entries):
        # One stream alone is too long. Its beginning comes back, and what is behind it in this log:
        # an answer that the asker cannot read would be asked for again for ever.
        _LOG.error("action=stream-not-recalled-whole peer=%s stream=%s", asker, streams[0])
        entries = _fitting(entries)
    keys = await find_keys(calls_in((entry, _event_of(entry)) for entry in entries))
    return RecallAnswer(
        incarnation=head.incarnation,
        after_position=after,
        through_position=max(after, through),
        is_last=through >= head.position,
        tracked=tracked,
        events=tuple(_recalled(entry, asker) for entry in entries),
        keys=seal(keys),
        destroyed=tuple(call_id for call_id, key in keys.items() if key is None),
    )


async def blob_named_by(
    log: EventLog, asker: ServerId, stream: UUID, version: int
) -> tuple[str, int] | None:
    """Give digest and size of the blob that an event of ``asker`` names; None for any other."""
    for entry in (await log.read_streams([stream])).get(stream, []):
        if entry.originator_version == version:
            event = _event_of(entry)
            return blob_of(event) if event.recorded_by == asker else None
    return None


def blob_of(event: DomainEvent | OpaqueEvent) -> tuple[str, int] | None:
    """Give digest and size of the blob that an event names, if it names one."""
    if isinstance(event, MessageStored):
        return event.blob, event.blob_size_bytes
    return next(iter(profile_blobs(event)), None)


async def _find(log: EventLog, asker: ServerId, start: int, stop: int) -> tuple[int, list[UUID]]:
    """Give where the stretch ends, and the streams of which something of ``asker`` is in it."""
    stop = min(stop, start + _MOST_POSITIONS)
    found: dict[UUID, None] = {}
    through = start
    count = 0
    while through < stop and count < _ENOUGH:
        end = min(through + _SPAN, stop)
        for entry in await log.read_topics(_TOPICS, through + 1, end):
            # What this server recorded itself needs no look.
            if entry.origin is not None and _event_of(entry).recorded_by == asker:
                found[entry.originator_id] = None
                count += 1
        through = end
    return through, list(found)


async def _whole(log: EventLog, asker: ServerId, streams: list[UUID]) -> list[LogEntry]:
    """Read these streams, and those of the calls that they go on from, in the order of this log."""
    read = await log.read_streams(streams) if streams else {}
    calls = {call for entries in read.values() for call in _calls_of(entries)}
    missing = [call for call in sorted(calls) if call not in read]
    if missing:
        read |= await log.read_streams(missing)
    told = [entry for entries in read.values() for entry in entries if entry.origin is not None]
    mine = [entry for entry in told if _event_of(entry).recorded_by == asker]
    return sorted(mine, key=lambda entry: entry.position)


def _fitting(entries: list[LogEntry]) -> list[LogEntry]:
    """Give as many of these as one answer may hold, from the first on."""
    size_bytes = 0
    for count, entry in enumerate(entries):
        size_bytes += len(memoryview(entry.plain))
        if count == MAX_RECALLED or size_bytes > _MOST_BYTES:
            return entries[:count]
    return entries


def _calls_of(entries: list[LogEntry]) -> set[UUID]:
    events = (_event_of(entry) for entry in entries)
    return {event.call_id for event in events if isinstance(event, MessageDelivered)}


def _recalled(entry: LogEntry, asker: ServerId) -> RecalledEvent:
    position = entry.origin_position if entry.origin == asker else None
    return RecalledEvent(position=position or 0, plain=msgspec.Raw(entry.plain))


def _event_of(entry: LogEntry) -> DomainEvent | OpaqueEvent:
    return decode(entry.plain, f"position {entry.position}")
