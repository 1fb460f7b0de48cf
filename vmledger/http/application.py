"""The API as one ASGI application, and the description of itself that it serves."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import (
    ClientException,
    InternalServerException,
    SerializationException,
)
from litestar.types import ASGIApp

from vmledger.access import ANY_TOKEN
from vmledger.http import (
    calls,
    erasure,
    health,
    log,
    mailboxes,
    operations,
    profiles,
    retention,
    sound,
    tlog,
)
from vmledger.http.description import describe, openapi_config
from vmledger.http.guard import check_rules, guard
from vmledger.http.parts import ApiParts
from vmledger.http.problems import EXCEPTION_HANDLERS, MAX_BODY_BYTES
from vmledger.http.request_log import RequestLog


@get("/openapi.json", include_in_schema=False, opt={"access": ANY_TOKEN}, sync_to_thread=False)
def get_description() -> Response[bytes]:
    """Serve the description of this API: made once, in the event loop, which making it needs."""
    return Response(describe_api(), media_type="application/json")


HANDLERS: Final[list[Any]] = [
    calls.report_call,
    calls.put_recording,
    calls.abandon_call,
    calls.list_calls,
    mailboxes.get_mailbox,
    mailboxes.get_message,
    mailboxes.change_message,
    mailboxes.delete_message,
    mailboxes.rehome_mailbox,
    sound.get_audio,
    sound.get_peaks,
    profiles.get_profile,
    profiles.put_greeting,
    profiles.get_greeting,
    profiles.delete_greeting,
    profiles.put_pin,
    profiles.delete_pin,
    profiles.check_pin,
    operations.get_pending,
    operations.get_servers,
    operations.get_projections,
    operations.get_any_message,
    operations.get_story,
    operations.requeue_message,
    erasure.erase,
    erasure.certify,
    retention.run_retention,
    retention.hold_mailbox,
    retention.release_mailbox,
    log.read_log,
    log.get_checkpoint,
    log.prove,
    log.record_backup,
    log.acknowledge_went_back,
    tlog.get_signed_checkpoint,
    tlog.get_tile,
    tlog.get_entries,
    health.get_health,
    health.get_readiness,
    health.get_metrics,
    get_description,
]


def create_app(parts: ApiParts) -> ASGIApp:
    """Join all routes. The application owns none of its parts: it opens and closes nothing."""
    return RequestLog(create_framework_app(parts))


def create_framework_app(parts: ApiParts) -> Litestar:
    """Give the application without the request log, for those who look at its routes."""
    check_rules(HANDLERS)
    return Litestar(
        HANDLERS,
        guards=[guard],
        state=State({"parts": parts}),
        dependencies={"parts": Provide(_parts, sync_to_thread=False)},
        before_request=_read_json,
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        # Errors have their line already, without the framework's own trace of each.
        logging_config=None,
    )


async def _read_json(request: Request[Any, Any, Any]) -> None:
    """Read a JSON body before the framework does, which takes some bad ones for bugs of ours.

    What was read is kept in the request, so nothing is read twice.
    """
    if not request.route_handler.opt.get("takes_json"):
        return
    try:
        await request.json()
    except (SerializationException, UnicodeDecodeError, RecursionError) as error:
        raise ClientException(f"the body cannot be read: {error}") from error
    except InternalServerException as error:
        # The framework calls it a bug of ours when a client hangs up inside its body.
        raise ClientException("the connection ended before the body did") from error


def _parts(state: State) -> ApiParts:
    found: ApiParts = state.parts
    return found


@cache
def describe_api() -> bytes:
    """Give the OpenAPI description as JSON: from the routes alone, no server needed."""
    routes = Litestar(
        HANDLERS,
        dependencies={"parts": Provide(_parts, sync_to_thread=False)},
        openapi_config=openapi_config(),
        logging_config=None,
    )
    return describe(routes)
