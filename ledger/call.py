"""What may happen to a call, as pure functions over its state.

A ``Call`` stream is written by the server that took the call, from the switch's report to the
home's receipt. `evolve` folds events into a `CallState`; each decision below takes that state and
gives the events that follow, or raises a CallerError that says why there are none. Deciding the
same thing twice gives no further events, so every request may be repeated.

Source: claims 1-5 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec

from ledger.errors import ConflictError
from ledger.events import (
    AudioFacts,
    CallAbandoned,
    CallReceived,
    DomainEvent,
    MessageMigrated,
    MessageStored,
    MigrationRefused,
    OpaqueEvent,
    RecordingSetAside,
    Stamp,
    TransferDecided,
)


class CallState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a call after some of its events."""

    id: UUID
    version: int
    """Version of its last event."""
    received: CallReceived
    decision: TransferDecided | None = None
    messages: tuple[MessageStored, ...] = ()
    """What was recorded: usually one; two when an interrupted upload was repeated."""
    migrated: tuple[MessageMigrated, ...] = ()
    refused: tuple[MigrationRefused, ...] = ()
    abandoned: CallAbandoned | None = None

    def message(self, message_id: UUID) -> MessageStored | None:
        """Give what was stored under this id, or None."""
        return next((m for m in self.messages if m.message_id == message_id), None)

    def is_in_custody(self, message_id: UUID) -> bool:
        """Does the server that took the call still answer for this message?"""
        message = self.message(message_id)
        return (
            message is not None
            and message.home != message.recorded_by
            and all(m.message_id != message_id for m in self.migrated)
        )


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A finished recording whose stored form is durable."""

    message_id: UUID
    blob: str
    """Content address of the stored form."""
    blob_size_bytes: int
    audio: AudioFacts
    is_sealed: bool = False
    is_recovered: bool = False


def evolve(state: CallState | None, event: DomainEvent | OpaqueEvent) -> CallState | None:
    """Fold one event of the stream into the state."""
    if isinstance(event, CallReceived):
        return CallState(id=event.originator_id, version=event.originator_version, received=event)
    if state is None:
        return None
    change: dict[str, Any] = {"version": event.originator_version}
    match event:
        case TransferDecided():
            change["decision"] = event
        case MessageStored():
            change["messages"] = (*state.messages, event)
        case MessageMigrated():
            change["migrated"] = (*state.migrated, event)
        case MigrationRefused():
            change["refused"] = (*state.refused, event)
        case CallAbandoned():
            change["abandoned"] = event
        case _:
            pass
    return msgspec.structs.replace(state, **change)


def project(
    state: CallState | None, events: Iterable[DomainEvent | OpaqueEvent]
) -> CallState | None:
    """Fold a stream: what the library's repository takes as its ``projector_func``."""
    for event in events:
        state = evolve(state, event)
    return state


def store_message(state: CallState, recording: Recording, stamp: Stamp) -> MessageStored | None:
    """Turn a durable recording into the call's message; None if it already is.

    Raises ConflictError when the call takes no message, or has another one. What was saved of an
    interrupted upload does not stand in the way of the whole recording.
    """
    decision = state.decision
    if decision is None or not decision.to_voicemail:
        raise ConflictError(
            f"call {state.id} is handled normally and takes no recording; "
            "report a call for voicemail first"
        )
    known = next((m for m in state.messages if m.audio.digest == recording.audio.digest), None)
    if known is not None:
        return None
    if any(not m.is_recovered for m in state.messages):
        raise ConflictError(
            f"call {state.id} already has another recording; report a new call for a second message"
        )
    assert decision.mailbox is not None
    assert decision.home is not None
    return MessageStored(
        originator_id=state.id,
        originator_version=state.version + 1,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        message_id=recording.message_id,
        mailbox=decision.mailbox,
        home=decision.home,
        blob=recording.blob,
        blob_size_bytes=recording.blob_size_bytes,
        audio=recording.audio,
        is_sealed=recording.is_sealed,
        is_recovered=recording.is_recovered,
    )


def set_recording_aside(
    state: CallState,
    *,
    digest: str,
    size_bytes: int,
    is_sealed: bool,
    reason: str,
    place: str,
    stamp: Stamp,
) -> RecordingSetAside:
    """Record that the switch handed over audio that cannot be a message, and where it is kept."""
    return RecordingSetAside(
        originator_id=state.id,
        originator_version=state.version + 1,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        digest=digest,
        size_bytes=size_bytes,
        reason=reason,
        place=place,
        is_sealed=is_sealed,
    )


def abandon(state: CallState, reason: str, stamp: Stamp) -> CallAbandoned | None:
    """Record that the call ended without a message; None if that is already recorded.

    Raises ConflictError when the call has a message.
    """
    if state.messages:
        raise ConflictError(f"call {state.id} has a message and cannot be abandoned")
    if state.abandoned is not None:
        return None
    return CallAbandoned(
        originator_id=state.id,
        originator_version=state.version + 1,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        reason=reason,
    )
