"""Ask who did what, and who looked.

Source: claim 10.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from ledger.errors import CallerError
from ledger.ids import MailboxAddress
from vmledger.audit import Deed, Wanted, read_audit
from vmledger.cli.options import ConfigOption, JsonOption, load_config
from vmledger.cli.output import print_json_line, print_table, show_time
from vmledger.stores import open_log


def register(app: typer.Typer) -> None:
    """Add the command of this topic."""
    app.command("audit")(audit)


def audit(
    *,
    mailbox: Annotated[
        str | None, typer.Option("--mailbox", help="Only of this mailbox and its messages.")
    ] = None,
    message: Annotated[UUID | None, typer.Option("--message", help="Only of this message.")] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Only by this token's name, or this user.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="From this time on, as 2026-01-31T08:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Up to this time.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell who listened, looked, exported, moved and deleted, from the log of this server alone.

    With --json: one JSON document a line.
    """
    wanted = Wanted(
        mailbox=str(MailboxAddress.parse(mailbox)) if mailbox is not None else None,
        message_id=message,
        by=by,
        since=_time(since),
        until=_time(until),
    )
    with open_log(load_config(config)) as recorder:
        deeds = read_audit(recorder, wanted)
        if as_json:
            for deed in deeds:
                print_json_line(deed)
            return
        print_table(
            ("#position", "recorded", "by", "from", "did", "mailbox", "message"),
            (_row(deed) for deed in deeds),
            if_empty="nothing of that kind is recorded here",
        )


def _row(deed: Deed) -> tuple[object, ...]:
    who = f"{deed.by} ({deed.user})" if deed.user else deed.by
    did = f"{deed.action} {deed.what}" if deed.what else deed.action
    return (
        deed.position, show_time(deed.at), who, deed.address, did, deed.mailbox, deed.message_id,
    )  # fmt: skip


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise CallerError(f"{text!r} is no time; write it like 2026-01-31T08:00:00Z") from None
    return given if given.tzinfo is not None else given.replace(tzinfo=UTC)
