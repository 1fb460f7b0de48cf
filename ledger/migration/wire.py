"""What two servers say to each other. How it becomes bytes: `ledger.migration.wire_bytes`.

Source: claims 4, 7 and 8.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from ledger.events import MAX_POSITION, Digest, Position, Receipt, ServerId
from ledger.key_transport import sealed_bytes
from ledger.storage.blob_store import BlobBytes
from ledger.storage.peer_cursors import MAX_MARKS, HomeMark

VERSION: Final = 1
"""Version of the messages below. A server that meets another one says so instead of guessing."""
MEDIA_TYPE: Final = f"application/vnd.vmledger.batch; version={VERSION}"

MAX_BODY_BYTES: Final = 256 * 1024 * 1024
"""No message is longer."""
MAX_HEADER_BYTES: Final = 32 * 1024 * 1024
"""What the zstd frame may hold."""
MAX_PARCELS: Final = 100_000
MAX_BLOBS: Final = 100_000
MAX_DIGESTS: Final = 4096
"""Most digests in one question for missing blobs."""
MAX_STORY_EVENTS: Final = 2000
"""Most events in what one server tells of a message."""
MAX_RECALLED: Final = 20_000
"""Most events in one answer to a server that asks for its own."""
MAX_COPIED: Final = 8000
"""Most events in one page of a log that is copied."""
MAX_WRAPPED_BYTES: Final = 1024
"""Longest key of a call as a log's server keeps it."""
MAX_BLOB_ANSWER_BYTES: Final = 10 * 1024 * 1024
"""Largest blob that is given back."""

STRETCH_EVENTS: Final = 4096
"""Events in one stretch of a log that is compared."""

Size: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_BODY_BYTES)]
Note: TypeAlias = Annotated[str, msgspec.Meta(max_length=4096)]
"""A signed checkpoint: `ledger.signed_note`."""
EventPosition: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_POSITION)]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything below."""


class WireEvent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One event on its way."""

    position: EventPosition
    """Where it stands in the origin's log."""
    plain: msgspec.Raw
    """Its JSON, byte for byte."""


class Parcel(Message, frozen=True, kw_only=True):
    """An event that concerns the home, with all that the home needs to understand it."""

    position: EventPosition
    """Of the event that is the reason for the parcel: the last one of ``events``."""
    events: Annotated[tuple[WireEvent, ...], msgspec.Meta(min_length=1, max_length=10_000)]
    """Of one stream, in its order."""
    blobs: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=16)] = ()
    """The recordings that it needs. Those that the home has already need not be in the batch."""


class BlobEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A stored form that follows the header."""

    digest: Digest
    size_bytes: Size


class KeptKey(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """The key of a call as a log's server keeps it: only that server's master key opens it."""

    call_id: UUID
    wrapped: Annotated[bytes, msgspec.Meta(max_length=MAX_WRAPPED_BYTES)] | None
    """None: it was destroyed."""


class BatchHeader(Message, frozen=True, kw_only=True):
    """A piece of an origin's log, as far as it concerns one home."""

    origin: ServerId
    home: ServerId
    incarnation: UUID
    contact: str
    """The nonce of the contact after which this is sent: what was sent before it counts no more."""
    after_position: Position
    """The batch begins behind this position."""
    after_root: Digest
    """The Merkle root of the origin's log at ``after_position``: the batch goes on from there, and
    from no other history."""
    through_position: Position
    """Everything up to here that concerns the home is in this batch or came before it."""
    through_root: Digest
    """The Merkle root of the origin's log at ``through_position``."""
    parcels: Annotated[tuple[Parcel, ...], msgspec.Meta(max_length=MAX_PARCELS)] = ()
    blobs: Annotated[tuple[BlobEntry, ...], msgspec.Meta(max_length=MAX_BLOBS)] = ()
    keys: Annotated[bytes, msgspec.Meta(max_length=sealed_bytes(MAX_PARCELS))] = b""
    """Of the calls that the parcels tell of, those that the origin has, sealed for the home
    (`ledger.key_transport`)."""


class Batch(NamedTuple):
    """A batch as it was read: its blobs are what their digests say."""

    header: BatchHeader
    blobs: dict[str, bytes]


class ContactRequest(Message, frozen=True, kw_only=True, tag="contact"):
    """An origin asks how far a home is."""

    origin: ServerId
    home: ServerId
    incarnation: UUID
    position: Position
    """Where the origin's log ends."""
    nonce: str
    """Comes back in the answer, so that no old answer is taken for a new one."""
    versions: tuple[int, ...] = (VERSION,)
    marks: Annotated[tuple[HomeMark, ...], msgspec.Meta(max_length=MAX_MARKS)] = ()
    """What the home's log held when it signed receipts for the origin, the oldest first."""


