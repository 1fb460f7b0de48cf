"""Mailboxes and their messages: read them, now or as they were, and act on them.

Source: claims 3 and 7.
"""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import delete, get, patch, post
from litestar.params import JSONBody, QueryParameter

from ledger.errors import CallerError, NotFoundError
from ledger.ids import MAX_ASKED_POSITION, MailboxAddress
from ledger.message import Action
from vmledger.access import OPERATE, READ_MAILBOX, USE_MAILBOX, Principal
from vmledger.http.accesses import note_viewed
from vmledger.http.parameters import (
    AuthenticatedRequest,
    Context,
    Cursor,
    Extension,
    Id,
    PageLimit,
    Parts,
)
from vmledger.http.parts import ApiParts
from vmledger.http.routes import declare
from vmledger.http.views import (
    MailboxView,
    MessageChange,
    MessageView,
    RehomedView,
    Rehoming,
)


@get("/v1/mailboxes/{extension:str}", tags=["mailboxes"], **declare(READ_MAILBOX))
async def get_mailbox(
    extension: Extension,
    *,
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
    at: Annotated[
        datetime | None, QueryParameter(description="As it was then: a time with its zone.")
    ] = None,
    position: Annotated[
        int | None,
        QueryParameter(
            ge=0, le=MAX_ASKED_POSITION, description="As it was at this position of the log."
        ),
    ] = None,
    before: Cursor = None,
    limit: PageLimit = 100,
) -> MailboxView:
    """Show a mailbox: its counts and a page of its messages, the newest first.

    A mailbox that nobody left a message in is an empty one. With `at` or `position` the answer is
    replayed from the log. That it was shown to others than its owner is recorded.
    """
    mailbox = MailboxAddress(extension, context)
    if at is not None and (position is not None or at.tzinfo is None):
        raise CallerError("give either position, or at with its zone, like 2026-01-31T08:00:00Z")
    moment = position if position is not None else at
    if moment is None:
        found = await parts.ask(lambda: parts.questions.mailbox(mailbox, before, limit))
    else:
        found = await parts.ask(lambda: parts.questions.mailbox_at(mailbox, moment, before, limit))
    await note_viewed(parts, request, "mailbox", mailbox=mailbox)
    return found


@get(
    "/v1/mailboxes/{extension:str}/messages/{message_id:uuid}",
    tags=["mailboxes"],
    **declare(READ_MAILBOX, 404),
)
async def get_message(
    extension: Extension,
    message_id: Id,
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
) -> MessageView:
    """Show one message."""
    mailbox = MailboxAddress(extension, context)
    found = await find_message(parts, mailbox, message_id)
    await note_viewed(parts, request, "message", mailbox=mailbox, message_id=message_id)
    return found


@patch(
    "/v1/mailboxes/{extension:str}/messages/{message_id:uuid}",
    tags=["mailboxes"],
    **declare(USE_MAILBOX, 404, 409, takes_json=True),
)
async def change_message(
    extension: Extension,
    message_id: Id,
    *,
    data: JSONBody[MessageChange],
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
) -> MessageView:
    """Mark a message as heard or saved, delete it to the trash, or restore it from there.

    What changes nothing is accepted. Listening again is recorded again.
    """
    mailbox = MailboxAddress(extension, context)
    is_recorded = await act(parts, mailbox, message_id, data.status, request.user)
    found = await find_message(parts, mailbox, message_id)
    if not is_recorded:
        # Else the deed tells already who was here.
        await note_viewed(parts, request, "message", mailbox=mailbox, message_id=message_id)
    return found


@delete(
    "/v1/mailboxes/{extension:str}/messages/{message_id:uuid}",
    tags=["mailboxes"],
    status_code=HTTPStatus.NO_CONTENT,
    **declare(USE_MAILBOX, 404, 409),
)
async def delete_message(
    extension: Extension,
    message_id: Id,
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
) -> None:
    """Move a message to the trash. Its sound is kept, and it can be restored."""
    await act(parts, MailboxAddress(extension, context), message_id, Action.DELETE, request.user)


@post(
    "/v1/mailboxes/{extension:str}/rehome",
    tags=["mailboxes"],
    status_code=HTTPStatus.ACCEPTED,
    **declare(OPERATE, 404, 409, takes_json=True),
)
async def rehome_mailbox(
    extension: Extension,
    *,
    data: JSONBody[Rehoming],
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
) -> RehomedView:
    """Move a mailbox to another server, with its messages, greetings and PIN.

    It is decided when the answer comes, and survives everything; the messages follow by themselves.
    Ask the mailbox's present home; by force, the server that takes it.
    """
    mailbox = MailboxAddress(extension, context)
    messages = await parts.ask(lambda: parts.questions.count_of(mailbox))
    epoch = await parts.server.rehome_mailbox(
        mailbox, data.to, request.user.name, is_forced=data.force
    )
    home = parts.homes.name_of_home(str(mailbox)) or data.to
    going = messages if home != parts.config.server else 0
    return RehomedView(mailbox=str(mailbox), home=home, epoch=epoch, messages=going)


async def find_message(parts: ApiParts, mailbox: MailboxAddress, message_id: UUID) -> MessageView:
    """Give a message of a mailbox, or raise NotFoundError that says whom to ask instead."""
    message = await parts.ask(lambda: parts.questions.message(mailbox, message_id))
    if message is not None:
        return message
    home = parts.homes.home_of(mailbox)
    elsewhere = home is not None and home.id != parts.config.server
    advice = f"; its home is {home.id}, ask that server" if home is not None and elsewhere else ""
    raise NotFoundError(f"mailbox {mailbox} holds no message {message_id} here{advice}")


async def act(
    parts: ApiParts,
    mailbox: MailboxAddress,
    message_id: UUID,
    action: Action,
    principal: Principal,
) -> bool:
    """Do something to a message of this mailbox; what was done shows in the next answer.

    False when that changed nothing, and nothing was recorded.
    """
    message = await find_message(parts, mailbox, message_id)
    return await parts.server.act_on_message(message.call_id, message_id, action, principal.name)
