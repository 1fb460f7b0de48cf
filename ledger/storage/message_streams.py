"""All streams that tell of a message: its call's, and one of each server that was its home.

A home's stream begins with `MessageDelivered`, which says who handed the message over. So from a
home's own stream one finds the earlier ones, back to the call's.

Source: claims 3 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from ledger.events import MessageDelivered, decode
from ledger.ids import message_stream_id
from ledger.storage.event_log import LogEntry

Streams: TypeAlias = dict[UUID, list[LogEntry]]
ReadStreams: TypeAlias = Callable[[Sequence[UUID]], Mapping[UUID, list[LogEntry]]]

_DELIVERED: Final = str(MessageDelivered.__struct_config__.tag)


def read_with_earlier(read: ReadStreams, streams: Iterable[UUID]) -> Streams:
    """Read these streams, and all that tell of their messages before them; absent ones left out."""
    found: Streams = {}
    wanted = list(dict.fromkeys(streams))
    asked = set(wanted)
    while wanted:
        entries = read(wanted)
        found.update(entries)
        named = (stream for one in entries.values() for stream in _named_in(one))
        wanted = [stream for stream in dict.fromkeys(named) if stream not in asked]
        asked.update(wanted)
    return found


def in_log_order(streams: Mapping[UUID, Iterable[LogEntry]]) -> list[LogEntry]:
    """Give all entries as this log has them: that is the order in which things happened to it.

    What came from others stands before what followed from it here.
    """
    return sorted((e for one in streams.values() for e in one), key=lambda e: e.position)


def read_story(
    read: ReadStreams, this_server: str, call_id: UUID | None, message_id: UUID
) -> list[LogEntry]:
    """Read all that this server's log tells of a message, in the order of the log.

    Without the call it is found only where the message is or was at home.
    """
    own = message_stream_id(message_id, this_server)
    streams = read_with_earlier(read, [call_id, own] if call_id is not None else [own])
    return [entry for entry in in_log_order(streams) if _is_about(entry, message_id)]


def event_fields(entry: LogEntry) -> dict[str, Any]:
    """Read an event as plain JSON, also one that this program does not know."""
    fields: dict[str, Any] = msgspec.json.decode(entry.plain)
    return fields


def _is_about(entry: LogEntry, message_id: UUID) -> bool:
    """A call may have a second message: what names that one is another story."""
    named = event_fields(entry).get("message_id")
    return named in (None, str(message_id))


def _named_in(entries: Iterable[LogEntry]) -> Iterable[UUID]:
    for entry in entries:
        if entry.topic == _DELIVERED:
            event = decode(entry.plain, f"position {entry.position}")
            if isinstance(event, MessageDelivered):
                yield from event.earlier_streams
