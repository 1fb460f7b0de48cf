"""A home looks at the parcels of a batch, each for itself: may this be taken in?

Pure, and independent of what the home holds already; so it runs off the event loop, before the
origin's turn. A parcel that may not is refused alone: one poisonous message never holds up others.

Source: claim 7.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

import msgspec
from eventsourcing.persistence import StoredEvent

from ledger.configuration import Homes
from ledger.errors import CallerError, CorruptionError
from ledger.events import (
    MAX_POSITION,
    AudioFacts,
    CallErased,
    CallReceived,
    GreetingRecorded,
    MailboxRehomed,
    MessageStored,
    OpaqueEvent,
    PinChanged,
    ServerId,
    decode,
)
from ledger.ids import MailboxAddress, erasure_stream_id, message_stream_id
from ledger.mailbox import home_claim_of
from ledger.migration.audience import (
    SENDS,
    TRAVELLING,
    AnyEvent,
    Role,
    StreamKind,
    is_forbidden,
    profile_blobs,
    role_of,
    stored_of,
)
from ledger.migration.refusal_reason import RefusalReason
from ledger.migration.travelling_keys import CALL_RECEIVED
from ledger.migration.wire import Batch, Parcel, Refusal
from ledger.pin import read_verifier
from ledger.sealing import MessageKey
from ledger.storage import stored_form
from ledger.storage.sealed_form import unseal

FindKey: TypeAlias = Callable[[UUID], MessageKey | None]

_R: Final = RefusalReason
_MAX_VERIFIER_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class ForeignEvent:
    """An event of another server, as it came."""

    position: int
    event: AnyEvent
    plain: bytes

    @property
    def stored(self) -> StoredEvent:
        """What is appended here: the same bytes under the same stream and version."""
        return StoredEvent(
            originator_id=self.event.originator_id,
            originator_version=self.event.originator_version,
            topic=self.event.topic,
            state=self.plain,
        )


@dataclass(frozen=True, slots=True)
class Examined:
    """A parcel that may be taken in, as far as it can be judged alone."""

    position: int
    stream: UUID
    """That of its last event."""
    kind: StreamKind
    """Of that stream."""
    events: tuple[ForeignEvent, ...]
    """In the order of the sender's log; of a message that was at home there, its other streams'
    too."""
    role: Role | None
    """What its last event does; None when this program cannot interpret it."""
    blobs: tuple[str, ...] = ()
    message: MessageStored | None = None
    """The message to deliver; None for a parcel that only tells more."""
    unless_held: RefusedError | None = None
    """Why it is refused, unless the message is here already: its mailbox moved away since then, and
    the origin must learn that it need not send the message to the new home."""

    @property
    def claims(self) -> list[AnyEvent]:
        """Those of its events that give a mailbox a home."""
        told = (foreign.event for foreign in self.events) if self.kind is StreamKind.MAILBOX else ()
        return [event for event in told if home_claim_of(event) is not None]

    @property
    def calls(self) -> list[UUID]:
        """Those whose beginning is among its events, also one that a newer program wrote."""
        return [f.event.originator_id for f in self.events if f.event.topic == CALL_RECEIVED]

    @property
    def sealed_calls(self) -> list[UUID]:
        """Those that nobody understands without their key."""
        begun = (f.event for f in self.events if isinstance(f.event, CallReceived))
        sealed = {call.originator_id for call in begun if isinstance(call.personal, str)}
        if self.message is not None and self.message.is_sealed:
            sealed.add(self.message.originator_id)
        return sorted(sealed)

    @property
    def erasure(self) -> CallErased | None:
        """Which call's key is to be destroyed, if that is what it tells."""
        last = self.events[-1].event
        return last if isinstance(last, CallErased) else None

    @property
    def is_secret(self) -> bool:
        """Does its blob tell a PIN to whoever tries them all?"""
        return isinstance(self.events[-1].event, PinChanged)

    @property
    def message_id(self) -> UUID | None:
        """The message that its last event is about, if any."""
        return getattr(self.events[-1].event, "message_id", None)


