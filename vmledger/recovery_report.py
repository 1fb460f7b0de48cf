"""What a recovery says when it ends: what is there, what is missing, and who might have it.

Source: claims 5 and 10.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from ledger.events import ServerId


class SourceReport(msgspec.Struct, kw_only=True):
    """What was learned from one source."""

    name: str
    copies: list[int] = []
    """How many events each of its copies has."""
    known_until: int = 0
    """The last position that it can tell of: co-signed, taken in, or copied."""
    problem: str = ""
    """Why it, or one of its copies, was of no use."""


class MissingBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A recording that should be here, and that no source has."""

    digest: str
    position: int
    """Of the event that names it."""
    message_id: UUID | None
    """None for a greeting or what a PIN is checked against."""
    might_be_at: list[ServerId]
    """Servers that had it once."""


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was recovered, and what was not."""

    server: ServerId
    incarnation: UUID
    """The new one, under which the server goes on."""
    position: int
    """All events up to here are recovered."""
    known_until: int
    """The log is known to have had so many events."""
    root: str
    """The Merkle root at ``position``, hexadecimal."""
    is_cut: bool
    """Was less asked for than there is?"""
    is_beginning: bool
    """Is it the beginning of a copy that could not be read to its end, and was more asked for?"""
    told_by: list[str]
    """Who knows of events behind ``position``: they may hold some of them."""
    other_histories: list[str]
    """Who knows that the log had other events up to ``position`` than those that are recovered."""
    missing: list[MissingBlob]
    unreadable_calls: int
    """Sealed calls whose key did not come along, or was wrapped by another master key."""
    sources: list[SourceReport]
    seconds: float
    """How long it took, from the first question on."""

    @property
    def is_whole(self) -> bool:
        """Is everything here that was asked for?"""
        is_all = self.is_cut or (self.position >= self.known_until and not self.is_beginning)
        is_readable = not self.missing and not self.unreadable_calls
        return is_all and is_readable and not self.other_histories
