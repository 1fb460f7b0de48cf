"""How a server speaks to one peer, as a port: bytes there, bytes back.

What the bytes mean is `ledger.migration.wire`'s affair, so that an adapter carries them without
understanding them, and a simulation can lose, repeat and damage them.

Source: claims 4 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol, TypeVar
from uuid import UUID

from ledger.errors import PeerError, TransientError
from ledger.events import ServerId
from ledger.migration.wire import (
    Accepted,
    Answer,
    BlobAnswer,
    BlobRequest,
    Blobs,
    BlobsRequest,
    Busy,
    ContactAnswer,
    ContactRequest,
    Cosigned,
    Gap,
    LogAnswer,
    LogPage,
    LogPageRequest,
    LogRequest,
    LogState,
    LogStateRequest,
    Message,
    MissingAnswer,
    MissingRequest,
    RecallAnswer,
    RecallRequest,
    RefusedVersion,
    Rejected,
    StoryAnswer,
    StoryRequest,
    Witnessed,
    WitnessRequest,
)
from ledger.migration.wire_bytes import (
    damaged_blob,
    decode_answer,
    decode_blobs,
    encode_request,
)
from ledger.offload import Offload

_Wanted = TypeVar("_Wanted", bound=Message)


class Route(Enum):
    """What a peer can be asked."""

    CONTACT = "contact"
    """How far are you? Small, and idempotent."""
    BATCH = "batch"
    """Take these. Idempotent: the same batch again changes nothing."""
    MISSING = "missing"
    """Which of these blobs have you not? Small."""
    WITNESS = "witness"
    """Sign this checkpoint of my log, please. Small, and idempotent."""
    RECALL = "recall"
    """What do you hold that I recorded? Changes nothing."""
    BLOB = "blob"
    """Give me the blob that my event names. Changes nothing."""
    STORY = "story"
    """What does your log tell of this message? Changes nothing of the message."""
    LOG = "log"
    """What are the hashes of your log, and what of it did you take in from me? Changes nothing."""
    LOG_STATE = "log-state"
    """How far do you know this log? Also says how far the one who asks holds it. Small."""
    LOG_PAGE = "log-page"
    """Give me the next events of this log. Changes nothing."""
    BLOBS = "blobs"
    """Give me these blobs, many in one answer. Changes nothing."""


IN_BULK = frozenset({Route.BATCH, Route.LOG_PAGE, Route.BLOBS})
"""Routes whose exchange may be large, and take as long as the configuration allows a batch."""


class PeerLink(Protocol):
    """The way to one peer. All calls may run at the same time."""

    peer: ServerId

    async def exchange(self, route: Route, body: bytes) -> bytes:
        """Send a message and give the answer.

        Bounded in time and size. Raises TransientError when no answer came (the peer may have
        acted on the message all the same), and PeerError for a peer that cannot be trusted.
        """

    async def probe(self) -> None:
        """Return if the peer answers at all; raises as `exchange`. The caller sets the deadline."""

    async def close(self) -> None:
        """Free connections."""


class BusyError(TransientError):
    """The peer asks to be left alone for ``retry_after_s``."""


class UnreachableError(TransientError):
    """No answer came from the peer. It may have acted on the message all the same."""


class RefusedVersionError(PeerError):
    """The peer speaks no version of the protocol that we speak."""


class RejectedError(PeerError):
    """The peer says that it cannot accept what we sent."""


class PeerClient:
    """Asks typed questions over a link, and accepts only answers that fit them.

    All questions raise UnreachableError when no answer came, BusyError and RefusedVersionError
    when the peer says so, and PeerError for any other answer that does not fit.
    """

    def __init__(self, link: PeerLink) -> None:
        self._link = link
        self.peer = link.peer

    async def contact(self, request: ContactRequest) -> ContactAnswer:
        """Ask how far the peer is."""
        body = await self._ask(Route.CONTACT, encode_request(request))
        answer = self._expect(body, ContactAnswer)
        if answer.nonce != request.nonce or answer.home != self.peer:
            raise PeerError("the answer to a contact belongs to another question", peer=self.peer)
        return answer

    async def send(self, batch: bytes) -> Accepted | Gap:
        """Send a batch."""
        answer = self._read(await self._ask(Route.BATCH, batch))
        if isinstance(answer, Accepted | Gap):
            return answer
        raise self._unfit(answer)

    async def missing(self, digests: Sequence[str]) -> frozenset[str]:
        """Ask which of these blobs the peer has not."""
        request = MissingRequest(digests=tuple(digests))
        body = await self._ask(Route.MISSING, encode_request(request))
        return frozenset(self._expect(body, MissingAnswer).digests)

    async def witness(self, request: WitnessRequest) -> Cosigned | Witnessed:
        """Ask for a signature under a checkpoint."""
        answer = self._read(await self._ask(Route.WITNESS, encode_request(request)))
        if isinstance(answer, Cosigned | Witnessed):
            return answer
        raise self._unfit(answer)

    async def recall(self, this_server: ServerId, after: int) -> RecallAnswer:
        """Ask what the peer holds that this server recorded, behind a position of its log."""
        request = RecallRequest(origin=this_server, home=self.peer, after_position=after)
        body = await self._ask(Route.RECALL, encode_request(request))
        answer = self._expect(body, RecallAnswer)
        is_fit = answer.after_position == after <= answer.through_position
        if not is_fit or (answer.through_position == after and not answer.is_last):
            raise PeerError("the answer to a recall belongs to another question", peer=self.peer)
        return answer

    async def blob(self, stream: UUID, version: int) -> bytes | None:
        """Ask for the blob that an event of this server names; None when the peer has it not."""
        request = BlobRequest(stream=stream, version=version)
        body = await self._ask(Route.BLOB, encode_request(request))
        return self._expect(body, BlobAnswer).data

    async def story(self, request: StoryRequest) -> StoryAnswer:
        """Ask what the peer's log tells of a message."""
        body = await self._ask(Route.STORY, encode_request(request))
        answer = self._expect(body, StoryAnswer)
        if answer.server != self.peer:
            raise PeerError("what is told of a message is another server's word", peer=self.peer)
        return answer

    async def log(self, this_server: ServerId, after: int, stop: int = 0) -> LogAnswer:
        """Ask for the hashes of a stretch of the peer's log, behind a position of it."""
        request = LogRequest(
            origin=this_server, home=self.peer, after_position=after, stop_position=stop
        )
        answer = self._expect(await self._ask(Route.LOG, encode_request(request)), LogAnswer)
        end = after + len(answer.hashes) // 32
        is_fit = (answer.server, answer.after_position) == (self.peer, after)
        rows_fit = all(after < row.position <= end for row in answer.taken)
        if not is_fit or not rows_fit or len(answer.hashes) % 32 or end > answer.position:
            raise PeerError("the hashes of a log are those of another question", peer=self.peer)
        return answer

    async def log_state(self, request: LogStateRequest) -> LogState:
        """Ask how far the peer knows a log, and say how far it is held here."""
        body = await self._ask(Route.LOG_STATE, encode_request(request))
        return self._expect(body, LogState)

    async def log_page(self, request: LogPageRequest, offload: Offload) -> LogPage:
        """Ask for the next events of a log."""
        body = await self._ask(Route.LOG_PAGE, encode_request(request))
        page = await offload(lambda: self._expect(body, LogPage))
        if page.is_other_history:
            return page
        is_fit = page.after_position == request.after_position
        is_fit &= page.through_position - page.after_position == len(page.events)
        if not is_fit or page.through_position > request.through_position:
            raise PeerError("the page of a log belongs to another question", peer=self.peer)
        return page

    async def blobs(self, of: ServerId, digests: Sequence[str], offload: Offload) -> Blobs:
        """Ask for blobs that a log's events name; the answer may leave some for another time.

        Those that were given are what their digests say. To see to that there as well took a sixth
        of the peer's time to give one: it does so only for what came damaged.
        """
        found = await self._blobs(of, digests, offload, is_verified=False)
        if not found.damaged:
            return found
        again = await self._blobs(of, found.damaged, offload, is_verified=True)
        if again.damaged:
            raise damaged_blob(again.damaged[0], self.peer)
        return Blobs(found.blobs | again.blobs, found.absent + again.absent)

    async def _blobs(
        self, of: ServerId, digests: Sequence[str], offload: Offload, *, is_verified: bool
    ) -> Blobs:
        request = BlobsRequest(of=of, digests=tuple(digests), is_verified=is_verified)
        body = await self._ask(Route.BLOBS, encode_request(request))
        answer = await offload(lambda: decode_blobs(body, self.peer))
        if not isinstance(answer, Blobs):
            raise self._unfit(self._read(body))
        if not set(digests) >= answer.blobs.keys() | {*answer.absent, *answer.damaged}:
            raise PeerError("it sent blobs that nobody asked for", peer=self.peer)
        return answer

    async def _ask(self, route: Route, body: bytes) -> bytes:
        """Exchange, so that silence of the peer is told from trouble of this server's own."""
        try:
            return await self._link.exchange(route, body)
        except TransientError as error:
            raise UnreachableError(error.message, retry_after_s=error.retry_after_s) from error

    def _expect(self, body: bytes, kind: type[_Wanted]) -> _Wanted:
        answer = self._read(body)
        if isinstance(answer, kind):
            return answer
        raise self._unfit(answer)

    def _read(self, body: bytes) -> Answer:
        answer = decode_answer(body, self.peer)
        if isinstance(answer, Busy):
            raise BusyError(f"server {self.peer} is busy", retry_after_s=answer.retry_after_s)
        if isinstance(answer, RefusedVersion):
            raise RefusedVersionError(
                f"server {self.peer} speaks versions {answer.versions} of the protocol only; "
                "bring both servers to the same release",
                peer=self.peer,
            )
        return answer

    def _unfit(self, answer: Answer) -> PeerError:
        if isinstance(answer, Rejected):
            text = f"server {self.peer} did not accept a message: {answer.reason}"
            return RejectedError(text, peer=self.peer)
        text = f"server {self.peer} gave an answer that fits no question: {type(answer).__name__}"
        return PeerError(text, peer=self.peer)
