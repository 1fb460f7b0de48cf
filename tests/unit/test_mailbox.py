"""What may happen to a mailbox, and what is known of it whatever came first."""

import hashlib
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import mailbox
from ledger.events import (
    AudioFacts,
    DomainEvent,
    GreetingRecorded,
    GreetingRemoved,
    MailboxRehomed,
    PinChanged,
    Stamp,
)
from ledger.ids import MailboxAddress, mailbox_stream_id
from ledger.mailbox import GreetingKind, MailboxState, Place, Sound, StoredVerifier, project

START = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "2001@default"
BUSY, UNAVAILABLE = GreetingKind.BUSY, GreetingKind.UNAVAILABLE


def sound(name: str) -> Sound:
    digest = hashlib.sha256(name.encode()).hexdigest()
    facts = AudioFacts(
        digest=digest,
        size_bytes=1,
        container="raw",
        codec="pcmu",
        sample_rate_hz=8000,
        channels=1,
        duration_ms=1,
    )
    return Sound(blob=digest, blob_size_bytes=9, audio=facts)


class Home:
    """Writes a mailbox's events as one of its homes does."""

    def __init__(self, server: str, epoch: int = 1) -> None:
        self.server, self.epoch = server, epoch
        self.events: list[DomainEvent] = []

    def _where(self, after_s: float) -> tuple[Place, Stamp]:
        stream = mailbox_stream_id(MailboxAddress.parse(NAME), self.server, UUID(int=1))
        stamp = Stamp(at=START + timedelta(seconds=after_s), by=self.server)
        return Place(stream, len(self.events) + 1), stamp

    @property
    def state(self) -> MailboxState:
        told = project(NAME, self.events)
        return MailboxState(mailbox=NAME, epoch=self.epoch, said=told.said)

    def greet(self, name: str, kind: GreetingKind = UNAVAILABLE, after_s: float = 0) -> None:
        event = mailbox.record_greeting(self.state, kind, sound(name), *self._where(after_s))
        assert event is not None
        self.events.append(event)

    def ungreet(self, kind: GreetingKind = UNAVAILABLE, after_s: float = 0) -> None:
        event = mailbox.remove_greeting(self.state, kind, "ann", *self._where(after_s))
        assert event is not None
        self.events.append(event)

    def set_pin(self, verifier: str | None, after_s: float = 0) -> None:
        stored = StoredVerifier(verifier, 9) if verifier is not None else None
        event = mailbox.change_pin(self.state, stored, "ann", *self._where(after_s))
        assert event is not None
        self.events.append(event)

    def give_to(self, home: str, after_s: float = 0) -> None:
        place, stamp = self._where(after_s)
        event = MailboxRehomed(
            originator_id=place.stream,
            originator_version=place.version,
            recorded_at=stamp.at,
            recorded_by=stamp.by,
            mailbox=NAME,
            from_home=self.server,
            to_home=home,
            epoch=self.epoch + 1,
            by="ann",
        )
        self.events.append(event)


def blob_of(state: MailboxState, kind: GreetingKind = UNAVAILABLE) -> str | None:
    greeting = state.greeting(kind)
    return greeting.blob if greeting is not None else None


def test_mailbox_of_which_nothing_is_known_lives_where_the_configuration_says():
    state = project(NAME, [])
    assert (state.home, state.epoch, state.pin) == (None, 1, None)
    assert all(state.greeting(kind) is None for kind in GreetingKind)


def test_later_greeting_of_a_kind_takes_the_place_of_the_earlier():
    home = Home("alpha")
    home.greet("one")
    home.greet("other", BUSY)
    home.greet("two")

    state = project(NAME, home.events)

    assert blob_of(state) == sound("two").blob
    assert blob_of(state, BUSY) == sound("other").blob


def test_removed_greeting_is_gone_until_another_is_recorded():
    home = Home("alpha")
    home.greet("one")
    home.ungreet()
    assert blob_of(project(NAME, home.events)) is None
    home.greet("one")
    assert blob_of(project(NAME, home.events)) == sound("one").blob


def test_same_sound_again_changes_nothing():
    home = Home("alpha")
    home.greet("one")
    assert mailbox.record_greeting(home.state, UNAVAILABLE, sound("one"), *home._where(1)) is None


def test_nothing_is_recorded_when_there_is_nothing_to_remove():
    home = Home("alpha")
    assert mailbox.remove_greeting(home.state, BUSY, "ann", *home._where(0)) is None
    assert mailbox.change_pin(home.state, None, "ann", *home._where(0)) is None


def test_removed_pin_is_gone():
    home = Home("alpha")
    home.set_pin("a" * 64)
    assert home.state.pin is not None
    home.set_pin(None)
    assert home.state.pin is None


def test_new_home_counts_more_than_the_old_one_whatever_its_clock_says():
    old, new = Home("alpha"), Home("bravo", epoch=2)
    old.greet("old", after_s=1000)
    old.give_to("bravo", after_s=1001)
    new.greet("new", after_s=0)

    for events in ([*old.events, *new.events], [*new.events, *old.events]):
        state = project(NAME, events)
        assert (state.home, state.epoch) == ("bravo", 2)
        assert blob_of(state) == sound("new").blob


def test_greeting_of_the_old_home_stays_until_the_new_one_records_another():
    old = Home("alpha")
    old.greet("old")
    old.set_pin("a" * 64)
    old.give_to("bravo")
    state = project(NAME, old.events)
    assert blob_of(state) == sound("old").blob
    assert state.pin is not None


