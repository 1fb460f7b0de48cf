"""The mailboxes as users see them on this server: contents, counts for the lamp, held messages.

Keeps one record a message that this log tells of. A message is *listed* here while this server
answers for it: at its home from `MessageDelivered` on; at the server that took the call from
`MessageStored` until `MessageMigrated`, and again when the home lost it and refuses it. A message
whose mailbox was re-homed stays listed at its former home until the new one has acknowledged it.
Records of messages that were handed over or erased stay, unlisted: the story of a mailbox at a past
moment needs to know of them.

It deliberately does not judge whether an event was allowed; the write side did that.

Source: claims 1, 3, 5, 7 and 8; RFC 3842 (message waiting counts).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import Enum
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa

from ledger.errors import CorruptionError
from ledger.events import (
    AnyCaller,
    CallAbandoned,
    CallReceived,
    MessageDeleted,
    MessageDelivered,
    MessageErased,
    MessageHeard,
    MessageMigrated,
    MessageRehomed,
    MessageRequeued,
    MessageRestored,
    MessageSaved,
    MessageStored,
    MigrationRefused,
    TransferDecided,
)
from ledger.ids import message_stream_id
from projections.projection import Projection, Rule
from projections.records import Index, RecordTable, State, Tally
from projections.store import Asked, ProjectionStore, comes_before


class EntryStatus(Enum):
    """Where a message stands for its user."""

    NEW = "new"
    """Nobody listened to it yet: the lamp is lit."""
    HEARD = "heard"
    SAVED = "saved"
    DELETED = "deleted"
    """In the trash: it can be restored."""
    ERASED = "erased"
    """Its content is gone for good; it is listed nowhere."""


class KnownCaller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who called: remembered from the call's first event until its last message is stored."""

    call_id: UUID
    caller: AnyCaller


class MailboxEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message as this server knows it."""

    message_id: UUID
    call_id: UUID
    mailbox: str
    """``extension@context``."""
    origin: str
    """The server that took the call."""
    home: str
    """Where the message belongs."""
    custody: str
    """The server that answers for the message, as far as this log tells."""
    is_listed: bool
    """Is it in the mailbox that this server shows?"""
    is_pending: bool
    """Does it wait here for its home?"""
    is_recovered: bool
    """The recording was cut short by a crash; this is what had reached the disk."""
    status: EntryStatus
    status_before_deletion: EntryStatus
    """What a restored message goes back to."""
    received_at: datetime
    """When it was stored by the server that took the call."""
    delivered_at: datetime | None
    """When it came into its mailbox at its home; None while pending."""
    heard_at: datetime | None
    """When it was first listened to."""
    heard_by: str | None
    caller: AnyCaller | None
    """As the call's event has it. If it is sealed, whoever shows it opens it; so no key is needed
    to fold, and nothing is left here of it when its key is destroyed. None: this log never told."""
    duration_ms: int
    codec: str
    sample_rate_hz: int
    blob: str
    """Content address of the stored form."""
    blob_size_bytes: int
    audio_digest: str
    """SHA-256 of the received bytes."""
    audio_size_bytes: int
    position: int
    """Where this log tells that it was stored."""
    changed_position: int
    """The last event of this log that changed this record."""


class MailboxCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages a mailbox lists, by status."""

    mailbox: str
    new: int = 0
    heard: int = 0
    saved: int = 0
    deleted: int = 0
    pending: int = 0
    """Those of all statuses that wait here for their home."""

    @property
    def old(self) -> int:
        """Those that no longer light the lamp (RFC 3842 old messages)."""
        return self.heard + self.saved


class PageKey(msgspec.Struct, frozen=True):
    """Where a page of a mailbox ended: the next one holds what is older."""

    received_at: datetime
    message_id: UUID


class MailboxPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a mailbox, the newest message first."""

    mailbox: str
    entries: tuple[MailboxEntry, ...]
    counts: MailboxCounts
    next_before: PageKey | None
    """Ask with this for the next page; None at the end."""
    position: int
    """The log's position that this answer stands for."""


def counted_in(entry: MailboxEntry) -> Sequence[str]:
    """Name the counts of `MailboxCounts` that a message is part of."""
    if not entry.is_listed:
        return ()
    status = entry.status.value
    return (status, "pending") if entry.is_pending else (status,)


