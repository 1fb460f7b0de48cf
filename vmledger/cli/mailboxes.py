"""Show a mailbox, now or as it was, and what waits for other homes.

Source: claims 3, 5 and 7.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ledger.errors import CallerError
from ledger.ids import MailboxAddress
from vmledger.cli.api_client import connect, path_of
from vmledger.cli.options import ConfigOption, JsonOption, TokenOption, UrlOption
from vmledger.cli.output import (
    print_json,
    print_table,
    show_age,
    show_duration,
    show_size,
    show_time,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    app.command("mailbox")(mailbox)
    app.command("pending")(pending)


def mailbox(
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
        at=_moment(at).isoformat() if at is not None else None,
        position=position,
        limit=limit,
    )
    if as_json:
        print_json(page)
    else:
        _print_mailbox(address, page)


def _moment(text: str) -> datetime:
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
                m.get("caller_name") or m.get("caller_number") or "withheld",
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
        ("stored", "mailbox", "home", "state", "why", "message"),
        (
            (
                show_time(m.get("received_at")),
                m.get("mailbox"),
                m.get("home"),
                m.get("state"),
                m.get("reason"),
                m.get("message_id"),
            )
            for m in messages
        ),
        if_empty="",
    )
