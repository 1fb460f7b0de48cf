"""How a peer is asked over HTTP and what its answers mean, whatever carries them.

Source: claims 4 and 5; RFC 9110 (status codes).
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from ledger.clock import Clock
from ledger.configuration import Replication, ServerEntry
from ledger.errors import PeerError, TransientError
from ledger.identity import ServerIdentity
from ledger.media_type import parse_media_type
from ledger.migration.http_signature import sign_request
from ledger.migration.link import IN_BULK, RefusedVersionError, Route
from ledger.migration.wire import MAX_BODY_BYTES, MEDIA_TYPE

PREFIX: Final = "/replication/"
_QUESTION_TIMEOUT_S: Final = 10.0
"""For small questions; a batch may take as long as the configuration says."""
_MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_MAX_ERROR_BYTES: Final = 1000
_ANSWER_TYPE: Final = parse_media_type(MEDIA_TYPE)[0]


class HttpQuestion(NamedTuple):
    """A request to a peer."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    timeout_s: float
    """For all of the exchange."""
    most_bytes: int
    """Of the answer."""


class HttpTerms:
    """How one peer is asked, and what its answers mean."""

    def __init__(
        self,
        peer: ServerEntry,
        *,
        identity: ServerIdentity,
        settings: Replication,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """Join the parts; ``rng`` makes what no two requests have in common."""
        self.peer = peer.id
        self.url = peer.url
        self.connect_timeout_s = settings.connect_timeout_s
        self._identity = identity
        self._timeout_s = settings.request_timeout_s
        self._clock = clock
        self._rng = rng

    def question(self, route: Route, body: bytes) -> HttpQuestion:
        """Put a question, signed. Takes time in proportion to the body."""
        path = PREFIX + route.value
        headers = sign_request(
            identity=self._identity,
            receiver=self.peer,
            url=self.url + path,
            content_type=MEDIA_TYPE,
            body=body,
            now=self._clock.now(),
            nonce=f"{self._rng.getrandbits(128):032x}",
        )
        most_s = self._timeout_s if route in IN_BULK else _QUESTION_TIMEOUT_S
        most_bytes = MAX_BODY_BYTES if route is Route.BLOBS else _MAX_ANSWER_BYTES
        return HttpQuestion("POST", path, headers, body, min(self._timeout_s, most_s), most_bytes)

    def ping(self) -> HttpQuestion:
        """Ask whether the peer is there."""
        return HttpQuestion("GET", f"{PREFIX}ping", {}, None, _QUESTION_TIMEOUT_S, _MAX_ERROR_BYTES)

    def most_bytes(self, question: HttpQuestion, status: int, content_type: str) -> int:
        """Say how long an answer may be that begins like this."""
        is_answer = _is_answer(status, content_type)
        return question.most_bytes if is_answer else _MAX_ERROR_BYTES

    def read(self, status: int, content_type: str, body: bytes, *, is_cut: bool) -> bytes:
        """Give the answer; errors of HTTP itself become errors that say what to do.

        ``is_cut``: it is longer than it may be. Raises PeerError and TransientError.
        """
        if _is_answer(status, content_type):
            if is_cut:
                raise PeerError(f"the answer of server {self.peer} is too long", peer=self.peer)
            return body
        text = body[:_MAX_ERROR_BYTES].decode("utf-8", "replace").strip()
        if status == 415:
            raise RefusedVersionError(
                f"server {self.peer} speaks another version of the protocol: {text}",
                peer=self.peer,
            )
        if status >= 500 or status in (408, 429):
            raise TransientError(f"server {self.peer} answers {status}: {text}")
        raise PeerError(f"server {self.peer} answers {status}: {text}", peer=self.peer)

    def expect_ping(self, answer: bytes) -> None:
        """Raise PeerError unless it was the peer that answered."""
        if answer.decode("utf-8", "replace").strip() != self.peer:
            raise PeerError(f"another server answers at {self.url}", peer=self.peer)

    def wrong_certificate(self, error: Exception) -> PeerError:
        """Make the error for a certificate that is not the pinned one."""
        return PeerError(
            f"{self.url} does not show the certificate that the configuration pins for "
            f"server {self.peer}: {error}",
            peer=self.peer,
        )

    def silence(self, error: Exception) -> TransientError:
        """Make the error for an answer that did not come."""
        detail = str(error) or type(error).__name__
        return TransientError(f"server {self.peer} does not answer: {detail}")


def _is_answer(status: int, content_type: str) -> bool:
    return status == 200 or parse_media_type(content_type)[0] == _ANSWER_TYPE
