"""What may happen to a message."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from ledger import message
from ledger.errors import ConflictError
from ledger.events import MessageDelivered, MessageErased, MessageHeard, Stamp
from ledger.message import Action, MessageState, MessageStatus

MESSAGE = UUID(int=1)
STAMP = Stamp(at=datetime(2026, 1, 1, tzinfo=UTC), by="alpha")
NEW = MessageState(id=MESSAGE)


def after(*actions: Action) -> MessageState:
    state = NEW
    for version, action in enumerate(actions, 2):
        event = message.act(state, action, stream=MESSAGE, version=version, by="ann", stamp=STAMP)
        if event is not None:
            state = message.evolve(state, event)
    return state


def test_delivered_message_is_new():
    delivered = MessageDelivered(
        originator_id=MESSAGE,
        originator_version=1,
        recorded_at=STAMP.at,
        recorded_by="alpha",
        message_id=MESSAGE,
        call_id=UUID(int=2),
        mailbox="2001@default",
        origin="alpha",
        origin_position=0,
    )
    assert message.project(MESSAGE, [delivered]) == NEW


@pytest.mark.parametrize(
    ("actions", "status"),
    [
        ([Action.HEAR], MessageStatus.HEARD),
        ([Action.SAVE], MessageStatus.SAVED),
        ([Action.SAVE, Action.HEAR], MessageStatus.SAVED),
        ([Action.DELETE], MessageStatus.DELETED),
        ([Action.DELETE, Action.RESTORE], MessageStatus.NEW),
        ([Action.HEAR, Action.DELETE, Action.RESTORE], MessageStatus.HEARD),
        ([Action.SAVE, Action.DELETE, Action.DELETE, Action.RESTORE], MessageStatus.SAVED),
        ([Action.RESTORE], MessageStatus.NEW),
    ],
)
def test_actions_lead_to_status(actions, status):
    assert after(*actions).status is status


def test_hearing_again_is_recorded_again():
    event = message.act(
        after(Action.HEAR), Action.HEAR, stream=MESSAGE, version=3, by="bob", stamp=STAMP
    )
    assert isinstance(event, MessageHeard)
    assert event.by == "bob"


@pytest.mark.parametrize("action", [Action.SAVE, Action.DELETE])
def test_repeated_action_gives_no_event(action):
    assert (
        message.act(after(action), action, stream=MESSAGE, version=3, by="ann", stamp=STAMP) is None
    )


@pytest.mark.parametrize("action", [Action.SAVE, Action.HEAR])
def test_message_in_the_trash_must_be_restored_first(action):
    with pytest.raises(ConflictError, match="restore it first"):
        message.act(after(Action.DELETE), action, stream=MESSAGE, version=3, by="ann", stamp=STAMP)


@pytest.mark.parametrize("action", list(Action))
def test_nothing_can_be_done_to_an_erased_message(action):
    erased = message.evolve(
        NEW,
        MessageErased(
            originator_id=MESSAGE,
            originator_version=2,
            recorded_at=STAMP.at,
            recorded_by="alpha",
            message_id=MESSAGE,
            by="ann",
            reason="asked",
        ),
    )
    with pytest.raises(ConflictError, match="erased"):
        message.act(erased, action, stream=MESSAGE, version=3, by="ann", stamp=STAMP)
