"""Every error as a problem detail: what happened, to what, and what to do about it.

``code`` is the stable word that programs should look at; ``detail`` is for people and may change.
Nothing of the inside leaves: an unexpected error is logged with the request's id, and the caller
gets that id.

Source: RFC 9457; RFC 9110 sections 10.2.3 (Retry-After) and 11.6.1 (WWW-Authenticate).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from ledger.audio.errors import AudioError, NotAcceptableError
from ledger.errors import (
    CallerError,
    ConflictError,
    CorruptionError,
    LedgerError,
    NoRoomError,
    NotFoundError,
    PeerError,
    TransientError,
)
from ledger.pin import UnfitPinError
from ledger.server import NotHomeError, NotInCustodyError, PinLockedError, TooLargeError

_LOG: Final = logging.getLogger(__name__)
PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
MAX_BODY_BYTES: Final = 64 * 1024
"""Of every request but a recording, which has a limit of its own in the configuration."""


class FieldProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a request that is not as it should be."""

    field: str
    message: str
    source: str = "body"
    """``body``, ``query``, ``path`` or ``header``."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error, as RFC 9457 has it, and what to do."""

    title: str
    """The meaning of the status code."""
    status: int
    code: str
    """Stable word for the kind of error."""
    detail: str
    """One sentence about this very case."""
    instance: str
    """The path that was asked for."""
    remedy: str = ""
    """What the caller can do about it."""
    request_id: str = ""
    """Names this request in the server's log."""
    errors: Sequence[FieldProblem] = ()
    """Which fields were not valid."""
    custodian: str | None = None
    """The server that answers for the message, or is home to the mailbox, now."""
    type: str = "about:blank"


class ProblemError(Exception):
    """Raised by a handler to answer with a problem that no error of the ledger stands for."""

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, remedy: str = "", **headers: str
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.remedy = remedy
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


_LEDGER_PROBLEMS: Final[tuple[tuple[type[LedgerError], HTTPStatus, str, str], ...]] = (
    (NotInCustodyError, HTTPStatus.CONFLICT, "not-in-custody", "ask the server named custodian"),
    (NotHomeError, HTTPStatus.CONFLICT, "not-home", "ask the server named custodian"),
    (UnfitPinError, HTTPStatus.BAD_REQUEST, "unfit-pin", "choose another PIN"),
    (
        PinLockedError,
        HTTPStatus.TOO_MANY_REQUESTS,
        "pin-locked",
        "wait until Retry-After, or set another PIN at the mailbox's home",
    ),
    (
        NotAcceptableError,
        HTTPStatus.NOT_ACCEPTABLE,
        "not-acceptable",
        "accept one of the types that detail names",
    ),
    (AudioError, HTTPStatus.UNPROCESSABLE_ENTITY, "audio-refused", "send sound that can be played"),
    (
        TooLargeError,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "recording-too-large",
        "shorten it, or let the operator raise max_upload_bytes",
    ),
    (NotFoundError, HTTPStatus.NOT_FOUND, "not-found", "check the name, and ask the right server"),
    (ConflictError, HTTPStatus.CONFLICT, "conflict", "read what is recorded, then decide again"),
    (CallerError, HTTPStatus.BAD_REQUEST, "bad-request", "correct the request"),
    (PeerError, HTTPStatus.BAD_GATEWAY, "peer-error", "the operators of both servers must look"),
    (
        NoRoomError,
        HTTPStatus.SERVICE_UNAVAILABLE,
        "disk-full",
        "keep it and repeat the same request later, or hand it to another server",
    ),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE, "try-again", "repeat the same request later"),
    (
        CorruptionError,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "corruption",
        "do not retry; the operator finds the place in the log under this request's id",
    ),
)
"""What each kind of error becomes; the first that fits. All kinds are subclasses of one here."""

_NAMED_FIELD: Final = re.compile(r"field `([^`]*)`")
_QUERY_NAMES: Final = {"start": "from"}
"""Parameters of handlers that cannot be called what the query calls them."""

_FRAMEWORK_CODES: Final[dict[int, tuple[str, str]]] = {
    400: ("bad-request", "correct the request"),
    401: ("unauthenticated", "send 'Authorization: Bearer <token>' with a valid token"),
    403: ("forbidden", "use a token with the scope that this route asks for"),
    404: ("not-found", "see /openapi.json for what there is"),
    405: ("method-not-allowed", "use a method that the Allow header names"),
    413: ("too-large", "send less; only a recording may be larger"),
    415: ("unsupported-media-type", "send application/json"),
}