CALLER: Final = RecordTable("caller", KnownCaller, key="call_id")
MESSAGE: Final = RecordTable(
    "message",
    MailboxEntry,
    key="message_id",
    indexes=(Index("page", ("mailbox", "is_listed", "received_at", "message_id")),),
    tally=Tally("count", "mailbox", ("new", "heard", "saved", "deleted", "pending"), counted_in),
)


# --- The fold --------------------------------------------------------------------------------


def _receive(state: State, event: CallReceived, _position: int) -> None:
    state.put(CALLER, KnownCaller(call_id=event.originator_id, caller=event.personal))


def _decide(state: State, event: TransferDecided, _position: int) -> None:
    if not event.to_voicemail:
        state.drop(CALLER, event.originator_id)


def _abandon(state: State, event: CallAbandoned, _position: int) -> None:
    state.drop(CALLER, event.originator_id)


def _store(state: State, event: MessageStored, position: int) -> None:
    caller = state.get(CALLER, event.originator_id)
    if not event.is_recovered:
        # Only a recording that was cut short is ever followed by another one. So most callers come
        # and go within a page of the log, and are never written.
        state.drop(CALLER, event.originator_id)
    is_pending = event.recorded_by == state.this_server and event.home != state.this_server
    audio = event.audio
    entry = MailboxEntry(
        message_id=event.message_id,
        call_id=event.originator_id,
        mailbox=event.mailbox,
        origin=event.recorded_by,
        home=event.home,
        custody=event.recorded_by,
        is_listed=is_pending,
        is_pending=is_pending,
        is_recovered=event.is_recovered,
        status=EntryStatus.NEW,
        status_before_deletion=EntryStatus.NEW,
        received_at=event.recorded_at,
        delivered_at=None,
        heard_at=None,
        heard_by=None,
        caller=caller.caller if caller else None,
        duration_ms=audio.duration_ms,
        codec=audio.codec,
        sample_rate_hz=audio.sample_rate_hz,
        blob=event.blob,
        blob_size_bytes=event.blob_size_bytes,
        audio_digest=audio.digest,
        audio_size_bytes=audio.size_bytes,
        position=position,
        changed_position=position,
    )
    state.put(MESSAGE, entry)


def _entry(state: State, event: Any, position: int) -> MailboxEntry:
    entry = state.get(MESSAGE, event.message_id)
    if entry is None:
        raise CorruptionError(
            f"message {event.message_id} was never stored, but the log goes on with it",
            place=f"position {position}",
            advice="verify the log, then rebuild this projection",
        )
    return entry


def _change(state: State, entry: MailboxEntry, position: int, **changes: Any) -> None:
    state.put(MESSAGE, msgspec.structs.replace(entry, changed_position=position, **changes))


def _deliver(state: State, event: MessageDelivered, position: int) -> None:
    entry = _entry(state, event, position)
    if _is_told_by_another(state, entry, event):
        return
    _change(
        state,
        entry,
        position,
        custody=event.recorded_by,
        home=event.recorded_by,
        delivered_at=event.recorded_at,
        is_pending=False,
        is_listed=event.recorded_by == state.this_server and entry.status is not EntryStatus.ERASED,
    )


def _is_told_by_another(
    state: State, entry: MailboxEntry, event: MessageDelivered | MessageMigrated | MigrationRefused
) -> bool:
    """While this server answers for a message, only its own events change who does."""
    return entry.custody == state.this_server != event.recorded_by


def _migrate(state: State, event: MessageMigrated, position: int) -> None:
    entry = _entry(state, event, position)
    if event.home == state.this_server or _is_told_by_another(state, entry, event):
        return  # a story told by another server; at home MessageDelivered is what counts
    if entry.custody == entry.home == state.this_server:
        return  # the receipt of an earlier way: it came back since, and leaves by MessageRehomed
    _change(
        state,
        entry,
        position,
        custody=event.home,
        home=event.home,
        is_pending=False,
        is_listed=False,
    )


