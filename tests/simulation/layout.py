"""What the configuration of each simulated server says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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

    def home_of(self, extension: str) -> str:
        """Give an extension's home."""
        return dict(self.moved).get(extension, NAMES[int(extension[0]) - 1])

    def move(self, extension: str, home: str) -> Layout:
        """Give the layout after an extension got another home."""
        others = tuple(m for m in self.moved if m[0] != extension)
        return Layout(self.servers, (*others, (extension, home)))


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
    for number, server in enumerate(NAMES[: layout.servers], 1):
        moved = [ext for ext, home in layout.moved if home == server]
        claims = tuple(parse_claim(text) for text in (f"{number}*", *moved))
        key = identity_of(server, is_signed).public_key
        entries.append(
            ServerEntry(id=server, url=f"https://{server}:1", public_key=key, claims=claims)
        )
    return Configuration(
        server=name,
        file=DATA / "vmledger.toml",
        data=DATA,
        directory=Directory(name, entries),
        stores=Stores(events="sqlite:///x", projections="sqlite:///y", blobs="file:///z"),
        identity=IdentityFiles(signing_key=DATA, tls_key=DATA, tls_certificate=DATA),
        calls=CALLS,
        replication=SETTINGS,
        limits=Limits(concurrent_batches=4),
    )