class RefusedError(Exception):
    """A parcel is not taken. Only within this package."""

    def __init__(self, reason: str, detail: str, new_home: ServerId | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.new_home = new_home

    def at(self, position: int) -> Refusal:
        """Give the answer for the parcel at this position."""
        return Refusal(
            position=position, reason=self.reason, detail=self.detail, new_home=self.new_home
        )


def examine_all(
    batch: Batch, sent: Mapping[UUID, MessageKey], homes: Homes, find_key: FindKey
) -> list[Examined | Refusal]:
    """Look at every parcel of a batch, in order.

    What an earlier parcel tells of a mailbox's home counts for the later ones. ``find_key`` gives
    the key of a call, as far as this server has it; those that were ``sent`` come first.
    """

    def find(call_id: UUID) -> MessageKey | None:
        return sent.get(call_id) or find_key(call_id)

    found: list[Examined | Refusal] = []
    for parcel in batch.header.parcels:
        examined = _examine_or_refuse(parcel, batch, homes, find)
        found.append(examined)
        if isinstance(examined, Examined) and examined.claims:
            homes = homes.after(examined.claims)
    return found


def _examine_or_refuse(
    parcel: Parcel, batch: Batch, homes: Homes, find_key: FindKey
) -> Examined | Refusal:
    try:
        return _examine(parcel, batch, homes, find_key)
    except RefusedError as refused:
        return refused.at(parcel.position)


def _examine(parcel: Parcel, batch: Batch, homes: Homes, find_key: FindKey) -> Examined:
    events = _read_events(parcel)
    last = events[-1].event
    streams = _by_stream(events)
    kind, role = _kind_and_role(last, streams[last.originator_id])
    if kind is StreamKind.MESSAGE:
        _expect_story_of_one_message(last, streams, batch.header.origin)
    elif len(streams) > 1:
        raise RefusedError(_R.BAD_EVENTS, "events of several streams, and no message to join them")
    for told in streams.values():
        _expect_stored_first(told)
    message: MessageStored | None = None
    unless_held: RefusedError | None = None
    if kind is StreamKind.ERASURE:
        _expect_erasure_by(batch.header.origin, last)
    elif kind is StreamKind.MAILBOX:
        _expect_profile_of_sender(events, batch.header.origin, homes)
        if isinstance(last, GreetingRecorded):
            _check_greeting(batch, last)
        elif isinstance(last, PinChanged) and last.verifier is not None:
            _check_verifier(batch, last.verifier, last.verifier_size_bytes)
    elif role is Role.DELIVERS:
        message = _message_of(events)
        unless_held = _why_not_ours(message, last, homes)
        _check_message(batch, message, find_key)
    return Examined(
        position=parcel.position,
        stream=last.originator_id,
        kind=kind,
        events=events,
        role=role,
        blobs=_blobs_of(last, message),
        message=message,
        unless_held=unless_held,
    )


def _read_events(parcel: Parcel) -> tuple[ForeignEvent, ...]:
    """Decode the events; versions of each stream in a row, positions rising up to the parcel's."""
    events: list[ForeignEvent] = []
    for wire in parcel.events:
        plain = bytes(wire.plain)
        try:
            event = decode(plain, f"position {wire.position} of the origin")
        except CorruptionError as error:
            raise RefusedError(_R.BAD_EVENTS, str(error)) from error
        if not can_be_kept(event):
            raise RefusedError(_R.BAD_EVENTS, f"{event.topic} holds a number that is too large")
        events.append(ForeignEvent(wire.position, event, plain))
    versions: dict[UUID, int] = {}
    for foreign in events:
        stream, version = foreign.event.originator_id, foreign.event.originator_version
        if version != versions.get(stream, version - 1) + 1:
            raise RefusedError(_R.BAD_EVENTS, "the events are not in a row of their stream")
        versions[stream] = version
    if any(after.position <= before.position for before, after in itertools.pairwise(events)):
        raise RefusedError(_R.BAD_EVENTS, "the events are not in the order of their log")
    if events[-1].position != parcel.position:
        raise RefusedError(_R.BAD_EVENTS, "the last event does not stand at the parcel's position")
    return tuple(events)


def can_be_kept(event: AnyEvent) -> bool:
    """Can a database hold every number in this event?

    If not, a read model would stop at it for ever, and show nothing that came later. One that this
    program does not understand is in none.
    """
    return isinstance(event, OpaqueEvent) or _fits(msgspec.to_builtins(event))


def _fits(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_fits, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_fits, value))
    return not isinstance(value, int) or abs(value) <= MAX_POSITION


def _by_stream(events: Sequence[ForeignEvent]) -> dict[UUID, list[AnyEvent]]:
    streams: dict[UUID, list[AnyEvent]] = {}
    for foreign in events:
        streams.setdefault(foreign.event.originator_id, []).append(foreign.event)
    return streams


def _kind_and_role(last: AnyEvent, events: Sequence[AnyEvent]) -> tuple[StreamKind, Role | None]:
    """Which kind of stream is this, and what does its last event do?"""
    kind = kind_of(events)
    if isinstance(last, OpaqueEvent) and TRAVELLING.get(last.topic, (None, None))[1]:
        detail = f"{last.topic} version {last.v} is newer than this server; bring it up to date"
        raise RefusedError(_R.UNKNOWN_TOPIC, detail)
    return kind, role_of(last)


