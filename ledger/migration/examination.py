"""A home looks at the parcels of a batch, each for itself: may this be taken in?

Pure, and independent of what the home holds already; so it runs off the event loop, before the
origin's turn. A parcel that may not is refused alone: one poisonous message never holds up others.

Source: claim 7.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from ledger.configuration import Homes
from ledger.errors import CallerError, CorruptionError
from ledger.events import (
    AudioFacts,
    GreetingRecorded,
    MessageRequeued,
    MessageStored,
    OpaqueEvent,
    PinChanged,
    ServerId,
    decode,
)
from ledger.ids import MailboxAddress
from ledger.migration.audience import (
    TRAVELLING,
    AnyEvent,
    Role,
    StreamKind,
    is_forbidden,
    profile_blobs,
    role_of,
    stored_of,
)
from ledger.migration.wire import Batch, Parcel, Refusal, RefusalReason
from ledger.pin import read_verifier
from ledger.storage import stored_form

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
    events: tuple[ForeignEvent, ...]
    role: Role | None
    """What its last event does; None when this program cannot interpret it."""
    blobs: tuple[str, ...] = ()
    message: MessageStored | None = None
    """The message to deliver; None for a parcel that only tells more."""
    unless_held: RefusedError | None = None
    """Why it is refused, unless the message is here already: its mailbox moved away since then, and
    the origin must learn that it need not send the message to the new home."""

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


def examine_all(batch: Batch, homes: Homes) -> list[Examined | Refusal]:
    """Look at every parcel of a batch, in order."""
    return [_examine_or_refuse(parcel, batch, homes) for parcel in batch.header.parcels]


def _examine_or_refuse(parcel: Parcel, batch: Batch, homes: Homes) -> Examined | Refusal:
    try:
        return _examine(parcel, batch, homes)
    except RefusedError as refused:
        return refused.at(parcel.position)


def _examine(parcel: Parcel, batch: Batch, homes: Homes) -> Examined:
    events = _read_events(parcel)
    last = events[-1].event
    kind, role = _kind_and_role(last, [f.event for f in events])
    for foreign in events:
        if is_forbidden(foreign.event, kind):
            detail = f"no other server may record {foreign.event.topic} in a {kind.value} stream"
            raise RefusedError(_R.FORBIDDEN_TOPIC, detail)
    message: MessageStored | None = None
    unless_held: RefusedError | None = None
    if kind is StreamKind.MAILBOX:
        _expect_profile_of_sender(events, batch.header.origin, homes)
        if isinstance(last, GreetingRecorded):
            _check_audio(batch, last.blob, last.blob_size_bytes, last.audio)
        elif isinstance(last, PinChanged) and last.verifier is not None:
            _check_verifier(batch, last.verifier, last.verifier_size_bytes)
    elif role is Role.DELIVERS:
        message = _message_of(events)
        unless_held = _why_not_ours(message, last, homes)
        _check_audio(batch, message.blob, message.blob_size_bytes, message.audio)
    return Examined(
        position=parcel.position,
        stream=last.originator_id,
        events=events,
        role=role,
        blobs=_blobs_of(last, message),
        message=message,
        unless_held=unless_held,
    )


def _read_events(parcel: Parcel) -> tuple[ForeignEvent, ...]:
    """Decode the events; one stream, versions in a row, positions rising up to the parcel's."""
    events: list[ForeignEvent] = []
    for wire in parcel.events:
        plain = bytes(wire.plain)
        try:
            event = decode(plain, f"position {wire.position} of the origin")
        except CorruptionError as error:
            raise RefusedError(_R.BAD_EVENTS, str(error)) from error
        events.append(ForeignEvent(wire.position, event, plain))
    for before, after in itertools.pairwise(events):
        is_next = (
            after.event.originator_id == before.event.originator_id
            and after.event.originator_version == before.event.originator_version + 1
            and after.position > before.position
        )
        if not is_next:
            raise RefusedError(_R.BAD_EVENTS, "the events are not in a row of one stream")
    if events[-1].position != parcel.position:
        raise RefusedError(_R.BAD_EVENTS, "the last event does not stand at the parcel's position")
    return tuple(events)


