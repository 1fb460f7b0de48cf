"""The domain events: what can happen to a call, a message, a mailbox and a server.

An event is a frozen struct with a stable tag (its *topic*) and a version ``v``. Its JSON bytes, as
the recording server first wrote them, are the event: they are what is hashed, stored and shipped,
and no server ever encodes them again. Old versions stay readable for ever (`UPCASTS`); an event
that this program does not know is kept as an `OpaqueEvent` and reported, never dropped or guessed
at.

Personal data (who called) sits together in one field, ``personal``, of each event that has any,
and may be sealed: then the event holds bytes that only the call's key opens (`ledger.caller`).

Which server writes an event: the one named in ``recorded_by``, and each stream has one writer.
A message that still waits for its home is in the custody of the server that took the call; what
its user does to it then is recorded in the ``Call`` stream and travels with it. From the home's
acknowledgement on, it is recorded in the ``Message`` stream at the home. When the mailbox gets
another home, the message follows with both streams, and the next home writes one of its own.

Source: claims 1-8; RFC 4458 and RFC 5806 for the reasons of a diversion.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from ledger.errors import CorruptionError
from ledger.ids import message_stream_id

Version: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Epoch: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
"""Counts the homes of a mailbox: 1 for the one that the configuration names."""
MAX_POSITION: Final = (1 << 63) - 1
"""The largest number that a database of ours holds."""
Position: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]
Digest: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
"""SHA-256 in lower-case hexadecimal. (To ``$`` a line feed at the end would be fine.)"""
Sealed: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9+/]+={0,2}$")]
"""Base64 of bytes that only the key of the call opens (`ledger.sealing.MessageKey.seal`)."""
UtcTime: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
ServerId: TypeAlias = str


class CallStatus(Enum):
    """What the switch says of the call when it asks what to do with it (claim 1)."""

    ANSWERED = "answered"
    """Somebody or something took the call."""
    BUSY = "busy"
    """The called party is on another call (RFC 4458 cause 486)."""
    NO_ANSWER = "no-answer"
    """It rang for as long as it may (cause 408)."""
    UNCONDITIONAL = "unconditional"
    """All calls of this party are forwarded (cause 302)."""
    DO_NOT_DISTURB = "do-not-disturb"
    """The called party refuses calls for now."""
    UNREACHABLE = "unreachable"
    """The phone is off, unregistered or cut off (cause 503)."""
    REJECTED = "rejected"
    """The called party turned this call down (cause 480)."""
    UNKNOWN_NUMBER = "unknown-number"
    """No such extension (cause 404)."""
    ABANDONED = "abandoned"
    """The caller hung up first (cause 487)."""


class DecisionReason(Enum):
    """Why a call goes to voicemail, or does not. Stable words: they are stored and shown."""

    CALLED_PARTY_BUSY = "called-party-busy"
    NO_ANSWER = "no-answer"
    FORWARDED_ALWAYS = "forwarded-always"
    DO_NOT_DISTURB = "do-not-disturb"
    PHONE_UNREACHABLE = "phone-unreachable"
    CALL_REJECTED = "call-rejected"
    CALL_ANSWERED = "call-answered"
    """Handled normally: the call found its party."""
    CALLER_HUNG_UP = "caller-hung-up"
    """Handled normally: nobody is left to leave a message."""
    NUMBER_UNKNOWN = "number-unknown"
    """The switch does not know the number. Handled normally, unless the policy takes messages for
    such calls."""
    NO_MAILBOX = "no-mailbox"
    """Handled normally: no server of the configuration is home to this extension."""
    POLICY_FORBIDS = "policy-forbids"
    """Handled normally: the policy of the mailbox or server takes no message for this status."""


class PeerState(Enum):
    """What a server believes of another one."""

    UNKNOWN = "unknown"
    """Nothing was ever heard of it since this server started."""
    UP = "up"
    SUSPECT = "suspect"
    """Some exchanges failed; not yet enough to call it down."""
    DOWN = "down"


class AccessKind(Enum):
    """How somebody got at what is personal."""

    PLAYED = "played"
    """Sound was given in a form to listen to."""
    EXPORTED = "exported"
    """Something was given to be kept: sound as received, a proof, a file of the log."""
    VIEWED = "viewed"
    """It was shown who called whom, or what a mailbox holds."""


class Caller(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Personal data of a call: who called, and who sent the call on."""

    number: str | None = None
    """The calling number as the switch gave it; None when withheld."""
    name: str | None = None
    redirecting_number: str | None = None
    """Who forwarded the call here (RFC 5806 Diversion, RFC 7044 History-Info)."""


