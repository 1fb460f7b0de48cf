"""Make several servers on this machine that know each other: for the demo, tests and tutorial.

Source: claims 6, 8, 13 and 15.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from ledger.clock import SystemClock
from ledger.configuration import Listen, schema
from ledger.errors import CallerError
from ledger.identity import write_new_file
from vmledger.init import InitResult, prepare_server, write_configuration

HOST: Final = "127.0.0.1"


def write_cluster(
    directory: Path,
    ids: Sequence[str],
    extensions: Mapping[str, Sequence[str]],
    ports: Mapping[str, tuple[int, int]],
    *,
    now: datetime | None = None,
    mirrors: Mapping[str, Sequence[str]] | None = None,
) -> list[Path]:
    """Make one server for each id in ``directory/ID``; give their configuration files, in order.

    ``ports`` says for each id where its API and its replication listener are, on loopback;
    ``mirrors``, which of the others keep a copy of its log.
    Raises as `init_server` does, and CallerError for an id without ports.
    """
    now = now or SystemClock().now()
    without = [server for server in ids if server not in ports]
    if without:
        raise CallerError(f"there are no ports for {', '.join(without)}; give two for each server")
    prepared = [
        prepare_server(
            directory / server,
            server,
            extensions=extensions.get(server, ()),
            context="default",
            url=f"https://{HOST}:{ports[server][1]}",
            listen=Listen(
                api=f"{HOST}:{ports[server][0]}", replication=f"{HOST}:{ports[server][1]}"
            ),
            now=now,
        )
        for server in ids
    ]
    for server in prepared:
        entries = [
            msgspec.structs.replace(entry, mirrors=tuple((mirrors or {}).get(entry.id, ())))
            for entry in _entries(server, prepared)
        ]
        write_configuration(server, entries)
    return [server.configuration_file for server in prepared]


def _entries(server: InitResult, everyone: Sequence[InitResult]) -> Iterator[schema.Server]:
    """Give the `[[servers]]` of one server's file, with its own copies of the certificates."""
    peers = server.directory / "peers"
    peers.mkdir(exist_ok=True)
    for other in everyone:
        if other is server:
            yield other.entry
            continue
        copy = peers / f"{other.entry.id}.crt"
        write_new_file(copy, other.certificate.read_bytes(), mode=0o644)
        yield msgspec.structs.replace(other.entry, certificate=f"peers/{other.entry.id}.crt")
