"""What may happen to a mailbox, as pure functions over its state: its home, greetings and PIN.

A mailbox has a stream for each home that it ever had, and for each incarnation of that home's log.
`evolve` folds the events of all of them into one `MailboxState`. A server gets the streams of
different homes in any order, so the state must not depend on it: for each server that recorded
anything, the last word on each thing is kept, and which of them counts is found when it is asked
for. The higher epoch counts; of one epoch that of the home that the mailbox then had; and when the
mailbox moved by a change of the configuration, where no epoch tells, what was recorded last.

Source: claims 6, 8 and 9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TypeAlias
from uuid import UUID

import msgspec

from ledger.events import (
    AudioFacts,
    DomainEvent,
    Epoch,
    GreetingRecorded,
    GreetingRemoved,
    MailboxHeld,
    MailboxOpened,
    MailboxRehomed,
    MailboxReleased,
    OpaqueEvent,
    PinChanged,
    ServerId,
    Stamp,
)


class GreetingKind(Enum):
    """What a greeting is for."""

    NAME = "name"
    """The owner says their name; it is put into the system's own sentences."""
    BUSY = "busy"
    """Played when the called party is on another call."""
    UNAVAILABLE = "unavailable"
    """Played when nobody answers, and in every other case without a greeting of its own."""
    TEMPORARY = "temporary"
    """Played instead of all others while it is there."""


Said: TypeAlias = GreetingRecorded | GreetingRemoved | PinChanged | MailboxHeld | MailboxReleased
"""What a home says of a mailbox."""

_PIN = "pin"
_HOLD = "hold"


class MailboxState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a mailbox after some of its events."""

    mailbox: str
    epoch: Epoch = 1
    home: ServerId | None = None
    """Where it lives since its last move; None: where the configuration says."""
    said: Mapping[tuple[str, ServerId], Said] = {}
    """(greeting kind, ``pin`` or ``hold``, server) -> what this server recorded of it last."""

    def greeting(self, kind: GreetingKind) -> GreetingRecorded | None:
        """Give the greeting of this kind, or None."""
        newest = self._newest(kind.value)
        return newest if isinstance(newest, GreetingRecorded) else None

    @property
    def pin(self) -> PinChanged | None:
        """The event that says what a PIN is checked against; None: the mailbox has no PIN."""
        newest = self._newest(_PIN)
        return newest if isinstance(newest, PinChanged) and newest.verifier is not None else None

    @property
    def hold(self) -> MailboxHeld | None:
        """The legal hold that the mailbox is under, or None."""
        newest = self._newest(_HOLD)
        return newest if isinstance(newest, MailboxHeld) else None

    def _newest(self, subject: str) -> Said | None:
        found = (event for (about, _), event in self.said.items() if about == subject)
        return max(found, key=self._weight, default=None)

    def _weight(self, event: Said) -> tuple[object, ...]:
        is_by_home = event.epoch == self.epoch and event.recorded_by == self.home
        return event.epoch, is_by_home, event.recorded_at, event.recorded_by


class HomeClaim(msgspec.Struct, frozen=True):
    """An event's word that a mailbox has a home under an epoch."""

    mailbox: str
    epoch: Epoch
    home: ServerId


def home_claim_of(event: DomainEvent | OpaqueEvent) -> HomeClaim | None:
    """Say which home an event gives to a mailbox; None if it gives none.

    The former home's word that it gave the mailbox away, or the new home's that it took it. The
    first epoch's home is the configuration's affair: no event decides it.
    """
    if isinstance(event, MailboxRehomed):
        return HomeClaim(event.mailbox, event.epoch, event.to_home)
    if isinstance(event, MailboxOpened) and event.epoch > 1:
        return HomeClaim(event.mailbox, event.epoch, event.recorded_by)
    return None


def evolve(state: MailboxState, event: DomainEvent | OpaqueEvent) -> MailboxState:
    """Fold one event of this mailbox into its state."""
    claim = home_claim_of(event)
    if claim is not None:
        is_newer = (claim.epoch, claim.home) > (state.epoch, state.home or "")
        if not is_newer:
            return state
        return msgspec.structs.replace(state, epoch=claim.epoch, home=claim.home)
    if not isinstance(event, Said):
        return state
    key = (subject_of(event), event.recorded_by)
    known = state.said.get(key)
    if known is not None and known.epoch > event.epoch:
        return state
    return msgspec.structs.replace(state, said={**state.said, key: event})


