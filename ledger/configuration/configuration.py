"""A server's configuration, checked and resolved: what the rest of the program is given.

Source: claims 6 and 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ledger.call_status import VoicemailPolicy
from ledger.configuration.directory import Directory
from ledger.configuration.patterns import PatternIndex
from ledger.configuration.schema import (
    Calls,
    Limits,
    Listen,
    Mailboxes,
    Profiles,
    Replication,
    Retention,
)
from ledger.errors import CallerError
from ledger.events import ServerId
from ledger.ids import MailboxAddress


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Stores(msgspec.Struct, frozen=True, kw_only=True):
    """Where things are kept, as full URLs with absolute paths."""

    events: str
    projections: str
    blobs: str


class IdentityFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files that prove who this server is, and the one that opens what it keeps."""

    signing_key: Path
    tls_key: Path
    tls_certificate: Path
    master_key: Path
    master_key_command: tuple[str, ...] = ()
    """What prints the master key; then no file holds it."""

    @property
    def secrets(self) -> tuple[Path, ...]:
        """Files that must be there and that nobody else may read."""
        master = () if self.master_key_command else (self.master_key,)
        return (self.signing_key, self.tls_key, *master)

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file that must be there."""
        return (*self.secrets, self.tls_certificate)


class ApiTls(msgspec.Struct, frozen=True, kw_only=True):
    """The files for TLS on the HTTP API."""

    certificate: Path
    key: Path


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an operator decides. Never changes while the server runs."""

    server: ServerId
    file: Path
    """The file that it was read from."""
    data: Path
    """Directory of everything that this server writes."""
    directory: Directory
    stores: Stores
    identity: IdentityFiles
    listen: Listen = Listen()
    api_tls: ApiTls | None = None
    """None: the HTTP API speaks plain HTTP."""
    calls: Calls = Calls()
    exceptions: PatternIndex[Mailboxes] = PatternIndex([])
    """What `[[mailboxes]]` says otherwise than `[calls]` and `[retention]`."""
    profiles: Profiles = Profiles()
    replication: Replication = Replication()
    retention: Retention = Retention()
    limits: Limits = Limits()

    @property
    def spool(self) -> Path:
        """Directory of the recordings that are arriving now, and of those that were set aside."""
        return self.data / "spool"

    @property
    def mirrors(self) -> Path:
        """Directory of the copies of other servers' logs that are kept here."""
        return self.data / "mirrors"

    @property
    def api_address(self) -> Address:
        """Where the HTTP API listens."""
        return parse_address(self.listen.api)

    @property
    def replication_address(self) -> Address:
        """Where the other servers connect."""
        return parse_address(self.listen.replication)

    def calls_for(self, mailbox: MailboxAddress) -> Calls:
        """Give `[calls]` as it applies to this mailbox."""
        keys = ("voicemail_for", "min_message_duration_s", "max_message_duration_s")
        return msgspec.structs.replace(self.calls, **self._exceptions_for(mailbox, keys))

    def retention_for(self, mailbox: MailboxAddress) -> Retention:
        """Give `[retention]` as it applies to this mailbox."""
        keys = ("trash_after_days", "erase_trash_after_days")
        return msgspec.structs.replace(self.retention, **self._exceptions_for(mailbox, keys))

    def _exceptions_for(self, mailbox: MailboxAddress, keys: Sequence[str]) -> dict[str, Any]:
        """Give those keys that `[[mailboxes]]` sets for this mailbox."""
        exception = self.exceptions.find(mailbox.context, mailbox.extension)
        values = {key: getattr(exception, key, None) for key in keys}
        return {key: value for key, value in values.items() if value is not None}

    def policy_of(self, mailbox: MailboxAddress) -> VoicemailPolicy:
        """Give the statuses of a call that take a message for this mailbox."""
        return VoicemailPolicy(voicemail_for=frozenset(self.calls_for(mailbox).voicemail_for))


def parse_address(text: str) -> Address:
    """Read ``host:port`` or ``[ipv6]:port``; raises CallerError for anything else."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    is_plain = text.lower() in (f"{host}:{port}", f"[{host}]:{port}")
    if host is None or port is None or not is_plain:
        raise CallerError(f"{text!r} is not host:port; write it like 127.0.0.1:8025 or [::1]:8025")
    return Address(host, port)
