"""One log line for every request, and an id that ties it to the caller's own logs.

A caller may name its request in ``X-Request-Id``; otherwise it gets a name. The answer carries it
back, and so does every problem. A request that the server's end cuts off is told to come back.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import Any, Final

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from vmledger.http.problems import from_stopping

_LOG: Final = logging.getLogger("vmledger.http")
_OURS_OR_THEIRS: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines: a line each would bury the others."""


class RequestLog:
    """Wraps the whole application, so that what the framework refuses is logged as well."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        began_s, status = time.monotonic(), 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_named)
        except asyncio.CancelledError:
            # Nobody but a server that stops does this, to what its grace was too short for.
            _LOG.warning("action=http-request-cut-off request=%s", request_id)
            if status == 0:
                request: Request[Any, Any, Any] = Request(scope)
                answer = from_stopping(request).to_asgi_response(app=None, request=request)
                await answer(scope, receive, send_named)
        finally:
            _write_line(scope, request_id, status, time.monotonic() - began_s)


def _write_line(scope: Any, request_id: str, status: int, took_s: float) -> None:
    if scope["path"] in _QUIET and status < 400:
        return
    user = scope.get("user")
    _LOG.info(
        'action=http-request request=%s method=%s path="%s" status=%d ms=%.1f token=%s',
        request_id,
        scope["method"],
        scope["path"],
        status,
        took_s * 1000,
        getattr(user, "token_id", "-"),
    )


def _request_id(scope: Scope) -> str:
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if _OURS_OR_THEIRS.fullmatch(given) else secrets.token_hex(8)
