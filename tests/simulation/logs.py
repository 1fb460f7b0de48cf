"""What the logs of simulated servers say: one log's messages, read as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from uuid import UUID

from ledger.events import (
    DomainEvent,
    IncarnationStarted,
    MessageDelivered,
    MessageErased,
    MessageMigrated,
    MessageRehomed,
    MessageRequeued,
    MessageStored,
    MigrationRefused,
    OpaqueEvent,
    decode,
)
from ledger.mailbox import MailboxState, home_claim_of, mailbox_of, project
from ledger.storage.event_log import LogEntry
from ledger.storage.memory import LogImage

_CONCERN_MESSAGES = frozenset(
    {
        "message-stored",
        "message-delivered",
        "message-migrated",
        "message-requeued",
        "message-rehomed",
        "migration-refused",
        "message-erased",
        "incarnation-started",
    }
)

_NAME_HOMES = frozenset({"mailbox-opened", "mailbox-rehomed"})
PROFILE_TOPICS = frozenset(
    {"greeting-recorded", "greeting-removed", "pin-changed", "mailbox-rehomed", "mailbox-opened"}
)


@lru_cache(maxsize=4096)
def _decoded(plain: bytes) -> DomainEvent | OpaqueEvent:
    return decode(plain)


def event_of(entry: LogEntry) -> DomainEvent | OpaqueEvent:
    """Give an entry's event; the same one stands in several logs."""
    return _decoded(entry.plain)


def profiles_of(image: LogImage) -> dict[str, MailboxState]:
    """Give the mailboxes that a log tells anything of, each as it stands."""
    events = [event_of(entry) for entry in image.entries if entry.topic in PROFILE_TOPICS]
    names = dict.fromkeys(name for event in events if (name := mailbox_of(event)) is not None)
    return {name: project(name, events) for name in names}


