"""A link to a peer over HTTP/1.1 and mutual TLS.

One session a peer, whose connections stay open. Every exchange has a deadline and a bound on the
answer, so that a peer that stalls or floods costs one failed attempt and no more.

Source: claims 4 and 5; RFC 9112.
"""

from __future__ import annotations

import random
import ssl
from typing import Final

import aiohttp

from ledger.clock import Clock
from ledger.configuration import Replication, ServerEntry
from ledger.errors import PeerError, TransientError
from ledger.identity import ServerIdentity
from ledger.migration.http_signature import sign_request
from ledger.migration.link import IN_BULK, RefusedVersionError, Route
from ledger.migration.wire import MAX_BODY_BYTES, MEDIA_TYPE
from ledger.offload import Offload

PREFIX: Final = "/replication/"
_MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_MAX_ERROR_BYTES: Final = 1000
_KEEP_ALIVE_S: Final = 60.0
_QUESTION_TIMEOUT_S: Final = 10.0
"""For small questions; a batch may take as long as the configuration says."""


class HttpLink:
    """A `PeerLink` over aiohttp. For one event loop."""

    def __init__(
        self,
        peer: ServerEntry,
        *,
        identity: ServerIdentity,
        tls: ssl.SSLContext,
        settings: Replication,
        clock: Clock,
        offload: Offload,
        rng: random.Random,
    ) -> None:
        self.peer = peer.id
        self._url = peer.url
        self._identity = identity
        self._tls = tls
        self._settings = settings
        self._clock = clock
        self._offload = offload
        self._rng = rng
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, route: Route, body: bytes) -> bytes:
        url = f"{self._url}{PREFIX}{route.value}"
        nonce = f"{self._rng.getrandbits(128):032x}"
        headers = await self._offload(
            lambda: sign_request(
                identity=self._identity,
                receiver=self.peer,
                url=url,
                content_type=MEDIA_TYPE,
                body=body,
                now=self._clock.now(),
                nonce=nonce,
            )
        )
        timeout_s = self._settings.request_timeout_s
        total_s = timeout_s if route in IN_BULK else min(timeout_s, _QUESTION_TIMEOUT_S)
        limit_bytes = MAX_BODY_BYTES if route is Route.BLOBS else _MAX_ANSWER_BYTES
        return await self._request(
            "POST", url, total_s, data=body, headers=headers, limit_bytes=limit_bytes
        )

    async def probe(self) -> None:
        answer = await self._request("GET", f"{self._url}{PREFIX}ping", _QUESTION_TIMEOUT_S)
        if answer.decode("utf-8", "replace").strip() != self.peer:
            raise PeerError(f"another server answers at {self._url}", peer=self.peer)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _request(
        self,
        method: str,
        url: str,
        total_s: float,
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        limit_bytes: int = _MAX_ANSWER_BYTES,
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(
            total=total_s, sock_connect=self._settings.connect_timeout_s
        )
        try:
            async with self._open_session().request(
                method, url, data=data, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return await self._read(response, limit_bytes)
        except aiohttp.ClientConnectorCertificateError as error:
            # Other failures of a handshake come of a line that spoils bytes, and pass with it.
            raise PeerError(
                f"{url} does not show the certificate that the configuration pins for "
                f"server {self.peer}: {error}",
                peer=self.peer,
            ) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            detail = str(error) or type(error).__name__
            raise TransientError(f"server {self.peer} does not answer: {detail}") from error

    async def _read(self, response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
        """Give the answer; errors of HTTP itself become errors that say what to do."""
        is_answer = response.status == 200 or response.content_type in MEDIA_TYPE
        limit_bytes = most_bytes if is_answer else _MAX_ERROR_BYTES
        body = await _read_bounded(response, limit_bytes)
        if len(body) > limit_bytes and is_answer:
            raise PeerError(f"the answer of server {self.peer} is too long", peer=self.peer)
        if is_answer:
            return body
        status, text = response.status, body[:_MAX_ERROR_BYTES].decode("utf-8", "replace").strip()
        if status == 415:
            raise RefusedVersionError(
                f"server {self.peer} speaks another version of the protocol: {text}",
                peer=self.peer,
            )
        if status >= 500 or status in (408, 429):
            raise TransientError(f"server {self.peer} answers {status}: {text}")
        raise PeerError(f"server {self.peer} answers {status}: {text}", peer=self.peer)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=self._tls,
                limit=self._settings.in_flight + 2,  # and a probe and a question beside them
                keepalive_timeout=_KEEP_ALIVE_S,
            )
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._session


async def _read_bounded(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Read up to a little more than the limit."""
    pieces: list[bytes] = []
    size_bytes = 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > limit_bytes:
            break
    return b"".join(pieces)
