"""What is not where it belongs is found in any order in which a log may tell of it."""

from uuid import UUID

import pytest

from ledger.configuration import Homes
from ledger.events import MailboxRehomed, MessageDelivered
from ledger.ids import message_stream_id
from ledger.journey import Stage
from ledger.migration.unsettled import _Unsettled
from tests.support.sites import make_sites
from tests.unit.migration.test_audience import CALL, MESSAGE, event, migrated, requeued, stored

OWN = message_stream_id(MESSAGE, "alpha")


def given_away() -> Homes:
    """Alpha's view, after the mailbox went from it to charlie."""
    homes = Homes(make_sites(("alpha", "bravo", "charlie"))["alpha"].directory)
    homes.learn(
        event(
            MailboxRehomed,
            stream=UUID(int=3),
            mailbox="2001@default",
            from_home="alpha",
            to_home="charlie",
            epoch=3,
            by="ann",
        )
    )
    return homes


def delivered() -> MessageDelivered:
    return event(
        MessageDelivered,
        stream=OWN,
        message_id=MESSAGE,
        call_id=CALL,
        mailbox="2001@default",
        origin="bravo",
        origin_position=7,
    )


@pytest.mark.parametrize(
    "recalled", [[], [migrated(3, "bravo")], [requeued(3, "bravo"), migrated(4, "bravo")]]
)
@pytest.mark.parametrize("is_stored_recalled", [False, True])
def test_message_at_home_here_is_found_though_its_earlier_way_is_recalled_behind_it(
    recalled, is_stored_recalled
):
    unsettled = _Unsettled(given_away(), None)
    told = [delivered(), stored()] if is_stored_recalled else [stored(), delivered()]
    for one in [*told, *recalled]:
        unsettled.take(one)
    [journey] = unsettled.found.values()
    assert (journey.stage, journey.stream) == (Stage.AT_HOME, OWN), "it is to be handed over"


def test_message_that_left_by_its_own_stream_is_settled():
    unsettled = _Unsettled(given_away(), None)
    left = event(type(migrated(1, "x")), 2, OWN, **_fields(migrated(3, "charlie")))
    for one in (stored(), delivered(), left):
        unsettled.take(one)
    assert unsettled.found == {}


def _fields(one):
    names = ("message_id", "home", "home_position", "receipt")
    return {name: getattr(one, name) for name in names}
