"""Where mailboxes live: the configuration, and over it the log's epochs."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from uuid import UUID

import pytest

from ledger.configuration import Directory, Homes, ServerEntry, parse_claim
from ledger.events import MailboxOpened, MailboxRehomed
from ledger.ids import MailboxAddress

MAILBOX = MailboxAddress("2001")
CLAIMS = {"alpha": "1*", "bravo": "2*", "charlie": "3*"}


def directory(*servers: str) -> Directory:
    entries = [
        ServerEntry(id=s, url=f"https://{s}:1", public_key=bytes(32), claims=(parse_claim(c),))
        for s, c in CLAIMS.items()
        if not servers or s in servers
    ]
    return Directory("alpha", entries)


def moved(to: str, epoch: int, by: str = "bravo") -> MailboxRehomed:
    return MailboxRehomed(
        originator_id=UUID(int=1),
        originator_version=1,
        recorded_at=datetime(2026, 3, 1, tzinfo=UTC),
        recorded_by=by,
        mailbox=str(MAILBOX),
        from_home=by,
        to_home=to,
        epoch=epoch,
        by="ann",
    )


def opened(by: str, epoch: int) -> MailboxOpened:
    return MailboxOpened(
        originator_id=UUID(int=2),
        originator_version=1,
        recorded_at=datetime(2026, 3, 1, tzinfo=UTC),
        recorded_by=by,
        mailbox=str(MAILBOX),
        epoch=epoch,
    )


def home(homes: Homes) -> str:
    entry = homes.home_of(MAILBOX)
    assert entry is not None
    return entry.id


def test_mailbox_that_never_moved_lives_where_the_configuration_says():
    homes = Homes(directory())
    assert (home(homes), homes.epoch_of(str(MAILBOX))) == ("bravo", 1)
    assert not homes.learn(opened("charlie", 1)), "the first home is the configuration's affair"
    assert home(homes) == "bravo"


def test_same_events_name_the_same_home_in_whatever_order_they_are_heard():
    events = [moved("charlie", 2), moved("alpha", 2), opened("charlie", 2), moved("bravo", 3)]
    seen = {
        (home(homes), homes.epoch_of(str(MAILBOX)))
        for order in itertools.permutations(events)
        for homes in [Homes(directory(), order)]
    }
    assert seen == {("bravo", 3)}
    assert {home(Homes(directory(), o)) for o in itertools.permutations(events[:3])} == {"charlie"}


def test_old_news_changes_nothing():
    homes = Homes(directory(), [moved("charlie", 3)])
    assert not homes.learn(moved("alpha", 2))
    assert not homes.learn(moved("charlie", 3))
    assert homes.learn(moved("alpha", 4))
    assert homes.is_ours(str(MAILBOX))


def test_home_that_the_configuration_does_not_name_is_stood_in_for_by_the_configured_one():
    homes = Homes(directory("alpha", "bravo"), [moved("charlie", 2)])
    assert (home(homes), homes.epoch_of(str(MAILBOX))) == ("bravo", 2)


def test_what_a_batch_tells_is_known_only_once_it_is_committed():
    homes = Homes(directory())
    assert home(homes.after([moved("charlie", 2)])) == "charlie"
    assert home(homes) == "bravo"


@pytest.mark.parametrize("name", ["", "a@b@c", "9001@default"])
def test_name_without_a_home_has_none(name: str):
    assert Homes(directory()).name_of_home(name) is None