AnyCaller: TypeAlias = Sealed | Caller
"""Who called, as an event or a record of it has it: in clear, or the JSON of a Caller, sealed."""


class ReachabilityEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a judgement about another server rested on."""

    peer: ServerId
    state: PeerState
    last_success_at: UtcTime | None
    last_failure_at: UtcTime | None
    consecutive_failures: int
    probe: str | None = None
    """The outcome of a probe made for this very call (``answered``, ``refused``, ``timed-out``);
    None when what was known was fresh enough."""


class AudioFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a recording: of the bytes as they were received, kept bit for bit."""

    digest: Digest
    """SHA-256 of the received bytes; of a sealed recording the HMAC-SHA-256 of that, under a key
    derived from its call's: else whoever has a sound could ask a log whether it holds it."""
    size_bytes: int
    """Number of received bytes."""
    container: str
    """``raw``, ``wav``, ``flac``, ``ogg`` or ``mp3``; ``unknown`` for a recovered fragment that
    nothing here can decode."""
    codec: str
    """``pcmu``, ``pcma``, ``pcm_s16le``, ``gsm``, ``flac``, ``opus``, ``mp3``, …"""
    sample_rate_hz: int
    channels: int
    duration_ms: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A home's signed word that it holds everything up to a position of an origin's log.

    Made only after the home's transaction is on disk. The signature is Ed25519 over
    `receipt_signing_bytes`.
    """

    origin: ServerId
    origin_incarnation: UUID
    origin_position: Position
    """Everything of the origin's log up to here that concerns the home is held by it."""
    origin_root: Digest
    """The Merkle root of the origin's log at that position, as the origin stated it."""
    home: ServerId
    home_incarnation: UUID
    home_position: Position
    """The home's own position after its transaction."""
    home_root: Digest
    safe_position: Position
    """How far of the origin's log a verified backup or mirror of the home covers too."""
    issued_at: UtcTime
    signature: str
    """Base64 of the 64 signature bytes; empty in the bytes that are signed."""


def receipt_signing_bytes(receipt: Receipt) -> bytes:
    """Give the bytes that a receipt's signature covers: itself with an empty signature."""
    unsigned = msgspec.structs.replace(receipt, signature="")
    return b"vmledger receipt v1\n" + _ENCODER.encode(unsigned)


class Stamp(msgspec.Struct, frozen=True):
    """When and by which server an event is recorded: what a decision cannot know by itself."""

    at: UtcTime
    by: ServerId


class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="event",
    forbid_unknown_fields=True,
    gc=False,
):
    """What every event has. Satisfies the library's ``DomainEventProtocol``."""

    originator_id: UUID
    """The stream."""
    originator_version: Version
    """1-based place in the stream."""
    recorded_at: UtcTime
    recorded_by: ServerId
    v: Literal[1] = 1
    """Version of this kind of event."""

    @property
    def topic(self) -> str:
        """The stable name of this kind of event."""
        return str(type(self).__struct_config__.tag)


# --- Call: written by the server that took the call ------------------------------------------


class CallReceived(Event, frozen=True, kw_only=True, tag="call-received"):
    """A switch reported a call. First event of every ``Call`` stream (claim 1)."""

    v: Literal[2] = 2  # type: ignore[assignment]  # each kind of event counts its own versions
    """2: who called may be sealed."""
    called_extension: str
    context: str
    status: CallStatus
    personal: AnyCaller
    """Who called and who sent the call on: a [Caller](#caller), or its JSON sealed, in base64."""
    switch_call_id: str | None = None
    """The switch's own name for the call, for people who compare logs."""
    redirecting_reason: str | None = None
    """Why the call was sent on, in the switch's words (RFC 5806 reason)."""


class TransferDecided(Event, frozen=True, kw_only=True, tag="transfer-decided"):
    """It is decided whether the call goes to voicemail, and where (claims 1-4, 8)."""

    to_voicemail: bool
    """False: the call is handled normally and nothing more is expected of it here (claim 2)."""
    reason: DecisionReason
    mailbox: str | None = None
    """``extension@context``; None unless to_voicemail."""
    home: ServerId | None = None
    is_remote: bool | None = None
    """Is the home another server than this one?"""
    is_reachable: bool | None = None
    """Was the remote home judged available? None unless remote (claims 1, 4, 5)."""
    evidence: ReachabilityEvidence | None = None
    """What that judgement rested on; None unless remote."""


