"""Copy a log from whoever has it: a mirror from its origin, a lost server from its mirrors.

Page by page, each shown *before* it is committed to be the beginning of the tree that the log's own
server signed. Blobs are durable before the commit of the events that name them. While one page is
committed the blobs of the next one are on their way, and the page behind it. Killed at any moment,
the copy is a shorter beginning of the same log, and the next run goes on from there.

Source: claims 5, 7 and 10; RFC 9162 section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from eventsourcing.persistence import IntegrityError, StoredEvent

from ledger.ahead import Ahead
from ledger.checkpoint import cosigned_at, log_key, parse_checkpoint, read_log_name, witness_key
from ledger.errors import CallerError
from ledger.events import ServerId, decode
from ledger.migration.blob_fetch import Fetched, fetch_blobs
from ledger.migration.log_source import (
    LogSource,
    LogTarget,
    OnEvent,
    Progress,
    broken_log,
    ignore_event,
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


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A page whose blobs are durable, ready to be committed."""

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
        until: int | datetime | None = None,
        on_progress: Progress = no_progress,
        on_event: OnEvent = ignore_event,
    ) -> None:
        """Join the parts.

        ``until`` is the last position wanted, or the time of the last own event wanted.
        ``on_event`` is told of each event, in order, before it is committed.
        """
        self._source = source
        self._copy = copy
        self._target = target
        self._offload = offload
        self._until = until
        self._on_progress = on_progress
        self._on_event = on_event
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
            on_event=self._on_event,
        )

    async def _copy_pages(self, reader: PageReader, through: int) -> None:
        """Read, fill and commit page after page; the first one through this position."""
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
        try:
            while (page := await filled.get()) is not None:
                await self._offload(partial(self._commit, page))
        finally:
            await filled.close()
            await pages.close()

    async def _fill(self, read: ReadPage) -> _Prepared:
        """Get the blobs of a page."""
        locations = await fetch_blobs(
            self._source, self._target, read.digests, self._offload, self.done
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
        """Commit a page in one transaction, with its checkpoint staged before."""
        target = self._target
        head = target.recorder.head()
        if page.checkpoint is not None:
            target.checkpoint.stage(page.checkpoint, head)
        if head.incarnation != self._copy.incarnation:
            # What stands here is a beginning of that incarnation's log: the page goes on from it.
            target.recorder.start_incarnation(self._copy.incarnation)
        # A crash before this leaves blobs that no event names; the same page is fetched again.
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
        self.done.events += sum(len(append.events) for append in page.appends)
        self._on_progress(page.through, self.through, self.done.blobs)
        for row in page.cosigned:
            newest = target.cosigned.newest(row.log, row.witness)
            known = newest.size if newest is not None else 0
            if row.size > known and _is_cosigned(row, target):
                kept = CosignedCheckpoint(row.log, row.witness, row.size, row.note)
                target.cosigned.add(kept, known)


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