class MissingRequest(Message, frozen=True, kw_only=True, tag="missing"):
    """An origin asks which of these blobs a home has not."""

    digests: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=MAX_DIGESTS)]


class WitnessRequest(Message, frozen=True, kw_only=True, tag="witness"):
    """A log asks a peer to sign its newest checkpoint too."""

    origin: ServerId
    home: ServerId
    checkpoint: Note
    """Signed by the log (C2SP checkpoint)."""
    old_size: Position
    """Of the checkpoint that the peer signed last, as far as the log knows; 0: none."""
    proof: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=64)]
    """That the log at ``old_size`` is the beginning of it (RFC 9162 section 2.1.4)."""
    is_new_history: bool = False
    """The log knows that what the peer signed under an earlier incarnation is not part of it."""


class RecallRequest(Message, frozen=True, kw_only=True, tag="recall"):
    """A server whose log went back asks a peer for what it recorded itself and has forgotten."""

    origin: ServerId
    """Who asks."""
    home: ServerId
    """Who is asked."""
    after_position: Position
    """Of the peer's log: the stretch begins behind it."""


class BlobRequest(Message, frozen=True, kw_only=True, tag="blob"):
    """A server asks for the blob that one of its own events names."""

    stream: UUID
    version: EventPosition


class StoryRequest(Message, frozen=True, kw_only=True, tag="story"):
    """A server asks what another one's log tells of a message."""

    message_id: UUID
    call_id: UUID | None = None
    """The message's call, if the one who asks knows it."""
    asked_by: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Who wants to know: the name of an access token there."""


class LogRequest(Message, frozen=True, kw_only=True, tag="log"):
    """A server holds its log against another's: it asks for the hashes of a stretch."""

    origin: ServerId
    """Who asks."""
    home: ServerId
    """Who is asked."""
    after_position: Position
    """Of the log of the server that is asked: the stretch begins behind it."""
    stop_position: Position = 0
    """It ends here at the latest; 0: at the end of the log."""


class LogStateRequest(Message, frozen=True, kw_only=True, tag="log-state"):
    """Somebody asks how far a log is known: a mirror its origin, a lost server everybody."""

    of: ServerId
    """Whose log."""
    held_incarnation: UUID | None = None
    held_position: Position = 0
    """What the one who asks durably holds of it, events and blobs: an acknowledgement."""


class LogPageRequest(Message, frozen=True, kw_only=True, tag="log-page"):
    """Somebody asks for the next events of a log or of its copy."""

    of: ServerId
    copy: Annotated[str, msgspec.Meta(max_length=100)] = ""
    """`CopyState.name`."""
    after_position: Position
    after_root: Digest
    """What the one who asks holds already: the page goes on from there, and from no other."""
    through_position: Position
    """No event behind this one is wanted."""
    tree_size: Position
    """Of the tree whose beginning the page must be shown to be."""


class BlobsRequest(Message, frozen=True, kw_only=True, tag="blobs"):
    """Somebody asks for blobs that the events of a log name."""

    of: ServerId
    digests: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=MAX_DIGESTS)]
    is_verified: bool = True
    """False: they are not held against their digests there before they are given. Who asks does so
    in any case, and asks again for what has rotted: it may lie in another place, too."""


class TrackedRow(Message, frozen=True, kw_only=True):
    """How far a home has taken in one incarnation of an origin's log."""

    incarnation: UUID
    position: Position
    root: Digest
    seen_s_ago: float | None = None
    """When somebody last made contact under it; None when not since the home started."""


class ContactAnswer(Message, frozen=True, kw_only=True, tag="contact"):
    """A home says how far it is."""

    nonce: str
    home: ServerId
    home_incarnation: UUID
    tracked: tuple[TrackedRow, ...]
    """The newest incarnation first."""
    receipt: Receipt | None = None
    """For the position tracked of the incarnation that asked; None when there is none yet."""
    kept: Position = 0
    """How many of the request's marks, from the first on, are in the home's log. What the others
    stand for it has lost, whatever it tracks."""


class Refusal(Message, frozen=True, kw_only=True):
    """A home does not take one parcel; all others are not touched by that."""

    position: EventPosition
    """Of the parcel."""
    reason: str
    """A word of `RefusalReason`."""
    detail: str
    new_home: ServerId | None = None
    """Who is home to the mailbox, as far as this server knows."""


