"""Back up a server, verify a backup, restore a server from one.

What copies is imported by the commands that do: it takes as long as all the rest of the program.

Source: claim 10.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.progress import TaskID

from vmledger.cli.api_client import connect
from vmledger.cli.blobs import print_verification
from vmledger.cli.options import ConfigOption, JsonOption, TokenOption, UrlOption, load_config
from vmledger.cli.output import print_facts, print_json, progress_bar, show_size
from vmledger.stores import make_stores

if TYPE_CHECKING:
    from vmledger.backup import BackupReport, BackupVerification, Progress

_Directory: TypeAlias = Annotated[Path, typer.Argument(metavar="DIR", help="The backup.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(help="Back up this server, and restore it.", no_args_is_help=True)
    group.command("create")(create)
    group.command("verify")(verify)
    group.command("restore")(restore)
    app.add_typer(group, name="backup")


def create(
    directory: _Directory,
    *,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="DIR", help="Copy the server's keys too, to this place."),
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--place",
            help="Tell the running server that this backup is verified, and where it is kept. "
            "Only of a place that outlives the server's disk.",
        ),
    ] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a backup in DIR, or bring the one there up to date, and verify it.

    Safe beside the running server. Exit code 1 when something that must be there could not be
    copied, or the backup is not sound.
    """
    from vmledger.backup import copy_keys, create_backup

    loaded = load_config(config)
    with _progress() as progress:
        report = create_backup(loaded, directory, datetime.now(UTC), progress)
    if keys is not None:
        copy_keys(loaded, keys)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    if not report.is_whole:
        raise typer.Exit(1)
    if place is not None:
        body = {"position": report.position, "place": place}
        connect(config, url, token).send("POST", "/v1/log/backups", body)


def _print_report(report: BackupReport) -> None:
    for digest, why in report.missing.items():
        print(f"not copied: {digest}: {why}")
    print_facts(
        (
            ("new events", report.new_events),
            ("new recordings", f"{report.new_recordings} ({show_size(report.new_bytes)})"),
        )
    )
    _print_verification(report.verification)


def verify(directory: _Directory, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Read a whole backup: its log, the signature over it, and its recordings.

    Exit code 1 if a server could not be restored from it as it is.
    """
    from vmledger.backup import verify_backup

    loaded = load_config(config)
    with _progress() as progress:
        verification = verify_backup(loaded, directory, datetime.now(UTC), progress)
    if as_json:
        print_json(verification)
    else:
        _print_verification(verification)
    if not verification.is_sound:
        raise typer.Exit(1)


def _print_verification(verification: BackupVerification) -> None:
    for problem in verification.problems:
        print(problem)
    for finding in verification.log.findings:
        print(f"{finding.place}: {finding.what}")
    print_verification(verification.blobs)
    print_facts(
        (
            ("server", verification.server),
            ("position", verification.position),
            ("root", verification.root),
            ("backup", "sound" if verification.is_sound else "NOT sound"),
        )
    )


def restore(
    directory: _Directory,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fill this server's empty stores from a backup; start the server afterwards.

    The configuration and the keys must be in their places. Exit code 1 when recordings are missing
    in the backup: everything else is restored then.
    """
    from vmledger.backup import restore_backup

    loaded = load_config(config)
    with _progress() as progress:
        report = restore_backup(loaded, directory, datetime.now(UTC), progress)
    make_stores(loaded)
    if as_json:
        print_json(report)
    else:
        for digest, why in report.missing.items():
            print(f"not restored: {digest}: {why}")
        print_facts(
            (
                ("server", report.server),
                ("position", report.position),
                ("root", report.root),
                ("recordings", report.recordings),
                ("missing", len(report.missing)),
            )
        )
        print("restored; start the server, and the others send again what it lacks")
    if not report.is_whole:
        raise typer.Exit(1)


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    with progress_bar() as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        yield show
