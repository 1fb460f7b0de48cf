"""What listens to other servers: a small ASGI application before a `Receiver`.

It is served behind TLS that demands pinned certificates (`ledger.migration.tls`).

Whoever asks is known before a single byte of a body is read: the signature covers the headers and,
through a digest, the body. A body has a stated length within bounds, a place among the batches that
are taken in, and a deadline.

Routes: ``POST /replication/contact``, ``/replication/batch``, ``/replication/missing``,
``/replication/recall``, ``/replication/blob``, ``/replication/story``, ``/replication/witness``,
``/replication/log-state``, ``/replication/log-page``, ``/replication/blobs`` and
``GET /replication/ping``.

Source: claim 7; RFC 9110 (status codes), RFC 9421, RFC 9530.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

from ledger.clock import Clock
from ledger.configuration import Directory
from ledger.errors import PeerError, TransientError
from ledger.events import ServerId
from ledger.header_number import parse_number
from ledger.media_type import parse_media_type
from ledger.migration.home import Receiver
from ledger.migration.http_link import PREFIX
from ledger.migration.http_signature import SignatureCheck, check_body
from ledger.migration.link import Route
from ledger.migration.wire import MAX_BODY_BYTES, MEDIA_TYPE, Busy
from ledger.migration.wire_bytes import encode_answer
from ledger.offload import Offload
from ledger.storage.disk_room import DiskRoom

_LOG: Final = logging.getLogger(__name__)

_MAX_QUESTION_BYTES: Final = 1024 * 1024
_STOPPED_S: Final = 5.0
"""When to come back to a server that was just being stopped."""
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[str, str]]


class _HttpError(Exception):
    """A request that does not reach the receiver."""

    def __init__(self, status: int, text: str, headers: Headers | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or []


class ReplicationApp:
    """The ASGI application."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        directory: Directory,
        clock: Clock,
        offload: Offload,
        body_timeout_s: float,
        room: DiskRoom,
    ) -> None:
        self._receiver = receiver
        self._this_server = directory.this_server
        self._signatures = SignatureCheck(directory, clock)
        self._offload = offload
        self._body_timeout_s = body_timeout_s
        self._room = room

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            status, headers, body = await self._answer(scope, receive)
        except _HttpError as error:
            _LOG.warning(
                "action=request-refused status=%d path=%s error=%s",
                error.status,
                scope["path"],
                error.text,
            )
            # What is left of the body is not read: the connection cannot be used again.
            headers = [("content-type", "text/plain; charset=utf-8"), ("connection", "close")]
            status, headers, body = error.status, headers + error.headers, error.text.encode()
        await _send(send, status, headers, body)

    async def _answer(
        self, scope: MutableMapping[str, Any], receive: Receive
    ) -> tuple[int, Headers, bytes]:
        path: str = scope["path"]
        if path == f"{PREFIX}ping":
            _expect_method(scope, "GET")
            return 200, [("content-type", "text/plain")], self._this_server.encode()
        route = _route_of(path)
        _expect_method(scope, "POST")
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]]
        size_bytes = _expected_size(dict(headers), route)
        sender = self._sender_of(path, headers)
        try:
            async with self._place(route, sender, size_bytes):
                body = await self._read_body(receive, size_bytes)
                await self._check_body(headers, body, sender)
                answer = await self._receiver.handle(sender, route, body)
        except TransientError as error:
            # Not kept beyond this: it leads to this frame, and they would hold the body together.
            return self._answer_busy(sender, error)
        except asyncio.CancelledError:
            # Nobody but a server that stops does this, to what its grace was too short for. It may
            # be taken in or not: the next contact tells.
            stopped = TransientError("this server is being stopped", retry_after_s=_STOPPED_S)
            return self._answer_busy(sender, stopped)
        return 200, [("content-type", MEDIA_TYPE)], answer

    def _answer_busy(self, sender: ServerId, busy: TransientError) -> tuple[int, Headers, bytes]:
        self._receiver.on_busy(busy)
        _LOG.info("action=busy peer=%s error=%s", sender, busy)
        answer = encode_answer(Busy(retry_after_s=busy.retry_after_s))
        retry_after = ("retry-after", str(max(1, round(busy.retry_after_s))))
        busy_headers = [("content-type", MEDIA_TYPE), retry_after, ("connection", "close")]
        return 503, busy_headers, answer

    def _sender_of(self, path: str, headers: Headers) -> ServerId:
        try:
            return self._signatures.sender_of(path, headers)
        except PeerError as error:
            raise _HttpError(401, error.message) from error

    @contextlib.asynccontextmanager
    async def _place(self, route: Route, sender: ServerId, size_bytes: int) -> AsyncIterator[None]:
        """Hold a place among the batches; questions are small and need none."""
        if route is not Route.BATCH:
            yield
            return
        # On an almost full disk it goes back unread: its origin keeps it, and calls that arrive
        # here have nowhere else to go.
        async with self._receiver.admission.enter(sender, size_bytes):
            with self._room.for_batch(size_bytes):
                yield

    async def _read_body(self, receive: Receive, size_bytes: int) -> bytes:
        pieces: list[bytes] = []
        left_bytes = size_bytes
        try:
            async with asyncio.timeout(self._body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _HttpError(400, "the connection ended within the body")
                    pieces.append(message.get("body", b""))
                    left_bytes -= len(pieces[-1])
                    if left_bytes < 0 or not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise _HttpError(408, "the body did not arrive in time") from error
        if left_bytes != 0:
            raise _HttpError(400, "the body is not as long as Content-Length says")
        return b"".join(pieces)

    async def _check_body(self, headers: Headers, body: bytes, sender: ServerId) -> None:
        try:
            await self._offload(lambda: check_body(headers, body, sender))
        except PeerError as error:
            raise _HttpError(400, error.message) from error


def _route_of(path: str) -> Route:
    for route in Route:
        if path == PREFIX + route.value:
            return route
    raise _HttpError(404, "there is no such route between servers")


def _expect_method(scope: MutableMapping[str, Any], method: str) -> None:
    if scope["method"] != method:
        raise _HttpError(405, f"use {method}", [("allow", method)])


def _expected_size(headers: dict[str, str], route: Route) -> int:
    """Give the length of the body, from headers that say what is needed before it is read."""
    if _media_type(headers.get("content-type", "")) != _media_type(MEDIA_TYPE):
        raise _HttpError(415, f"this server speaks {MEDIA_TYPE}", [("accept", MEDIA_TYPE)])
    size_bytes = parse_number(headers.get("content-length", ""))
    if size_bytes is None:
        raise _HttpError(411, "say how long the body is with Content-Length")
    limit_bytes = MAX_BODY_BYTES if route is Route.BATCH else _MAX_QUESTION_BYTES
    if size_bytes > limit_bytes:
        raise _HttpError(413, f"a body here has at most {limit_bytes} bytes")
    return size_bytes


def _media_type(text: str) -> tuple[str, str]:
    name, parameters = parse_media_type(text)
    return name, parameters.get("version", "")


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    raw = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