class Accepted(Message, frozen=True, kw_only=True, tag="accepted"):
    """Everything in the batch that was not refused is durable."""

    receipt: Receipt
    refusals: tuple[Refusal, ...] = ()


class Gap(Message, frozen=True, kw_only=True, tag="gap"):
    """The batch does not fit what is tracked."""

    tracked: tuple[TrackedRow, ...]


class Busy(Message, frozen=True, kw_only=True, tag="busy"):
    """Not now: nothing was changed."""

    retry_after_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class Rejected(Message, frozen=True, kw_only=True, tag="rejected"):
    """The request breaks the protocol, or came damaged."""

    reason: str


class RecalledEvent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An event of the server that asks."""

    position: Position
    """Where it stood in that server's log; 0 when it came here by way of another one."""
    plain: msgspec.Raw
    """Its JSON, byte for byte."""


class RecallAnswer(Message, frozen=True, kw_only=True, tag="recalled"):
    """What a stretch of a peer's log holds of the server that asks."""

    incarnation: UUID
    """Of the peer's log."""
    after_position: Position
    """As it was asked."""
    through_position: Position
    """The stretch ends here."""
    is_last: bool
    """The peer's log ends here too."""
    tracked: tuple[TrackedRow, ...]
    """How far the peer had taken in each incarnation of the asking server's log."""
    events: Annotated[tuple[RecalledEvent, ...], msgspec.Meta(max_length=MAX_RECALLED)]
    """Whole streams, as far as the peer has them, in the order of its log."""
    keys: Annotated[bytes, msgspec.Meta(max_length=sealed_bytes(MAX_RECALLED))] = b""
    """Of the calls among them, those that the peer has, sealed for the asking server."""
    destroyed: Annotated[tuple[UUID, ...], msgspec.Meta(max_length=MAX_RECALLED)] = ()
    """The calls among them whose key was destroyed there."""


class BlobAnswer(Message, frozen=True, kw_only=True, tag="blob"):
    """A blob, if it is here."""

    data: Annotated[bytes, msgspec.Meta(max_length=MAX_BLOB_ANSWER_BYTES)] | None


class CopyState(Message, frozen=True, kw_only=True):
    """A log, or a copy of it."""

    name: str
    """Of the copy, where it lies; empty for the log itself."""
    incarnation: UUID
    position: Position
    root: Digest
    checkpoint: Note | None
    """Signed by the log, for just this position; None when the copy has none for it."""
    former: Annotated[tuple[UUID, ...], msgspec.Meta(max_length=10_000)] = ()
    """Incarnations of which this copy's events tell that the log has left them behind."""
    is_aside: bool = False
    """Was it put aside, because the log was another one when it was asked again?"""


class LogState(Message, frozen=True, kw_only=True, tag="log-state"):
    """How far a log is known to the one who answers."""

    copies: Annotated[tuple[CopyState, ...], msgspec.Meta(max_length=1000)]
    """What can be had of it here."""
    witnessed: Annotated[tuple[Note, ...], msgspec.Meta(max_length=10_000)] = ()
    """Checkpoints of it that the one who answers co-signed."""
    tracked: tuple[TrackedRow, ...] = ()
    """How far the one who answers took in what it ships."""


class CopiedEvent(
    msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True
):
    """One event of a log as it stands there."""

    plain: msgspec.Raw
    """Its JSON, byte for byte."""
    origin: ServerId | None
    origin_position: EventPosition | None

    def __post_init__(self) -> None:
        if (self.origin is None) != (self.origin_position is None):
            raise ValueError("an event has both an origin and a position there, or neither")


class OriginRow(Message, frozen=True, kw_only=True):
    """How far a log has taken in what an origin ships: its tracking row."""

    origin: ServerId
    incarnation: UUID
    position: Position
    root: Digest


class CosignedRow(Message, frozen=True, kw_only=True):
    """A checkpoint that a witness co-signed."""

    log: str
    witness: ServerId
    size: Position
    note: Note


class LogPage(Message, frozen=True, kw_only=True, tag="log-page"):
    """The next events of a log, without a gap."""

    after_position: Position
    through_position: Position
    root: Digest
    """Of the log at ``through_position``."""
    proof: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=64)] = ()
    """That this root is the beginning of the asked tree (RFC 9162 section 2.1.4)."""
    is_other_history: bool = False
    """What the one who asks holds already is not the beginning of this log; nothing is given."""
    events: Annotated[tuple[CopiedEvent, ...], msgspec.Meta(max_length=MAX_COPIED)] = ()
    keys: Annotated[tuple[KeptKey, ...], msgspec.Meta(max_length=MAX_COPIED)] = ()
    """Of the calls whose first event is among them."""
    checkpoint: Note | None = None
    """Signed by the log, for ``through_position``."""
    origins: tuple[OriginRow, ...] = ()
    """The log's own tracking, when the page ends where nothing tracked is still to come."""
    cosigned: Annotated[tuple[CosignedRow, ...], msgspec.Meta(max_length=10_000)] = ()
    """What witnesses co-signed of this log, in the last page."""


