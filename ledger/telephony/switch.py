"""What a switch tells a server of a call, what it is told in return, and the port between them.

A driver for a switch (the HTTP API is one, others may follow) turns the switch's own words into a
`CallReport` and hands the audio to a `CallHandler`; it decides nothing itself.

Source: claims 1, 2 and 12.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from ledger.events import CallStatus, DecisionReason, ServerId


class CallReport(msgspec.Struct, frozen=True, kw_only=True):
    """A switch reports a call and asks what to do with it."""

    called_extension: str
    status: CallStatus
    context: str = "default"
    caller_number: str | None = None
    """None when withheld."""
    caller_name: str | None = None
    redirecting_number: str | None = None
    redirecting_reason: str | None = None
    switch_call_id: str | None = None
    """The switch's own name for the call."""
    call_id: UUID | None = None
    """Given by the switch, it makes a repeated report harmless: the first answer comes again. It is
    for one server: whoever turns to another one reports the call there without it, or anew."""


class CallDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What the switch shall do with the call."""

    call_id: UUID
    transfer: bool
    """True: connect it to voicemail and hand over the recording. False: handle it normally."""
    reason: DecisionReason
    extension: str | None
    """The voicemail extension; None unless transfer."""
    mailbox: str | None
    home: ServerId | None
    is_remote: bool | None
    is_reachable: bool | None


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is durable: the caller may be told so."""

    message_id: UUID
    call_id: UUID
    mailbox: str
    home: ServerId
    digest: str
    """SHA-256 of the received bytes, hexadecimal."""
    duration_ms: int
    custody: ServerId
    """Who answers for it now."""
    is_pending: bool
    """True while it waits here for its home."""
    is_recovered: bool
    stored_at: datetime


class CallHandler(Protocol):
    """What every driver of a switch talks to. Each request may be repeated."""

    async def report_call(self, report: CallReport) -> CallDecision:
        """Decide what happens to a call; the decision is recorded on return."""

    async def record_message(
        self, call_id: UUID, audio: AsyncIterator[bytes], content_type: str | None
    ) -> StoredMessage:
        """Take a call's recording; on return the message is durable."""

    async def abandon_call(self, call_id: UUID, reason: str) -> None:
        """Record that the call ended without a message."""
