"""The log itself, for operators: its events byte for byte, and its head.

Source: claim 10; RFC 9162 section 2.1 for the root.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, cast
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import JSONBody, QueryParameter

from ledger.errors import NotFoundError
from ledger.events import AccessKind
from ledger.ids import MAX_ASKED_POSITION
from ledger.storage.event_log import LogEntry
from ledger.storage.message_streams import read_story
from vmledger.access import OPERATE, READ
from vmledger.http.accesses import note_given
from vmledger.http.parameters import AuthenticatedRequest, Id, Parts
from vmledger.http.parts import ApiParts
from vmledger.http.routes import declare
from vmledger.http.views import (
    CheckpointView,
    LogEntryView,
    LogPage,
    VerifiedBackup,
    WentBackKnown,
)
from vmledger.message_proof import MessageProof, find_key, prove_message
from vmledger.went_back import is_of_one_log, read_forks


@get("/v1/log", tags=["log"], **declare(OPERATE))
async def read_log(
    request: AuthenticatedRequest,
    parts: Parts,
    start: Annotated[
        int,
        QueryParameter(name="from", ge=1, le=MAX_ASKED_POSITION, description="The first position."),
    ] = 1,
    limit: Annotated[int, QueryParameter(ge=1, le=10_000, description="How many at most.")] = 1000,
) -> LogPage:
    """Read events in the order of the log. Past its end there are none (yet)."""
    await note_given(parts, request, AccessKind.EXPORTED, "log")
    entries = await parts.log.read(start, limit)
    is_full = len(entries) == limit
    return LogPage(
        entries=[_view(entry) for entry in entries],
        next=entries[-1].position + 1 if is_full else None,
    )


def _view(entry: LogEntry) -> LogEntryView:
    return LogEntryView(
        position=entry.position,
        stream=entry.originator_id,
        version=entry.originator_version,
        topic=entry.topic,
        origin=entry.origin,
        origin_position=entry.origin_position,
        # Already JSON, and to be shown as it was hashed: it is copied into the answer unread.
        event=cast("dict[str, Any]", msgspec.Raw(entry.plain)),
    )


@get("/v1/log/checkpoint", tags=["log"], **declare(READ))
async def get_checkpoint(parts: Parts) -> CheckpointView:
    """Give the head of the log: two checkpoints of one position must agree, for ever."""
    head = await parts.log.head()
    return CheckpointView(
        server=parts.config.server,
        incarnation=head.incarnation,
        position=head.position,
        root=head.root.hex(),
    )


@get("/v1/log/proof/{message_id:uuid}", tags=["log"], **declare(OPERATE, 404))
async def prove(message_id: Id, request: AuthenticatedRequest, parts: Parts) -> MessageProof:
    """Prove that a message stands in the log, to a third party who needs no server to check it.

    `vmledger log check-proof` checks the answer. It holds the message's events as they were
    recorded.
    """
    call_id = await parts.ask(lambda: parts.questions.call_of_any(message_id))
    if call_id is None:
        raise NotFoundError(f"nothing is recorded here of message {message_id}")
    await note_given(parts, request, AccessKind.EXPORTED, "proof", message_id=message_id)
    return await parts.offload(lambda: _prove(parts, message_id, call_id))


def _prove(parts: Parts, message_id: UUID, call_id: UUID) -> MessageProof:
    recorder = parts.log.recorder
    told = read_story(recorder.read_streams, parts.config.server, call_id, message_id)
    cosigned = parts.cosigned_log()
    note = cosigned.best(told[-1].position) or cosigned.head
    key = find_key(parts.server.parts.vault, call_id)
    return prove_message(message_id, parts.config.server, told, note, recorder.read_hashes, key=key)


@post(
    "/v1/log/backups",
    tags=["log"],
    status_code=HTTPStatus.CREATED,
    **declare(OPERATE, takes_json=True),
)
async def record_backup(data: JSONBody[VerifiedBackup], parts: Parts) -> VerifiedBackup:
    """Record that a finished and verified backup covers the log up to a position.

    From then on this server's receipts call that much *safe*, and the servers that sent it may free
    their copies of the sound.
    """
    await parts.server.record_verified_backup(data.position, data.place)
    return data


@post(
    "/v1/log/acknowledgements",
    tags=["log"],
    status_code=HTTPStatus.CREATED,
    **declare(OPERATE, 404, takes_json=True),
)
async def acknowledge_went_back(
    data: JSONBody[WentBackKnown], request: AuthenticatedRequest, parts: Parts
) -> WentBackKnown:
    """Record that an operator knows why a log went back in time: `doctor` warns of it no longer.

    If it goes back again, that is warned of again. Two histories of one log are never acknowledged.
    """
    incarnation = await parts.offload(lambda: _went_back_as(parts, data.server))
    await parts.server.acknowledge_went_back(
        data.server, incarnation, request.user.name, data.reason
    )
    return data


def _went_back_as(parts: ApiParts, server: str) -> UUID:
    """Give the incarnation under which a log goes on that was seen to have gone back."""
    recorder = parts.log.recorder
    if server == parts.config.server:
        if parts.questions.servers().went_back is not None:
            return recorder.head().incarnation
    elif (event := read_forks(recorder).get(server)) is not None and not is_of_one_log(event):
        return event.incarnation
    raise NotFoundError(f"no log of a server {server!r} is known to have gone back")