class MessageStored(Event, frozen=True, kw_only=True, tag="message-stored"):
    """The message's audio is durable here, and with this event the message is (claims 1, 3, 10)."""

    v: Literal[2] = 2  # type: ignore[assignment]
    """2: the recording may be sealed."""
    message_id: UUID
    mailbox: str
    home: ServerId
    """Where the message belongs. Other than ``recorded_by``: it will be shipped there."""
    blob: Digest
    """Content address: SHA-256 of the stored form, which decompresses, once it is opened, to the
    received bytes."""
    blob_size_bytes: int
    audio: AudioFacts
    is_sealed: bool = False
    """Is the stored form encrypted with the key of the call?"""
    is_recovered: bool = False
    """The recording was interrupted by a crash; what had reached the disk became this message."""


class MessageMigrated(Event, frozen=True, kw_only=True, tag="message-migrated"):
    """The home holds the message and answers for it from now on (claims 5, 8)."""

    message_id: UUID
    home: ServerId
    home_position: Position
    receipt: Receipt


class MigrationRefused(Event, frozen=True, kw_only=True, tag="migration-refused"):
    """The home will not take this message. It stays here and is shown until somebody decides."""

    message_id: UUID
    home: ServerId
    reason: str
    """Stable word: ``not-my-mailbox``, ``bad-audio``, ``conflict``, ``unknown-topic``, …"""
    detail: str


class MessageRequeued(Event, frozen=True, kw_only=True, tag="message-requeued"):
    """The message is to be shipped (again), to the home named here."""

    message_id: UUID
    home: ServerId
    reason: str
    """``mailbox-moved``, ``operator``; ``more-told`` when the home has the message already, and
    there is more to tell of it."""


class CallAbandoned(Event, frozen=True, kw_only=True, tag="call-abandoned"):
    """The call ended without a message."""

    reason: str
    """``hung-up``, ``too-short``, ``no-recording``."""


class RecordingSetAside(Event, frozen=True, kw_only=True, tag="recording-set-aside"):
    """The switch handed over audio that cannot be a message. Its bytes are kept for a person."""

    v: Literal[2] = 2  # type: ignore[assignment]
    """2: the recording may be sealed."""
    digest: Digest
    """Of the received bytes, as in [AudioFacts](#audiofacts)."""
    size_bytes: int
    reason: str
    place: str
    """Path below the server's data directory."""
    is_sealed: bool = False
    """Is the file encrypted with the key of the call?"""


# --- Message: in the Call stream while pending, in the Message stream at the home ---------------


class MessageDelivered(Event, frozen=True, kw_only=True, tag="message-delivered"):
    """The message is in its mailbox at its home: first event of every ``Message`` stream (claim 7).

    Committed in one transaction with the events that came with it and the tracking of their origin.
    Recorded once more when the message comes back to a home that it had left.
    """

    message_id: UUID
    call_id: UUID
    mailbox: str
    origin: ServerId
    """The server that handed it over: the one that took the call (this one, for a call that landed
    at its home), or the former home."""
    origin_position: Position
    """Position in the origin's log; 0 for the home's own calls, which stand in the same commit."""

    @property
    def earlier_streams(self) -> tuple[UUID, UUID]:
        """Where the message's story before this stands: its call, and the former home if any."""
        return self.call_id, message_stream_id(self.message_id, self.origin)


class MessageRehomed(Event, frozen=True, kw_only=True, tag="message-rehomed"):
    """The message's mailbox has another home, and the message is to be shipped there.

    Recorded by the former home, which answers for the message until the new one has acknowledged
    it. The words after it (acknowledged, refused, sent on) stand in the same stream.
    """

    message_id: UUID
    call_id: UUID
    mailbox: str
    home: ServerId
    """The mailbox's home now: where the message goes."""
    epoch: Epoch
    """Of that home."""
    blob_size_bytes: int


class MessageHeard(Event, frozen=True, kw_only=True, tag="message-heard"):
    """Somebody listened to the message."""

    message_id: UUID
    by: str


class MessageSaved(Event, frozen=True, kw_only=True, tag="message-saved"):
    """Somebody chose to keep the message."""

    message_id: UUID
    by: str


class MessageDeleted(Event, frozen=True, kw_only=True, tag="message-deleted"):
    """Somebody moved the message to the trash. Its audio is kept."""

    message_id: UUID
    by: str


class MessageRestored(Event, frozen=True, kw_only=True, tag="message-restored"):
    """Somebody took the message out of the trash."""

    message_id: UUID
    by: str