class BlobsHeader(Message, frozen=True, kw_only=True, tag="blobs"):
    """Which blobs follow. What was asked for and is in neither list may be asked for again."""

    blobs: Annotated[tuple[BlobEntry, ...], msgspec.Meta(max_length=MAX_BLOBS)]
    absent: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=MAX_DIGESTS)]
    """They are not here, or cannot be read."""


class Blobs(NamedTuple):
    """Blobs as they were read: each is what its digest says, unless it was not to be verified."""

    blobs: dict[str, BlobBytes]
    absent: tuple[str, ...]
    damaged: tuple[str, ...] = ()
    """Those that came, and were not what their digests say."""


class RefusedVersion(Message, frozen=True, kw_only=True, tag="refused-version"):
    """No version of the protocol is common to both."""

    versions: tuple[int, ...]
    """Those that this server speaks."""


class MissingAnswer(Message, frozen=True, kw_only=True, tag="missing"):
    """Those of the named blobs that are not here."""

    digests: tuple[Digest, ...]


class Cosigned(Message, frozen=True, kw_only=True, tag="cosigned"):
    """The peer checked the checkpoint, and signed it."""

    note: Note
    """The checkpoint with its log's signature and the peer's."""


class Witnessed(Message, frozen=True, kw_only=True, tag="witnessed"):
    """The peer did not sign: the proof does not begin at what it signed last, or does not hold."""

    note: Note | None
    """The checkpoint that it signed last, with the log's own signature; of the incarnation before,
    when it knows none of this one; None: it knows none at all."""


class StoryAnswer(Message, frozen=True, kw_only=True, tag="story"):
    """What a server's log tells of a message; no events when it tells nothing."""

    server: ServerId
    position: Position
    """Where its log ended when it was read."""
    events: Annotated[tuple[WireEvent, ...], msgspec.Meta(max_length=MAX_STORY_EVENTS)]
    """All that is about the message, in the order of that log, with the positions there."""
    around: Annotated[tuple[WireEvent, ...], msgspec.Meta(max_length=MAX_STORY_EVENTS)] = ()
    """What happened meanwhile to the way to the message's home, as that server recorded it."""
    left_out: Position = 0
    """How many events were too many for the answer."""


class TakenRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where an event of the server that asks stands in the log of the one that is asked."""

    position: EventPosition
    origin_position: Position
    stream: UUID


class LogAnswer(Message, frozen=True, kw_only=True, tag="log"):
    """The hashes of a stretch of a log, and what of it concerns the server that asks."""

    server: ServerId
    incarnation: UUID
    position: Position
    """Where the log ended when it was read."""
    after_position: Position
    """As it was asked."""
    hashes: Annotated[bytes, msgspec.Meta(max_length=32 * STRETCH_EVENTS)]
    """The leaf hashes of its events, of 32 bytes, end to end; none at the end of the log."""
    taken: Annotated[tuple[TakenRow, ...], msgspec.Meta(max_length=STRETCH_EVENTS)]
    """Which of them came from the server that asks."""
    acknowledged: Annotated[tuple[EventPosition, ...], msgspec.Meta(max_length=STRETCH_EVENTS)]
    """Positions, anywhere in the log, of messages for which it holds the asking server's receipt:
    the receipts stand in this stretch."""


Question: TypeAlias = (
    ContactRequest
    | MissingRequest
    | RecallRequest
    | BlobRequest
    | StoryRequest
    | WitnessRequest
    | LogRequest
)
CopyingQuestion: TypeAlias = LogStateRequest | LogPageRequest | BlobsRequest
"""Of those who copy a whole log."""
Request: TypeAlias = Question | CopyingQuestion
Answer: TypeAlias = (
    ContactAnswer
    | Accepted
    | Gap
    | Busy
    | Rejected
    | RefusedVersion
    | MissingAnswer
    | Cosigned
    | Witnessed
    | RecallAnswer
    | BlobAnswer
    | StoryAnswer
    | LogAnswer
    | LogState
    | LogPage
)