def _take_back(state: State, event: MigrationRefused, position: int) -> None:
    """After its receipt a home refuses only what it has lost: its sender answers for it again."""
    entry = _entry(state, event, position)
    if entry.custody != event.home or _is_told_by_another(state, entry, event):
        return  # it is on its way, and stays so
    is_pending = event.recorded_by == state.this_server
    is_listed = is_pending and entry.status is not EntryStatus.ERASED
    changes = {"custody": event.recorded_by, "is_pending": is_pending, "is_listed": is_listed}
    _change(state, entry, position, **changes)


def _send_on(state: State, event: MessageRequeued | MessageRehomed, position: int) -> None:
    entry = _entry(state, event, position)
    if entry.custody != event.recorded_by:
        return  # handed over already: sending it once more does not bring it back
    is_pending = event.recorded_by == state.this_server and event.home != state.this_server
    is_listed = is_pending and entry.status is not EntryStatus.ERASED
    _change(state, entry, position, home=event.home, is_pending=is_pending, is_listed=is_listed)


def _hear(state: State, event: MessageHeard, position: int) -> None:
    entry = _entry(state, event, position)
    if entry.status in (EntryStatus.DELETED, EntryStatus.ERASED):
        return
    changes: dict[str, Any] = {}
    if entry.heard_at is None:
        changes = {"heard_at": event.recorded_at, "heard_by": event.by}
    if entry.status is EntryStatus.NEW:
        changes |= _status(EntryStatus.HEARD)
    if changes:
        _change(state, entry, position, **changes)


def _save(state: State, event: MessageSaved, position: int) -> None:
    entry = _entry(state, event, position)
    if entry.status in (EntryStatus.NEW, EntryStatus.HEARD):
        _change(state, entry, position, **_status(EntryStatus.SAVED))


def _status(status: EntryStatus) -> dict[str, Any]:
    return {"status": status, "status_before_deletion": status}


def _delete(state: State, event: MessageDeleted, position: int) -> None:
    entry = _entry(state, event, position)
    if entry.status not in (EntryStatus.DELETED, EntryStatus.ERASED):
        _change(state, entry, position, status=EntryStatus.DELETED)


def _restore(state: State, event: MessageRestored, position: int) -> None:
    entry = _entry(state, event, position)
    if entry.status is EntryStatus.DELETED:
        _change(state, entry, position, status=entry.status_before_deletion)


def _erase(state: State, event: MessageErased, position: int) -> None:
    entry = _entry(state, event, position)
    if entry.status is not EntryStatus.ERASED:
        _change(state, entry, position, status=EntryStatus.ERASED, is_listed=False)


_THE_MESSAGE: Final = ((MESSAGE, attrgetter("message_id")),)
_THE_CALLER: Final = ((CALLER, attrgetter("originator_id")),)

MAILBOXES: Final = Projection(
    name="mailboxes",
    version=4,
    readable_versions=frozenset({3}),
    tables=(CALLER, MESSAGE),
    rules={
        CallReceived: Rule(_receive, creates=_THE_CALLER),
        TransferDecided: Rule(_decide, reads=_THE_CALLER),
        CallAbandoned: Rule(_abandon, reads=_THE_CALLER),
        MessageStored: Rule(_store, reads=_THE_CALLER, creates=_THE_MESSAGE),
        MessageDelivered: Rule(_deliver, reads=_THE_MESSAGE),
        MessageMigrated: Rule(_migrate, reads=_THE_MESSAGE),
        MigrationRefused: Rule(_take_back, reads=_THE_MESSAGE),
        MessageRehomed: Rule(_send_on, reads=_THE_MESSAGE),
        MessageRequeued: Rule(_send_on, reads=_THE_MESSAGE),
        MessageHeard: Rule(_hear, reads=_THE_MESSAGE),
        MessageSaved: Rule(_save, reads=_THE_MESSAGE),
        MessageDeleted: Rule(_delete, reads=_THE_MESSAGE),
        MessageRestored: Rule(_restore, reads=_THE_MESSAGE),
        MessageErased: Rule(_erase, reads=_THE_MESSAGE),
    },
)


# --- The questions ---------------------------------------------------------------------------