def subject_of(event: Said) -> str:
    """Say what of the mailbox it is about: a kind of greeting, the PIN, a hold."""
    if isinstance(event, PinChanged):
        return _PIN
    return _HOLD if isinstance(event, MailboxHeld | MailboxReleased) else event.kind


def mailbox_of(event: DomainEvent | OpaqueEvent) -> str | None:
    """Say which mailbox's own event this is; None for events of calls, messages and servers."""
    if isinstance(event, MailboxOpened | MailboxRehomed | Said):
        return event.mailbox
    return None


def project(mailbox: str, events: Iterable[DomainEvent | OpaqueEvent]) -> MailboxState:
    """Fold those events that are this mailbox's own."""
    state = MailboxState(mailbox=mailbox)
    for event in events:
        if mailbox_of(event) == mailbox:
            state = evolve(state, event)
    return state


class Place(msgspec.Struct, frozen=True):
    """Where a mailbox's next event goes: the end of its home's own stream."""

    stream: UUID
    version: int


class Sound(msgspec.Struct, frozen=True, kw_only=True):
    """A greeting's sound whose stored form is durable."""

    blob: str
    """Content address of the stored form."""
    blob_size_bytes: int
    audio: AudioFacts


def record_greeting(
    state: MailboxState, kind: GreetingKind, sound: Sound, place: Place, stamp: Stamp
) -> GreetingRecorded | None:
    """Make this sound the mailbox's greeting; None if it already is."""
    known = state.greeting(kind)
    if known is not None and known.audio == sound.audio:
        return None
    return GreetingRecorded(
        originator_id=place.stream,
        originator_version=place.version,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        mailbox=state.mailbox,
        epoch=state.epoch,
        kind=kind.value,
        blob=sound.blob,
        blob_size_bytes=sound.blob_size_bytes,
        audio=sound.audio,
    )


def remove_greeting(
    state: MailboxState, kind: GreetingKind, by: str, place: Place, stamp: Stamp
) -> GreetingRemoved | None:
    """Leave the mailbox without a greeting of this kind; None if it has none."""
    if state.greeting(kind) is None:
        return None
    return GreetingRemoved(
        originator_id=place.stream,
        originator_version=place.version,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        mailbox=state.mailbox,
        epoch=state.epoch,
        kind=kind.value,
        by=by,
    )


class StoredVerifier(msgspec.Struct, frozen=True):
    """What a PIN is checked against, durable."""

    blob: str
    blob_size_bytes: int


def change_pin(
    state: MailboxState, verifier: StoredVerifier | None, by: str, place: Place, stamp: Stamp
) -> PinChanged | None:
    """Give the mailbox another PIN, or none; None if it has none already.

    The same PIN again is a change: its verifier has another salt, and nobody can tell.
    """
    if verifier is None and state.pin is None:
        return None
    return PinChanged(
        originator_id=place.stream,
        originator_version=place.version,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        mailbox=state.mailbox,
        epoch=state.epoch,
        verifier=verifier.blob if verifier is not None else None,
        verifier_size_bytes=verifier.blob_size_bytes if verifier is not None else 0,
        by=by,
    )


def hold(
    state: MailboxState, by: str, reason: str, place: Place, stamp: Stamp
) -> MailboxHeld | None:
    """Put the mailbox under a legal hold; None if it is under one."""
    if state.hold is not None:
        return None
    return MailboxHeld(
        originator_id=place.stream,
        originator_version=place.version,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        mailbox=state.mailbox,
        epoch=state.epoch,
        by=by,
        reason=reason,
    )


def release(
    state: MailboxState, by: str, reason: str, place: Place, stamp: Stamp
) -> MailboxReleased | None:
    """End the mailbox's legal hold; None if it is under none."""
    if state.hold is None:
        return None
    return MailboxReleased(
        originator_id=place.stream,
        originator_version=place.version,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        mailbox=state.mailbox,
        epoch=state.epoch,
        by=by,
        reason=reason,
    )