class MessageForwarded(Event, frozen=True, kw_only=True, tag="message-forwarded"):
    """Somebody sent a copy to another mailbox."""

    message_id: UUID
    to_mailbox: str
    new_message_id: UUID
    by: str


class MessageErased(Event, frozen=True, kw_only=True, tag="message-erased"):
    """The message's content is gone for good, on purpose."""

    message_id: UUID
    by: str
    reason: str


# --- Erasure: written by a server that destroys the key of a call ------------------------------


class CallErased(Event, frozen=True, kw_only=True, tag="call-erased"):
    """The key of a call was destroyed: nobody knows who called or hears its recording any more.

    First event of its stream. Committed with the destruction of the key; whoever is told destroys
    the key there in the commit that takes this in, or answers why not.
    """

    call_id: UUID
    message_ids: tuple[UUID, ...]
    """Its messages, as far as the server knows them: all of them are erased."""
    told_to: tuple[ServerId, ...]
    """Servers that this goes to: those that were sent the call, or all."""
    by: str
    reason: str


class ErasureAnswered(Event, frozen=True, kw_only=True, tag="erasure-answered"):
    """A server that was told of an erasure keeps its key, or has destroyed it after all.

    One that destroys it at once is not recorded: that it has taken in the event says so.
    """

    call_id: UUID
    server: ServerId
    """Who answered."""
    reason: str
    """Why it keeps the key; empty when it has destroyed it after all."""
    detail: str


# --- Mailbox: written by its home ------------------------------------------------------------


class MailboxOpened(Event, frozen=True, kw_only=True, tag="mailbox-opened"):
    """A mailbox exists, and this server is its home."""

    mailbox: str
    epoch: Epoch = 1


class GreetingRecorded(Event, frozen=True, kw_only=True, tag="greeting-recorded"):
    """The mailbox has a new greeting. Every server gets it, to play it while the home is down."""

    mailbox: str
    epoch: Epoch = 1
    """Of the home that recorded it: what a home of a higher epoch recorded counts more."""
    kind: str
    """``name``, ``busy``, ``unavailable``, ``temporary``."""
    blob: Digest
    blob_size_bytes: int
    audio: AudioFacts


class GreetingRemoved(Event, frozen=True, kw_only=True, tag="greeting-removed"):
    """The mailbox has no greeting of this kind any more."""

    mailbox: str
    epoch: Epoch = 1
    kind: str
    by: str


class PinChanged(Event, frozen=True, kw_only=True, tag="pin-changed"):
    """The mailbox has a new PIN. Neither the PIN nor a hash of it is in the log.

    What a PIN is checked against is kept beside the audio, where it can be thrown away, and goes
    to every server like a greeting.
    """

    mailbox: str
    epoch: Epoch = 1
    verifier: Digest | None
    """Content address of what a PIN is checked against; None: the mailbox has no PIN any more."""
    verifier_size_bytes: int = 0
    by: str


class MailboxRehomed(Event, frozen=True, kw_only=True, tag="mailbox-rehomed"):
    """The mailbox has a new home. The higher epoch wins; of equal epochs, the higher name.

    Recorded by the home that gives the mailbox away, or, when that one is lost for good and an
    operator says so, by the one that takes it.
    """

    mailbox: str
    from_home: ServerId
    to_home: ServerId
    epoch: Epoch
    """One more than that of the home before."""
    by: str
    """Who asked for it."""
    is_forced: bool = False
    """The mailbox was taken, not given: its former home was not there to agree."""


class MailboxHeld(Event, frozen=True, kw_only=True, tag="mailbox-held"):
    """A legal hold: nothing of this mailbox is moved to the trash or erased by a rule."""

    mailbox: str
    epoch: Epoch = 1
    by: str
    reason: str
    """In the operator's words: a case, an order."""


class MailboxReleased(Event, frozen=True, kw_only=True, tag="mailbox-released"):
    """The mailbox's legal hold is over."""

    mailbox: str
    epoch: Epoch = 1
    by: str
    reason: str


# --- Server: written by itself, one stream an incarnation --------------------------------------


class ServerStarted(Event, frozen=True, kw_only=True, tag="server-started"):
    """The program began to serve."""

    incarnation: UUID
    software_version: str


class IncarnationStarted(Event, frozen=True, kw_only=True, tag="incarnation-started"):
    """The log went back in time (restored or rolled back) and goes on under a new incarnation."""

    incarnation: UUID
    previous: UUID
    position: Position
    """The last position that the old incarnation's history still covers here."""
    reason: str


