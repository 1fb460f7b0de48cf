"""Copy a log from whoever has it: a mirror from its origin, a lost server from its mirrors.

Page by page, each shown *before* it is committed to be the beginning of the tree that the log's own
server signed. Blobs are durable before the commit of the events that name them. While some pages
are committed the blobs of the next ones are on their way, and the page behind those. Killed at any
moment, the copy is a shorter beginning of the same log, and the next run goes on from there.

Source: claims 5, 7 and 10; RFC 9162 section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from eventsourcing.persistence import IntegrityError, StoredEvent

from ledger.ahead import Ahead
from ledger.checkpoint import cosigned_at, log_key, parse_checkpoint, read_log_name, witness_key
from ledger.errors import CallerError
from ledger.events import ServerId, decode
from ledger.migration.blob_fetch import BlobCarrier, DirectCarrier, Fetched, fetch_blobs
from ledger.migration.log_source import (
    LogSource,
    LogTarget,
    OnPage,
    Progress,
    broken_log,
    ignore_page,
    no_progress,
    other_history,
)
from ledger.migration.page_reader import PageReader, ReadPage, expect_signed
from ledger.migration.travelling_keys import CALL_RECEIVED, destroyed_by
from ledger.migration.wire import CopiedEvent, CopyState, CosignedRow, KeptKey, OriginRow
from ledger.offload import Offload
from ledger.sealing import WrappedKey
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint
from ledger.storage.event_log import Append, BlobLocation, PeerTracking, tracking_name
from ledger.storage.merkle import frontier_at

_COMMIT_EVENTS: Final = 20_000
"""Pages are committed together up to about so many events. Streams, calls and blobs have random
names: a commit touches about as many pages of their indices however many events it has."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Pages whose blobs are durable, ready to be committed."""

    appends: list[Append]
    through: int
    checkpoint: str | None
    cosigned: tuple[CosignedRow, ...]


class LogFetch:
    """One run from one source into one target. For one event loop."""

    def __init__(
        self,
        source: LogSource,
        copy: CopyState,
        target: LogTarget,
        *,
        offload: Offload,
        carrier: BlobCarrier | None = None,
        until: int | datetime | None = None,
        on_progress: Progress = no_progress,
        on_page: OnPage = ignore_page,
    ) -> None:
        """Join the parts.

        ``carrier`` brings the blobs; None: this process does. ``until`` is the last position
        wanted, or the time of the last own event wanted.
        ``on_page`` is told of all events, in order, before they are committed.
        """
        self._source = source
        self._copy = copy
        self._target = target
        self._offload = offload
        self._carrier = carrier or DirectCarrier(source, target.of, target.blobs, offload)
        self._until = until
        self._on_progress = on_progress
        self._on_page = on_page
        self.done = Fetched()

    @property
    def through(self) -> int:
        """The position to reach."""
        until = self._until if isinstance(self._until, int) else self._copy.position
        return min(until, self._copy.position)

    async def run(self) -> Fetched:
        """Copy what is missing; durable on return.

        Raises OtherHistoryError, and nothing was changed, when the target holds another history;
        PeerError for a source whose log is not what it says; TransientError when it, or a store,
        cannot work now: run again.
        """
        expect_signed(self._copy, self._target)
        head = await self._offload(self._target.recorder.head)
        if head.position > self.through and self._until is None:
            raise other_history(self._target, head.position, self._copy)
        if head.position >= self.through and head.incarnation == self._copy.incarnation:
            if head.position == self._copy.position and head.root.hex() != self._copy.root:
                raise other_history(self._target, head.position, self._copy)
            if await self._offload(partial(self._target.checkpoint.read, head)) is not None:
                return self.done
        through = self.through
        if head.position and head.incarnation != self._copy.incarnation:
            # The incarnation changes alone: else a crash before the events would leave a head that
            # nobody signed.
            through = head.position
        await self._copy_pages(await self._reader(head.position), through)
        return self.done

    async def _reader(self, after: int) -> PageReader:
        read = self._target.recorder.read_hashes
        return PageReader(
            self._source,
            self._copy,
            self._target,
            frontier=await self._offload(lambda: frontier_at(after, read)),
            until=self._until,
            offload=self._offload,
            on_page=self._on_page,
        )

    async def _copy_pages(self, reader: PageReader, through: int) -> None:
        """Read and fill page after page, and commit them; the first one through this position."""
        is_over = False

        async def read() -> ReadPage | None:
            nonlocal through, is_over
            if is_over:
                return None
            page = await reader.read(through)
            is_over = page.is_cut or page.through >= self.through
            through = self.through
            return page

        async def fill() -> _Prepared | None:
            page = await pages.get()
            return await self._fill(page) if page is not None else None

        pages = Ahead(read)
        filled = Ahead(fill)
        ready = Ahead(partial(_gather, filled))
        try:
            while (prepared := await ready.get()) is not None:
                await self._offload(partial(self._commit, prepared))
        finally:
            for stage in (ready, filled, pages):
                await stage.close()

    async def _fill(self, read: ReadPage) -> _Prepared:
        """Get the blobs of a page."""
        locations = await fetch_blobs(
            self._carrier, self._target, read.digests, self._offload, self.done
        )
        page = read.page
        events = page.events[: len(read.stored)]
        appends = list(_runs(events, read.stored, locations, page.keys))
        if read.is_cut:
            return _Prepared(appends, read.through, checkpoint=None, cosigned=())
        if page.origins:
            appends += await self._offload(lambda: list(self._trackings(page.origins)))
        return _Prepared(appends, read.through, page.checkpoint, page.cosigned)

    def _trackings(self, origins: Sequence[OriginRow]) -> Iterator[Append]:
        """Move the tracking to what the log has: it ends where these events do, or before."""
        tracked: dict[tuple[ServerId, UUID], int] = {}
        for origin in {row.origin for row in origins}:
            for known in self._target.recorder.tracked(origin):
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

    def _commit(self, page: _Prepared) -> None:
        """Commit pages in one transaction, with the last one's checkpoint staged before."""
        target = self._target
        head = target.recorder.head()
        if page.checkpoint is not None:
            target.checkpoint.stage(page.checkpoint, head)
        if head.incarnation != self._copy.incarnation:
            # What stands here is a beginning of that incarnation's log: the page goes on from it.
            target.recorder.start_incarnation(self._copy.incarnation)
        # A crash before this leaves blobs that no event names; the same pages are fetched again.
        # All or nothing: what stood behind a run that was left out would be at other positions.
        try:
            if page.appends:
                target.recorder.commit_whole(page.appends)
        except IntegrityError as error:
            raise broken_log(
                self._source.name, target.of, f"up to position {page.through}, {error}"
            ) from error
        if page.checkpoint is not None:
            target.checkpoint.settle(page.checkpoint)
        self.done.events += _events_in(page)
        self._on_progress(page.through, self.through, self.done.blobs)
        for row in page.cosigned:
            newest = target.cosigned.newest(row.log, row.witness)
            known = newest.size if newest is not None else 0
            if row.size > known and _is_cosigned(row, target):
                kept = CosignedCheckpoint(row.log, row.witness, row.size, row.note)
                target.cosigned.add(kept, known)


