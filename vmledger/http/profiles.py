"""A mailbox's own greetings and PIN: read and played anywhere, changed at its home.

A PIN travels in bodies only, never in an address, and comes back in no answer.

Source: claims 9 and 11.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final, TypeAlias

from litestar import Request, Response, delete, get, post, put
from litestar.params import JSONBody, PathParameter

from ledger.errors import NotFoundError
from ledger.ids import MailboxAddress
from ledger.mailbox import GreetingKind
from vmledger.access import READ_MAILBOX, SERVE_CALLERS, USE_MAILBOX
from vmledger.http.parameters import AuthenticatedRequest, Context, Extension, Parts
from vmledger.http.routes import declare
from vmledger.http.sound import SOUND, answer_with_sound
from vmledger.http.upload import Upload
from vmledger.http.views import GreetingView, NewPin, PinGuess, PinVerdict, ProfileView

Kind: TypeAlias = Annotated[GreetingKind, PathParameter(description="What the greeting is for.")]


@get("/v1/mailboxes/{extension:str}/profile", tags=["profiles"], **declare(READ_MAILBOX))
async def get_profile(
    extension: Extension, parts: Parts, context: Context = "default"
) -> ProfileView:
    """Show where a mailbox lives, which greetings it has, and whether it has a PIN.

    Every server knows this of every mailbox, as far as it has heard.
    """
    mailbox = MailboxAddress(extension, context)
    return await parts.ask(lambda: parts.questions.profile(mailbox))


@put(
    "/v1/mailboxes/{extension:str}/greetings/{kind:str}",
    tags=["profiles"],
    request_max_body_size=None,
    status_code=HTTPStatus.OK,
    **declare(USE_MAILBOX, 404, 409, 413, 422),
)
async def put_greeting(
    extension: Extension,
    kind: Kind,
    request: Request[Any, Any, Any],
    parts: Parts,
    context: Context = "default",
) -> GreetingView:
    """Record a greeting: the sound as the body, with its Content-Type. Only at the mailbox's home.

    It is on disk when the answer comes, and goes to every server by itself. The same sound again
    changes nothing.
    """
    with parts.uploads.pass_one():
        recorded = await parts.server.record_greeting(
            MailboxAddress(extension, context),
            kind,
            Upload(request).chunks(),
            request.headers.get("content-type"),
        )
    return GreetingView(
        kind=kind,
        duration_ms=recorded.audio.duration_ms,
        codec=recorded.audio.codec,
        digest=recorded.audio.digest,
        size_bytes=recorded.audio.size_bytes,
        recorded_at=recorded.recorded_at,
        recorded_by=recorded.recorded_by,
    )


_DECLARED: Final = declare(SERVE_CALLERS, 404, 406, 416)


@get(
    "/v1/mailboxes/{extension:str}/greetings/{kind:str}",
    tags=["profiles"],
    **(_DECLARED | {"responses": _DECLARED["responses"] | SOUND}),
)
async def get_greeting(
    extension: Extension,
    kind: Kind,
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
) -> Response[bytes]:
    """Play a greeting: the same forms as of a message, whole or in ranges, at any server."""
    mailbox = MailboxAddress(extension, context)
    found = await parts.ask(lambda: parts.questions.greeting_sound(mailbox, kind))
    if found is None:
        raise NotFoundError(f"mailbox {mailbox} has no {kind.value} greeting, as far as known here")
    blob, facts = found
    received = await parts.server.read_audio(blob)
    return await answer_with_sound(parts, request, received, facts)


@delete(
    "/v1/mailboxes/{extension:str}/greetings/{kind:str}",
    tags=["profiles"],
    status_code=HTTPStatus.NO_CONTENT,
    **declare(USE_MAILBOX, 404, 409),
)
async def delete_greeting(
    extension: Extension,
    kind: Kind,
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
) -> None:
    """Leave a mailbox without this greeting. Only at its home; again is fine."""
    mailbox = MailboxAddress(extension, context)
    await parts.server.remove_greeting(mailbox, kind, request.user.name)


@put(
    "/v1/mailboxes/{extension:str}/pin",
    tags=["profiles"],
    status_code=HTTPStatus.NO_CONTENT,
    **declare(USE_MAILBOX, 404, 409, takes_json=True),
)
async def put_pin(
    extension: Extension,
    data: JSONBody[NewPin],
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
) -> None:
    """Give a mailbox a PIN. Only at its home; every server checks it from then on.

    Refused: the extension itself, one digit over and over, and runs like 1234.
    """
    mailbox = MailboxAddress(extension, context)
    await parts.server.change_pin(mailbox, data.pin, request.user.name)


@delete(
    "/v1/mailboxes/{extension:str}/pin",
    tags=["profiles"],
    status_code=HTTPStatus.NO_CONTENT,
    **declare(USE_MAILBOX, 404, 409),
)
async def delete_pin(
    extension: Extension, request: AuthenticatedRequest, parts: Parts, context: Context = "default"
) -> None:
    """Leave a mailbox without a PIN. Only at its home; again is fine."""
    mailbox = MailboxAddress(extension, context)
    await parts.server.change_pin(mailbox, None, request.user.name)


@post(
    "/v1/mailboxes/{extension:str}/pin/check",
    tags=["profiles"],
    status_code=HTTPStatus.OK,
    **declare(SERVE_CALLERS, 404, 429, takes_json=True),
)
async def check_pin(
    extension: Extension, data: JSONBody[PinGuess], parts: Parts, context: Context = "default"
) -> PinVerdict:
    """Say whether this is the mailbox's PIN, at any server. Wrong ones are counted.

    The third wrong one locks the mailbox for some seconds and each further one for twice as long,
    up to an hour; a right one ends that. Each server counts for itself.
    """
    mailbox = MailboxAddress(extension, context)
    return PinVerdict(matches=await parts.server.check_pin(mailbox, data.pin))