def from_ledger(request: Request[Any, Any, Any], error: LedgerError) -> Response[bytes]:
    """Answer an error that the ledger raised on purpose."""
    status, code, remedy = next(
        (status, code, remedy)
        for kind, status, code, remedy in _LEDGER_PROBLEMS
        if isinstance(error, kind)
    )
    headers: dict[str, str] = {}
    if isinstance(error, TransientError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    detail = error.message
    if isinstance(error, CorruptionError):
        _LOG.error("action=corruption-found request=%s error=%s", request_id(request), error)
        detail = "what is stored here is not what was stored"
    return problem_response(
        request,
        status,
        code,
        detail,
        remedy,
        headers=headers,
        custodian=getattr(error, "custodian", None),
    )


def from_problem(request: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    """Answer with the problem that a handler named."""
    return problem_response(
        request, error.status, error.code, error.detail, error.remedy, headers=error.headers
    )


def from_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what the framework found wrong: route, method, fields, sizes."""
    status = HTTPStatus(error.status_code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return from_unexpected(request, error)
    code, remedy = _FRAMEWORK_CODES.get(status, ("bad-request", "correct the request"))
    errors = tuple(_field_problems(error.extra))
    return problem_response(
        request,
        status,
        "invalid-fields" if errors else code,
        _sentence(error, status, request) if not errors else "some fields are not valid",
        "correct the fields that errors names" if errors else remedy,
        headers=dict(error.headers or {}),
        errors=errors,
    )


def from_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer a bug: logged with its trace, told without it."""
    _LOG.error("action=request-failed request=%s", request_id(request), exc_info=error)
    return problem_response(
        request,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "the server could not carry out this request",
        "report it with the request's id; nothing that was acknowledged is lost",
    )


def from_stopping(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer a request that was not done when the server had to end."""
    return problem_response(
        request,
        HTTPStatus.SERVICE_UNAVAILABLE,
        "stopping",
        "the server was stopped before this was done; it may be done or not",
        "repeat the same request later: what was done is not done twice",
        headers={"Retry-After": "5"},
    )


def problem_response(
    request: Request[Any, Any, Any],
    status: HTTPStatus,
    code: str,
    detail: str,
    remedy: str = "",
    *,
    headers: dict[str, str] | None = None,
    errors: Sequence[FieldProblem] = (),
    custodian: str | None = None,
) -> Response[bytes]:
    """Build the answer."""
    problem = Problem(
        title=status.phrase,
        status=status,
        code=code,
        detail=detail,
        instance=request.url.path,
        remedy=remedy,
        request_id=request_id(request),
        errors=errors,
        custodian=custodian,
    )
    return Response(
        msgspec.json.encode(problem),
        status_code=status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers=headers,
    )


def request_id(request: Request[Any, Any, Any]) -> str:
    """Give the id under which the request log knows this request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def _field_problems(extra: Any) -> list[FieldProblem]:
    found = extra if isinstance(extra, list) else []
    return [_field_problem(item) for item in found if isinstance(item, dict)]


def _field_problem(item: dict[str, Any]) -> FieldProblem:
    """Name the field as the caller wrote it, not as the handler's parameter is called."""
    message = str(item.get("message", "is not valid"))
    field = str(item.get("key", ""))
    named = _NAMED_FIELD.search(message)
    if field == "data":
        field = named[1] if named is not None else ""
    source = item.get("source", "body")
    return FieldProblem(
        field=_QUERY_NAMES.get(field, field),
        message=message,
        source=str(getattr(source, "value", source)),
    )


def _sentence(error: HTTPException, status: HTTPStatus, request: Request[Any, Any, Any]) -> str:
    if status is HTTPStatus.NOT_FOUND:
        return f"there is nothing at {request.url.path}"
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        return f"{request.method} is not possible on {request.url.path}"
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return f"a body here has at most {MAX_BODY_BYTES} bytes, and this one has more"
    return error.detail or status.phrase


EXCEPTION_HANDLERS: Final[dict[int | type[Exception], Any]] = {
    ProblemError: from_problem,
    LedgerError: from_ledger,
    HTTPException: from_framework,
    Exception: from_unexpected,
}
