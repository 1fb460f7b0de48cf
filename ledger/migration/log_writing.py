"""Write what was copied of a log into the copy: pages of events, whose blobs are there already.

Source: claims 5, 7 and 10; RFC 9162 section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Protocol
from uuid import UUID

import msgspec
from eventsourcing.persistence import IntegrityError, StoredEvent

from ledger.checkpoint import cosigned_at, log_key, parse_checkpoint, read_log_name, witness_key
from ledger.errors import CallerError
from ledger.events import ServerId, decode
from ledger.migration.log_source import LogTarget, broken_log
from ledger.migration.page_reader import ReadEvent, read_event
from ledger.migration.travelling_keys import CALL_RECEIVED, destroyed_by
from ledger.migration.wire import CopiedEvent, CosignedRow, KeptKey, OriginRow
from ledger.offload import Offload
from ledger.sealing import WrappedKey
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint
from ledger.storage.event_log import Append, BlobLocation, PeerTracking, tracking_name


class FilledPages(msgspec.Struct, frozen=True, kw_only=True):
    """Pages that follow each other, each shown to be the log's, and their blobs durable."""

    source: str
    """Who gave them, for people."""
    incarnation: UUID
    """Of the log that they are of."""
    through: int
    """The position of the last event."""
    events: list[ReadEvent]
    locations: list[BlobLocation]
    """Of those of their blobs that lie in packs."""
    keys: list[KeptKey]
    checkpoint: str | None
    """What the log's server signed for just that position."""
    origins: tuple[OriginRow, ...]
    """How far the log has taken in others', there."""
    cosigned: tuple[CosignedRow, ...]

    @classmethod
    def joined(cls, pages: Sequence[FilledPages]) -> FilledPages:
        """Make one of those that follow each other: what was said of the end counts."""
        return msgspec.structs.replace(
            pages[-1],
            events=[event for page in pages for event in page.events],
            locations=[location for page in pages for location in page.locations],
            keys=[key for page in pages for key in page.keys],
        )


class LogWriter(Protocol):
    """Commits pages, all or nothing."""

    async def write(self, pages: FilledPages) -> None:
        """Commit these; durable on return. Errors are those of `write_pages`."""


class DirectWriter:
    """A `LogWriter` that does it in this process."""

    def __init__(self, target: LogTarget, offload: Offload) -> None:
        self._target = target
        self._offload = offload

    async def write(self, pages: FilledPages) -> None:
        await self._offload(partial(write_pages, self._target, pages))


def write_pages(target: LogTarget, pages: FilledPages) -> None:
    """Commit pages in one transaction, with the last one's checkpoint staged before.

    Raises PeerError for events that no log can have, and what a recorder raises.
    """
    head = target.recorder.head()
    if pages.checkpoint is not None:
        target.checkpoint.stage(pages.checkpoint, head)
    if head.incarnation != pages.incarnation:
        # What stands here is a beginning of that incarnation's log: the page goes on from it.
        target.recorder.start_incarnation(pages.incarnation)
    appends = [*runs(pages.events, pages.locations, pages.keys)]
    appends += _trackings(target, pages.origins)
    # A crash before this leaves blobs that no event names; the same pages are fetched again.
    # All or nothing: what stood behind a run that was left out would be at other positions.
    try:
        if appends:
            target.recorder.commit_whole(appends)
    except IntegrityError as error:
        raise broken_log(
            pages.source, target.of, f"up to position {pages.through}, {error}"
        ) from error
    if pages.checkpoint is not None:
        target.checkpoint.settle(pages.checkpoint)
    for row in pages.cosigned:
        newest = target.cosigned.newest(row.log, row.witness)
        known = newest.size if newest is not None else 0
        if row.size > known and _is_cosigned(row, target):
            kept = CosignedCheckpoint(row.log, row.witness, row.size, row.note)
            target.cosigned.add(kept, known)


def _trackings(target: LogTarget, origins: Sequence[OriginRow]) -> Iterator[Append]:
    """Move the tracking to what the log has: it ends where these events do, or before."""
    tracked: dict[tuple[ServerId, UUID], int] = {}
    for origin in {row.origin for row in origins}:
        for known in target.recorder.tracked(origin):
            tracked[origin, known.incarnation] = known.position
    for row in origins:
        before = tracked.get((row.origin, row.incarnation), 0)
        if row.position > before:
            yield Append(
                [],
                tracking=PeerTracking(
                    application_name=tracking_name(row.origin, row.incarnation),
                    notification_id=row.position,
                    expected=before,
                    root=bytes.fromhex(row.root),
                ),
            )


def _is_cosigned(row: CosignedRow, target: LogTarget) -> bool:
    """Is this what it says, as far as the key of the log's server tells?

    Of its own checkpoints it tells that the server signed them, but not what witnesses did; of
    others' checkpoints, that the server signed as their witness. One that is not right is not kept:
    it would prove nothing, and stand in the way of the next.
    """
    try:
        note, checkpoint = parse_checkpoint(row.note)
        server, incarnation = read_log_name(row.log)
    except CallerError:
        return False
    if (checkpoint.log, checkpoint.size) != (row.log, row.size):
        return False
    if server == target.of:
        return note.is_signed_by(log_key(server, incarnation, target.public_key), target.verify)
    key = witness_key(target.of, target.public_key)
    return row.witness == target.of and cosigned_at(note, key, target.verify) is not None


# --- Events as the log keeps them ----------------------------------------------------------------


def lay_out(
    events: Iterable[CopiedEvent], locations: Iterable[BlobLocation], keys: Iterable[KeptKey]
) -> Iterator[Append]:
    """Make of a log's events what puts them into a copy of it, just as they are.

    Raises CorruptionError for what is no event.
    """
    with_plains = ((copied, bytes(copied.plain)) for copied in events)
    read = [read_event(copied, plain, decode(plain)) for copied, plain in with_plains]
    return runs(read, locations, keys)


def runs(
    events: Sequence[ReadEvent], locations: Iterable[BlobLocation], keys: Iterable[KeptKey]
) -> Iterator[Append]:
    """Lay out events in runs of one origin each, as the log keeps them."""
    begun = {e.stream for e in events if e.topic == CALL_RECEIVED}
    left = list(locations)
    left_keys = [WrappedKey(key.call_id, key.wrapped) for key in keys if key.call_id in begun]
    left_keys += destroyed_by((e.topic, e.plain) for e in events)
    for origin, run in groupby(events, lambda event: event.origin):
        together = list(run)
        positions = [e.origin_position or 0 for e in together] if origin else []
        yield Append(
            [StoredEvent(e.stream, e.version, e.topic, e.plain) for e in together],
            blob_locations=left,
            origin=origin,
            origin_positions=positions,
            keys=left_keys,
        )
        left, left_keys = [], []
    if left:
        yield Append([], blob_locations=left)
