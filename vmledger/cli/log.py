"""Read, follow and verify the log, beside the server if it runs.

Source: RFC 9162 section 2 (tree, checkpoint).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Final

import typer

from ledger.events import decode
from ledger.storage.event_log import LogEntry, LogRecorder
from vmledger.cli.api_client import connect
from vmledger.cli.blobs import print_verification, verify_all
from vmledger.cli.errors import ReservedError
from vmledger.cli.options import ConfigOption, JsonOption, TokenOption, UrlOption, load_config
from vmledger.cli.output import (
    entry_document,
    print_facts,
    print_json,
    print_json_line,
    progress_bar,
    show_time,
)
from vmledger.stores import open_log
from vmledger.verification import LogVerification, verify_log

_PAGE: Final = 1000
_FOLLOW_POLL_S: Final = 0.2


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(read)
    group.command("verify")(verify)
    group.command("checkpoint")(checkpoint)
    group.command("prove")(prove)
    group.command("backup-verified")(backup_verified)
    app.add_typer(group, name="log")
    app.command("recover")(recover)


def read(
    context: typer.Context,
    *,
    start: Annotated[int, typer.Option("--from", min=1, help="First position to print.")] = 1,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="How many events.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the log, one event a line. With --json: one JSON document a line."""
    if context.invoked_subcommand is not None:
        return
    with open_log(load_config(config)) as recorder:
        for entry in _entries(recorder, start, limit, is_following=follow):
            if as_json:
                print_json_line(entry_document(entry))
            else:
                print(_as_line(entry), flush=follow)


def _entries(
    recorder: LogRecorder, start: int, limit: int | None, *, is_following: bool
) -> Iterator[LogEntry]:
    left = limit
    while left is None or left > 0:
        page = recorder.read(start, _PAGE if left is None else min(left, _PAGE))
        yield from page
        if page:
            start = page[-1].position + 1
            left = None if left is None else left - len(page)
        elif not is_following:
            return
        else:
            time.sleep(_FOLLOW_POLL_S)


def _as_line(entry: LogEntry) -> str:
    event = decode(entry.plain, f"position {entry.position}")
    origin = f" from {entry.origin}:{entry.origin_position}" if entry.origin else ""
    return (
        f"{entry.position:>8}  {show_time(event.recorded_at)}  {entry.topic:<20}  "
        f"{entry.originator_id} v{entry.originator_version}{origin}"
    )


def verify(
    with_blobs: Annotated[
        bool, typer.Option("--blobs", help="Also read the audio of every message held here.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the whole log and hold it against its Merkle root. Exit code 1 for any difference."""
    loaded = load_config(config)
    with open_log(loaded) as recorder, progress_bar() as bar:
        task = bar.add_task("log", total=None)
        verification = verify_log(
            recorder, lambda done, total: bar.update(task, completed=done, total=total)
        )
    report = verify_all(loaded) if with_blobs and verification.is_intact else None
    if as_json:
        print_json({"log": verification, "blobs": report})
    else:
        _print_verification(verification)
        if report is not None:
            print_verification(report)
    if not verification.is_intact or (report is not None and not report.is_sound):
        raise typer.Exit(1)


def _print_verification(verification: LogVerification) -> None:
    for finding in verification.findings:
        print(f"{finding.place}: {finding.what}")
    print_facts(
        (
            ("events", verification.position),
            ("streams", verification.streams),
            ("not understood", verification.opaque_events or None),
            ("root", verification.root),
            ("log", "intact" if verification.is_intact else "NOT intact"),
        )
    )
    if not verification.is_intact:
        print("stop the server, keep its disk as it is, and restore the log from a backup")


def checkpoint(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print where the log ends, and its Merkle root there."""
    loaded = load_config(config)
    with open_log(loaded) as recorder:
        head = recorder.head()
    facts = {
        "server": loaded.server,
        "incarnation": str(head.incarnation),
        "position": head.position,
        "root": head.root.hex(),
    }
    if as_json:
        print_json(facts)
    else:
        print_facts(facts.items())


def prove(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The message.")],  # noqa: ARG001 - the name is reserved
) -> None:
    """Reserved: a proof that a message is in the log."""
    raise ReservedError("'log prove' is reserved and not built yet; use 'log verify'")


def backup_verified(
    position: Annotated[int, typer.Option("--position", min=1, help="What the backup covers.")],
    place: Annotated[str, typer.Option("--place", help="Where the backup is.")],
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Record that a finished and verified backup covers the log up to a position.

    From then on this server's receipts call that much safe.
    """
    connect(config, url, token).send(
        "POST", "/v1/log/backups", {"position": position, "place": place}
    )
    print(f"recorded: {place} covers the log up to position {position}")


def recover(
    sources: Annotated[  # noqa: ARG001 - the name is reserved
        list[str] | None, typer.Option("--from", metavar="URL", help="A server to ask.")
    ] = None,
) -> None:
    """Reserved: rebuild this server's log from its peers."""
    raise ReservedError(
        "'recover' is reserved and not built yet; restore the data directory from a backup, and "
        "the other servers send again what it lacks"
    )
