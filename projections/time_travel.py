"""A mailbox as it was: at any position of this server's log, or at any past time.

The same fold as the projection's, over only those streams that tell of the mailbox, up to the
position and no further. The streams are found with the projection's index when it has come that
far, else by a scan of the log.

A time stands for the last event that this server itself recorded at or before it: what came from
other servers carries their clocks, and is in this log from the moment it was taken in.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from ledger.events import MessageStored
from ledger.ids import message_stream_id
from ledger.storage.event_log import LogEntry
from ledger.storage.message_streams import in_log_order, read_with_earlier
from projections.mailboxes import (
    MAILBOXES,
    MESSAGE,
    MailboxCounts,
    MailboxEntry,
    MailboxPage,
    PageKey,
    counted_in,
    next_key,
)
from projections.projection import decode_entries, fold_events
from projections.reader import PAGE_EVENTS, LogReader, read_pages
from projections.records import State


class MailboxAt(msgspec.Struct, frozen=True, kw_only=True):
    """What a mailbox listed at one position of this server's log."""

    mailbox: str
    position: int
    entries: tuple[MailboxEntry, ...]
    """The newest message first."""
    counts: MailboxCounts

    def page(self, *, before: PageKey | None = None, limit: int = 50) -> MailboxPage:
        """Give a part, in the same form as the mailbox of today."""
        older = [e for e in self.entries if before is None or _key(e) < _key(before)]
        return MailboxPage(
            mailbox=self.mailbox,
            entries=tuple(older[:limit]),
            counts=self.counts,
            next_before=next_key(older, limit),
            position=self.position,
        )


def _key(place: MailboxEntry | PageKey) -> tuple[datetime, bytes]:
    return place.received_at, place.message_id.bytes


def mailbox_at(
    reader: LogReader,
    this_server: str,
    mailbox: str,
    position: int,
    streams: Sequence[UUID] | None = None,
) -> MailboxAt:
    """Show a mailbox as it was after the event at ``position``.

    ``streams`` (`projections.mailboxes.Mailboxes.streams`) spares the scan of the log; it may name
    more than are needed, but must not lack any.
    """
    if streams is None:
        streams = find_streams(reader, this_server, mailbox, position)
    state = State(this_server)
    fold_events(MAILBOXES, state, decode_entries(_in_order(reader, streams, position)))
    listed = [e for e in state.all(MESSAGE) if e.is_listed and e.mailbox == mailbox]
    listed.sort(key=_key, reverse=True)
    return MailboxAt(
        mailbox=mailbox, position=position, entries=tuple(listed), counts=_counts(mailbox, listed)
    )


def _in_order(reader: LogReader, streams: Sequence[UUID], position: int) -> list[LogEntry]:
    found = read_with_earlier(reader.read_streams, streams)
    return [entry for entry in in_log_order(found) if entry.position <= position]


def _counts(mailbox: str, listed: Iterable[MailboxEntry]) -> MailboxCounts:
    numbers: dict[str, int] = {}
    for entry in listed:
        for count in counted_in(entry):
            numbers[count] = numbers.get(count, 0) + 1
    return MailboxCounts(mailbox=mailbox, **numbers)


def find_streams(reader: LogReader, this_server: str, mailbox: str, position: int) -> list[UUID]:
    """Scan the log for the streams that tell of a mailbox's messages.

    Only events that contain the address at all are decoded, so that this costs little more than
    reading.
    """
    topic = str(MessageStored.__struct_config__.tag)
    address = msgspec.json.encode(mailbox)
    streams: dict[UUID, None] = {}
    for page in read_pages(reader, position):
        telling = [e for e in page if e.topic == topic and address in e.plain]
        for logged in decode_entries(telling):
            if isinstance(logged.event, MessageStored) and logged.event.mailbox == mailbox:
                streams[logged.event.originator_id] = None
                streams[message_stream_id(logged.event.message_id, this_server)] = None
    return list(streams)


def position_at(reader: LogReader, this_server: str, moment: datetime) -> int:
    """Give the position at which this server's log stood at a past time; 0 before its first event.

    Found by halving, so a clock that was set back in between makes it one of the moments that carry
    this time, not necessarily the last.
    """
    low, high = 0, reader.head().position
    while low < high:
        middle = (low + high + 1) // 2
        own = _own_event(reader, this_server, middle, high)
        if own is None:
            # Only what came from others stands between here and high: it counts as taken in with
            # the last own event before, or with the one that follows.
            high = middle - 1
        elif own[1] <= moment:
            low = own[0]
        else:
            high = middle - 1
    return low


def _own_event(
    reader: LogReader, this_server: str, start: int, stop: int
) -> tuple[int, datetime] | None:
    """Find the first event in a range that this server recorded: its position and time."""
    step = 16
    while start <= stop:
        page = reader.read(start, step, stop)
        for logged in decode_entries(page):
            recorded_by = getattr(logged.event, "recorded_by", None)
            if recorded_by == this_server:
                return logged.position, logged.event.recorded_at
        start, step = start + len(page), min(step * 4, PAGE_EVENTS)
        if not page:
            break
    return None
