"""The whole story of one message, as one log tells it: every event of its call and of itself.

The home's log holds what the server that took the call recorded, verbatim, so the story is complete
there; where the call was taken it goes on to the home's receipt. A message that moved brought what
its former homes recorded along.

Source: claims 1, 5 and 7.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from ledger.ids import message_stream_id
from ledger.storage.event_log import LogEntry, LogRecorder
from ledger.storage.message_streams import in_log_order, read_with_earlier


def read_story(
    log: LogRecorder, this_server: str, call_id: UUID, message_id: UUID
) -> list[LogEntry]:
    """Read all that this server's log tells of a message, in the order of the log."""
    own = message_stream_id(message_id, this_server)
    streams = read_with_earlier(log.read_streams, [call_id, own])
    return [entry for entry in in_log_order(streams) if _is_about(entry, message_id)]


def _is_about(entry: LogEntry, message_id: UUID) -> bool:
    """A call may have a second message: what names that one is another story."""
    named = event_fields(entry).get("message_id")
    return named in (None, str(message_id))


def event_fields(entry: LogEntry) -> dict[str, Any]:
    """Read an event as plain JSON, also one that this program does not know."""
    fields: dict[str, Any] = msgspec.json.decode(entry.plain)
    return fields
