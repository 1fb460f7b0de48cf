"""What the demonstration reports: what it measured, and whether every promise held."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from uuid import UUID

import msgspec


class Path(Enum):
    """How a message came to its home."""

    SENT = "sent"
    """The home was available: shipped at once."""
    STORED_HERE = "stored-here"
    """It landed at its own home."""
    HELD_THEN_MIGRATED = "held-then-migrated"
    """The home was down: kept where it landed, and shipped by itself when the home returned."""


class MessageReport(msgspec.Struct, frozen=True, kw_only=True):
    """One message, from the caller's mouth to its mailbox."""

    message_id: UUID
    call_id: UUID
    origin: str
    """The server that took the call."""
    home: str
    path: Path
    digest_sent: str
    """SHA-256 of the bytes that the switch handed over."""
    digest_at_home: str
    """SHA-256 of the bytes that the home gives back."""
    receipt_ok: bool
    """The home's signed receipt is in the origin's log, verifies with the home's public key, and
    covers this message. For a message that landed at its own home no receipt exists: true there
    says that the home's log holds it, stored and delivered by one commit of its own."""
    stored_at: datetime
    delivered_at: datetime | None


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole demonstration."""

    messages: list[MessageReport]
    handled_normally: int
    """Calls that the servers' logs say were not for voicemail."""
    pending_while_down: int
    """Messages that the living servers said were waiting while the home was dead."""
    duplicates: int
    """Deliveries and mailbox entries beyond one for each message."""
    in_order: bool
    """The home holds each origin's messages in the order in which the origin stored them."""
    logs_verified: bool
    """Every server's log: each event decodes, no gap, and its Merkle root is the recorded one."""
    replay_equal: bool
    """Every server's mailboxes, replayed from the first event, equal those that it served."""
    broken_promises: list[str]
    """Empty, unless something is wrong with this program or machine."""
    duration_s: float
