"""What may happen to a message, as pure functions over its state.

Exactly one server answers for a message: the one that took the call until the home has
acknowledged, then the home. What its user does is recorded by that server, in the ``Call`` stream
while it is pending and in the ``Message`` stream at the home; both hold the same kinds of event,
so one fold serves both.

Source: claims 3, 7 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final
from uuid import UUID

import msgspec

from ledger.errors import ConflictError
from ledger.events import (
    DomainEvent,
    MessageDeleted,
    MessageDelivered,
    MessageErased,
    MessageHeard,
    MessageRestored,
    MessageSaved,
    MessageStored,
    OpaqueEvent,
    Stamp,
)


class MessageStatus(Enum):
    """Where a message stands for its user."""

    NEW = "new"
    """Nobody listened to it yet: the lamp is lit."""
    HEARD = "heard"
    SAVED = "saved"
    DELETED = "deleted"
    """In the trash: it can be restored."""
    ERASED = "erased"
    """Its content is gone for good."""


class Action(Enum):
    """What a user may do to a message."""

    HEAR = "heard"
    SAVE = "saved"
    DELETE = "deleted"
    RESTORE = "restored"


class MessageState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a message after some of its events."""

    id: UUID
    status: MessageStatus = MessageStatus.NEW
    before_deletion: MessageStatus = MessageStatus.NEW
    """What a restored message goes back to."""


_STATUS_AFTER: Final[dict[type, MessageStatus]] = {
    MessageHeard: MessageStatus.HEARD,
    MessageSaved: MessageStatus.SAVED,
    MessageDeleted: MessageStatus.DELETED,
    MessageErased: MessageStatus.ERASED,
}

_EVENT_OF: Final[dict[Action, type]] = {
    Action.HEAR: MessageHeard,
    Action.SAVE: MessageSaved,
    Action.DELETE: MessageDeleted,
    Action.RESTORE: MessageRestored,
}


def evolve(state: MessageState | None, event: DomainEvent | OpaqueEvent) -> MessageState | None:
    """Fold one event that concerns the message into its state."""
    if isinstance(event, MessageStored | MessageDelivered):
        return state or MessageState(id=event.message_id)
    if state is None or state.status is MessageStatus.ERASED:
        return state
    if isinstance(event, MessageRestored):
        is_deleted = state.status is MessageStatus.DELETED
        return msgspec.structs.replace(state, status=state.before_deletion) if is_deleted else state
    status = _STATUS_AFTER.get(type(event))
    if status is None or not _is_step(state.status, status):
        return state
    kept = state.status if status is MessageStatus.DELETED else status
    return msgspec.structs.replace(state, status=status, before_deletion=kept)


def _is_step(now: MessageStatus, then: MessageStatus) -> bool:
    """Hearing a saved or deleted message again, or deleting a deleted one, changes nothing."""
    if now is MessageStatus.DELETED:
        return then is MessageStatus.ERASED
    return not (now is MessageStatus.SAVED and then is MessageStatus.HEARD)


def project(
    message_id: UUID, events: Iterable[DomainEvent | OpaqueEvent], state: MessageState | None = None
) -> MessageState | None:
    """Fold those events of a stream that concern this message."""
    for event in events:
        if getattr(event, "message_id", None) == message_id:
            state = evolve(state, event)
    return state


def act(
    state: MessageState, action: Action, *, stream: UUID, version: int, by: str, stamp: Stamp
) -> DomainEvent | None:
    """Do something to a message; None when nothing would change.

    ``stream`` and ``version`` say where the event goes: the custodian's choice. Listening is always
    recorded, also to a message already heard, because the audit asks for it. Raises ConflictError
    for an erased message, and for saving or hearing one in the trash.
    """
    if state.status is MessageStatus.ERASED:
        raise ConflictError(f"message {state.id} is erased; nothing can be done to it any more")
    if state.status is MessageStatus.DELETED and action in (Action.SAVE, Action.HEAR):
        raise ConflictError(f"message {state.id} is in the trash; restore it first")
    if _changes_nothing(state, action):
        return None
    event: DomainEvent = _EVENT_OF[action](
        originator_id=stream,
        originator_version=version,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        message_id=state.id,
        by=by,
    )
    return event


def erase(
    state: MessageState,
    *,
    stream: UUID,
    version: int,
    by: str,
    reason: str,
    stamp: Stamp,
    only_in_trash: bool = True,
) -> MessageErased | None:
    """Erase a message for good; None for one that is erased, or not in the trash (any more)."""
    is_erased = state.status is MessageStatus.ERASED
    if is_erased or (only_in_trash and state.status is not MessageStatus.DELETED):
        return None
    return MessageErased(
        originator_id=stream,
        originator_version=version,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        message_id=state.id,
        by=by,
        reason=reason,
    )


def _changes_nothing(state: MessageState, action: Action) -> bool:
    if action is Action.RESTORE:
        return state.status is not MessageStatus.DELETED
    return action is not Action.HEAR and state.status.value == action.value
