"""Show the story of one message: what this server's log tells, or all servers together.

Source: claims 1, 5 and 7.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from ledger.errors import NotFoundError
from ledger.events import AccessKind
from ledger.identity import write_new_file
from ledger.storage.event_log import LogEntry
from ledger.storage.message_streams import event_fields, read_story
from vmledger.cli.options import ConfigOption, JsonOption, MessageId, load_config
from vmledger.cli.output import entry_document, print_json, print_table, show_time
from vmledger.stores import open_log, open_read_models

_IN_COLUMNS: Final = frozenset(
    {"event", "originator_id", "originator_version", "recorded_at", "recorded_by", "v"}
)
_LONG: Final = 40
"""Digests and nested facts are for --json."""


def story(message_id: MessageId, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Tell all that is recorded here of a message, without a running server.

    'message show' asks the other servers as well.
    """
    from vmledger.local_access import record_local_access  # noqa: PLC0415 - takes a second to import

    loaded = load_config(config)
    with open_log(loaded) as log, open_read_models(loaded, log) as models:
        entry = models.expect_message(message_id)
        record_local_access(log, loaded.server, AccessKind.VIEWED, "story", message_id=message_id)
        told = read_story(log.read_streams, loaded.server, entry.call_id, message_id)
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


def expect_story(story: dict[str, Any]) -> None:
    """Raise NotFoundError when nobody told anything; it names who could not be asked."""
    if story["steps"]:
        return
    silent = [a["server"] for a in story["servers"] if a["answer"] in ("away", "refused")]
    unasked = f"; not told by {', '.join(silent)}" if silent else ""
    raise NotFoundError(f"nobody knows anything of message {story['message_id']}{unasked}")


def print_story(story: dict[str, Any]) -> None:
    """Print a story that all servers told together."""
    print_table(
        ("recorded", "by", "event", "what"),
        (
            (
                show_time(step["recorded_at"]),
                step["recorded_by"],
                step["event"],
                ("DISPUTED: " if step["is_disputed"] else "") + step["text"],
            )
            for step in story["steps"]
        ),
        if_empty="",
    )
    for asked in story["servers"]:
        print(_as_witness(asked))
    if not story["is_whole"]:
        print("the story may lack steps")


def _as_witness(asked: dict[str, Any]) -> str:
    said = {
        "told": f"told; its log ends at {asked['position']}",
        "knows-nothing": "knows nothing of the message",
        "away": f"is AWAY, and what it knows is missing: {asked['detail']}",
        "refused": f"did NOT tell: {asked['detail']}",
    }[asked["answer"]]
    left_out = f"; {asked['left_out']} events were left out" if asked["left_out"] else ""
    return f"{asked['server']} {said}{left_out}"


def write_picture(path: Path, story: dict[str, Any]) -> None:
    """Draw a story into a new file that only its owner reads: it names who called."""
    from vmledger.story_picture import draw_story  # noqa: PLC0415 - only who draws needs these
    from vmledger.whole_story import WholeStory  # noqa: PLC0415 - as above

    write_new_file(path, draw_story(msgspec.convert(story, WholeStory)), mode=0o600)
