"""Carry out retention rules: into the trash, and out of it for good; and the holds that stop both.

Nothing here runs by itself. What is due is found by whoever asks; here it is decided once more,
just before, that no hold stops it: a hold that is recorded when this begins is never missed. And
that nothing was done to the message since it was found: what its owner did counts.

Source: claim 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ledger import mailbox as mailboxes
from ledger import message
from ledger.errors import ConflictError
from ledger.events import DomainEvent, Stamp
from ledger.ids import MailboxAddress
from ledger.message import Action, MessageState, MessageStatus
from ledger.server.act_on_message import change_message
from ledger.server.change_mailbox import change_mailbox, home_of
from ledger.server.erasure import Erasing, erase_message
from ledger.server.parts import ServerParts

RULE = "retention"
"""Who does what a rule says: recorded as ``by``."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message at its home that a rule is about, as it was found."""

    mailbox: MailboxAddress
    call_id: UUID
    message_id: UUID
    version: int
    """Of the last event that this server has recorded of it as its home."""


async def hold_mailbox(parts: ServerParts, mailbox: MailboxAddress, by: str, reason: str) -> None:
    """Put a mailbox under a legal hold; durable on return, and on its way to every server.

    Raises NotFoundError or NotHomeError.
    """
    await change_mailbox(
        parts, mailbox, lambda now, *where: mailboxes.hold(now, by, reason, *where)
    )


async def release_mailbox(
    parts: ServerParts, mailbox: MailboxAddress, by: str, reason: str
) -> None:
    """End a mailbox's legal hold; nothing happens when it is under none.

    Raises NotFoundError or NotHomeError.
    """
    await change_mailbox(
        parts, mailbox, lambda now, *where: mailboxes.release(now, by, reason, *where)
    )


async def is_held(parts: ServerParts, mailbox: MailboxAddress) -> bool:
    """Is this mailbox under a legal hold, as far as this server knows?"""
    return (await parts.mailboxes.get(mailbox)).hold is not None


async def trash_by_rule(parts: ServerParts, due: Due) -> bool:
    """Move a message to the trash because a rule says so; False when it is not due any more.

    Raises ConflictError for a held one.
    """

    def decide(state: MessageState, stream: UUID, version: int, stamp: Stamp) -> DomainEvent | None:
        if version != due.version + 1 or state.status is MessageStatus.SAVED:
            return None
        return message.act(
            state, Action.DELETE, stream=stream, version=version, by=RULE, stamp=stamp
        )

    await expect_free(parts, due.mailbox)
    return await change_message(parts, due.call_id, due.message_id, decide)


async def erase_by_rule(parts: ServerParts, due: Due, reason: str) -> bool:
    """Erase a message in the trash because a rule says so; False when it is not due any more.

    Raises ConflictError for a held one.
    """
    await expect_free(parts, due.mailbox)
    erasing = Erasing(RULE, reason, is_told_to_all=False, only_in_trash_since=due.version)
    return await erase_message(parts, due.call_id, due.message_id, erasing) is not None


async def expect_free(parts: ServerParts, mailbox: MailboxAddress) -> None:
    """Raise ConflictError when a legal hold stops what is to be done; NotHomeError elsewhere."""
    home_of(parts, mailbox)
    if await is_held(parts, mailbox):
        raise ConflictError(f"mailbox {mailbox} is under a legal hold")
