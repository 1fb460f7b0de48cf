"""What `vmledger export` writes: the tables, one class each, and their columns, one field each.

The names are stable: a column may be added at the end, none changes its meaning.

Source: claim 10.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from uuid import UUID

import msgspec


class Table(Enum):
    """What can be exported."""

    LOG = "log"
    CALLS = "calls"
    MESSAGES = "messages"
    AUDIT = "audit"


class Format(Enum):
    """How."""

    NDJSON = "ndjson"
    PARQUET = "parquet"


class LogRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event, as it stands in this server's log."""

    position: int
    """Its place in the log, from 1 on, without gaps."""
    stream: UUID
    """What it is about: a call, a message, a mailbox, the server."""
    version: int
    """Its place in the stream, from 1 on."""
    topic: str
    """What kind of event it is; see the reference of the events."""
    recorded_at: datetime
    """When, by the clock of the server that recorded it."""
    recorded_by: str
    """The server that recorded it."""
    origin: str | None
    """The server that it came from; null for an event of this server."""
    origin_position: int | None
    """Its position in that server's log."""
    leaf_hash: str
    """Its hash in the Merkle tree (RFC 9162), hexadecimal."""
    event: str
    """The event itself: its JSON, byte for byte as it is hashed; who called may be sealed in it."""


class CallRow(msgspec.Struct, frozen=True, kw_only=True):
    """A call that this server took, or whose message came here."""

    call_id: UUID
    """The call."""
    taken_by: str
    """The server that took it."""
    received_at: datetime
    """When the switch reported it."""
    called_extension: str
    """Who was called."""
    context: str
    """The dial plan of the extension."""
    status: str
    """What the switch said of the call: `no-answer`, `busy`, …"""
    caller_number: str | None
    """Who called; null when withheld, or not known: see `caller_state`."""
    caller_name: str | None
    """The caller's name, if the switch gave one."""
    redirecting_number: str | None
    """Who forwarded the call."""
    switch_call_id: str | None
    """The switch's own name for the call."""
    outcome: str
    """How far it came: `delivered`, `migrated`, `stored`, `handled-normally`, `abandoned`, …"""
    to_voicemail: bool | None
    """Was it decided to take a message? Null until it is decided."""
    reason: str | None
    """Why it was decided so."""
    mailbox: str | None
    """`extension@context` of the mailbox."""
    home: str | None
    """The mailbox's home then."""
    is_remote: bool | None
    """Was the home another server?"""
    is_reachable: bool | None
    """Was the remote home judged available?"""
    message_ids: tuple[UUID, ...]
    """The messages that came of it: usually one."""
    ended_reason: str | None
    """Why it was abandoned, or its recording set aside."""
    position: int
    """Where it begins in this server's log."""
    caller_state: str
    """`known`; or why number, name and who forwarded are null: `erased` (the key was destroyed),
    `sealed` (the key is not on this server), `damaged`."""


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """A message that this server's log tells of, also one that was handed over to its home."""

    message_id: UUID
    """The message."""
    call_id: UUID
    """The call that left it."""
    mailbox: str
    """`extension@context`."""
    origin: str
    """The server that took the call."""
    home: str
    """Where it belongs."""
    custody: str
    """The server that answers for it, as far as this log tells."""
    is_listed: bool
    """Does the mailbox that this server shows hold it?"""
    is_pending: bool
    """Does it wait here for its home?"""
    is_recovered: bool
    """Was its recording cut short by a crash?"""
    status: str
    """`new`, `heard`, `saved`, `deleted`, `erased`."""
    received_at: datetime
    """When it was stored by the server that took the call."""
    delivered_at: datetime | None
    """When it came into its mailbox; null while pending."""
    heard_at: datetime | None
    """When it was first marked as heard."""
    heard_by: str | None
    """By whom."""
    caller_number: str | None
    """Who called; null when withheld, or not known: see `caller_state`."""
    caller_name: str | None
    """The caller's name, if the switch gave one."""
    duration_ms: int
    """Length of the sound in milliseconds."""
    codec: str
    """How the received sound is coded."""
    audio_digest: str
    """SHA-256 of the received bytes."""
    audio_size_bytes: int
    """Number of received bytes."""
    blob: str
    """Content address of the stored form."""
    position: int
    """Where this log tells that it was stored."""
    changed_position: int
    """The last event of this log that changed it."""
    caller_state: str
    """`known`; or why the caller's number and name are null: `erased` (the key was destroyed),
    `sealed` (the key is not on this server), `damaged`."""


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did or looked at: what `vmledger audit` tells."""

    position: int
    """Where it stands in this server's log."""
    at: datetime
    """When it was recorded."""
    recorded_by: str
    """The server that recorded it."""
    action: str
    """`played`, `exported`, `viewed`, or the topic of an event: `message-deleted`, …"""
    what: str | None
    """What was given or shown: `sound`, `mailbox`, …; null for other actions."""
    by: str | None
    """The name of the access token; `command-line` for a command that opened the stores."""
    token_id: str | None
    """The access token's id."""
    address: str | None
    """From where the request came."""
    user: str | None
    """Who was logged in where the command line ran."""
    mailbox: str | None
    """`extension@context`."""
    message_id: UUID | None
    """The message, if it was one."""
