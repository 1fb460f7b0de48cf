"""Carry out retention rules: into the trash, and out of it for good; and the holds that stop both.

Nothing here runs by itself. What is due is found by whoever asks; here it is decided once more,
just before, that no hold stops it: a hold that is recorded when this begins is never missed.

Source: claim 10.
"""

from __future__ import annotations

from uuid import UUID

from ledger import mailbox as mailboxes
from ledger.errors import ConflictError
from ledger.ids import MailboxAddress
from ledger.message import Action
from ledger.server.act_on_message import act_on_message
from ledger.server.change_mailbox import change_mailbox, home_of
from ledger.server.erasure import Erasing, erase_message
from ledger.server.parts import ServerParts

RULE = "retention"
"""Who does what a rule says: recorded as ``by``."""


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


async def trash_by_rule(
    parts: ServerParts, mailbox: MailboxAddress, call_id: UUID, message_id: UUID
) -> None:
    """Move a message to the trash because a rule says so; raises ConflictError for a held one."""
    await expect_free(parts, mailbox)
    await act_on_message(parts, call_id, message_id, Action.DELETE, RULE)


async def erase_by_rule(
    parts: ServerParts, mailbox: MailboxAddress, call_id: UUID, message_id: UUID, reason: str
) -> bool:
    """Erase a message in the trash because a rule says so; False when it is not there any more.

    Raises ConflictError for a held one.
    """
    await expect_free(parts, mailbox)
    erasing = Erasing(RULE, reason, is_told_to_all=False, only_in_trash=True)
    return await erase_message(parts, call_id, message_id, erasing) is not None


async def expect_free(parts: ServerParts, mailbox: MailboxAddress) -> None:
    """Raise ConflictError when a legal hold stops what is to be done; NotHomeError elsewhere."""
    home_of(parts, mailbox)
    if await is_held(parts, mailbox):
        raise ConflictError(f"mailbox {mailbox} is under a legal hold")
