"""All streams that tell of a message: its call's, and one of each server that was its home.

A home's stream begins with `MessageDelivered`, which says who handed the message over. So from a
home's own stream one finds the earlier ones, back to the call's.

Source: claims 3 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias
from uuid import UUID

from ledger.events import MessageDelivered, decode
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


def _named_in(entries: Iterable[LogEntry]) -> Iterable[UUID]:
    for entry in entries:
        if entry.topic == _DELIVERED:
            event = decode(entry.plain, f"position {entry.position}")
            if isinstance(event, MessageDelivered):
                yield from event.earlier_streams
