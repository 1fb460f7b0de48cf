"""Carry out retention rules, and hold mailboxes.

Source: claim 10.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import typer

from ledger.ids import MailboxAddress
from vmledger.cli.api_client import connect, path_of
from vmledger.cli.options import ConfigOption, JsonOption, TokenOption, UrlOption
from vmledger.cli.output import print_json, print_table, show_time


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(help="Carry out the rules of [retention].", no_args_is_help=True)
    # With a second command a group; a callback keeps it one until then.
    group.callback()(_group)
    group.command("run")(run)
    app.add_typer(group, name="retention")


def _group() -> None:
    """Carry out the rules of [retention]."""


def run(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move old messages to the trash and erase what was in it for long, as the rules say.

    Never a message of a mailbox under a legal hold, nor one that waits for its home.
    """
    api = connect(config, url, token)
    report = api.send("POST", "/v1/retention/run", {"dry_run": dry_run})
    found = list(report["messages"])
    while not dry_run and not report["is_complete"]:
        report = api.send("POST", "/v1/retention/run", {"dry_run": False})
        known = {one["message_id"] for one in found if one["is_held"]}
        news = [one for one in report["messages"] if one["message_id"] not in known]
        if not news:
            break
        found += news
    if as_json:
        print_json(report | {"messages": found})
        return
    print_table(
        ("message", "mailbox", "since", "step"),
        (
            (
                one["message_id"],
                one["mailbox"],
                show_time(one["since"]),
                one["step"] + (": stopped by a legal hold" if one["is_held"] else ""),
            )
            for one in found
        ),
        if_empty="nothing is due",
        title="would be done" if dry_run else "done",
    )
    if not report["is_complete"]:
        print("more is due than is shown")


Name = Annotated[str, typer.Argument(metavar="EXT", help="Extension, or extension@context.")]


def hold(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="A case, an order.")],
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Put a mailbox under a legal hold: no rule touches its messages, also after a move."""
    mailbox = MailboxAddress.parse(name)
    path = path_of("mailboxes", mailbox.extension, "hold")
    query = urlencode({"context": mailbox.context})
    connect(config, url, token).send("POST", f"{path}?{query}", {"reason": reason})
    print(f"mailbox {mailbox} is under a legal hold")


def release(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why it is over.")],
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """End a mailbox's legal hold."""
    mailbox = MailboxAddress.parse(name)
    path = path_of("mailboxes", mailbox.extension, "hold")
    query = urlencode({"context": mailbox.context, "reason": reason})
    connect(config, url, token).send("DELETE", f"{path}?{query}")
    print(f"mailbox {mailbox} is under no legal hold")
