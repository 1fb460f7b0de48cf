"""What an origin remembers of a peer over a restart: hints, as a port.

Nothing depends on a cursor being right. One that is too low, or lost, makes the origin send again
what the home has; one that is too high is not believed, because the home's own word counts, and so
does its log: the marks say what must stand in it.

Source: claim 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

import msgspec

from ledger.events import Digest, Position, ServerId

MAX_MARKS: Final = 128
"""Most marks that one cursor holds."""


class HomeMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a home's log ended when it signed a receipt.

    As long as its log holds that, it holds what the receipt is for.
    """

    origin_position: Position
    """Everything of our log up to here was answered by then."""
    home_position: Position
    home_root: Digest
    """Of the home's log, at ``home_position``."""


@dataclass(frozen=True, slots=True)
class PeerCursor:
    """How far a peer was, and when it is to be tried again."""

    peer: ServerId
    incarnation: UUID
    """Under which the position was acknowledged."""
    position: int
    """Everything up to here is settled: each message was acknowledged or refused."""
    attempts: int = 0
    """Failures in a row."""
    next_attempt_at: datetime | None = None
    marks: tuple[HomeMark, ...] = ()
    """What the position stands on, the oldest first; at most `MAX_MARKS`."""


class CursorStore(Protocol):
    """Remembers one `PeerCursor` a peer. Synchronous; may be called from any thread.

    Raises TransientError when it cannot work now, and CorruptionError for a hint that nobody wrote.
    """

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