class Mailboxes:
    """Questions to the mailboxes projection. Methods may be called from any thread."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store

    def page(
        self,
        mailbox: str,
        *,
        before: PageKey | None = None,
        limit: int = 50,
        statuses: Collection[EntryStatus] | None = None,
        only_pending: bool = False,
    ) -> MailboxPage:
        """Give the next ``limit`` listed messages, the newest first, and the counts.

        An unknown mailbox is an empty one. All parts of the answer stand for one position.
        """

        def question(asked: Asked) -> MailboxPage:
            query = _listed(asked.table(MESSAGE), mailbox, before)
            if statuses is not None:
                query = query.where(query.selected_columns.status.in_(statuses))
            if only_pending:
                query = query.where(query.selected_columns.is_pending)
            entries = asked.records(MESSAGE, query.limit(limit + 1))
            return MailboxPage(
                mailbox=mailbox,
                entries=tuple(entries[:limit]),
                counts=_counts(asked, mailbox),
                next_before=next_key(entries, limit),
                position=asked.position,
            )

        return self._store.ask(MAILBOXES, question)

    def counts(self, mailbox: str) -> MailboxCounts:
        """Count the messages of one mailbox; all zero for an unknown one."""
        return self._store.ask(MAILBOXES, lambda asked: _counts(asked, mailbox))

    def mailboxes(self, *, after: str = "", limit: int = 100) -> list[MailboxCounts]:
        """List the mailboxes that this log tells of, by address, from ``after`` on."""

        def question(asked: Asked) -> list[MailboxCounts]:
            counts = asked.tally(MESSAGE)
            query = counts.select().where(counts.c.mailbox > after)
            rows = asked.connection.execute(query.order_by(counts.c.mailbox).limit(limit))
            return [MailboxCounts(**row._mapping) for row in rows]

        return self._store.ask(MAILBOXES, question)

    def message(self, message_id: UUID) -> MailboxEntry | None:
        """Give what this log tells of a message, listed or not; None when it tells nothing."""

        def question(asked: Asked) -> MailboxEntry | None:
            table = asked.table(MESSAGE)
            found = asked.records(MESSAGE, table.select().where(table.c.message_id == message_id))
            return found[0] if found else None

        return self._store.ask(MAILBOXES, question)

    def all_messages(self, *, after: UUID | None = None, limit: int = 100) -> list[MailboxEntry]:
        """List the messages of all mailboxes by their ids, listed or not, from ``after`` on."""

        def question(asked: Asked) -> list[MailboxEntry]:
            table = asked.table(MESSAGE)
            query = table.select().order_by(table.c.message_id).limit(limit)
            if after is not None:
                query = query.where(table.c.message_id > after)
            return asked.records(MESSAGE, query)

        return self._store.ask(MAILBOXES, question)

    def streams(self, mailbox: str, position: int) -> list[UUID] | None:
        """Give the streams that told of this mailbox's messages up to a position.

        Those of former homes are found from these. None when the projection has not come that far.
        """

        def question(asked: Asked) -> list[UUID] | None:
            if asked.position < position:
                return None
            table = asked.table(MESSAGE)
            rows = asked.connection.execute(
                sa.select(table.c.call_id, table.c.message_id).where(
                    table.c.mailbox == mailbox, table.c.position <= position
                )
            )
            this_server = self._store.this_server
            streams = ((call, message_stream_id(message, this_server)) for call, message in rows)
            return list(dict.fromkeys(stream for both in streams for stream in both))

        return self._store.ask(MAILBOXES, question)


def _listed(table: sa.Table, mailbox: str, before: PageKey | None) -> sa.Select[Any]:
    """Select what a mailbox lists, the newest first: one walk along the index ``page``."""
    query = table.select().where(table.c.mailbox == mailbox, table.c.is_listed)
    if before is not None:
        place = (table.c.received_at, table.c.message_id)
        query = query.where(comes_before(place, (before.received_at, before.message_id)))
    return query.order_by(table.c.received_at.desc(), table.c.message_id.desc())


def next_key(entries: Sequence[MailboxEntry], limit: int) -> PageKey | None:
    """Give the key of the next page, if more than ``limit`` entries were found."""
    if len(entries) <= limit:
        return None
    return PageKey(entries[limit - 1].received_at, entries[limit - 1].message_id)


def _counts(asked: Asked, mailbox: str) -> MailboxCounts:
    counts = asked.tally(MESSAGE)
    row = asked.connection.execute(counts.select().where(counts.c.mailbox == mailbox)).first()
    return MailboxCounts(mailbox=mailbox) if row is None else MailboxCounts(**row._mapping)
