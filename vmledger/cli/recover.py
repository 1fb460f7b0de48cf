"""Rebuild a lost server on an empty machine.

Source: claims 5, 8 and 10.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ledger.clock import SystemClock
from ledger.configuration import Configuration, ServerEntry, load_configuration
from ledger.errors import CallerError
from ledger.identity import load_identity
from ledger.migration.http_link import HttpLink
from ledger.migration.link import PeerClient
from ledger.migration.log_fetch import LogSource, PeerSource
from ledger.migration.tls import client_context
from ledger.offload import ThreadOffload
from vmledger.cli.mailboxes import parse_moment
from vmledger.cli.options import JsonOption
from vmledger.cli.output import print_facts, print_json, progress_bar
from vmledger.data_lock import DataLock
from vmledger.init import CONFIGURATION_FILE
from vmledger.recovery import DirectorySource, Recovery, RecoveryReport
from vmledger.stores import make_stores


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
            help="A server, by its name or URL, or a directory: a mirror's copy, a backup. "
            "Several times for more.",
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
    config = load_configuration(file)
    report = asyncio.run(_recover(config, sources, _parse_until(until)))
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


async def _recover(
    config: Configuration, names: Sequence[str] | None, until: int | datetime | None
) -> RecoveryReport:
    async with AsyncExitStack() as stack:
        stack.enter_context(DataLock(config.data))
        offload = ThreadOffload()
        stack.callback(offload.close)
        found = _open(config, names, offload, stack)
        bar = stack.enter_context(progress_bar())
        task = bar.add_task("events", total=None)
        recovery = Recovery(
            config,
            found,
            offload=offload,
            now=datetime.now(UTC),
            until=until,
            on_progress=lambda at, end, _: bar.update(task, completed=at, total=end),
        )
        return await recovery.run()


def _open(
    config: Configuration,
    names: Sequence[str] | None,
    offload: ThreadOffload,
    stack: AsyncExitStack,
) -> list[LogSource]:
    """Open every source that was named; raises CallerError for one that is none."""
    peers = config.directory.peers
    found: list[LogSource] = []
    for name in [peer.id for peer in peers] if names is None else names:
        peer = next((p for p in peers if name.rstrip("/") in (p.id, p.url)), None)
        if peer is not None:
            link = _link(config, peer, offload)
            stack.push_async_callback(link.close)
            found.append(PeerSource(PeerClient(link), offload))
        elif Path(name).is_dir():
            source = DirectorySource(Path(name), config.directory.servers, offload)
            stack.callback(source.close)
            found.append(source)
        else:
            known = ", ".join(f"{p.id} ({p.url})" for p in peers) or "none"
            raise CallerError(
                f"--from {name!r} is no directory, and no server of the configuration, which names "
                f"{known}; the certificate of a server must be known before it is trusted"
            )
    return found


def _link(config: Configuration, peer: ServerEntry, offload: ThreadOffload) -> HttpLink:
    assert peer.certificate is not None, "the configuration refuses a peer without one"
    return HttpLink(
        peer,
        identity=load_identity(config.server, config.identity.signing_key),
        tls=client_context(config.identity, peer.certificate),
        settings=config.replication,
        clock=SystemClock(),
        offload=offload,
        rng=random.Random(os.urandom(16)),  # noqa: S311 - makes nonces that differ, no secret
    )


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
    if report.missing:
        lacks.append(f"{len(report.missing)} recordings are missing")
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
        )
    )
    print(state(report))