class LogView:
    """The messages of one log."""

    def __init__(self, image: LogImage) -> None:
        self.image = image
        self._read = 0
        self.stored: dict[UUID, MessageStored] = {}
        """Messages of calls that this server took, and those that came from others."""
        self._at_home: dict[UUID, tuple[LogEntry, MessageDelivered]] = {}
        self._given_away: set[UUID] = set()
        self.ever_delivered: set[UUID] = set()
        self.delivered_again: list[UUID] = []
        """Delivered here although they were here."""
        self.delivered_calls: set[UUID] = set()
        self.homes: dict[str, tuple[int, str]] = {}
        """Mailbox -> epoch and home, where the log names one."""
        self.told_homes: dict[str, tuple[int, str]] = {}
        """The same, of what this server recorded itself."""
        self.migrated: dict[UUID, list[MessageMigrated]] = {}
        """By message: what this server recorded itself."""
        self.receipts: list[tuple[MessageMigrated, int]] = []
        """What this server recorded itself, each with the position at which its message had left;
        0 when it is for a log before that went back, so recalled."""
        self._incarnation: UUID | None = None
        self.sent_at: dict[UUID, int] = {}
        """By message: the position at which it first left for where it is, or is to go."""
        self.sent_to: dict[UUID, str] = {}
        self.refused: dict[UUID, MigrationRefused] = {}
        """Refused, and not sent on since."""
        self.ever_refused: dict[UUID, list[MigrationRefused]] = {}
        self._open: dict[UUID, MessageStored] = {}
        self.profile_events: dict[bytes, LogEntry] = {}
        """What is told here of mailboxes, by its bytes."""

    @property
    def delivered(self) -> list[tuple[LogEntry, MessageDelivered]]:
        """The messages that are at home here, as they were delivered."""
        return list(self._at_home.values())

    def advance(self) -> None:
        """Read what is new."""
        entries = self.image.entries
        while self._read < len(entries):
            entry = entries[self._read]
            self._read += 1
            if entry.topic in PROFILE_TOPICS:
                self.profile_events[entry.plain] = entry
            if entry.topic in _CONCERN_MESSAGES:
                self._fold(entry, event_of(entry))
            elif entry.topic in _NAME_HOMES:
                self._note_home(self.homes, event_of(entry))
                if entry.origin is None:
                    self._note_home(self.told_homes, event_of(entry))

    def _note_home(
        self, homes: dict[str, tuple[int, str]], event: DomainEvent | OpaqueEvent
    ) -> None:
        claim = home_claim_of(event)
        if claim is not None:
            known = homes.get(claim.mailbox, (1, ""))
            homes[claim.mailbox] = max(known, (claim.epoch, claim.home))

    def _fold(self, entry: LogEntry, event: DomainEvent | OpaqueEvent) -> None:  # noqa: C901
        match event:
            case IncarnationStarted() if entry.origin is None:
                self._incarnation = event.incarnation
            case MessageStored():
                self.stored[event.message_id] = event
                if entry.origin is None:
                    self.sent_at[event.message_id] = entry.position
                    self.sent_to[event.message_id] = event.home
                    if event.home != event.recorded_by:
                        self._open[event.message_id] = event
            case MessageDelivered() if entry.origin is None:
                if not self._may_come(event):
                    self.delivered_again.append(event.message_id)
                self._at_home[event.message_id] = (entry, event)
                self._given_away.discard(event.message_id)
                self.ever_delivered.add(event.message_id)
                self.delivered_calls.add(event.call_id)
                self._open.pop(event.message_id, None)
                self.refused.pop(event.message_id, None)
                self.migrated.pop(event.message_id, None)
            case MessageRehomed() if entry.origin is None:
                self._given_away.add(event.message_id)
                self.sent_at[event.message_id] = entry.position
                self._send(event.message_id, event.home, event.recorded_by)
            case MessageMigrated() if entry.origin is None:
                self.migrated.setdefault(event.message_id, []).append(event)
                is_old = self._incarnation not in (None, event.receipt.origin_incarnation)
                self.receipts.append((event, 0 if is_old else self.sent_at[event.message_id]))
                self._open.pop(event.message_id, None)
                self.refused.pop(event.message_id, None)
                if event.message_id in self._given_away:  # else it is the receipt of an earlier way
                    self._at_home.pop(event.message_id, None)
            case MessageRequeued() if entry.origin is None:
                is_there = event.message_id in self.migrated and event.reason == "more-told"
                if not is_there or event.message_id in self.refused:
                    self._send(event.message_id, event.home, event.recorded_by)
            case MessageErased() if entry.origin is None:
                self._open.pop(event.message_id, None)
                self.refused.pop(event.message_id, None)
            case MigrationRefused() if entry.origin is None:
                self.refused[event.message_id] = event
                self.ever_refused.setdefault(event.message_id, []).append(event)
            case _:
                pass

    def _may_come(self, event: MessageDelivered) -> bool:
        """Is it the first delivery here, or the first since the message left?"""
        stream = self.image.streams[event.originator_id]
        before = [e.topic for e in stream if e.originator_version < event.originator_version]
        since = before[
            max((n for n, t in enumerate(before) if t == "message-delivered"), default=0) :
        ]
        return "message-delivered" not in since or "message-rehomed" in since

    def _send(self, message_id: UUID, home: str, by: str) -> None:
        self.sent_to[message_id] = home
        self.refused.pop(message_id, None)
        # Sent on after a receipt: the home that gave it lost what it had.
        self.migrated.pop(message_id, None)
        if home != by:
            self._open[message_id] = self.stored[message_id]

    def waiting(self) -> list[UUID]:
        """Messages that wait here for their home and are not held."""
        return [m for m in self._open if m not in self.refused]

    def held(self) -> Iterator[tuple[UUID, UUID]]:
        """Messages that were refused, each with its call."""
        for message_id in self.refused:
            yield message_id, self.stored[message_id].originator_id

    def held_calls(self) -> Iterator[UUID]:
        for _, call_id in self.held():
            yield call_id