def _kind_and_role(last: AnyEvent, events: list[AnyEvent]) -> tuple[StreamKind, Role | None]:
    """Which kind of stream is this, and what does its last event do?"""
    kinds = {TRAVELLING[e.topic][0] for e in events if e.topic in TRAVELLING}
    if not kinds:
        detail = f"nothing here knows a stream of {events[0].topic}; bring this server up to date"
        is_known = any(not isinstance(event, OpaqueEvent) for event in events)
        raise RefusedError(_R.FORBIDDEN_TOPIC if is_known else _R.UNKNOWN_TOPIC, detail)
    if len(kinds) > 1:
        raise RefusedError(_R.BAD_EVENTS, "events of calls and of mailboxes in one stream")
    if isinstance(last, OpaqueEvent) and TRAVELLING.get(last.topic, (None, None))[1]:
        detail = f"{last.topic} version {last.v} is newer than this server; bring it up to date"
        raise RefusedError(_R.UNKNOWN_TOPIC, detail)
    return kinds.pop(), role_of(last)


def _message_of(events: tuple[ForeignEvent, ...]) -> MessageStored:
    """Find the message that the last event sends somewhere."""
    last = events[-1].event
    assert isinstance(last, MessageStored | MessageRequeued)
    message = stored_of(last.message_id, [foreign.event for foreign in events])
    if message is None:
        detail = f"the event that stored message {last.message_id} is not there or is newer"
        raise RefusedError(_R.UNKNOWN_TOPIC, detail)
    return message


def _why_not_ours(message: MessageStored, last: AnyEvent, homes: Homes) -> RefusedError | None:
    """Say why a message does not belong here; None when this is its home."""
    assert isinstance(last, MessageStored | MessageRequeued)
    home = homes.home_of(_mailbox(message.mailbox))
    if last.home == homes.this_server and home is not None and home.id == last.home:
        return None
    told = f"its home is {home.id}" if home is not None else "no server is home to it"
    return RefusedError(
        _R.NOT_MY_MAILBOX,
        f"mailbox {message.mailbox} does not live on {homes.this_server}: {told}",
        home.id if home is not None else None,
    )


def _expect_profile_of_sender(
    events: tuple[ForeignEvent, ...], sender: ServerId, homes: Homes
) -> None:
    """A stream tells of one mailbox, and the sender is its home.

    Which stream that is, is the home's affair: it has one for each incarnation of its log.
    """
    told = (getattr(foreign.event, "mailbox", None) for foreign in events)
    names = {name for name in told if name is not None}
    if len(names) > 1:
        detail = f"one stream tells of several mailboxes: {', '.join(sorted(names))}"
        raise RefusedError(_R.BAD_EVENTS, detail)
    for name in names:
        home = homes.home_of(_mailbox(name))
        if home is None or home.id != sender:
            raise RefusedError(_R.NOT_ITS_MAILBOX, f"{sender} is not home to mailbox {name}")


def _mailbox(name: str) -> MailboxAddress:
    try:
        return MailboxAddress.parse(name)
    except CallerError as error:
        raise RefusedError(_R.BAD_EVENTS, str(error)) from error


def _check_audio(batch: Batch, digest: str, size_bytes: int, facts: AudioFacts) -> None:
    """Compare a stored form with what its event says; nothing to do when it is not sent along."""
    received = _received(batch, digest, size_bytes, facts.size_bytes)
    if received is not None and hashlib.sha256(received).hexdigest() != facts.digest:
        detail = f"blob {digest} does not hold the recording {facts.digest}"
        raise RefusedError(_R.BAD_AUDIO, detail)


def _check_verifier(batch: Batch, digest: str, size_bytes: int) -> None:
    """See that a blob is what a PIN can be checked against; nothing to do when it is not sent."""
    document = _received(batch, digest, size_bytes, _MAX_VERIFIER_BYTES)
    if document is None:
        return
    try:
        read_verifier(document, f"blob {digest}")
    except CorruptionError as error:
        raise RefusedError(_R.BAD_AUDIO, str(error)) from error


def _received(batch: Batch, digest: str, size_bytes: int, max_bytes: int) -> bytes | None:
    """Give what a stored form of a batch holds; None when it is not sent along."""
    stored = batch.blobs.get(digest)
    if stored is None:
        return None
    if len(stored) != size_bytes:
        detail = f"blob {digest} has {len(stored)} bytes, its event says {size_bytes}"
        raise RefusedError(_R.BAD_AUDIO, detail)
    try:
        return stored_form.decode(stored, max_bytes=max_bytes, place=f"blob {digest}")
    except CorruptionError as error:
        raise RefusedError(_R.BAD_AUDIO, str(error)) from error


def _blobs_of(last: AnyEvent, message: MessageStored | None) -> tuple[str, ...]:
    if message is not None:
        return (message.blob,)
    return tuple(digest for digest, _ in profile_blobs(last))
