"""What a server takes of its own former events when a peer gives them back.

Pure: what the log holds comes in as an argument. A stream that goes on from what is held is taken,
byte for byte. Where the log has other events by now, because calls and users came between the
restore and the moment in which it was noticed, what is held stays: a stream is told in one way. So
nothing that was written since is ever undone.

A mailbox is restated where needed: what its owner changed last, here, must be what counts at every
server, and not an older word that came back.

Source: claims 5, 7 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from ledger.errors import CorruptionError, PeerError
from ledger.events import (
    CallErased,
    CallReceived,
    DomainEvent,
    MailboxOpened,
    MailboxRehomed,
    MessageDelivered,
    MessageStored,
    ServerId,
    Stamp,
    decode,
)
from ledger.ids import (
    MailboxAddress,
    erasure_stream_id,
    mailbox_stream_id,
    message_stream_id,
)
from ledger.mailbox import Said, home_claim_of, mailbox_of, subject_of
from ledger.migration.audience import AnyEvent, stored_of
from ledger.migration.erased_messages import Why, erasures_to_record
from ledger.migration.examination import ForeignEvent, RefusedError, can_be_kept, kind_of
from ledger.migration.protocol import OwnLog
from ledger.migration.travelling_keys import CALL_RECEIVED
from ledger.migration.wire import RecalledEvent
from ledger.storage.event_log import LogEntry

_HOME: Final = "home"
_NOWHERE: Final = UUID(int=0)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
Word: TypeAlias = Said | MailboxOpened | MailboxRehomed
Held = Mapping[UUID, Sequence[LogEntry]]


@dataclass(slots=True)
class Taken:
    """What is made of one answer."""

    new: list[ForeignEvent] = field(default_factory=list)
    """Own events that come back, in the order of the peer's log."""
    common_until: int = 0
    """The last position at which the very event of the peer still stands."""
    not_taken: dict[UUID, int] = field(default_factory=dict)
    """Stream -> how many of the peer's events were left where they are."""
    differing: set[UUID] = field(default_factory=set)
    """Of those: streams that the log tells otherwise."""

    @property
    def calls(self) -> set[UUID]:
        """Those that come back from their beginning: they need their keys."""
        return {f.event.originator_id for f in self.new if f.event.topic == CALL_RECEIVED}

    def leave(self, calls: set[UUID]) -> None:
        """Leave these calls, and their messages, to the peer: it has no sound of them any more."""
        for foreign in self.new if calls else ():
            event = foreign.event
            if isinstance(event, MessageDelivered) and event.call_id in calls:
                calls = calls | {event.originator_id}
        left = [one.event.originator_id for one in self.new if one.event.originator_id in calls]
        for stream in left:
            self.not_taken[stream] = self.not_taken.get(stream, 0) + 1
        self.new = [one for one in self.new if one.event.originator_id not in calls]


def read_recalled(
    recalled: Iterable[RecalledEvent], this_server: ServerId, peer: ServerId
) -> dict[UUID, list[ForeignEvent]]:
    """Read an answer's events by stream; raises PeerError for what this server cannot have sent."""
    streams: dict[UUID, list[ForeignEvent]] = {}
    for one in recalled:
        plain = bytes(one.plain)
        try:
            event = decode(plain, f"an event that {peer} gave back")
        except CorruptionError as error:
            raise PeerError(f"{peer} gave back {error}", peer=peer) from error
        if event.recorded_by != this_server:
            raise PeerError(f"{peer} gave back an event of {event.recorded_by}", peer=peer)
        if not can_be_kept(event):
            raise PeerError(f"{peer} gave back a number that is too large", peer=peer)
        streams.setdefault(event.originator_id, []).append(ForeignEvent(one.position, event, plain))
    for stream, told in streams.items():
        versions = [foreign.event.originator_version for foreign in told]
        if versions != list(range(1, len(told) + 1)):
            raise PeerError(f"{peer} gave back stream {stream} with gaps", peer=peer)
        try:
            kind_of([foreign.event for foreign in told])
        except RefusedError as error:
            raise PeerError(f"{peer} gave back what never travels: {error}", peer=peer) from error
    return streams


