"""Calls: a switch reports one, hands over its recording or gives it up; people read the history.

Source: claims 1, 2, 3, 4 and 12.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from litestar import Request, Response, delete, get, post, put
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, QueryParameter

from ledger.audio.errors import AudioError
from ledger.errors import LedgerError
from ledger.server import CallDecision, StoredMessage
from vmledger.access import READ, TAKE_CALLS
from vmledger.http.accesses import note_viewed
from vmledger.http.parameters import AuthenticatedRequest, Cursor, Id, PageLimit, Parts
from vmledger.http.routes import declare
from vmledger.http.upload import Upload
from vmledger.http.views import CallPage, ReportedCall

_ABANDONED: Final = "hung-up"


@post("/v1/calls", tags=["calls"], **declare(TAKE_CALLS, 409, takes_json=True))
async def report_call(data: JSONBody[ReportedCall], parts: Parts) -> Response[CallDecision]:
    """Report a call and learn what to do with it.

    `transfer` true: connect it to voicemail and PUT the recording to the `Location`. False: handle
    it normally. A report that names its own `call_id` may be repeated: the first answer comes
    again. At another server report the call without it, or with a new one: of two servers that
    took one `call_id`, only one can deliver its message.
    """
    decision = await parts.server.report_call(data)
    parts.measures.calls.labels(str(decision.transfer).lower(), decision.reason.value).inc()
    location = f"/v1/calls/{decision.call_id}/recording"
    headers = {"Location": location} if decision.transfer else {}
    return Response(decision, status_code=HTTPStatus.CREATED, headers=headers)


_AGAIN: Final = ResponseSpec(
    data_container=StoredMessage,
    description="This very recording was stored before; nothing changed.",
    generate_examples=False,
)
_DECLARED: Final = declare(TAKE_CALLS, 404, 409, 413, 422)


@put(
    "/v1/calls/{call_id:uuid}/recording",
    tags=["calls"],
    request_max_body_size=None,
    status_code=HTTPStatus.CREATED,
    **(_DECLARED | {"responses": _DECLARED["responses"] | {200: _AGAIN}}),
)
async def put_recording(
    call_id: Id, request: Request[Any, Any, Any], parts: Parts
) -> Response[StoredMessage]:
    """Hand over the recording of a call: the received bytes as the body, with their Content-Type.

    201 means that the message is on disk: only now may the caller hear "message stored". The same
    recording again is answered 200; another one for the same call is a conflict. What arrived of an
    upload that broke off is kept, and becomes a message unless the upload is repeated.
    """
    began_at = parts.clock.now()
    upload = Upload(request)
    try:
        upload.expect_at_most(parts.config.calls.max_upload_bytes, "recording")
        with parts.uploads.pass_one(upload.declared_bytes):
            message = await parts.server.record_message(
                call_id, upload.chunks(), request.headers.get("content-type")
            )
    except LedgerError as error:
        kind = "audio" if isinstance(error, AudioError) else type(error).__name__
        parts.measures.recordings_refused.labels(kind).inc()
        raise
    parts.measures.recording_seconds.observe(upload.since_end_s)
    is_repeat = message.stored_at < began_at
    if not is_repeat:
        parts.measures.messages.labels("pending" if message.is_pending else "home").inc()
    status = HTTPStatus.OK if is_repeat else HTTPStatus.CREATED
    return Response(message, status_code=status)


@delete("/v1/calls/{call_id:uuid}", tags=["calls"], **declare(TAKE_CALLS, 404, 409))
async def abandon_call(
    call_id: Id,
    parts: Parts,
    reason: Annotated[
        str,
        QueryParameter(
            pattern="^[a-z-]{1,40}$", description="`hung-up`, `too-short`, `no-recording`."
        ),
    ] = _ABANDONED,
) -> None:
    """Say that the call ended without a message. Saying it again changes nothing."""
    await parts.server.abandon_call(call_id, reason)


@get("/v1/calls", tags=["calls"], **declare(READ))
async def list_calls(
    request: AuthenticatedRequest,
    parts: Parts,
    extension: Annotated[str | None, QueryParameter(max_length=100)] = None,
    before: Cursor = None,
    limit: PageLimit = 100,
) -> CallPage:
    """List the calls that this server took, the newest first, with the reason of each decision."""
    found = await parts.ask(lambda: parts.questions.calls(extension, before, limit))
    await note_viewed(parts, request, "calls")
    return found
