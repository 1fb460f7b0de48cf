"""What an operator looks at: what waits, who is reachable, and the one lever to pull.

Source: claims 5, 6, 8 and 13.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import QueryParameter

from ledger.errors import NotFoundError
from ledger.ids import MailboxAddress
from vmledger.access import OPERATE, READ
from vmledger.http.accesses import note_viewed
from vmledger.http.parameters import AuthenticatedRequest, Id, Parts
from vmledger.http.routes import declare
from vmledger.http.views import MessageView, PendingView, ProjectionView, ServersView
from vmledger.whole_story import MOST_WAIT_S, WholeStory


class Requeued(msgspec.Struct, frozen=True, kw_only=True):
    """A message that will be shipped again."""

    message_id: UUID
    call_id: UUID


@get("/v1/pending", tags=["operations"], **declare(READ))
async def get_pending(
    request: AuthenticatedRequest,
    parts: Parts,
    limit: Annotated[int, QueryParameter(ge=0, le=1000, description="How many messages.")] = 100,
) -> PendingView:
    """Show what waits here for other servers: how much for each, and the oldest messages."""
    found = await parts.ask(lambda: parts.questions.pending(limit))
    if found.messages:
        await note_viewed(parts, request, "pending")
    return found


@get("/v1/servers", tags=["operations"], **declare(READ))
async def get_servers(parts: Parts) -> ServersView:
    """Show the servers of the configuration: which are reachable, and how much each has of us."""
    return await parts.ask(parts.questions.servers)


@get("/v1/projections", tags=["operations"], **declare(READ))
async def get_projections(parts: Parts) -> list[ProjectionView]:
    """Show how far each read model is."""
    return await parts.offload(parts.questions.projections)


@get("/v1/messages/{message_id:uuid}", tags=["operations"], **declare(READ, 404))
async def get_any_message(
    message_id: Id, request: AuthenticatedRequest, parts: Parts
) -> MessageView:
    """Show a message that this server answers for, whichever mailbox it is in."""
    message = await parts.ask(lambda: parts.questions.any_message(message_id))
    if message is None:
        raise NotFoundError(f"this server answers for no message {message_id}; ask its home")
    mailbox = MailboxAddress.parse(message.mailbox)
    await note_viewed(parts, request, "message", mailbox=mailbox, message_id=message_id)
    return message


@get("/v1/messages/{message_id:uuid}/story", tags=["operations"], **declare(READ, 404))
async def get_story(
    message_id: Id,
    request: AuthenticatedRequest,
    parts: Parts,
    wait_s: Annotated[
        float,
        QueryParameter(ge=0, le=MOST_WAIT_S, description="How long to wait for other servers."),
    ] = 3.0,
) -> WholeStory:
    """Tell the whole story of a message: all servers are asked what their logs tell.

    A server that does not answer in time is named among `servers`, and `is_whole` is false. 404
    when nobody who answered knows the message, and everybody did.
    """
    story = await parts.stories.collect(message_id, request.user.name, wait_s)
    if not story.steps and story.is_whole:
        raise NotFoundError(f"no server knows anything of message {message_id}")
    await note_viewed(parts, request, "story", message_id=message_id)
    return story


@post(
    "/v1/messages/{message_id:uuid}/requeue",
    tags=["operations"],
    status_code=HTTPStatus.ACCEPTED,
    **declare(OPERATE, 404, 409),
)
async def requeue_message(message_id: Id, parts: Parts) -> Requeued:
    """Ship a held message again, to the home that the configuration names now."""
    call_id = await parts.ask(lambda: parts.questions.call_of(message_id))
    if call_id is None:
        raise NotFoundError(f"no message {message_id} waits here")
    await parts.server.requeue_message(call_id, message_id)
    return Requeued(message_id=message_id, call_id=call_id)