def streams_to_read(
    streams: Mapping[UUID, Sequence[ForeignEvent]],
    this_server: ServerId,
    incarnations: Iterable[UUID],
) -> set[UUID]:
    """Say which streams of the log `take` and `restate` must be given."""
    told = [foreign.event for stream in streams.values() for foreign in stream]
    calls = {event.call_id for event in told if isinstance(event, MessageDelivered)}
    mailboxes = {name for event in told if (name := mailbox_of(event)) is not None}
    own = {
        mailbox_stream_id(MailboxAddress.parse(name), this_server, incarnation)
        for name in mailboxes
        for incarnation in incarnations
    }
    return streams.keys() | calls | own | _erasing(told, this_server)


def _erasing(told: Iterable[AnyEvent], this_server: ServerId) -> set[UUID]:
    """Give the streams that say whether what comes back was erased, and what is in care of it."""
    found: set[UUID] = set()
    for event in told:
        if isinstance(event, CallReceived):
            found.add(erasure_stream_id(event.originator_id))
        if isinstance(event, MessageStored):
            found.add(message_stream_id(event.message_id, this_server))
        if isinstance(event, CallErased):
            found |= {message_stream_id(one, this_server) for one in event.message_ids}
            found.add(event.call_id)
    return found


def take(streams: Mapping[UUID, Sequence[ForeignEvent]], held: Held) -> Taken:
    """Find what is to be appended: what is held already is passed over."""
    taken = Taken()
    for stream, told in streams.items():
        here = {entry.originator_version: entry for entry in held.get(stream, ())}
        same = [f for f in told if (e := here.get(f.event.originator_version)) and _is(e, f)]
        new = told[len(here) :]
        taken.common_until = max(
            [taken.common_until, *(f.position for f in same if _stands_still(f, here))]
        )
        is_other = len(same) < min(len(here), len(told))
        if is_other:
            taken.differing.add(stream)
        if is_other or not _has_its_call(told, streams, held, taken):
            taken.not_taken[stream] = len(told) - len(same)
        else:
            taken.new += new
    return taken


def erase(
    taken: Taken, held: Held, stamp: Stamp, destroyed: Iterable[UUID], peer: ServerId
) -> list[DomainEvent]:
    """Erase what this server has in its care of calls whose key is destroyed.

    Either the message came back, or the word that it is erased; or the peer knows of its call only
    that the key is ``destroyed``.
    """
    streams: dict[UUID, list[AnyEvent]] = {
        stream: [decode(entry.plain) for entry in entries] for stream, entries in held.items()
    }
    for foreign in taken.new:
        streams.setdefault(foreign.event.originator_id, []).append(foreign.event)
    why = Why(peer, "the key of its call is destroyed there")
    return list(erasures_to_record(streams, stamp, dict.fromkeys(destroyed, why)))


def find_forgotten(
    taken: Taken,
    streams: Mapping[UUID, Sequence[ForeignEvent]],
    held: Held,
    own: OwnLog,
    this_server: ServerId,
) -> dict[UUID, list[ForeignEvent]]:
    """Find what a peer tells of mailboxes in streams that this log tells otherwise.

    Stream -> the last word of each thing of which nothing was said here since. Others act by it: a
    move, a PIN, a legal hold.
    """
    found: dict[UUID, list[ForeignEvent]] = {}
    for stream in taken.differing:
        mailbox = _mailbox_in(streams[stream])
        if mailbox is not None:
            names = _own_streams(mailbox, this_server, own) | {stream}
            entries = [entry for name in names for entry in held.get(name, ())]
            found[stream] = _forgotten(streams[stream], held[stream], entries)
    return found


def _forgotten(
    told: Sequence[ForeignEvent], here: Sequence[LogEntry], own: Iterable[LogEntry]
) -> list[ForeignEvent]:
    entries = {entry.originator_version: entry for entry in here}
    lost = [f for f in told if (e := entries.get(f.event.originator_version)) and not _is(e, f)]
    version = lost[0].event.originator_version
    parted_at = entries[version].position
    words = [(e.position, decode(e.plain, f"position {e.position}")) for e in own]
    claims = {home_claim_of(event) for _, event in words}
    said = [(position, event) for position, event in words if isinstance(event, Said)]
    before = {_content(event) for position, event in said if position < parted_at}
    since = {
        subject_of(event)
        for position, event in said
        if position >= parted_at and _content(event) not in before  # (else it was restated)
    }
    found: dict[str, ForeignEvent] = {}
    for foreign in told[version - 1 :]:
        event = foreign.event
        if isinstance(event, Said) and subject_of(event) not in since:
            found[subject_of(event)] = foreign
        elif home_claim_of(event) not in claims | {None}:
            found[_HOME] = foreign
    return list(found.values())