def kind_of(events: Sequence[AnyEvent]) -> StreamKind:
    """Which kind of stream is this? Raises RefusedError for what may stand in none together."""
    known = [TRAVELLING[e.topic][0] for e in events if e.topic in TRAVELLING]
    if not known:
        detail = f"nothing here knows a stream of {events[0].topic}; bring this server up to date"
        is_known = any(not isinstance(event, OpaqueEvent) for event in events)
        raise RefusedError(_R.FORBIDDEN_TOPIC if is_known else _R.UNKNOWN_TOPIC, detail)
    if any(StreamKind.MAILBOX in kinds for kinds in known) and len(set(known)) > 1:
        raise RefusedError(_R.BAD_EVENTS, "events of calls and of mailboxes in one stream")
    # Some may stand in either; one that may not says which one this is.
    kind = min(frozenset.intersection(*known) or known[0], key=lambda one: one.value)
    for event in events:
        if is_forbidden(event, kind):
            detail = f"no other server may record {event.topic} in a {kind.value} stream"
            raise RefusedError(_R.FORBIDDEN_TOPIC, detail)
    return kind


def _expect_story_of_one_message(
    last: AnyEvent, streams: Mapping[UUID, Sequence[AnyEvent]], sender: ServerId
) -> None:
    """The trigger's stream is the sender's own; the others are the message's call and homes.

    Other servers wrote those, and the sender vouches for them as it had them: it answered for the
    message until now.
    """
    message_id: UUID | None = getattr(last, "message_id", None)
    if message_id is None or last.originator_id != message_stream_id(message_id, sender):
        raise RefusedError(_R.BAD_EVENTS, f"this is no stream of {sender} about one message")
    for stream, events in streams.items():
        writers = {event.recorded_by for event in events}
        if len(writers) > 1:
            raise RefusedError(_R.BAD_EVENTS, f"stream {stream} has several writers")
        if kind_of(events) is StreamKind.MESSAGE:
            if stream != message_stream_id(message_id, writers.pop()):
                raise RefusedError(_R.BAD_EVENTS, f"stream {stream} is not about {message_id}")
        elif kind_of(events) is not StreamKind.CALL:
            raise RefusedError(_R.BAD_EVENTS, f"stream {stream} has no place with a message")


def _expect_stored_first(events: Sequence[AnyEvent]) -> None:
    """A call's stream tells only of messages that it has stored before: read models rely on it.

    What a newer program stored is not understood here; then any word may be of that.
    """
    if events[0].topic != CALL_RECEIVED:
        return
    stored: set[UUID] = set()
    for event in events:
        if isinstance(event, OpaqueEvent):
            return
        message_id: UUID | None = getattr(event, "message_id", None)
        if isinstance(event, MessageStored):
            stored.add(event.message_id)
        elif message_id is not None and message_id not in stored:
            detail = f"{event.topic} is about message {message_id}, which its call has not stored"
            raise RefusedError(_R.BAD_EVENTS, detail)


def _message_of(events: tuple[ForeignEvent, ...]) -> MessageStored:
    """Find the message that the last event sends somewhere."""
    last = events[-1].event
    assert isinstance(last, SENDS)
    message = stored_of(last.message_id, [foreign.event for foreign in events])
    if message is None:
        detail = f"the event that stored message {last.message_id} is not there or is newer"
        raise RefusedError(_R.UNKNOWN_TOPIC, detail)
    return message


def _why_not_ours(message: MessageStored, last: AnyEvent, homes: Homes) -> RefusedError | None:
    """Say why a message does not belong here; None when this is its home."""
    assert isinstance(last, SENDS)
    home = homes.home_of(_mailbox(message.mailbox))
    if last.home == homes.this_server and home is not None and home.id == last.home:
        return None
    told = f"its home is {home.id}" if home is not None else "no server is home to it"
    return RefusedError(
        _R.NOT_MY_MAILBOX,
        f"mailbox {message.mailbox} does not live on {homes.this_server}: {told}",
        home.id if home is not None else None,
    )


def _expect_erasure_by(sender: ServerId, last: AnyEvent) -> None:
    """It is told by whoever destroyed the key, in the stream for just that."""
    assert isinstance(last, CallErased)
    is_in_place = last.originator_id == erasure_stream_id(last.call_id)
    if last.recorded_by != sender or not is_in_place or last.originator_version != 1:
        raise RefusedError(_R.BAD_EVENTS, f"this is no erasure of call {last.call_id} by {sender}")


