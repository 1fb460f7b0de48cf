"""Erase for good: a message, a mailbox's messages, or whatever a caller left.

Source: claim 10.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from ledger.errors import CallerError, CorruptionError
from ledger.events import CallErased, decode
from ledger.identity import write_new_file
from ledger.ids import MailboxAddress
from vmledger.cli.api_client import connect, path_of
from vmledger.cli.log import read_public_keys
from vmledger.cli.options import (
    ConfigOption,
    JsonOption,
    MessageId,
    TokenOption,
    UrlOption,
    read_file,
)
from vmledger.cli.output import print_facts, print_json, print_table, show_time
from vmledger.message_proof import check_entry
from vmledger.one_line import one_line

ReasonOption = Annotated[str, typer.Option("--reason", help="Who asked, and why.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be erased.")]

_DONE = {"erased", "key-kept", "would-be-erased", "not-sealed"}
_POLL_S = 0.5


_PROVED = ("call_id", "by", "reason", "recorded_by")
"""What a certificate says in the words of its event."""


class _Certificate(msgspec.Struct, frozen=True):
    """What of a certificate can be proved."""

    server: str
    call_id: UUID
    erased_at: datetime
    by: str
    reason: str
    recorded_by: str
    event: str
    proof: str


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(
        help="Erase for good, by destroying keys here and at every server.", no_args_is_help=True
    )
    group.command("message")(message)
    group.command("mailbox")(mailbox)
    group.command("caller")(caller)
    group.command("certificate")(certificate)
    group.command("check")(check)
    app.add_typer(group, name="erase")


def message(
    message_id: MessageId,
    reason: ReasonOption,
    *,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a message, wherever it is kept; only its home does this, or who has it until then."""
    _erase(connect(config, url, token), {"message_id": str(message_id)}, reason, dry_run, as_json)


