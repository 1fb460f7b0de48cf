"""Copy a log from whoever has it: a mirror from its origin, a lost server from its mirrors.

Page by page, each shown *before* it is committed to be the beginning of the tree that the log's own
server signed. Blobs are durable before the commit of the events that name them. While some pages
are committed the blobs of the next ones are on their way, and the page behind those. Killed at any
moment, the copy is a shorter beginning of the same log, and the next run goes on from there.

Source: claims 5, 7 and 10; RFC 9162 section 2.1.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Final

from ledger.ahead import Ahead
from ledger.migration.blob_fetch import BlobCarrier, DirectCarrier, Fetched, fetch_blobs
from ledger.migration.log_source import (
    LogSource,
    LogTarget,
    OnPage,
    Progress,
    ignore_page,
    no_progress,
    other_history,
)
from ledger.migration.log_writing import DirectWriter, FilledPages, LogWriter
from ledger.migration.page_reader import PageReader, ReadPage, expect_signed
from ledger.migration.wire import CopyState
from ledger.offload import Offload
from ledger.storage.merkle import frontier_at

_COMMIT_EVENTS: Final = 20_000
"""Pages are committed together up to about so many events, fewer at the beginning and at the end.
Streams, calls and blobs have random names: a commit touches about as many pages of their indices
however many events it has."""


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
        writer: LogWriter | None = None,
        until: int | datetime | None = None,
        on_progress: Progress = no_progress,
        on_page: OnPage = ignore_page,
    ) -> None:
        """Join the parts.

        ``carrier`` brings the blobs and ``writer`` commits; None: this process does. ``until`` is
        the last position wanted, or the time of the last own event wanted.
        ``on_page`` is told of all events, in order, before they are committed.
        """
        self._source = source
        self._copy = copy
        self._target = target
        self._offload = offload
        self._carrier = carrier or DirectCarrier(source, target.of, target.blobs, offload)
        self._writer = writer or DirectWriter(target, offload)
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
        gathered = left = 0

        async def read() -> ReadPage | None:
            nonlocal through, is_over
            if is_over:
                return None
            page = await reader.read(through)
            self.done.is_cut = page.is_cut
            is_over = page.is_cut or page.through >= self.through
            through = self.through
            return page

        async def fill() -> FilledPages | None:
            page = await pages.get()
            return await self._fill(page) if page is not None else None

        async def gather() -> FilledPages | None:
            """Give few at the beginning and at the end: nothing else is done beside those."""
            nonlocal gathered, left
            filled = await _gather(full, min(gathered, left // 2, _COMMIT_EVENTS))
            if filled is not None:
                gathered += len(filled.events)
                left = self.through - filled.through
            return filled

        pages = Ahead(read)
        full = Ahead(fill)
        ready = Ahead(gather)
        try:
            while (filled := await ready.get()) is not None:
                await self._writer.write(filled)
                self.done.events += len(filled.events)
                self._on_progress(filled.through, self.through, self.done.blobs)
        finally:
            for stage in (ready, full, pages):
                await stage.close()

    async def _fill(self, read: ReadPage) -> FilledPages:
        """Get the blobs of a page."""
        locations = await fetch_blobs(
            self._carrier, self._target, read.digests, self._offload, self.done
        )
        page = read.page
        return FilledPages(
            source=self._source.name,
            incarnation=self._copy.incarnation,
            through=read.through,
            events=read.events,
            locations=locations,
            keys=list(page.keys),
            checkpoint=None if read.is_cut else page.checkpoint,
            origins=() if read.is_cut else page.origins,
            cosigned=() if read.is_cut else page.cosigned,
        )


async def _gather(filled: Ahead[FilledPages], least_events: int) -> FilledPages | None:
    """Put together what is to be committed next; what came before an error comes before it."""
    pages: list[FilledPages] = []
    while not pages or sum(len(page.events) for page in pages) < least_events:
        try:
            page = await filled.get()
        except Exception:
            if not pages:
                raise
            break  # asked again, it fails again
        if page is None:
            break
        pages.append(page)
        if not page.events:
            break  # a new incarnation is committed alone
    return FilledPages.joined(pages) if pages else None
