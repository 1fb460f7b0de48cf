"""What the migration module needs of a server's log and of its memory of peers, as ports.

`ReplicatedLog` is the part of ``ledger.storage.group_commit.EventLog`` that replication uses;
`CursorStore` remembers hints. Both raise TransientError when they cannot work now.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from ledger.events import DomainEvent, ServerId
from ledger.storage.event_log import (
    Append,
    Appended,
    BlobLocation,
    LogEntry,
    LogHead,
    TrackedOrigin,
)


class ReplicatedLog(Protocol):
    """The log of this server. See `ledger.storage.event_log` for what each call promises."""

    async def append(self, append: Append) -> Appended:
        """Append, durable on return; raises the library's IntegrityError (StaleTracking)."""

    async def append_events(self, events: Sequence[DomainEvent]) -> Appended:
        """Append events of this server."""

    async def read(self, start: int, limit: int, stop: int | None = None) -> list[LogEntry]:
        """Read a page in commit order."""

    async def read_streams(self, originator_ids: Sequence[UUID]) -> dict[UUID, list[LogEntry]]:
        """Read whole streams."""

    async def head(self) -> LogHead:
        """Read the head of the committed log."""

    async def root_at(self, position: int) -> bytes:
        """Give the Merkle root over the first ``position`` events."""

    async def tracked(self, origin: str) -> list[TrackedOrigin]:
        """Give what is tracked of an origin, the newest incarnation first."""

    async def start_incarnation(self, incarnation: UUID) -> LogHead:
        """Go on under a new incarnation."""

    async def locate_blobs(self, digests: Sequence[str]) -> dict[str, BlobLocation]:
        """Say where blobs lie in packs."""

    def add_listener(self, listener: Callable[[LogHead], None]) -> Any:
        """Call after each commit, from any thread."""


@dataclass(frozen=True, slots=True)
class PeerCursor:
    """What an origin remembers of a peer over a restart: only hints."""

    peer: ServerId
    incarnation: UUID
    """Under which the position was acknowledged."""
    position: int
    """Everything up to here is settled: each message was acknowledged or refused."""
    attempts: int = 0
    """Failures in a row."""
    next_attempt_at: datetime | None = None


class CursorStore(Protocol):
    """Remembers one `PeerCursor` a peer. Synchronous; may be called from any thread."""

    def load(self, peer: ServerId) -> PeerCursor | None:
        """Give what was saved last, or None."""

    def save(self, cursor: PeerCursor) -> None:
        """Remember; a crash may lose it."""


class MemoryCursorStore:
    """A `CursorStore` for tests and for the simulation."""

    def __init__(self) -> None:
        self.cursors: dict[ServerId, PeerCursor] = {}

    def load(self, peer: ServerId) -> PeerCursor | None:
        return self.cursors.get(peer)

    def save(self, cursor: PeerCursor) -> None:
        self.cursors[cursor.peer] = cursor