def mailbox(
    name: Annotated[str, typer.Argument(metavar="EXT", help="Extension, or extension@context.")],
    reason: ReasonOption,
    *,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase all messages of a mailbox that this server answers for."""
    asked = {"mailbox": str(MailboxAddress.parse(name))}
    _erase(connect(config, url, token), asked, reason, dry_run, as_json)


def caller(
    number: Annotated[
        str, typer.Argument(metavar="NUMBER", help="As the switch gave it, character by character.")
    ],
    reason: ReasonOption,
    *,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase all calls from a number, and their messages, that this server answers for.

    It names those that another server answers for: run it there too.
    """
    _erase(connect(config, url, token), {"caller": number}, reason, dry_run, as_json)


def _erase(api: Any, asked: dict[str, Any], reason: str, dry_run: bool, as_json: bool) -> None:
    found: dict[tuple[str, str | None], dict[str, Any]] = {}
    while True:
        report = api.send("POST", "/v1/erasures", asked | {"reason": reason, "dry_run": dry_run})
        before = len(found)
        found |= {(one["call_id"], one["message_id"]): one for one in report["calls"]}
        if report["is_complete"] or dry_run or len(found) == before:
            break
    calls = list(found.values())
    if as_json:
        print_json(report | {"calls": calls})
    else:
        _print(calls, is_complete=report["is_complete"])
    if not dry_run and any(one["outcome"] not in _DONE for one in calls):
        raise typer.Exit(1)


def _print(calls: list[dict[str, Any]], *, is_complete: bool) -> None:
    rows = (
        (
            one["call_id"],
            one["message_id"] or "-",
            one["mailbox"] or "-",
            _say(one),
        )
        for one in calls
    )
    print_table(("call", "message", "mailbox", "outcome"), rows, if_empty="nothing to erase")
    if any(one["outcome"] == "erased" for one in calls):
        print("who has destroyed the key by now: vmledger erase certificate CALL")
    if not is_complete:
        print("there is more than is shown")


def _say(one: dict[str, Any]) -> str:
    words = {
        "erased": "erased",
        "key-kept": f"erased, but the key is kept: {one['detail']}",
        "would-be-erased": "would be erased",
        "elsewhere": f"NOT erased: {one['server']} answers for it, run this there",
        "held": "NOT erased: a legal hold stops it",
        "not-now": f"NOT erased: {one['detail']}",
        "not-sealed": "erased, but who called stands in the log as it is",
    }
    return words[str(one["outcome"])]


def certificate(
    erased: Annotated[UUID, typer.Argument(metavar="ID", help="Of the call, or of its message.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write it to this new file, as JSON.")
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="For all to have destroyed the key.")
    ] = 0.0,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Certify an erasure: who asked, why, and which servers have destroyed the key by now.

    Exit code 1 while one has not, and for a call from before there were keys: it stays readable.
    """
    api = connect(config, url, token)
    until_s = time.monotonic() + wait
    found = api.get(path_of("erasures", erased))
    while not _is_everywhere(found) and time.monotonic() < until_s:
        time.sleep(min(_POLL_S, wait))
        found = api.get(path_of("erasures", erased))
    if out is not None:
        text = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
        write_new_file(out, text, mode=0o600)
    if as_json:
        print_json(found)
    else:
        _print_certificate(found)
    if not _is_everywhere(found):
        raise typer.Exit(1)


def _print_certificate(found: dict[str, Any]) -> None:
    print_facts(
        (
            ("call", found["call_id"]),
            ("messages", ", ".join(found["message_ids"]) or None),
            ("erased", f"{show_time(found['erased_at'])} by {found['by']}"),
            ("reason", found["reason"]),
            ("recorded", f"by {found['recorded_by']}, position {found['position']} here"),
            ("key here", _say_key(found)),
        )
    )
    rows = ((one["server"], _say_what_became(one)) for one in found["told"])
    print_table(("server", "its key"), rows, if_empty="")
    if found["recorded_by"] != found["server"]:
        print(f"who else was told is known to {found['recorded_by']}: ask that server")


def _say_key(found: dict[str, Any]) -> str:
    if found["is_sealed"] is False:
        return "there was NONE: who called stands in every log as it is"
    return "destroyed" if found["is_key_destroyed"] else "NOT destroyed"


def _say_what_became(told: dict[str, Any]) -> str:
    if told["kept_because"] is not None:
        return f"KEPT, {told['kept_because']}"
    return "destroyed" if _is_done(told) else "waits"


def _is_done(told: dict[str, Any]) -> bool:
    is_destroyed = told["has_answered"] and told["kept_because"] is None
    return is_destroyed and told["mirror_has_taken_in"] is not False


def _is_everywhere(found: dict[str, Any]) -> bool:
    is_here = found["is_sealed"] is not False and found["is_key_destroyed"]
    return bool(is_here) and all(_is_done(one) for one in found["told"])


def check(
    file: Annotated[Path, typer.Argument(help="What 'vmledger erase certificate --out' wrote.")],
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="SERVER=KEY", help="A server's public key. Repeatable."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Take the keys of all servers from this file."),
    ] = None,
) -> None:
    """Check a certificate without any server: does the erasure stand in the log that it names?

    Exit code 1 when it does not.
    """
    try:
        read = msgspec.json.decode(read_file(file), type=_Certificate)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallerError(f"{file} is no certificate of an erasure: {error}") from error
    keys = read_public_keys(key or [], config)
    problems = [
        *check_entry(read.event.encode(), read.proof, read.server, keys),
        *_contradictions(read),
    ]
    for problem in problems:
        print(f"NOT proved: {one_line(problem)}")
    if problems:
        raise typer.Exit(1)
    print(f"{read.server} recorded: {one_line(read.event)}")


def _contradictions(read: _Certificate) -> list[str]:
    """Say where the certificate is not what its event is: only the event is proved."""
    try:
        event = decode(read.event.encode(), "the event")
    except CorruptionError as error:
        return [error.message]
    if not isinstance(event, CallErased):
        return [f"its event is {event.topic}, and no erasure that this program knows"]
    wrong = [name for name in _PROVED if getattr(read, name) != getattr(event, name)]
    if read.erased_at != event.recorded_at:
        wrong.append("erased_at")
    return [f"its {name} is not that of the event" for name in wrong]