def _content(event: Said) -> Said:
    """Give what was said, without where and when."""
    return msgspec.structs.replace(
        event, originator_id=_NOWHERE, originator_version=0, recorded_at=_NEVER
    )


def restate(
    taken: Taken,
    streams: Mapping[UUID, Sequence[ForeignEvent]],
    held: Held,
    own: OwnLog,
    stamp: Stamp,
    *,
    forgotten: Mapping[UUID, Sequence[ForeignEvent]],
) -> list[DomainEvent]:
    """Say once more, in the present stream, what this log holds of mailboxes that peers know else.

    Of a mailbox whose former events come back: what was changed since, lest the old word count
    again. Of one that the log tells otherwise under a former incarnation: the last word of each
    thing; the peers have other events in its place, and would never take it. What is ``forgotten``
    of that (`find_forgotten`) is the last word.
    """
    back = {foreign.event.originator_id for foreign in taken.new}
    new: list[DomainEvent] = []
    versions: dict[UUID, int] = {}
    for stream, told in streams.items():
        mailbox = _mailbox_in(told)
        if mailbox is None or stream not in back | taken.differing:
            continue
        names = _own_streams(mailbox, stamp.by, own)
        present = mailbox_stream_id(MailboxAddress.parse(mailbox), stamp.by, own.incarnation)
        words = _last_words(entry for name in names | {stream} for entry in held.get(name, ()))
        end = max((entry.position for entry in held.get(stream, ())), default=0)
        again: list[Word] = []
        for position, event in words:
            is_newer = position > end and event.originator_id != stream
            is_known = event.originator_id == present
            if is_newer if stream in back else not is_known:
                again.append(event)
        again += [f.event for f in forgotten.get(stream, ()) if isinstance(f.event, Word)]
        for event in again:
            version = versions.get(present, len(held.get(present, ()))) + 1
            versions[present] = version
            new.append(_again(event, present, version, stamp))
    return new


def _mailbox_in(told: Iterable[ForeignEvent]) -> str | None:
    return next((n for f in told if (n := mailbox_of(f.event)) is not None), None)


def _own_streams(mailbox: str, this_server: ServerId, own: OwnLog) -> set[UUID]:
    address = MailboxAddress.parse(mailbox)
    return {mailbox_stream_id(address, this_server, each) for each in own.incarnations}


def _again(event: Word, stream: UUID, version: int, stamp: Stamp) -> DomainEvent:
    return msgspec.structs.replace(
        event, originator_id=stream, originator_version=version, recorded_at=stamp.at
    )


def _last_words(entries: Iterable[LogEntry]) -> list[tuple[int, Word]]:
    """Give what was said last of each thing, also of where the mailbox lives, with its position."""
    words: dict[str, tuple[int, Word]] = {}
    for entry in sorted(entries, key=lambda entry: entry.position):
        event = decode(entry.plain, f"position {entry.position}")
        if isinstance(event, Said):
            words[subject_of(event)] = (entry.position, event)
        elif isinstance(event, MailboxOpened | MailboxRehomed):
            words[_HOME] = (entry.position, event)
    return sorted(words.values(), key=lambda word: word[0])


def _is(entry: LogEntry, foreign: ForeignEvent) -> bool:
    return entry.plain == foreign.plain


def _stands_still(foreign: ForeignEvent, here: Mapping[int, LogEntry]) -> bool:
    entry = here[foreign.event.originator_version]
    return entry.origin is None and entry.position == foreign.position


def _has_its_call(
    told: Sequence[ForeignEvent],
    streams: Mapping[UUID, Sequence[ForeignEvent]],
    held: Held,
    taken: Taken,
) -> bool:
    """Is the message of this stream known, here or in the same answer? True for other streams.

    If not, another server took its call. That one ships it again, as to any home that went back.
    """
    for foreign in told:
        event = foreign.event
        if isinstance(event, MessageDelivered):
            came = streams.get(event.call_id, ()) if event.call_id not in taken.not_taken else ()
            known: list[AnyEvent] = [one.event for one in came]
            known += [decode(entry.plain) for entry in held.get(event.call_id, ())]
            if stored_of(event.message_id, known) is None:
                return False
    return True
