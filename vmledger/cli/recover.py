"""Rebuild a lost server on an empty machine.

Source: claims 5, 8 and 10.
"""

from __future__ import annotations

import asyncio
import gc
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.configuration import load_configuration
from ledger.errors import CallerError
from vmledger.cli.mailboxes import parse_moment
from vmledger.cli.options import JsonOption
from vmledger.cli.output import print_facts, print_json, progress_bar
from vmledger.init import CONFIGURATION_FILE
from vmledger.stores import make_stores

if TYPE_CHECKING:
    from vmledger.recovery_report import RecoveryReport


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    app.command("recover")(recover)


def recover(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The server's directory: vmledger.toml, certificates, keys."
        ),
    ],
    *,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="A server, by its name or URL; a directory: a mirror's copy, a backup, an "
            "archive; or an archive in a bucket: s3://BUCKET/PREFIX?endpoint=URL. Several times "
            "for more.",
            show_default="all other servers of the configuration",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="POSITION|TIME",
            help="Nothing behind this; whole digits are a position.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild a lost server's log and recordings in DIR from whoever holds them.

    The server must not run anywhere, its stores must be empty, and its configuration and keys in
    their places. Killed half-way, run it again. Exit code 1 when something is missing: everything
    else is recovered then, and the server can be started.
    """
    file = directory / CONFIGURATION_FILE
    if not file.is_file():
        raise CallerError(
            f"there is no {file}; put the server's {CONFIGURATION_FILE}, the certificates that it "
            "names and the keys there first"
        )
    # Here, not above: it needs every library, and most commands need none.
    from vmledger.recovery_processes import RecoveryProcesses  # noqa: PLC0415
    from vmledger.recovery_sources import recover_from  # noqa: PLC0415

    config = load_configuration(file)
    gc.disable()  # events make no cycles, and to look for some takes a third of the time
    with RecoveryProcesses(config) as processes, progress_bar() as bar:
        task = bar.add_task("events", total=None)
        report = asyncio.run(
            recover_from(
                config,
                sources,
                _parse_until(until),
                lambda at, end, _: bar.update(task, completed=at, total=end),
                processes,
            )
        )
    make_stores(config)
    if as_json:
        print_json({"statement": state(report), "is_whole": report.is_whole, "report": report})
    else:
        _print_report(report)
    if not report.is_whole:
        raise typer.Exit(1)


def _parse_until(text: str | None) -> int | datetime | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 19:
        if not int(text):
            raise CallerError("--until 0 leaves nothing to recover; positions begin at 1")
        return int(text)
    return parse_moment(text)


def state(report: RecoveryReport) -> str:
    """Say in one sentence what was recovered."""
    through = f"recovered through position {report.position} of {report.known_until}"
    if report.is_cut:
        through += ", as far as was asked for"
    lacks = []
    if not report.is_cut and report.position < report.known_until:
        told = ", ".join(report.told_by)
        lacks.append(
            f"positions {report.position + 1} to {report.known_until} are missing; {told} may hold "
            "some of them, and is asked when the server starts"
        )
    if report.is_beginning:
        lacks.append(
            "it is the beginning of a longer copy, and nobody who was asked has what follows"
        )
    if report.other_histories:
        told = ", ".join(report.other_histories)
        lacks.append(f"another history of this log is known to {told}, and is not recovered")
    if report.missing:
        lacks.append(f"{len(report.missing)} recordings are missing")
    if report.unreadable_calls:
        lacks.append(
            f"{report.unreadable_calls} calls cannot be read: their keys are missing, or another "
            "master key wrapped them; 'vmledger log verify' names them"
        )
    return f"{through}, {'; '.join(lacks) or 'nothing missing'}"


def _print_report(report: RecoveryReport) -> None:
    for source in report.sources:
        if source.problem:
            print(f"{source.name}: {source.problem}")
    for blob in report.missing:
        what = f"message {blob.message_id}" if blob.message_id else "a greeting or a PIN"
        might = ", ".join(blob.might_be_at) or "nobody else"
        print(f"missing: {blob.digest} of {what}, position {blob.position}; had once: {might}")
    print_facts(
        (
            ("server", report.server),
            ("incarnation", report.incarnation),
            ("position", report.position),
            ("root", report.root),
            ("seconds", report.seconds),
        )
    )
    print(state(report))
