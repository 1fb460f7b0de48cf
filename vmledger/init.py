"""Make a new server: its configuration file, its keys and certificate, its empty directories.

Source: claims 6 and 13.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from ledger.clock import SystemClock
from ledger.configuration import (
    Configuration,
    Listen,
    is_peer_url,
    parse_address,
    parse_claim,
    schema,
)
from ledger.errors import CallerError, ConflictError
from ledger.identity import generate_identity, public_key_text, save_identity, write_new_file
from ledger.sealing import new_master_key
from vmledger.certificates import make_tls_pair
from vmledger.configuration_text import configuration_text, server_block

CONFIGURATION_FILE: Final = "vmledger.toml"


class InitResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was made."""

    directory: Path
    form: schema.ConfigurationFile
    """What the configuration file says."""

    @property
    def configuration_file(self) -> Path:
        """The file to start the server with."""
        return self.directory / CONFIGURATION_FILE

    @property
    def data(self) -> Path:
        """Directory of everything that the server writes."""
        return self.directory / "data"

    @property
    def certificate(self) -> Path:
        """The certificate that every other server needs a copy of."""
        return self.data / "tls.crt"

    @property
    def files(self) -> tuple[Path, ...]:
        """Every new file, the configuration file last."""
        keys = (self.data / "server.key", self.data / "tls.key", self.certificate)
        return (*keys, self.data / "master.key", self.configuration_file)

    @property
    def entry(self) -> schema.Server:
        """The server's own `[[servers]]` table."""
        return next(s for s in self.form.servers if s is not None and s.id == self.form.server)

    @property
    def servers_block(self) -> str:
        """What the operator adds to the file of every other server."""
        return peer_block(self.entry, self.certificate)


def init_server(
    directory: Path,
    server_id: str,
    *,
    extensions: Sequence[str] = (),
    context: str = "default",
    url: str | None = None,
    listen: Listen | None = None,
    now: datetime | None = None,
) -> InitResult:
    """Make a server in ``directory``, which may exist but must hold none of the files.

    ``url`` is where the other servers reach it; by default this machine's name and the replication
    port. Raises ConflictError where something would be overwritten, CallerError for values that
    the server would refuse later. Nothing is written in both cases.
    """
    prepared = prepare_server(
        directory,
        server_id,
        extensions=extensions,
        context=context,
        url=url,
        listen=listen or Listen(),
        now=now or SystemClock().now(),
    )
    return write_configuration(prepared, [prepared.entry])


def prepare_server(
    directory: Path,
    server_id: str,
    *,
    extensions: Sequence[str],
    context: str,
    url: str | None,
    listen: Listen,
    now: datetime,
) -> InitResult:
    """Do all of `init_server` but its last step, so that peers can be named in that."""
    url = url or f"https://{socket.gethostname()}:{parse_address(listen.replication).port}"
    entry = schema.Server(
        id=server_id, url=url, public_key="", extensions=tuple(extensions), context=context
    )
    _check_values(entry, listen)
    form = schema.ConfigurationFile(server=server_id, listen=listen, servers=(entry,))
    result = InitResult(directory=directory.absolute(), form=form)
    _refuse_to_overwrite(result.files)
    _make_directories(result)
    keyed = msgspec.structs.replace(entry, public_key=_write_keys(result, now))
    return msgspec.structs.replace(result, form=msgspec.structs.replace(form, servers=(keyed,)))


def _check_values(entry: schema.Server, listen: Listen) -> None:
    try:
        msgspec.convert(msgspec.to_builtins(entry), schema.Server)
    except msgspec.ValidationError as error:
        raise CallerError(
            f"{entry.id!r} with the context {entry.context!r} cannot be a server ({error}); "
            "use lower-case letters, digits and hyphens for the name"
        ) from error
    parse_address(listen.api)
    for extension in entry.extensions:
        parse_claim(extension)
    if not is_peer_url(entry.url):
        raise CallerError(f"{entry.url!r} is not an https URL with a host; write https://HOST:PORT")


def _refuse_to_overwrite(files: Iterable[Path]) -> None:
    for file in files:
        if file.exists():
            raise ConflictError(
                f"{file} exists and is not overwritten; choose an empty directory, or remove what "
                "an interrupted init has left there"
            )


def _write_keys(result: InitResult, now: datetime) -> str:
    """Write the keys and the certificate; give the public key as the configuration has it.

    A crash in between leaves keys that no configuration names: no server yet, and nothing that a
    second attempt would overwrite.
    """
    server_key, tls_key, tls_certificate, master_key, _ = result.files
    identity = generate_identity(result.form.server)
    host = urlsplit(result.entry.url).hostname
    assert host is not None, "the URL was checked"
    key_pem, certificate_pem = make_tls_pair(result.form.server, [host], now)
    save_identity(identity, server_key)
    write_new_file(tls_key, key_pem, mode=0o600)
    write_new_file(tls_certificate, certificate_pem, mode=0o644)
    new_master_key(master_key, os.urandom)
    return public_key_text(identity.public_key)


def _make_directories(result: InitResult) -> None:
    result.directory.mkdir(parents=True, exist_ok=True)
    result.data.mkdir(mode=0o700, exist_ok=True)
    (result.data / "blobs").mkdir(mode=0o700, exist_ok=True)


def write_configuration(result: InitResult, servers: Sequence[schema.Server]) -> InitResult:
    """Write the configuration file with these `[[servers]]`; durable on return."""
    form = msgspec.structs.replace(result.form, servers=tuple(servers))
    # A crash while writing leaves no complete file, and a cut one is refused at the start.
    write_new_file(result.configuration_file, configuration_text(form).encode(), mode=0o644)
    return msgspec.structs.replace(result, form=form)


def servers_block(configuration: Configuration) -> str:
    """Write the `[[servers]]` table that the other servers need of this one."""
    own = configuration.directory.own
    entry = schema.Server(
        id=own.id,
        url=own.url,
        public_key=public_key_text(own.public_key),
        extensions=tuple(str(claim) for claim in own.claims),
    )
    return peer_block(entry, configuration.identity.tls_certificate)


def peer_block(entry: schema.Server, certificate: Path) -> str:
    """Write a server's table as its peers have it, and say which file goes with it."""
    copy = f"peers/{entry.id}.crt"
    block = server_block(msgspec.structs.replace(entry, certificate=copy))
    return f"# Copy {certificate} of {entry.id} to {copy}, beside vmledger.toml.\n{block}"