def _events_in(page: _Prepared) -> int:
    return sum(len(append.events) for append in page.appends)


async def _gather(filled: Ahead[_Prepared]) -> _Prepared | None:
    """Put together what is to be committed next; what came before an error comes before it."""
    pages: list[_Prepared] = []
    while sum(map(_events_in, pages)) < _COMMIT_EVENTS:
        try:
            page = await filled.get()
        except Exception:
            if not pages:
                raise
            break  # asked again, it fails again
        if page is None:
            break
        pages.append(page)
        if not _events_in(page):
            break  # a new incarnation is committed alone
    return _joined(pages) if pages else None


def _joined(pages: Sequence[_Prepared]) -> _Prepared:
    """Make one of pages that follow each other: what was signed for the end counts."""
    appends = [append for page in pages for append in page.appends]
    cosigned = tuple(row for page in pages for row in page.cosigned)
    return _Prepared(appends, pages[-1].through, pages[-1].checkpoint, cosigned)


def lay_out(
    events: Sequence[CopiedEvent], locations: Iterable[BlobLocation], keys: Iterable[KeptKey]
) -> Iterator[Append]:
    """Make of a log's events what puts them into a copy of it, just as they are.

    Raises CorruptionError for what is no event.
    """
    read = (decode(bytes(copied.plain)) for copied in events)
    stored = [
        StoredEvent(e.originator_id, e.originator_version, e.topic, bytes(copied.plain))
        for e, copied in zip(read, events, strict=True)
    ]
    return _runs(events, stored, locations, keys)


def _runs(
    events: Sequence[CopiedEvent],
    stored: Sequence[StoredEvent],
    locations: Iterable[BlobLocation],
    keys: Iterable[KeptKey],
) -> Iterator[Append]:
    """Lay out events in runs of one origin each, as the log keeps them."""
    begun = {e.originator_id for e in stored if e.topic == CALL_RECEIVED}
    left = list(locations)
    left_keys = [WrappedKey(key.call_id, key.wrapped) for key in keys if key.call_id in begun]
    left_keys += destroyed_by((e.topic, e.state) for e in stored)
    start = 0
    while start < len(events):
        origin = events[start].origin
        stop = start
        while stop < len(events) and events[stop].origin == origin:
            stop += 1
        positions = [e.origin_position or 0 for e in events[start:stop]] if origin else []
        yield Append(
            stored[start:stop],
            blob_locations=left,
            origin=origin,
            origin_positions=positions,
            keys=left_keys,
        )
        left, left_keys, start = [], [], stop
    if left:
        yield Append([], blob_locations=left)


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
