"""The sound of a message or greeting: as received, or as the player wants it; whole or in ranges.

What was received is kept bit for bit and `audio/original` gives exactly that; everything else is
made from it on demand. Every answer is verified against the digest in the log first.

Source: claim 11; RFC 9110 sections 8.8, 12.5.1, 13 and 14; RFC 9530 (Repr-Digest).
"""

from __future__ import annotations

import base64
import hashlib
from http import HTTPStatus
from typing import Annotated, Final, Literal
from uuid import UUID

from litestar import Response, get
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter

from ledger.audio.peaks import peaks
from ledger.audio.play_format import PlayFormat, asks_for_original, media_type, negotiate
from ledger.audio.render import render
from ledger.errors import NotFoundError
from ledger.events import AccessKind, AudioFacts, MessageStored, decode
from ledger.ids import MailboxAddress
from ledger.message import Action
from vmledger.access import USE_MAILBOX
from vmledger.http.accesses import note_given, note_viewed
from vmledger.http.mailboxes import act, find_message
from vmledger.http.parameters import AuthenticatedRequest, Context, Extension, Id, Parts
from vmledger.http.parts import ApiParts
from vmledger.http.problems import ProblemError
from vmledger.http.ranges import (
    ByteRange,
    UnsatisfiableRangeError,
    is_range_current,
    matches_etag,
    parse_range,
)
from vmledger.http.routes import declare
from vmledger.http.views import PeaksView

_DECLARED: Final = declare(USE_MAILBOX, 404, 406, 409, 416)
SOUND: Final = {
    HTTPStatus.OK: ResponseSpec(
        data_container=bytes,
        description="The sound in the best format that Accept allows.",
        media_type="audio/*",
        generate_examples=False,
    ),
    HTTPStatus.PARTIAL_CONTENT: ResponseSpec(
        data_container=bytes,
        description="The range that was asked for.",
        media_type="audio/*",
        generate_examples=False,
    ),
}


@get(
    "/v1/mailboxes/{extension:str}/messages/{message_id:uuid}/audio",
    tags=["mailboxes"],
    **(_DECLARED | {"responses": _DECLARED["responses"] | SOUND}),
)
async def get_audio(
    extension: Extension,
    message_id: Id,
    *,
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
    mark: Annotated[
        Literal["heard"] | None,
        QueryParameter(description="Record as well that it was listened to."),
    ] = None,
) -> Response[bytes]:
    """Play a message.

    `Accept: audio/original` gives the received bytes bit for bit; otherwise WAV in the original
    coding, WAV PCM, MP3 or Ogg Opus. That it was given is recorded first, once a minute for each
    token and address: without that it is not given. Only `mark=heard` changes the message: a player
    asks for many ranges, and an export is not listening.
    """
    mailbox = MailboxAddress(extension, context)
    message = await find_message(parts, mailbox, message_id)
    received, facts = await read_sound(parts, message.call_id, message_id)
    kind = _kind_of(request, facts)
    await note_given(parts, request, kind, "sound", mailbox=mailbox, message_id=message_id)
    answer = await answer_with_sound(parts, request, received, facts)
    if mark is not None:
        await act(parts, mailbox, message_id, Action.HEAR, request.user)
    return answer


def _kind_of(request: AuthenticatedRequest, facts: AudioFacts) -> AccessKind:
    """Tell what is taken away as it was received from what is played.

    Raises NotAcceptableError when nothing is given.
    """
    accept = request.headers.get("accept")
    is_original = negotiate(accept, facts) is PlayFormat.ORIGINAL and asks_for_original(accept)
    return AccessKind.EXPORTED if is_original else AccessKind.PLAYED


async def answer_with_sound(
    parts: ApiParts, request: AuthenticatedRequest, received: bytes, facts: AudioFacts
) -> Response[bytes]:
    """Answer with a sound in the form, and of it the range, that the request asks for.

    Raises NotAcceptableError, and the 416 problem.
    """
    play_format = negotiate(request.headers.get("accept"), facts)
    data = await parts.offload(lambda: render(received, facts, play_format))
    return _answer(request, data, facts, play_format)


@get(
    "/v1/mailboxes/{extension:str}/messages/{message_id:uuid}/peaks",
    tags=["mailboxes"],
    **declare(USE_MAILBOX, 404),
)
async def get_peaks(
    extension: Extension,
    message_id: Id,
    *,
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
    buckets: Annotated[
        int, QueryParameter(ge=1, le=4000, description="Into how many parts.")
    ] = 400,
) -> PeaksView:
    """Give the shape of the sound, for a picture of it."""
    mailbox = MailboxAddress(extension, context)
    message = await find_message(parts, mailbox, message_id)
    received, facts = await read_sound(parts, message.call_id, message_id)
    await note_viewed(parts, request, "message", mailbox=mailbox, message_id=message_id)
    found = await parts.offload(lambda: peaks(received, facts, buckets))
    return PeaksView(duration_ms=facts.duration_ms, peaks=[(low, high) for low, high in found])


async def read_sound(parts: ApiParts, call_id: UUID, message_id: UUID) -> tuple[bytes, AudioFacts]:
    """Give the received bytes of a message, verified, and what is known of them.

    Raises NotFoundError when the message or its sound is not here, CorruptionError when the sound
    is damaged.
    """
    entries = (await parts.log.read_streams([call_id])).get(call_id, [])
    events = (decode(entry.plain, f"position {entry.position}") for entry in entries)
    for event in events:
        if isinstance(event, MessageStored) and event.message_id == message_id:
            return await parts.server.read_audio(event.blob), event.audio
    raise NotFoundError(f"message {message_id} has no sound here")


def _answer(
    request: AuthenticatedRequest, data: bytes, facts: AudioFacts, play_format: PlayFormat
) -> Response[bytes]:
    etag = f'"{facts.digest}.{play_format.value}"'
    headers = {
        "ETag": etag,
        "Vary": "Accept",
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:",
    }
    if matches_etag(request.headers.get("if-none-match"), etag):
        return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    wanted = _wanted_range(request, len(data), etag)
    if wanted is None:
        return Response(data, media_type=media_type(play_format, facts), headers=headers)
    headers["Content-Range"] = f"bytes {wanted.first}-{wanted.last}/{len(data)}"
    return Response(
        data[wanted.first : wanted.last + 1],
        status_code=HTTPStatus.PARTIAL_CONTENT,
        media_type=media_type(play_format, facts),
        headers=headers,
    )


def _wanted_range(request: AuthenticatedRequest, size_bytes: int, etag: str) -> ByteRange | None:
    if not is_range_current(request.headers.get("if-range"), etag):
        return None
    try:
        return parse_range(request.headers.get("range"), size_bytes)
    except UnsatisfiableRangeError as error:
        raise ProblemError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "range-not-satisfiable",
            f"the range begins after the end; the sound has {size_bytes} bytes",
            "ask for a range within it",
            Content_Range=f"bytes */{size_bytes}",
        ) from error
