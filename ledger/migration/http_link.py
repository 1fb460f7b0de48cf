"""A link to a peer over HTTP/1.1 and mutual TLS.

One session a peer, whose connections stay open. Every exchange has a deadline and a bound on the
answer, so that a peer that stalls or floods costs one failed attempt and no more.

Source: claims 4 and 5; RFC 9112.
"""

from __future__ import annotations

import ssl
from functools import partial
from typing import Final

import aiohttp

from ledger.migration.http_terms import HttpQuestion, HttpTerms
from ledger.migration.link import Route
from ledger.offload import Offload

_KEEP_ALIVE_S: Final = 60.0


class HttpLink:
    """A `PeerLink` over aiohttp. For one event loop."""

    def __init__(
        self, terms: HttpTerms, *, tls: ssl.SSLContext, in_flight: int, offload: Offload
    ) -> None:
        """Connect with the first exchange; ``in_flight``: how many batches go at a time."""
        self.peer = terms.peer
        self._terms = terms
        self._tls = tls
        self._in_flight = in_flight
        self._offload = offload
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, route: Route, body: bytes) -> bytes:
        question = await self._offload(partial(self._terms.question, route, body))
        return await self._ask(question)

    async def probe(self) -> None:
        self._terms.expect_ping(await self._ask(self._terms.ping()))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, question: HttpQuestion) -> bytes:
        terms = self._terms
        timeout = aiohttp.ClientTimeout(
            total=question.timeout_s, sock_connect=terms.connect_timeout_s
        )
        try:
            async with self._open_session().request(
                question.method,
                terms.url + question.path,
                data=question.body,
                headers=question.headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                status, kind = response.status, response.content_type
                most_bytes = terms.most_bytes(question, status, kind)
                answer = await _read_bounded(response, most_bytes)
        except aiohttp.ClientConnectorCertificateError as error:
            # Other failures of a handshake come of a line that spoils bytes, and pass with it.
            raise terms.wrong_certificate(error) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise terms.silence(error) from error
        return terms.read(status, kind, answer, is_cut=len(answer) > most_bytes)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=self._tls,
                limit=self._in_flight + 2,  # and a probe and a question beside them
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
