"""Show the whole story of one message.

Source: claims 1, 5 and 7.
"""

from __future__ import annotations

from typing import Final

from ledger.errors import NotFoundError
from ledger.storage.event_log import LogEntry
from vmledger.cli.options import ConfigOption, JsonOption, MessageId, load_config
from vmledger.cli.output import entry_document, print_json, print_table, show_time
from vmledger.message_story import event_fields, read_story
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
        told = read_story(log, loaded.server, entry.call_id, message_id)
    if as_json:
        print_json({"message_id": message_id, "events": [entry_document(e) for e in told]})
        return
    print_table(
        ("#position", "recorded", "by", "event", "what"), (_row(e) for e in told), if_empty=""
    )


def _row(entry: LogEntry) -> tuple[object, ...]:
    fields = event_fields(entry)
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
