"""A link to a peer for a process that does one thing at a time.

It waits for the peer where it stands, and an event loop with it. For that an answer of megabytes
costs two thirds of the processor time: it does not pass through the buffers of a loop.

Source: claims 4 and 5; RFC 9112.
"""

from __future__ import annotations

import ssl
import time
from http.client import HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Final
from urllib.parse import urlsplit

from ledger.migration.http_terms import HttpQuestion, HttpTerms
from ledger.migration.link import Route

_PIECE_BYTES: Final = 1024 * 1024


class BlockingLink:
    """A `PeerLink` over the standard library's client, by one connection. For one thread."""

    def __init__(self, terms: HttpTerms, *, tls: ssl.SSLContext) -> None:
        """Connect with the first exchange."""
        self.peer = terms.peer
        self._terms = terms
        self._tls = tls
        self._connection: HTTPSConnection | None = None

    async def exchange(self, route: Route, body: bytes) -> bytes:
        return self._ask(self._terms.question(route, body))

    async def probe(self) -> None:
        self._terms.expect_ping(self._ask(self._terms.ping()))

    async def close(self) -> None:
        self._close()

    def _ask(self, question: HttpQuestion) -> bytes:
        terms, end_s = self._terms, time.monotonic() + question.timeout_s
        try:
            response = self._begin(question, end_s)
            status, kind = response.status, response.headers.get("content-type", "")
            most_bytes = terms.most_bytes(question, status, kind)
            answer = self._read_bounded(response, most_bytes, end_s)
        except ssl.SSLCertVerificationError as error:
            self._close()
            raise terms.wrong_certificate(error) from error
        except (HTTPException, OSError) as error:
            self._close()
            raise terms.silence(error) from error
        if len(answer) > most_bytes:
            self._close()  # there is more of it on the line
        return terms.read(status, kind, answer, is_cut=len(answer) > most_bytes)

    def _begin(self, question: HttpQuestion, end_s: float) -> HTTPResponse:
        """Send a request; gives its answer, whose body is still to be read."""
        if self._connection is not None:
            try:
                return _send(self._connection, question, end_s)
            except (ConnectionError, ssl.SSLEOFError):
                # The peer closed it while nobody used it. (Whatever is asked may be asked again.)
                self._close()
        where = urlsplit(self._terms.url)
        self._connection = HTTPSConnection(
            where.hostname or "",
            where.port,
            context=self._tls,
            timeout=self._terms.connect_timeout_s,
        )
        self._connection.connect()
        return _send(self._connection, question, end_s)

    def _read_bounded(self, response: HTTPResponse, limit_bytes: int, end_s: float) -> bytes:
        """Read up to a little more than the limit."""
        pieces: list[bytes] = []
        left_bytes = limit_bytes + 1
        while piece := response.read(min(left_bytes, _PIECE_BYTES)):
            pieces.append(piece)
            left_bytes -= len(piece)
            if self._connection is not None:
                _wait_until(self._connection, end_s)
        if left_bytes and response.length:
            raise IncompleteRead(pieces[-1] if pieces else b"", response.length)
        return b"".join(pieces)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _send(connection: HTTPSConnection, question: HttpQuestion, end_s: float) -> HTTPResponse:
    _wait_until(connection, end_s)
    connection.request(question.method, question.path, question.body, question.headers)
    return connection.getresponse()


def _wait_until(connection: HTTPSConnection, end_s: float) -> None:
    """Let the connection wait no longer; raises TimeoutError when it is too late."""
    left_s = end_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the answer did not come in time")
    if connection.sock is not None:  # else the peer ends it with this answer
        connection.sock.settimeout(left_s)