class PeerLost(Event, frozen=True, kw_only=True, tag="peer-lost"):
    """Another server is judged down from now on."""

    evidence: ReachabilityEvidence


class PeerReturned(Event, frozen=True, kw_only=True, tag="peer-returned"):
    """Another server is judged up again."""

    evidence: ReachabilityEvidence


class AttemptsFailed(Event, frozen=True, kw_only=True, tag="attempts-failed"):
    """This server tried to reach another one, in order to ship to it, and could not.

    Recorded of a run of failures at the 1st, 2nd, 4th, 8th, … and at the end of the run, so each
    attempt is counted in one event, and a long outage costs few.
    """

    home: ServerId
    attempts: Annotated[int, msgspec.Meta(ge=1)]
    """How many this event stands for."""
    attempts_before: Annotated[int, msgspec.Meta(ge=0)]
    """How many of the same run stand in earlier events."""
    first_at: UtcTime
    """When the first of them failed."""
    last_at: UtcTime
    problem: str
    """How the last of them failed, in one sentence."""


class LogRecovered(Event, frozen=True, kw_only=True, tag="log-recovered"):
    """This log was rebuilt from other servers or an archive."""

    sources: list[str]
    position: Position


class LogRecalled(Event, frozen=True, kw_only=True, tag="log-recalled"):
    """A peer gave back what this log had forgotten of its own, for a stretch of the peer's log.

    Recorded in one commit with the events that came back, which stand right before it: they are
    taken on the word of that peer. Every configured peer is asked after each `IncarnationStarted`.
    """

    peer: ServerId
    incarnation: UUID
    """Under which this log asked."""
    peer_incarnation: UUID
    peer_position: Position
    """The peer's log was gone through up to here."""
    is_complete: bool
    """That was its end: the peer holds nothing more of this server's."""
    known_until: Position
    """Up to here the peer had known this log before it went back; 0: no further than it still
    reaches."""
    common_until: Position
    """The last position at which the peer holds the very event that still stands there; 0: none."""
    events: int
    """Events that came back."""
    messages: int
    """Of those: messages that were stored."""
    not_taken: int
    """Events of the peer that were not taken: others stand in their places here by now, or they
    tell of a message whose call another server gives back."""


class WentBackAcknowledged(Event, frozen=True, kw_only=True, tag="went-back-acknowledged"):
    """An operator knows that a log went back, and why: it is no longer warned of."""

    server: ServerId
    """Whose log went back: this server's own, or another's."""
    incarnation: UUID
    """Under which it went on. If it goes back once more, that is another one."""
    by: str
    """Who acknowledged it: the name of an access token."""
    reason: str
    """What happened, in the operator's words."""


class ContentAccessed(Event, frozen=True, kw_only=True, tag="content-accessed"):
    """Somebody got at what is personal: who, when, from where, and at what.

    Recorded before sound or an export is given; without it, they are not. Stands for all accesses
    of the same kind by the same token from the same address to the same thing for `window_s`.
    """

    kind: AccessKind
    what: str
    """``sound``, ``mailbox``, ``message``, ``story``, ``calls``, ``pending``, ``log``, ``proof``,
    or the name of what was exported."""
    by: str
    """The name of the access token; ``command-line`` for a command that opened the stores."""
    token_id: str | None = None
    address: str | None = None
    """From where the request came; None for a command that opened the stores."""
    user: str | None = None
    """Who was logged in where the command line ran, as that says; None when it says nothing."""
    mailbox: str | None = None
    message_id: UUID | None = None
    window_s: int = 0


class BackupVerified(Event, frozen=True, kw_only=True, tag="backup-verified"):
    """A finished and verified backup covers this log up to a position: it is *safe* up to there."""

    position: Position
    place: str


class ForkWitnessed(Event, frozen=True, kw_only=True, tag="fork-witnessed"):
    """Another server showed two checkpoints of its log that are not of one history.

    Recorded by the server that had co-signed the first one. Both carry the other server's own
    signature, so that they prove it to anybody. Of one incarnation, they contradict each other. Of
    two, the log went back in time and says so itself: it was restored, or part of it replaced.
    """

    peer: ServerId
    """The server whose log has two histories."""
    incarnation: UUID
    """Of the log that does not follow."""
    witnessed: str
    """The signed checkpoint that was co-signed here (C2SP checkpoint)."""
    conflicting: str
    """The signed one that does not follow from it."""


