"""Show a mailbox, now or as it was, move it, and show what waits for other homes.

Source: claims 3, 5, 6 and 7.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from typer.core import TyperGroup

from ledger.errors import CallerError
from ledger.ids import MailboxAddress
from vmledger.cli.api_client import ApiClient, connect, path_of
from vmledger.cli.options import ConfigOption, JsonOption, TokenOption, UrlOption
from vmledger.cli.output import (
    print_json,
    print_table,
    show_age,
    show_caller,
    show_duration,
    show_size,
    show_time,
)
from vmledger.cli.retention import hold, release

_POLL_S: Final = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(
        cls=ShowByDefault, help="Show a mailbox (`mailbox EXT`), or move it to another server."
    )
    group.command("show")(show)
    group.command("rehome")(rehome)
    group.command("hold")(hold)
    group.command("release")(release)
    app.add_typer(group, name="mailbox")
    app.command("pending")(pending)


class ShowByDefault(TyperGroup):
    """Reads ``mailbox EXT`` as ``mailbox show EXT``. (No mailbox is called like a command.)"""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # (typer has a click of its own)
        """Put the command in front of arguments that do not begin with one."""
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


def show(
    *,
    name: Annotated[str, typer.Argument(metavar="EXT", help="Extension, or extension@context.")],
    at: Annotated[
        str | None,
        typer.Option("--at", help="As it was at this time (ISO 8601; UTC unless it says more)."),
    ] = None,
    position: Annotated[
        int | None,
        typer.Option("--position", min=0, help="As it was at this position of the log."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 100,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a mailbox, the newest first."""
    if at is not None and position is not None:
        raise CallerError("--at and --position exclude each other; give one of them")
    address = MailboxAddress.parse(name)
    page = connect(config, url, token).get(
        path_of("mailboxes", address.extension),
        context=address.context,
        at=parse_moment(at).isoformat() if at is not None else None,
        position=position,
        limit=limit,
    )
    if as_json:
        print_json(page)
    else:
        _print_mailbox(address, page)


def rehome(
    *,
    name: Annotated[str, typer.Argument(metavar="EXT", help="Extension, or extension@context.")],
    to: Annotated[str, typer.Option("--to", help="The server where it shall live.")],
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Take it although its home is lost for good; only at the server that takes it.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Force without asking.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when all its messages have left this server.")
    ] = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a mailbox with its messages, greetings and PIN to another server."""
    if force and wait:
        raise CallerError("--wait is for the mailbox's home; with --force the messages come here")
    address = MailboxAddress.parse(name)
    if force and not yes:
        _confirm(address)
    api = connect(config, url, token)
    path = path_of("mailboxes", address.extension, "rehome")
    answer = api.send(
        "POST", f"{path}?context={quote(address.context)}", {"to": to, "force": force}
    )
    if wait:
        _wait_until_left(api, address, answer["home"])
    if as_json:
        print_json(answer)
        return
    print(f"mailbox {address} lives on {answer['home']} now (epoch {answer['epoch']})")
    if answer["messages"] and not wait:
        print(f"{answer['messages']} messages follow; see 'vmledger pending'")


def _confirm(address: MailboxAddress) -> None:
    """Ask for the mailbox's name: a slip of the finger must not give a mailbox two histories."""
    print(
        f"Only force this when the home of {address} is lost for good. Messages that are there and "
        "nowhere else come back only with it.",
        file=sys.stderr,
    )
    typed = typer.prompt(f"Type {address} to go on", err=True)
    if typed != str(address):
        raise CallerError(f"that was not {address}; nothing was changed")


def _wait_until_left(api: ApiClient, address: MailboxAddress, home: str) -> None:
    """Ask until this server holds no message of the mailbox any more; held ones end the wait."""
    while True:
        page = api.get(path_of("mailboxes", address.extension), context=address.context, limit=1)
        left = sum(page["counts"][status] for status in ("new", "heard", "saved", "deleted"))
        if not left or page["home"] != home:
            return
        waiting = next((h for h in api.get("/v1/pending")["homes"] if h["home"] == home), None)
        if waiting is not None and waiting["held"] >= waiting["count"]:
            raise CallerError(
                f"{left} messages are still here: {home} refuses them; see 'vmledger pending'"
            )
        time.sleep(_POLL_S)


def parse_moment(text: str) -> datetime:
    """Read a time that a user gave; raises CallerError for what is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CallerError(
            f"{text!r} is not a time; write it like 2026-03-01T12:00:00 or 2026-03-01"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _print_mailbox(address: MailboxAddress, page: dict[str, Any]) -> None:
    print_table(
        ("received", "from", "#length", "status", "where", "message"),
        (
            (
                show_time(m.get("received_at")),
                show_caller(m, "caller_name", "caller_number"),
                show_duration(m.get("duration_ms")),
                m.get("status"),
                f"{m.get('custody')} (waits for its home)" if m.get("is_pending") else m["custody"],
                m.get("message_id"),
            )
            for m in page["messages"]
        ),
        if_empty=f"mailbox {address} is empty",
    )
    counts = page.get("counts") or {}
    if page["messages"] and counts:
        print(", ".join(f"{number} {name}" for name, number in counts.items()))


def pending(
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the messages that wait here for their homes."""
    answer = connect(config, url, token).get("/v1/pending")
    if as_json:
        print_json(answer)
        return
    print_table(
        ("home", "#messages", "#size", "#oldest", "#held"),
        (
            (
                home.get("home"),
                home.get("count"),
                show_size(home.get("size_bytes")),
                show_age(home.get("oldest_age_s")),
                home.get("held"),
            )
            for home in answer["homes"]
        ),
        if_empty="nothing waits here: every message is at its home",
    )
    if answer.get("messages"):
        _print_waiting(answer["messages"])


def _print_waiting(messages: list[dict[str, Any]]) -> None:
    print_table(
        ("stored", "mailbox", "for", "lives on", "state", "why", "message"),
        (
            (
                show_time(m.get("stored_at")),
                m.get("mailbox"),
                m.get("home"),
                m.get("mailbox_home"),
                m.get("state"),
                m.get("reason"),
                m.get("message_id"),
            )
            for m in messages
        ),
        if_empty="",
    )
