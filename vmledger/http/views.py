"""What the API shows: the read models' answers in the words of the HTTP contract.

Times are UTC, ids are UUIDs, digests are SHA-256 in hexadecimal, sizes are bytes. ``as_of`` is the
position in the log that an answer rests on: everything up to there is in it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from ledger.caller import CallerState
from ledger.events import CallStatus, DecisionReason, PeerState, ReachabilityEvidence
from ledger.mailbox import GreetingKind
from ledger.message import Action
from ledger.server import CallReport
from projections.calls import CallOutcome
from projections.pending import PendingState


class ReportedCall(CallReport, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call that a switch reports, asking what to do with it."""


class MessageView(msgspec.Struct, frozen=True, kw_only=True):
    """One message as its mailbox shows it."""

    message_id: UUID
    call_id: UUID
    mailbox: str
    status: str
    """``new``, ``heard``, ``saved`` or ``deleted`` (in the trash, to be restored)."""
    received_at: datetime
    """When the server that took the call had it on disk."""
    delivered_at: datetime | None
    """When its home took it in; null while it waits for that."""
    caller_state: CallerState
    """Is it known who called? Unless it is, both that follow are null."""
    caller_number: str | None
    """Null also for a number that was withheld."""
    caller_name: str | None
    duration_ms: int
    codec: str
    size_bytes: int
    """Number of received bytes: what ``audio/original`` gives."""
    origin: str
    """The server that took the call."""
    home: str
    """Where the message belongs."""
    custody: str
    """The server that answers for it now."""
    is_pending: bool
    """It waits here for its home."""
    is_recovered: bool
    """The recording was cut off by a crash; this is what had been saved of it."""
    heard_at: datetime | None
    """When it was first listened to."""
    heard_by: str | None


class MailboxCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages of each kind: what a message lamp needs."""

    new: int
    heard: int
    saved: int
    deleted: int
    pending: int
    """Among the others, those that wait here for their home."""


class MailboxView(msgspec.Struct, frozen=True, kw_only=True):
    """A mailbox as this server has it."""

    mailbox: str
    home: str | None
    """Where the mailbox lives; null when the configuration names no home for it."""
    epoch: int
    """How many homes it has had; 1 while the configuration decides."""
    as_of: int
    counts: MailboxCounts
    messages: list[MessageView]
    """The newest first."""
    next: str | None
    """Give it as ``before`` to get the next page; null on the last one."""


class MessageChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall happen to a message."""

    status: Action


