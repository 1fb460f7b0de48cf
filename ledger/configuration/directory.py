"""The directory: which servers there are, and which one is home to a mailbox.

Source: claims 6, 9 and 13.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from ledger.configuration.bandwidth import UNLIMITED, BandwidthPlan
from ledger.configuration.patterns import Claim, PatternIndex, parse_pattern
from ledger.errors import NotFoundError
from ledger.events import ServerId
from ledger.ids import MailboxAddress


class ServerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one server."""

    id: ServerId
    url: str
    """``https://HOST:PORT`` of its replication listener, without a slash at the end."""
    public_key: bytes
    """The 32 raw bytes of its Ed25519 key."""
    certificate: Path | None = None
    """PEM file of the only certificate that is accepted from it; None for this server itself."""
    claims: tuple[Claim, ...] = ()
    """The extensions that live there."""
    mirrors: tuple[ServerId, ...] = ()
    """The servers that keep a whole copy of its log and recordings."""
    bandwidth: BandwidthPlan = UNLIMITED
    """How fast may be sent there."""


def parse_claim(text: str, context: str = "default") -> Claim:
    """Read ``PATTERN`` or ``PATTERN@CONTEXT``; raises CallerError for anything else."""
    pattern, at, own_context = text.partition("@")
    return Claim(own_context if at else context, parse_pattern(pattern))


class Directory:
    """All servers, and the home of every mailbox. Never changes."""

    def __init__(self, this_server: ServerId, servers: Iterable[ServerEntry]) -> None:
        self.this_server = this_server
        self.servers: Mapping[ServerId, ServerEntry] = MappingProxyType({s.id: s for s in servers})
        """By id, in the order of the file; this server among them."""
        self._homes = PatternIndex(
            [(claim, server) for server in self.servers.values() for claim in server.claims]
        )

    @property
    def own(self) -> ServerEntry:
        """This server's own entry."""
        return self.entry(self.this_server)

    @property
    def peers(self) -> tuple[ServerEntry, ...]:
        """All servers but this one, in the order of the file."""
        return tuple(s for s in self.servers.values() if s.id != self.this_server)

    def entry(self, server: ServerId) -> ServerEntry:
        """Give a server by its id; raises NotFoundError for one that the file does not name."""
        try:
            return self.servers[server]
        except KeyError:
            raise NotFoundError(
                f"there is no server {server!r} in the configuration; "
                f"it names {', '.join(self.servers) or 'none'}"
            ) from None

    def home_of(self, mailbox: MailboxAddress) -> ServerEntry | None:
        """Give the home of a mailbox: the server with the narrowest claim on it, or None."""
        return self._homes.find(mailbox.context, mailbox.extension)