def test_new_home_removes_what_the_old_one_recorded():
    old, new = Home("alpha"), Home("bravo", epoch=2)
    old.greet("old")
    old.give_to("bravo")
    removed = mailbox.remove_greeting(project(NAME, old.events), UNAVAILABLE, "ann", *new._where(5))
    assert isinstance(removed, GreetingRemoved)
    assert removed.epoch == 2
    for events in ([*old.events, removed], [removed, *old.events]):
        assert blob_of(project(NAME, events)) is None


def test_of_two_servers_that_took_the_mailbox_in_one_epoch_the_higher_name_counts():
    bravo, charlie = Home("bravo", epoch=2), Home("charlie", epoch=2)
    taken = Home("alpha")
    taken.give_to("bravo")
    taken.give_to("charlie")
    bravo.greet("bravo's", after_s=1000)
    charlie.greet("charlie's", after_s=0)
    for events in (
        [*taken.events, *bravo.events, *charlie.events],
        [*charlie.events, *bravo.events, *reversed(taken.events)],
    ):
        state = project(NAME, events)
        assert state.home == "charlie"
        assert blob_of(state) == sound("charlie's").blob


def test_after_a_move_by_configuration_the_later_greeting_counts():
    zulu, bravo = Home("zulu"), Home("bravo")
    zulu.greet("old", after_s=0)
    bravo.greet("new", after_s=60)
    for events in ([*zulu.events, *bravo.events], [*bravo.events, *zulu.events]):
        assert blob_of(project(NAME, events)) == sound("new").blob


def test_events_of_other_mailboxes_change_nothing():
    home = Home("alpha")
    home.greet("one")
    assert project("2002@default", home.events) == MailboxState(mailbox="2002@default")


DOING = st.sampled_from(["greet", "greet busy", "ungreet", "pin", "no pin"])


@given(
    doings=st.lists(st.lists(DOING, max_size=5), min_size=1, max_size=4),
    seconds=st.randoms(use_true_random=False),
)
def test_state_does_not_depend_on_the_order_in_which_homes_are_heard_of(
    doings: list[list[str]], seconds: random.Random
) -> None:
    servers = ["bravo", "alpha", "charlie", "bravo"]
    homes = [Home(server, epoch) for epoch, server in enumerate(servers[: len(doings)], 1)]
    for number, (home, doing) in enumerate(zip(homes, doings, strict=True)):
        for what in doing:
            at_s = seconds.randrange(1000)
            match what:
                case "greet" | "greet busy":
                    kind = BUSY if what == "greet busy" else UNAVAILABLE
                    home.greet(f"{number} {len(home.events)}", kind, at_s)
                case "ungreet" if home.state.greeting(UNAVAILABLE):
                    home.ungreet(after_s=at_s)
                case "pin":
                    home.set_pin(f"{number:032x}{len(home.events):032x}", at_s)
                case "no pin" if home.state.pin:
                    home.set_pin(None, at_s)
        if number + 1 < len(homes):
            home.give_to(homes[number + 1].server, seconds.randrange(1000))
    in_order = project(NAME, [event for home in homes for event in home.events])

    # A server hears each home's events in that home's order; how the homes mix is chance. The
    # first and the last home may be one server: its own order is kept then, too.
    first, *between = homes
    mixed = [home.events[:] for home in between if home.server != first.server]
    again = [event for home in between if home.server == first.server for event in home.events]
    mixed.append([*first.events, *again])
    shuffled: list[DomainEvent] = []
    while any(mixed):
        shuffled.append(seconds.choice([events for events in mixed if events]).pop(0))

    assert project(NAME, shuffled) == in_order
    assert _seen(project(NAME, shuffled)) == _seen(in_order)
    kept = (GreetingRecorded, GreetingRemoved, PinChanged)
    assert {type(event) for event in in_order.said.values()} <= set(kept)


def _seen(state: MailboxState) -> object:
    return [state.greeting(kind) for kind in GreetingKind], state.pin, state.home, state.epoch


@pytest.mark.parametrize("kind", GreetingKind)
def test_kinds_are_those_that_events_name(kind):
    home = Home("alpha")
    home.greet("one", kind)
    assert home.events[0].kind == kind.value


def put_on_hold(home: Home) -> DomainEvent:
    event = mailbox.hold(home.state, "ann", "case 12", *home._where(0))
    assert event is not None
    home.events.append(event)
    return event


def test_hold_stays_with_a_mailbox_that_moves_until_its_new_home_releases_it():
    bravo = Home("bravo")
    put_on_hold(bravo)
    moved = MailboxState(mailbox=NAME, epoch=2, home="charlie", said=bravo.state.said)
    assert moved.hold is not None
    charlie = Home("charlie", epoch=2)
    ended = mailbox.release(moved, "ann", "over", *charlie._where(1))
    assert ended is not None
    assert mailbox.evolve(moved, ended).hold is None


def test_hold_of_a_held_mailbox_and_release_of_a_free_one_change_nothing():
    bravo = Home("bravo")
    assert mailbox.release(bravo.state, "ann", "over", *bravo._where(0)) is None
    put_on_hold(bravo)
    assert mailbox.hold(bravo.state, "ann", "again", *bravo._where(0)) is None
