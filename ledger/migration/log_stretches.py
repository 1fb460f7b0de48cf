"""Answers a peer that holds its log against this one: the hashes of a stretch, and what they share.

Hashes tell nobody what happened. Of single events only those are named that the two servers share:
what came from the peer, and the messages of this server that the peer acknowledged.

Source: claims 7 and 8; RFC 9162 section 2.1.1 (leaf hash).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from ledger.events import MessageMigrated, MessageStored, ServerId, decode
from ledger.migration.wire import STRETCH_EVENTS, LogAnswer, LogRequest, TakenRow
from ledger.storage.event_log import LogEntry, LogRecorder
from ledger.storage.merkle import leaf_hash

_MIGRATED: Final = str(MessageMigrated.__struct_config__.tag)


def read_stretch(
    recorder: LogRecorder, this_server: ServerId, peer: ServerId, request: LogRequest
) -> LogAnswer:
    """Read the stretch that a peer asks for; raises TransientError, CorruptionError."""
    head, after = recorder.head(), request.after_position
    stop = min(request.stop_position or head.position, head.position)
    entries: list[LogEntry] = recorder.read(after + 1, STRETCH_EVENTS, stop)
    return LogAnswer(
        server=this_server,
        incarnation=head.incarnation,
        position=head.position,
        after_position=after,
        hashes=b"".join(leaf_hash(entry.plain) for entry in entries),
        taken=tuple(
            TakenRow(entry.position, entry.origin_position or 0, entry.originator_id)
            for entry in entries
            if entry.origin == peer
        ),
        acknowledged=tuple(acknowledged(recorder, peer, entries)),
    )


def acknowledged(recorder: LogRecorder, peer: ServerId, entries: Sequence[LogEntry]) -> list[int]:
    """Give the positions of this server's messages that these events say ``peer`` acknowledged."""
    messages: dict[UUID, UUID] = {}
    for entry in entries:
        if entry.topic != _MIGRATED or entry.origin is not None:
            continue
        event = decode(entry.plain, f"position {entry.position}")
        if isinstance(event, MessageMigrated) and event.home == peer:
            messages[event.message_id] = entry.originator_id
    streams = recorder.read_streams(sorted(set(messages.values())))
    found = []
    for entry in (entry for stream in streams.values() for entry in stream):
        if entry.origin is None:
            event = decode(entry.plain, f"position {entry.position}")
            if isinstance(event, MessageStored) and event.message_id in messages:
                found.append(entry.position)
    return sorted(found)
