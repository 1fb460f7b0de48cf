"""The whole story of one message: every event of its call and of itself, across the servers.

The home's log holds what the server that took the call recorded, verbatim, so the story is complete
there; where the call was taken it goes on to the home's receipt.

Source: claims 1, 5 and 7.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.errors import NotFoundError
from ledger.ids import message_stream_id
from ledger.storage.event_log import LogEntry
from ledger.storage.message_streams import in_log_order, read_with_earlier
from vmledger.cli.options import ConfigOption, JsonOption, MessageId, load_config
from vmledger.cli.output import entry_document, print_json, print_table, show_time
from vmledger.stores import open_log, open_read_models

_IN_COLUMNS: Final = frozenset(
    {"event", "originator_id", "originator_version", "recorded_at", "recorded_by", "v"}
)
_LONG: Final = 40
"""Digests and nested facts are for --json."""


def story(message_id: MessageId, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Tell all that is recorded here of a message: where it came in, waited and went."""
    loaded = load_config(config)
    with open_log(loaded) as log, open_read_models(loaded, log) as models:
        entry = models.find_message(message_id)
        if entry is None:
            raise NotFoundError(f"nothing is recorded here of message {message_id}")
        own = message_stream_id(message_id, loaded.server)
        streams = read_with_earlier(log.read_streams, [entry.call_id, own])
    told = [e for e in in_log_order(streams) if _is_about(e, message_id)]
    if as_json:
        print_json({"message_id": message_id, "events": [entry_document(e) for e in told]})
        return
    print_table(
        ("#position", "recorded", "by", "event", "what"), (_row(e) for e in told), if_empty=""
    )


def _is_about(entry: LogEntry, message_id: UUID) -> bool:
    """A call may have a second message: what names that one is another story."""
    named = _fields(entry).get("message_id")
    return named in (None, str(message_id))


def _fields(entry: LogEntry) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.json.decode(entry.plain)
    return fields


def _row(entry: LogEntry) -> tuple[object, ...]:
    fields = _fields(entry)
    said = [
        f"{name}={value}"
        for name, value in fields.items()
        if name not in _IN_COLUMNS and isinstance(value, str | int) and len(str(value)) < _LONG
    ]
    return (
        entry.position,
        show_time(fields["recorded_at"]),
        fields["recorded_by"],
        entry.topic,
        " ".join(said),
    )
