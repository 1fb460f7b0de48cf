"""Which blobs must this server have? The answer is read from the log alone.

A blob is needed by a message that this server answers for, by one that it handed over and must
still keep (until a verified backup of the home covers it, or the retention period has passed), and
by greetings. What a PIN is checked against is needed until the PIN is changed; the server that set
it keeps the last one of each of its streams, for whoever has not heard of it yet. Everything else
may be collected.

Source: claims 3, 5 and 10.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from ledger.errors import CorruptionError
from ledger.events import (
    CallErased,
    CallReceived,
    DomainEvent,
    GreetingRecorded,
    MessageDelivered,
    MessageErased,
    MessageMigrated,
    MessageRehomed,
    MessageRequeued,
    MessageStored,
    MigrationRefused,
    OpaqueEvent,
    PinChanged,
    TransferDecided,
    decode,
)
from ledger.mailbox import MailboxState, evolve, mailbox_of
from ledger.migration.deliveries import is_releasable
from ledger.storage.event_log import LogRecorder

_PAGE: Final = 2000


_OF_NO_BLOB: Final = frozenset({CallReceived, TransferDecided})
"""Every other event or so is one of these: they decide nothing here."""


class BlobNeeds:
    """Folds the log into the set of needed blobs."""

    def __init__(self, this_server: str, keep_for: timedelta, now: datetime) -> None:
        self._this_server = this_server
        self._keep_for = keep_for
        self._now = now
        self._stored: dict[UUID, tuple[str, int, UUID]] = {}
        """Of each message: its blob, where it was sent from last, its call."""
        self._erased_calls: set[UUID] = set()
        """Nobody can open their recordings any more."""
        self._greetings: set[str] = set()
        self._mailboxes: dict[str, MailboxState] = {}
        self._own_verifiers: dict[UUID, str | None] = {}
        """The last of each mailbox stream of this server."""
        self._safe: dict[str, int] = {}
        self._handed_over: dict[UUID, tuple[str, datetime]] = {}
        self._at_home: set[UUID] = set()
        """Messages that were delivered here and have not been given away since."""

    def take(self, event: DomainEvent | OpaqueEvent, position: int) -> None:
        """Fold the next event."""
        if type(event) in _OF_NO_BLOB:
            return
        self._take_profile(event)
        self._take_erasure(event)
        match event:
            case MessageStored():
                self._stored[event.message_id] = (event.blob, position, event.originator_id)
            case MessageRequeued() | MessageRehomed() if event.message_id in self._stored:
                if isinstance(event, MessageRehomed) and event.recorded_by == self._this_server:
                    self._at_home.discard(event.message_id)
                # From here on it is this position that a backup of the home must cover.
                blob, _, call_id = self._stored[event.message_id]
                self._stored[event.message_id] = (blob, position, call_id)
            case GreetingRecorded():
                self._greetings.add(event.blob)
            case MessageDelivered() if event.recorded_by == self._this_server:
                self._handed_over.pop(event.message_id, None)  # it may have come back
                self._at_home.add(event.message_id)
            case MessageMigrated() if event.recorded_by == self._this_server:
                safe = max(self._safe.get(event.home, 0), event.receipt.safe_position)
                self._safe[event.home] = safe
                # The receipt of an earlier way may come when the message is back: it stays.
                if event.message_id not in self._at_home:
                    self._handed_over[event.message_id] = (event.home, event.recorded_at)
            case MigrationRefused() if event.recorded_by == self._this_server:
                self._take_back(event.message_id, event.home)
            case _:
                pass

    def _take_back(self, message_id: UUID, home: str) -> None:
        """After its receipt a home refuses only what it has lost: we answer for it again."""
        if self._handed_over.get(message_id, ("",))[0] == home:
            del self._handed_over[message_id]

    def _take_erasure(self, event: DomainEvent | OpaqueEvent) -> None:
        if isinstance(event, MessageErased) and event.recorded_by == self._this_server:
            self._stored.pop(event.message_id, None)
        elif isinstance(event, CallErased):
            self._erased_calls.add(event.call_id)

    def _take_profile(self, event: DomainEvent | OpaqueEvent) -> None:
        name = mailbox_of(event)
        if name is not None:
            state = self._mailboxes.get(name) or MailboxState(mailbox=name)
            self._mailboxes[name] = evolve(state, event)
        if isinstance(event, PinChanged) and event.recorded_by == self._this_server:
            self._own_verifiers[event.originator_id] = event.verifier

    def _verifiers(self) -> set[str]:
        newest = {state.pin.verifier for state in self._mailboxes.values() if state.pin}
        return {v for v in newest | set(self._own_verifiers.values()) if v is not None}

    def needed(self) -> set[str]:
        """Give the addresses of all needed blobs."""
        kept = {
            blob
            for message_id, (blob, position, call_id) in self._stored.items()
            if call_id not in self._erased_calls and not self._is_released(message_id, position)
        }
        return kept | self._greetings | self._verifiers()

    def _is_released(self, message_id: UUID, position: int) -> bool:
        home, migrated_at = self._handed_over.get(message_id, ("", None))
        return is_releasable(
            position=position,
            migrated_at=migrated_at,
            safe_position=self._safe.get(home, 0),
            now=self._now,
            keep_for=self._keep_for,
        )


def needed_blobs(
    recorder: LogRecorder, this_server: str, keep_for: timedelta, now: datetime
) -> set[str]:
    """Read the log to its end and give the blobs that must be here.

    Raises CorruptionError for a log in which an event is damaged: nothing may be collected then.
    """
    needs = BlobNeeds(this_server, keep_for, now)
    end, start = recorder.head().position, 1
    while start <= end:
        page = recorder.read(start, _PAGE)
        if not page:
            raise CorruptionError(
                "the log ends before its head says",
                place=f"position {start}",
                advice="run 'vmledger log verify'",
            )
        for entry in page:
            needs.take(decode(entry.plain, f"position {entry.position}"), entry.position)
        start = page[-1].position + 1
    return needs.needed()