DomainEvent: TypeAlias = (
    CallReceived
    | TransferDecided
    | MessageStored
    | MessageMigrated
    | MigrationRefused
    | MessageRequeued
    | CallAbandoned
    | RecordingSetAside
    | MessageDelivered
    | MessageRehomed
    | MessageHeard
    | MessageSaved
    | MessageDeleted
    | MessageRestored
    | MessageForwarded
    | MessageErased
    | CallErased
    | ErasureAnswered
    | MailboxOpened
    | GreetingRecorded
    | GreetingRemoved
    | PinChanged
    | MailboxRehomed
    | MailboxHeld
    | MailboxReleased
    | ServerStarted
    | IncarnationStarted
    | PeerLost
    | PeerReturned
    | AttemptsFailed
    | LogRecovered
    | LogRecalled
    | WentBackAcknowledged
    | ContentAccessed
    | BackupVerified
    | ForkWitnessed
)


class OpaqueEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a newer version or unknown topic: kept byte for byte, never guessed at."""

    originator_id: UUID
    originator_version: Version
    recorded_at: UtcTime
    recorded_by: ServerId
    topic: str
    v: int
    plain: bytes

    """The event's own JSON bytes."""


EVENT_CLASSES: Final[dict[str, type[Event]]] = {
    str(cls.__struct_config__.tag): cls for cls in DomainEvent.__args__
}
"""Every topic that this program knows, with the newest version of its class."""

Upcast: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTS: Final[dict[tuple[str, int], Upcast]] = {
    # Version 2 may be sealed. What is in clear stays so: it is in every copy, for ever.
    ("call-received", 1): dict,
    ("message-stored", 1): dict,
    ("recording-set-aside", 1): dict,
}
"""(topic, version) -> how its fields become those of the next version."""

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(DomainEvent)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoder raises on damaged or hostile bytes, such as lists a thousand deep."""


_Topic: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$")]
"""PostgreSQL cannot hold U+0000: it would refuse all that is committed together with such a one."""


class _Header(msgspec.Struct):
    """What can be read of any event, known or not."""

    event: _Topic
    originator_id: UUID
    originator_version: Version
    recorded_at: UtcTime
    recorded_by: ServerId
    v: Version


def encode(event: DomainEvent | OpaqueEvent) -> bytes:
    """Give the event's JSON bytes: those it came with, for an opaque one."""
    return event.plain if isinstance(event, OpaqueEvent) else _ENCODER.encode(event)


def decode(plain: bytes, place: str = "an event") -> DomainEvent | OpaqueEvent:
    """Read and validate an event.

    ``place`` says in an error where the bytes were found. Raises CorruptionError when a known kind
    of event breaks its own rules; gives an OpaqueEvent for a newer version or unknown topic.
    """
    try:
        event: DomainEvent = _DECODER.decode(plain)
    except msgspec.ValidationError as error:
        return _decode_other_version(plain, place, error)
    except _UNREADABLE as error:
        raise CorruptionError(f"event is not JSON: {error}", place=place) from error
    return event


def _decode_other_version(plain: bytes, place: str, cause: Exception) -> DomainEvent | OpaqueEvent:
    try:
        header = msgspec.json.decode(plain, type=_Header)
    except _UNREADABLE as error:
        raise CorruptionError(f"event has no valid header: {error}", place=place) from error
    newest = EVENT_CLASSES.get(header.event)
    if newest is None or header.v > newest_version(header.event):
        return OpaqueEvent(
            originator_id=header.originator_id,
            originator_version=header.originator_version,
            recorded_at=header.recorded_at,
            recorded_by=header.recorded_by,
            topic=header.event,
            v=header.v,
            plain=plain,
        )
    if header.v == newest_version(header.event):
        raise CorruptionError(f"event {header.event} is not valid: {cause}", place=place) from cause
    return _upcast(plain, header, place)


def _upcast(plain: bytes, header: _Header, place: str) -> DomainEvent:
    try:
        fields: dict[str, Any] = msgspec.json.decode(plain)
        for version in range(header.v, newest_version(header.event)):
            fields = UPCASTS[header.event, version](fields) | {"v": version + 1}
        event: DomainEvent = msgspec.convert(fields, DomainEvent)
    except (*_UNREADABLE, LookupError) as error:
        raise CorruptionError(
            f"event {header.event} v{header.v} is not valid: {error}", place=place
        ) from error
    return event


def newest_version(topic: str) -> int:
    """Give the version of this kind of event that this program writes."""
    return 1 + sum(1 for known, _ in UPCASTS if known == topic)
