"""The mailboxes' own profiles: where each lives, its greetings, and whether it has a PIN.

Keeps one record a mailbox. In it stands the last word of each server that was its home on each
thing, and the answer is chosen among those when it is asked for. So a record is the same whatever
came first: the new home's greeting, or the old home's word that the mailbox moved. The write side
chooses alike (``ledger.mailbox``); a test compares the two.

Source: claims 6, 9 and 10.
"""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import Final

import msgspec

from ledger.events import (
    AudioFacts,
    GreetingRecorded,
    GreetingRemoved,
    MailboxOpened,
    MailboxRehomed,
    PinChanged,
)
from projections.projection import Projection, Rule
from projections.records import RecordTable, State
from projections.store import Asked, ProjectionStore

_PIN: Final = "pin"


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """The last thing that one server recorded of a greeting or of the PIN."""

    subject: str
    """The kind of greeting, or ``pin``."""
    server: str
    epoch: int
    recorded_at: datetime
    blob: str | None
    """Content address of the sound, or of what the PIN is checked against; None: removed."""
    audio: AudioFacts | None = None
    """Of a greeting that was not removed."""


class MailboxProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What the log tells of a mailbox itself."""

    mailbox: str
    home: str | None = None
    """Where it lives since its last move; None: where the configuration says."""
    epoch: int = 1
    said: tuple[Said, ...] = ()
    """By subject and server."""

    @property
    def greetings(self) -> list[Said]:
        """The greetings that count, by kind."""
        subjects = sorted({each.subject for each in self.said} - {_PIN})
        return [g for kind in subjects if (g := self._newest(kind)) is not None]

    def greeting(self, kind: str) -> Said | None:
        """Give the greeting of this kind, or None."""
        return self._newest(kind) if kind != _PIN else None

    @property
    def pin(self) -> Said | None:
        """Say since when and by which home it has its PIN; None: it has none."""
        return self._newest(_PIN)

    def _newest(self, subject: str) -> Said | None:
        found = (each for each in self.said if each.subject == subject)
        newest = max(found, key=self._weight, default=None)
        return newest if newest is not None and newest.blob is not None else None

    def _weight(self, each: Said) -> tuple[object, ...]:
        is_by_home = each.epoch == self.epoch and each.server == self.home
        return each.epoch, is_by_home, each.recorded_at, each.server


class ProfileAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A profile, and the position in the log that it rests on."""

    profile: MailboxProfile
    position: int


PROFILE: Final = RecordTable("profile", MailboxProfile, key="mailbox")


# --- The fold --------------------------------------------------------------------------------


def _profile(state: State, mailbox: str) -> MailboxProfile:
    return state.get(PROFILE, mailbox) or MailboxProfile(mailbox=mailbox)


def _open(state: State, event: MailboxOpened, _position: int) -> None:
    """The first home is the configuration's affair; a later one says so itself."""
    if event.epoch > 1:
        _move(state, event.mailbox, event.epoch, event.recorded_by)
    else:
        state.put(PROFILE, _profile(state, event.mailbox))


def _rehome(state: State, event: MailboxRehomed, _position: int) -> None:
    _move(state, event.mailbox, event.epoch, event.to_home)


def _move(state: State, mailbox: str, epoch: int, home: str) -> None:
    profile = _profile(state, mailbox)
    if (epoch, home) > (profile.epoch, profile.home or ""):
        profile = msgspec.structs.replace(profile, epoch=epoch, home=home)
    state.put(PROFILE, profile)


def _greet(state: State, event: GreetingRecorded, _position: int) -> None:
    _note(state, event, event.kind, event.blob, event.audio)


def _stop_greeting(state: State, event: GreetingRemoved, _position: int) -> None:
    _note(state, event, event.kind, None)


def _change_pin(state: State, event: PinChanged, _position: int) -> None:
    _note(state, event, _PIN, event.verifier)


def _note(
    state: State,
    event: GreetingRecorded | GreetingRemoved | PinChanged,
    subject: str,
    blob: str | None,
    audio: AudioFacts | None = None,
) -> None:
    profile = _profile(state, event.mailbox)
    said = {(each.subject, each.server): each for each in profile.said}
    known = said.get((subject, event.recorded_by))
    if known is not None and known.epoch > event.epoch:
        return
    said[subject, event.recorded_by] = Said(
        subject=subject,
        server=event.recorded_by,
        epoch=event.epoch,
        recorded_at=event.recorded_at,
        blob=blob,
        audio=audio,
    )
    sorted_said = tuple(said[key] for key in sorted(said))
    state.put(PROFILE, msgspec.structs.replace(profile, said=sorted_said))


_THE_PROFILE: Final = ((PROFILE, attrgetter("mailbox")),)

PROFILES: Final = Projection(
    name="profiles",
    version=2,
    readable_versions=frozenset({1}),
    tables=(PROFILE,),
    rules={
        MailboxOpened: Rule(_open, reads=_THE_PROFILE),
        MailboxRehomed: Rule(_rehome, reads=_THE_PROFILE),
        GreetingRecorded: Rule(_greet, reads=_THE_PROFILE),
        GreetingRemoved: Rule(_stop_greeting, reads=_THE_PROFILE),
        PinChanged: Rule(_change_pin, reads=_THE_PROFILE),
    },
)


# --- The questions ---------------------------------------------------------------------------


class Profiles:
    """Questions to the profiles projection. Methods may be called from any thread."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store

    def profile(self, mailbox: str) -> ProfileAnswer:
        """Give a mailbox's profile; an empty one for a mailbox that the log tells nothing of."""

        def question(asked: Asked) -> ProfileAnswer:
            table = asked.table(PROFILE)
            found = asked.records(PROFILE, table.select().where(table.c.mailbox == mailbox))
            profile = found[0] if found else MailboxProfile(mailbox=mailbox)
            return ProfileAnswer(profile=profile, position=asked.position)

        return self._store.ask(PROFILES, question)
