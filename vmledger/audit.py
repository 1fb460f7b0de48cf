"""Who did what to whose messages, and who looked: one question, asked of the log itself.

It is asked seldom and must be answered from nothing but the log, so there is no read model of it:
the events of the few kinds that matter are read in the order of the log, a stretch at a time.

Source: claim 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from ledger.events import (
    CallErased,
    ContentAccessed,
    DomainEvent,
    GreetingRecorded,
    GreetingRemoved,
    MailboxHeld,
    MailboxRehomed,
    MailboxReleased,
    MessageDeleted,
    MessageDelivered,
    MessageErased,
    MessageForwarded,
    MessageHeard,
    MessageRestored,
    MessageSaved,
    MessageStored,
    OpaqueEvent,
    PinChanged,
    WentBackAcknowledged,
    decode,
)
from ledger.storage.event_log import LogEntry, LogRecorder

_STRETCH: Final = 10_000
_DEEDS: Final = (
    ContentAccessed,
    MessageHeard,
    MessageSaved,
    MessageDeleted,
    MessageRestored,
    MessageForwarded,
    MessageErased,
    CallErased,
    GreetingRecorded,
    GreetingRemoved,
    PinChanged,
    MailboxRehomed,
    MailboxHeld,
    MailboxReleased,
    WentBackAcknowledged,
)
_TOPICS: Final = [str(kind.__struct_config__.tag) for kind in _DEEDS]
_WHOSE: Final = [str(kind.__struct_config__.tag) for kind in (MessageStored, MessageDelivered)]


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did or looked at."""

    position: int
    """Where it stands in this server's log."""
    at: datetime
    """When it was recorded (UTC)."""
    recorded_by: str
    """The server that recorded it."""
    action: str
    """``played``, ``exported``, ``viewed``, or the kind of event: ``message-deleted``, …"""
    what: str | None
    """What was given or shown: ``sound``, ``mailbox``, …; or what was erased: ``call ID``."""
    by: str | None
    """The name of the access token; ``command-line`` for a command that opened the stores."""
    token_id: str | None
    """The access token's id."""
    address: str | None
    """From where the request came."""
    user: str | None
    """Who was logged in where the command line ran."""
    mailbox: str | None
    """``extension@context``."""
    message_id: UUID | None
    """The message, if it was one."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deeds are asked for; None: any."""

    mailbox: str | None = None
    message_id: UUID | None = None
    by: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def read_audit(recorder: LogRecorder, wanted: Wanted | None = None) -> Iterator[Deed]:
    """Give all deeds that are asked for, in the order of the log.

    Raises TransientError, CorruptionError.
    """
    asked = wanted or Wanted()
    end = recorder.head().position
    messages = _messages_of(recorder, end, asked.mailbox) if asked.mailbox else frozenset()
    for entry in _entries(recorder, _TOPICS, end):
        event = decode(entry.plain, f"position {entry.position}")
        if isinstance(event, OpaqueEvent):
            continue
        deed = _deed(entry, event)
        if _is_wanted(deed, asked, messages):
            yield deed


def _entries(recorder: LogRecorder, topics: list[str], end: int) -> Iterator[LogEntry]:
    for start in range(1, end + 1, _STRETCH):
        yield from recorder.read_topics(topics, start, min(start + _STRETCH - 1, end))


def _messages_of(recorder: LogRecorder, end: int, mailbox: str) -> frozenset[UUID]:
    """Give the messages that were ever in a mailbox: what is done to one names only itself."""
    events = (decode(e.plain, f"position {e.position}") for e in _entries(recorder, _WHOSE, end))
    return frozenset(
        event.message_id
        for event in events
        if isinstance(event, MessageStored | MessageDelivered) and event.mailbox == mailbox
    )


def _deed(entry: LogEntry, event: DomainEvent) -> Deed:
    access = event if isinstance(event, ContentAccessed) else None
    return Deed(
        position=entry.position,
        at=event.recorded_at,
        recorded_by=event.recorded_by,
        action=access.kind.value if access is not None else event.topic,
        what=_what(event),
        by=getattr(event, "by", None),
        token_id=getattr(event, "token_id", None),
        address=getattr(event, "address", None),
        user=getattr(event, "user", None),
        mailbox=getattr(event, "mailbox", None),
        message_id=getattr(event, "message_id", None),
    )


def _what(event: DomainEvent) -> str | None:
    if isinstance(event, CallErased):
        return f"call {event.call_id}"
    return event.what if isinstance(event, ContentAccessed) else None


def _is_wanted(deed: Deed, asked: Wanted, messages: frozenset[UUID]) -> bool:
    is_mailbox = asked.mailbox in (None, deed.mailbox) or deed.message_id in messages
    return (
        is_mailbox
        and asked.message_id in (None, deed.message_id)
        and asked.by in (None, deed.by, deed.user)
        and (asked.since is None or deed.at >= asked.since)
        and (asked.until is None or deed.at <= asked.until)
    )
