"""What the configuration of each simulated server says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.configuration import (
    Calls,
    Configuration,
    Directory,
    IdentityFiles,
    Limits,
    Replication,
    ServerEntry,
    Stores,
    parse_claim,
)
from ledger.identity import ServerIdentity
from tests.simulation.server import DATA, NAMES, CheapIdentity

SETTINGS = Replication(
    probe_interval_s=12.0,
    backoff_min_s=1.0,
    backoff_max_s=16.0,
    batch_max_messages=3,
    fresh_for_s=5.0,
)
CALLS = Calls(min_message_duration_s=0.0, recording_grace_s=5.0)


@dataclass(frozen=True)
class Layout:
    """Who the servers are, and which extensions were moved away from their first home."""

    servers: int
    moved: tuple[tuple[str, str], ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    """Servers that were taken out of the file, each with the heir of its extensions."""
    mirrors: tuple[tuple[str, str], ...] = ()
    """(server, mirror)"""

    @property
    def names(self) -> list[str]:
        """The servers that the file names."""
        gone = dict(self.left)
        return [name for name in NAMES[: self.servers] if name not in gone]

    def home_of(self, extension: str) -> str:
        """Give an extension's home."""
        home = dict(self.moved).get(extension, NAMES[int(extension[0]) - 1])
        return self._heir(home)

    def _heir(self, name: str) -> str:
        heirs = dict(self.left)
        while name in heirs:
            name = heirs[name]
        return name

    def move(self, extension: str, home: str) -> Layout:
        """Give the layout after an extension got another home."""
        others = tuple(m for m in self.moved if m[0] != extension)
        return replace(self, moved=(*others, (extension, home)))

    def without(self, name: str, heir: str) -> Layout:
        """Give the layout after a server was taken out; another one gets its extensions."""
        return replace(self, left=(*self.left, (name, heir)))

    def mirrors_of(self, name: str) -> tuple[str, ...]:
        """Give the servers that keep a copy of a server's log."""
        return tuple(m for server, m in self.mirrors if server == name and m in self.names)

    def claims_of(self, name: str) -> list[str]:
        """Give the patterns of extensions that the file gives to a server."""
        ranges = [f"{n}*" for n, one in enumerate(NAMES[: self.servers], 1)]
        owned = [text for text in ranges if self._heir(NAMES[int(text[0]) - 1]) == name]
        return owned + [ext for ext, home in self.moved if self._heir(home) == name]


@cache
def identity_of(name: str, is_signed: bool) -> ServerIdentity | CheapIdentity:
    if not is_signed:
        return CheapIdentity(name)
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    return ServerIdentity(name, key)


@cache
def configuration(name: str, layout: Layout, is_signed: bool) -> Configuration:
    """Build what a server's file would say."""
    entries = []
    for server in layout.names:
        claims = tuple(parse_claim(text) for text in layout.claims_of(server))
        key = identity_of(server, is_signed).public_key
        entries.append(
            ServerEntry(
                id=server,
                url=f"https://{server}:1",
                public_key=key,
                claims=claims,
                mirrors=layout.mirrors_of(server),
            )
        )
    return Configuration(
        server=name,
        file=DATA / "vmledger.toml",
        data=DATA,
        directory=Directory(name, entries),
        stores=Stores(events="sqlite:///x", projections="sqlite:///y", blobs="file:///z"),
        identity=IdentityFiles(
            signing_key=DATA, tls_key=DATA, tls_certificate=DATA, master_key=DATA
        ),
        calls=CALLS,
        replication=SETTINGS,
        limits=Limits(concurrent_batches=4),
    )