class Rehoming(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a mailbox shall live."""

    to: str
    """The id of a server."""
    force: bool = False
    """Take the mailbox although its home cannot agree: only at the server that takes it, and only
    when the home is lost for good."""


class RehomedView(msgspec.Struct, frozen=True, kw_only=True):
    """A mailbox that has another home."""

    mailbox: str
    home: str
    epoch: int
    messages: int
    """How many of its messages are at this server now and go there."""


class GreetingView(msgspec.Struct, frozen=True, kw_only=True):
    """One greeting of a mailbox."""

    kind: GreetingKind
    duration_ms: int
    codec: str
    digest: str
    """SHA-256 of the received bytes: what ``audio/original`` gives."""
    size_bytes: int
    """Number of received bytes."""
    recorded_at: datetime
    recorded_by: str
    """The server that was the mailbox's home then."""


class ProfileView(msgspec.Struct, frozen=True, kw_only=True):
    """A mailbox's own settings, as far as this server has heard of them."""

    mailbox: str
    home: str | None
    """Where the mailbox lives; null when no server is home to it."""
    epoch: int
    """Counts its homes: 1 for the one that the configuration names."""
    as_of: int
    greetings: list[GreetingView]
    has_pin: bool
    pin_changed_at: datetime | None
    """When its PIN was set; null when it has none."""


class NewPin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A PIN for a mailbox."""

    pin: Annotated[str, msgspec.Meta(max_length=64)]
    """4 to 16 digits; the server's configuration may ask for more than 4."""


class PinGuess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody dialled as the PIN."""

    pin: Annotated[str, msgspec.Meta(max_length=64)]


class PinVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Was it the PIN?"""

    matches: bool


class PeaksView(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of the sound, for a picture of it."""

    duration_ms: int
    peaks: list[tuple[int, int]]
    """Lowest and highest sample of each of equally long parts, -128 to 127."""


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """A call, what was decided of it and why, and what became of it."""

    call_id: UUID
    received_at: datetime
    called_extension: str
    context: str
    status: CallStatus
    caller_state: CallerState
    """Is it known who called? Unless it is, the three that follow are null."""
    caller_number: str | None
    """Null also for a number that was withheld."""
    caller_name: str | None
    redirecting_number: str | None
    redirecting_reason: str | None
    switch_call_id: str | None
    taken_by: str
    """The server that took the call."""
    to_voicemail: bool | None
    """Null until it is decided; so are the next six."""
    reason: DecisionReason | None
    mailbox: str | None
    home: str | None
    is_remote: bool | None
    is_reachable: bool | None
    evidence: ReachabilityEvidence | None
    """What the judgement that the home is reachable rested on."""
    outcome: CallOutcome
    ended_reason: str | None
    """Why it was abandoned, or its recording set aside."""
    message_ids: tuple[UUID, ...]


class CallPage(msgspec.Struct, frozen=True, kw_only=True):
    """Calls, the newest first."""

    as_of: int
    calls: list[CallView]
    next: str | None


class PendingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that waits here for its home."""

    message_id: UUID
    call_id: UUID
    mailbox: str
    home: str
    """The server that it waits for."""
    mailbox_home: str | None
    """Where the mailbox lives. Another server than ``home``: that one may have the message already
    and is asked first; when it is gone for good, requeue the message."""
    state: PendingState
    reason: str | None
    """Why it was refused or requeued: a stable word."""
    detail: str | None
    """What the home said about it."""
    stored_at: datetime
    changed_at: datetime
    """When its state last changed."""
    size_bytes: int
    """As it is stored."""


class PendingHome(msgspec.Struct, frozen=True, kw_only=True):
    """What waits here for one home."""

    home: str
    count: int
    size_bytes: int
    oldest_at: datetime
    oldest_age_s: float
    held: int
    """Among them, refused by the home and waiting for a decision."""
    held_reasons: dict[str, int]
    """How many are held for which reason."""
    held_oldest_age_s: float = 0.0
    """How long the oldest of those has been held."""


class PendingView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that waits here for other servers."""

    count: int
    homes: list[PendingHome]
    messages: list[PendingMessage]
    """The oldest first; at most as many as were asked for."""


class MirrorView(msgspec.Struct, frozen=True, kw_only=True):
    """A server that the configuration names as mirror of this one."""

    acknowledged_position: int = 0
    """What it said last that it durably holds of this server's log, with all recordings."""
    acknowledged_at: datetime | None = None
    """When that was; null: not since this server started."""
    lag_events: int
    """How many events it lacks."""


class CopyView(msgspec.Struct, frozen=True, kw_only=True):
    """The copy that is kept here of another server's log."""

    position: int
    """What is durable here."""
    lag_events: int
    """How many events that server had more when it was asked last."""
    checked_at: datetime | None
    """When that was; null: not since this server started."""
    missing_recordings: int
    """Recordings that it must have and could not give."""
    problem: str
    """Why the last attempt to copy failed; empty when it did not."""


class ServerView(msgspec.Struct, frozen=True, kw_only=True):
    """A server of the configuration, as this one sees it."""

    id: str
    url: str
    is_self: bool
    state: PeerState
    """What is believed now; a server takes itself for up."""
    since: datetime | None = None
    """When it was last recorded that a server was lost or came back."""
    evidence: ReachabilityEvidence | None = None
    """What that rests on."""
    receipt_position: int = 0
    """Up to where its newest receipt says that it holds this server's log."""
    receipt_at: datetime | None = None
    safe_position: int = 0
    """Up to where verified backups cover it too: its own word, as all of this."""
    migrated_count: int = 0
    """Messages handed over to it."""
    delivered_count: int = 0
    """Messages that it handed over to us."""
    witnessed_position: int = 0
    """Up to where it co-signed this server's log, under its present incarnation."""
    witnessed_at: datetime | None = None
    fork_witnessed_at: datetime | None = None
    """When it last showed signed checkpoints of one log that contradict each other: its history
    was changed, or two servers use its key. null: never."""
    went_back_at: datetime | None = None
    """When its log last began a new incarnation without all of the history before: it was restored
    from a backup, or part of it was replaced. null: never."""
    send_limit_bytes_per_s: int | None = None
    """Most bytes a second that may be sent there at this hour; null: no limit."""
    mirror: MirrorView | None = None
    """How far it holds a copy of this server's log; null: it is no mirror of this one."""
    copy: CopyView | None = None
    """How far its log is copied here; null: this server is no mirror of it."""


class RecallView(msgspec.Struct, frozen=True, kw_only=True):
    """What another server gave back of this log."""

    peer: str
    incarnation: UUID
    """Under which this log asked."""
    told_at: datetime
    is_complete: bool
    """Its log was gone through to the end."""
    known_until: int
    """Up to here it had known this log; 0: no further than it still reaches."""
    common_until: int
    """The last position at which it holds the very event that still stands there."""
    events: int
    messages: int
    """Of those: messages that were stored."""
    not_taken: int
    """Not taken, because other events stand in their places by now."""


class WentBackView(msgspec.Struct, frozen=True, kw_only=True):
    """This log went back in time, restored from an old backup: what became of it."""

    noticed_at: datetime
    position: int
    """Where the log ended then."""
    reason: str
    missing_after: int
    """Behind this position events are missing, at the earliest."""
    known_until: int
    """The last position that any other server is known to have seen; 0: none is missing."""
    events_back: int
    messages_back: int
    not_taken: int
    lost_events: int
    """At most so many of the missing events are known to nobody."""
    waiting_for: list[str]
    """These have not answered to the end; they may know more."""
    recalls: list[RecallView]


class ServersView(msgspec.Struct, frozen=True, kw_only=True):
    """All servers of the configuration."""

    as_of: int
    servers: list[ServerView]
    went_back: WentBackView | None = None
    """Null when this log never went back, as far as anybody noticed."""


class ProjectionView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a read model is."""

    name: str
    version: int
    is_serving: bool
    """It answers questions; otherwise it is being built beside the one that does."""
    state: str
    position: int
    lag_events: int
    """Events that it has not seen yet."""
    lag_s: float
    """Age of the oldest of them."""
    opaque_count: int
    """Events of newer programs that it could not read, and passed over."""
    error: str | None
    """Why it stopped, and where; null while it runs."""


class LogEntryView(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it stands in the log."""

    position: int
    stream: UUID
    version: int
    topic: str
    origin: str | None
    """The server that it came from; null for an event of this server."""
    origin_position: int | None
    event: dict[str, Any]
    """The event itself, byte for byte as it was recorded."""


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries in the order of their positions."""

    entries: list[LogEntryView]
    next: int | None
    """Give it as ``from`` to go on; null when the end of the log is reached."""


class CheckpointView(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log ends, and the Merkle root (RFC 9162) over all of it."""

    server: str
    incarnation: UUID
    position: int
    root: str


class VerifiedBackup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finished and verified backup of this server."""

    position: int
    """It covers the log up to here."""
    place: str
    """Where it is kept, for people."""


class WentBackKnown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator knows why a log went back in time."""

    server: str
    """Whose log: this server's, or another's."""
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    """What happened, in the operator's words."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Is the server alive, and can it do its work?"""

    status: str
    server: str
    checks: dict[str, str] = {}
    """Each thing that it needs: ``ok``, or what is wrong with it."""