def _expect_profile_of_sender(
    events: tuple[ForeignEvent, ...], sender: ServerId, homes: Homes
) -> None:
    """A stream tells of one mailbox, and the sender is or was its home.

    Which stream that is, is the home's affair: it has one for each incarnation of its log. Once the
    mailbox was re-homed, epochs decide what counts, so an old home's words may come at any time; a
    sender that speaks under a later epoch than is known here knows more than we do.
    """
    told = (getattr(foreign.event, "mailbox", None) for foreign in events)
    names = {name for name in told if name is not None}
    if len(names) > 1:
        detail = f"one stream tells of several mailboxes: {', '.join(sorted(names))}"
        raise RefusedError(_R.BAD_EVENTS, detail)
    mailboxes = {name: _mailbox(name) for name in names}  # also of one that moved
    for foreign in events:
        _expect_honest_claim(foreign.event, sender)
    epochs = (getattr(foreign.event, "epoch", 1) for foreign in events)
    if max(epochs) > 1:
        return
    for name, mailbox in mailboxes.items():
        home = homes.home_of(mailbox)
        is_of_epochs = name in homes.rehomed
        if not is_of_epochs and (home is None or home.id != sender):
            raise RefusedError(_R.NOT_ITS_MAILBOX, f"{sender} is not home to mailbox {name}")


def _expect_honest_claim(event: AnyEvent, sender: ServerId) -> None:
    """A mailbox is given away by its home, or taken by the next one: by nobody else."""
    if isinstance(event, MailboxRehomed):
        speaker = event.to_home if event.is_forced else event.from_home
        if speaker != sender:
            detail = f"{sender} is not the server that may move mailbox {event.mailbox}"
            raise RefusedError(_R.NOT_ITS_MAILBOX, detail)


def _mailbox(name: str) -> MailboxAddress:
    try:
        return MailboxAddress.parse(name)
    except CallerError as error:
        raise RefusedError(_R.BAD_EVENTS, str(error)) from error


def _check_greeting(batch: Batch, greeting: GreetingRecorded) -> None:
    """Compare a stored form with what its event says; nothing to do when it is not sent along."""
    stored = _sent(batch, greeting.blob, greeting.blob_size_bytes)
    if stored is not None:
        received = _decode(stored, greeting.blob, greeting.audio.size_bytes)
        _expect_digest(greeting.blob, greeting.audio, hashlib.sha256(received).hexdigest())


def _check_message(batch: Batch, message: MessageStored, find_key: FindKey) -> None:
    """The same for a recording, with the key of its call, if anybody has it."""
    stored = _sent(batch, message.blob, message.blob_size_bytes)
    if stored is None:
        return
    call_id, blob = message.originator_id, message.blob
    if not message.is_sealed:
        received = _decode(stored, blob, message.audio.size_bytes)
        _expect_digest(blob, message.audio, hashlib.sha256(received).hexdigest())
        return
    key = find_key(call_id)
    if key is None:
        return  # whether that matters depends on what is held here
    try:
        plain = unseal(stored, key, place=f"blob {blob}")
    except CorruptionError as error:
        raise RefusedError(_R.BAD_AUDIO, str(error)) from error
    received = _decode(plain, blob, message.audio.size_bytes)
    digest = key.keyed_digest(hashlib.sha256(received).hexdigest())
    _expect_digest(blob, message.audio, digest)


def _expect_digest(blob: str, facts: AudioFacts, digest: str) -> None:
    if digest != facts.digest:
        detail = f"blob {blob} does not hold the recording {facts.digest}"
        raise RefusedError(_R.BAD_AUDIO, detail)


def _check_verifier(batch: Batch, digest: str, size_bytes: int) -> None:
    """See that a blob is what a PIN can be checked against; nothing to do when it is not sent."""
    stored = _sent(batch, digest, size_bytes)
    if stored is None:
        return
    document = _decode(stored, digest, _MAX_VERIFIER_BYTES)
    try:
        read_verifier(document, f"blob {digest}")
    except CorruptionError as error:
        raise RefusedError(_R.BAD_AUDIO, str(error)) from error


def _sent(batch: Batch, digest: str, size_bytes: int) -> bytes | None:
    """Give a stored form of a batch; None when it is not sent along."""
    stored = batch.blobs.get(digest)
    if stored is not None and len(stored) != size_bytes:
        detail = f"blob {digest} has {len(stored)} bytes, its event says {size_bytes}"
        raise RefusedError(_R.BAD_AUDIO, detail)
    return stored


def _decode(stored: bytes, digest: str, max_bytes: int) -> bytes:
    try:
        return stored_form.decode(stored, max_bytes=max_bytes, place=f"blob {digest}")
    except CorruptionError as error:
        raise RefusedError(_R.BAD_AUDIO, str(error)) from error


def _blobs_of(last: AnyEvent, message: MessageStored | None) -> tuple[str, ...]:
    if message is not None:
        return (message.blob,)
    return tuple(digest for digest, _ in profile_blobs(last))
