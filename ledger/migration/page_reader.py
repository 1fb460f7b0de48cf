"""Read a log that somebody else has, page after page, and believe only what its server signed.

Source: claims 7 and 10; RFC 9162 section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

import msgspec

from ledger.checkpoint import Checkpoint, log_key, log_name, parse_checkpoint, read_log_name
from ledger.errors import CallerError, CorruptionError, PeerError
from ledger.events import DomainEvent, OpaqueEvent, PinChanged, ServerId, decode
from ledger.migration.former_events import blob_of
from ledger.migration.log_source import (
    LogSource,
    LogTarget,
    OnPage,
    broken_log,
    other_history,
)
from ledger.migration.wire import CopiedEvent, CopyState, LogPage, LogPageRequest
from ledger.offload import Offload
from ledger.storage.merkle import Frontier, leaf_hash
from ledger.storage.merkle_proofs import verify_consistency


class ReadEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of a log that is copied, with what it says of itself."""

    stream: UUID
    version: int
    topic: str
    plain: bytes
    """Its JSON, byte for byte."""
    origin: ServerId | None
    origin_position: int | None


def read_event(copied: CopiedEvent, plain: bytes, event: DomainEvent | OpaqueEvent) -> ReadEvent:
    """Put together an event, its bytes and where it came from."""
    return ReadEvent(
        event.originator_id,
        event.originator_version,
        event.topic,
        plain,
        copied.origin,
        copied.origin_position,
    )


@dataclass(frozen=True, slots=True)
class ReadPage:
    """A page that is the next part of the log."""

    page: LogPage
    events: list[ReadEvent]
    """Its events; fewer than it has when it ``is_cut``."""
    digests: dict[str, bool]
    """The blobs that they name: is it secret?"""
    is_cut: bool
    """The last event wanted is in it, and there are more behind that."""

    @property
    def through(self) -> int:
        """The position of the last event."""
        return self.page.after_position + len(self.events)


class PageReader:
    """Reads on from where the target's log ends. For one event loop."""

    def __init__(
        self,
        source: LogSource,
        copy: CopyState,
        target: LogTarget,
        *,
        frontier: Frontier,
        until: int | datetime | None,
        offload: Offload,
        on_page: OnPage,
    ) -> None:
        """Begin behind the events of ``frontier``."""
        self._source = source
        self._copy = copy
        self._target = target
        self._frontier = frontier
        self._until = until
        self._offload = offload
        self._on_page = on_page

    async def read(self, through: int) -> ReadPage:
        """Get the next page, at most through this position, and hold it against its root.

        Raises OtherHistoryError, PeerError for a log that is not what it says, TransientError.
        """
        after = self._frontier.size
        request = LogPageRequest(
            of=self._target.of,
            copy=self._copy.name,
            after_position=after,
            after_root=self._frontier.root().hex(),
            through_position=through,
            tree_size=self._copy.position,
        )
        page = await self._source.log_page(request)
        if page.is_other_history and after == 0:
            # Nothing is held that could be another history: it must not be set aside for that.
            raise self._broken("it does not begin with the events that it was said to have")
        if page.is_other_history:
            raise other_history(self._target, after, self._copy)
        if not page.events and after < through:
            raise self._broken(f"it gives no event behind position {after}")
        return await self._offload(partial(self._check, page))

    def _check(self, page: LogPage) -> ReadPage:
        """Hold a page against the tree that was signed; then it is read on from its end."""
        frontier = self._frontier
        plains = [bytes(copied.plain) for copied in page.events]
        grown = frontier.append(map(leaf_hash, plains))
        if grown.root().hex() != page.root:
            raise self._broken(f"events up to position {page.through_position} are not its tree")
        proof = [bytes.fromhex(digest) for digest in page.proof]
        size, root = self._copy.position, bytes.fromhex(self._copy.root)
        if not verify_consistency(grown.size, grown.root(), size, root, proof):
            what = f"they are not the beginning of the {size} events that were signed"
            raise self._broken(what)
        self._expect_right(page)
        first = page.after_position + 1
        events: list[DomainEvent | OpaqueEvent] = []
        for copied, plain in zip(page.events, plains, strict=True):
            event = self._decode(plain, first + len(events))
            self._expect_origin(copied, event)
            if self._is_too_late(event.recorded_at, copied):
                break  # what is wrong behind it does not matter
            events.append(event)
        read = list(map(read_event, page.events, plains, events))
        named = ((blob_of(event), event) for event in events)
        digests = {blob[0]: isinstance(event, PinChanged) for blob, event in named if blob}
        self._on_page(events, first, page.keys)
        is_cut = len(read) < len(page.events)
        self._frontier = frontier.append(leaf_hash(one.plain) for one in read) if is_cut else grown
        return ReadPage(page, read, digests, is_cut)

    def _decode(self, plain: bytes, position: int) -> DomainEvent | OpaqueEvent:
        try:
            return decode(plain, f"position {position}")
        except CorruptionError as error:
            # Its server signed that, or the source could not have shown it: nothing rotted here.
            raise self._broken(str(error)) from error

    def _expect_origin(self, copied: CopiedEvent, event: DomainEvent | OpaqueEvent) -> None:
        """See that it can have come from there: that is told beside the tree, and unsigned.

        What another server recorded came from a peer. What the log's own server recorded may have
        come back from one, after its log went back: so the converse cannot be demanded.
        """
        of = self._target.of
        if copied.origin == of:
            raise self._broken(f"{of} took in an event from itself")
        if copied.origin is None and event.recorded_by != of:
            raise self._broken(f"an event of {event.recorded_by} came from nowhere")

    def _is_too_late(self, recorded_at: datetime, copied: CopiedEvent) -> bool:
        """Only the log's own events tell its time: others' clocks are others'."""
        is_own = copied.origin is None
        return isinstance(self._until, datetime) and is_own and recorded_at > self._until

    def _expect_right(self, page: LogPage) -> None:
        """Hold what the log's server signed for the end of this page against the page."""
        if page.checkpoint is None:
            return
        expected = Checkpoint(
            log_name(self._target.of, self._copy.incarnation),
            page.through_position,
            bytes.fromhex(page.root),
        )
        if not is_signed(page.checkpoint, expected, self._target):
            what = f"{self._target.of} did not sign its events up to {page.through_position}"
            raise self._broken(what)

    def _broken(self, what: str) -> PeerError:
        return broken_log(self._source.name, self._target.of, what)


def expect_signed(copy: CopyState, target: LogTarget) -> None:
    """Raise PeerError unless the log's own server signed for this copy's end."""
    if copy.position == 0:
        return
    expected = Checkpoint(
        log_name(target.of, copy.incarnation), copy.position, bytes.fromhex(copy.root)
    )
    if copy.checkpoint is None or not is_signed(copy.checkpoint, expected, target):
        raise PeerError(
            f"no checkpoint that {target.of} signed vouches for the {copy.position} events of "
            f"{copy.name or 'its log'}",
            peer=target.of,
        )


def is_signed(text: str, expected: Checkpoint, target: LogTarget) -> bool:
    """Is this that checkpoint, signed by the log's own server?"""
    try:
        note, checkpoint = parse_checkpoint(text)
        _, incarnation = read_log_name(checkpoint.log)
    except CallerError:
        return False
    key = log_key(target.of, incarnation, target.public_key)
    return checkpoint == expected and note.is_signed_by(key, target.verify)
