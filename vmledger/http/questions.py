"""The questions that the API asks of the read models, as a port.

Methods are synchronous and may wait for a database: handlers call them off the event loop.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

from ledger.ids import MailboxAddress
from vmledger.http.views import (
    CallPage,
    MailboxView,
    MessageView,
    PendingView,
    ProjectionView,
    ServersView,
)


class Questions(Protocol):
    """Answers from the read models. A cursor that is none of theirs raises CallerError."""

    def wait_for(self, position: int, timeout_s: float) -> bool:
        """Wait until every answer includes the log up to there; False when time ran out."""

    def mailbox(self, mailbox: MailboxAddress, before: str | None, limit: int) -> MailboxView:
        """Give a page of a mailbox as it is now; an unknown mailbox is an empty one."""

    def mailbox_at(
        self,
        mailbox: MailboxAddress,
        position: int | None,
        at: datetime | None,
        before: str | None,
        limit: int,
    ) -> MailboxView:
        """Give a page of a mailbox as it was at a position, or at a time."""

    def message(self, mailbox: MailboxAddress, message_id: UUID) -> MessageView | None:
        """Give one message of a mailbox; None if it is not there."""

    def call_of(self, message_id: UUID) -> UUID | None:
        """Give the call that a message held here belongs to; None if there is no such message."""

    def calls(self, extension: str | None, before: str | None, limit: int) -> CallPage:
        """Give a page of the call history, of one extension or of all."""

    def pending(self, limit: int) -> PendingView:
        """Give what waits here for other servers, with the oldest messages."""

    def servers(self) -> ServersView:
        """Give the servers of the configuration and what is known of them."""

    def projections(self) -> list[ProjectionView]:
        """Give how far each read model is."""
