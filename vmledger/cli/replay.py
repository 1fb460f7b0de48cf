"""Replay the log: a mailbox at a past moment, and past calls under another configuration.

Everything comes from the log alone: neither a running server nor a read model is asked.

Source: claims 1, 8 and 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from ledger.configuration import load_configuration
from ledger.errors import CallerError
from ledger.ids import MailboxAddress
from vmledger.cli.mailboxes import parse_moment
from vmledger.cli.options import ConfigOption, JsonOption, load_config
from vmledger.cli.output import (
    print_facts,
    print_json,
    print_table,
    show_caller,
    show_duration,
    show_time,
)
from vmledger.stores import open_callers, open_log

if TYPE_CHECKING:
    from ledger.caller import SeenCaller
    from ledger.storage.callers import Callers
    from projections.mailboxes import MailboxEntry
    from projections.time_travel import MailboxAt


def register(app: typer.Typer) -> None:
    """Add the command of this topic."""
    app.command("replay")(replay)


def replay(
    *,
    until: Annotated[
        str | None,
        typer.Option("--until", help="A time (ISO 8601; UTC unless it says more) or a position."),
    ] = None,
    mailbox: Annotated[
        str | None, typer.Option("--mailbox", help="What did this mailbox hold then?")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="Decide past calls as this vmledger.toml would."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay the log up to a past moment: mailboxes, the lamp, and what another policy would do."""
    from projections.replay import mailboxes_digest  # noqa: PLC0415 - takes a second to import
    from projections.time_travel import mailbox_at, position_at  # noqa: PLC0415 - as above
    from vmledger.what_if import replay_calls  # noqa: PLC0415 - as above

    loaded = load_config(config)
    address = MailboxAddress.parse(mailbox) if mailbox is not None else None
    other = load_configuration(policy) if policy is not None else None
    if other is not None and other.server != loaded.server:
        raise CallerError(f"{policy} is of server {other.server}; give one of {loaded.server}")
    found: dict[str, Any] = {}
    with open_log(loaded) as log:
        head = log.head().position
        found["position"] = _position(
            until, head, lambda text: position_at(log, loaded.server, parse_moment(text))
        )
        if address is not None:
            held = mailbox_at(log, loaded.server, str(address), found["position"])
            found["mailbox"] = _document(held, open_callers(loaded, log))
            found["is_lamp_lit"] = held.counts.new > 0
        if other is not None:
            found["what_if"] = replay_calls(log, other, found["position"])
        if address is None and other is None:
            found["mailboxes_digest"] = mailboxes_digest(log, loaded.server, found["position"])
    if as_json:
        print_json(found)
    else:
        _print(found, head)


def _position(until: str | None, head: int, at_time: Any) -> int:
    if until is None:
        return head
    if until.isascii() and until.isdigit() and len(until) < 19:
        return min(int(until), head)
    position: int = at_time(until)
    return position


def _print(found: dict[str, Any], head: int) -> None:
    print_facts(
        (
            ("replayed", f"positions 1 to {found['position']} of {head}"),
            ("mailboxes", found.get("mailboxes_digest")),
        )
    )
    if "mailbox" in found:
        _print_mailbox(found["mailbox"], is_lit=found["is_lamp_lit"])
    if "what_if" in found:
        _print_what_if(found["what_if"])


def _document(held: MailboxAt, callers: Callers) -> dict[str, Any]:
    """Give a mailbox as it was, with the callers that can be opened today."""
    document = msgspec.structs.asdict(held)
    seen = callers.see((entry.call_id, entry.caller) for entry in held.entries)
    document["entries"] = [
        _entry_document(entry, who) for entry, who in zip(held.entries, seen, strict=True)
    ]
    return document


def _entry_document(entry: MailboxEntry, who: SeenCaller) -> dict[str, Any]:
    fields = msgspec.structs.asdict(entry)
    del fields["caller"]
    return fields | {
        "caller_state": who.state.value,
        "caller_number": who.caller.number,
        "caller_name": who.caller.name,
    }


def _print_mailbox(held: Mapping[str, Any], *, is_lit: bool) -> None:
    print_facts((("mailbox", held["mailbox"]), ("lamp", "lit" if is_lit else "dark")))
    print_table(
        ("received", "status", "from", "#length", "message"),
        (
            (
                show_time(e["received_at"]),
                e["status"].value,
                show_caller(e, "caller_number"),
                show_duration(e["duration_ms"]),
                e["message_id"],
            )
            for e in held["entries"]
        ),
        if_empty="it held no message",
    )


def _print_what_if(what_if: Any) -> None:
    print_table(
        ("#position", "decided", "called", "status", "then", "would be", "note"),
        (
            (
                d.position,
                show_time(d.decided_at),
                f"{d.called_extension}@{d.context}",
                d.status,
                _in_words(d.then),
                _in_words(d.would_be),
                "home was not judged then" if d.is_home_unjudged else "",
            )
            for d in what_if.differences
        ),
        if_empty="no call would have been decided otherwise",
    )
    print(f"{what_if.calls} calls decided again, {len(what_if.differences)} otherwise")


def _in_words(decided: Any) -> str:
    if not decided.to_voicemail:
        return f"handled normally: {decided.reason}"
    judged = {True: ", available", False: ", not available", None: ""}[decided.is_reachable]
    return f"voicemail at {decided.home}{judged}: {decided.reason}"
