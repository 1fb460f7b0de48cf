"""Erase for good: by destroying the key of a call, here and at every server that is told.

What was recorded stays, byte for byte, in every log and copy; but who called and what was said is
sealed, and nobody can open it any more. A message is erased by the server that answers for it. The
key goes in the same commit, unless another message of the call is not erased: that one is sealed
with it too. A call without a message is erased by the server that took it.

Source: claim 10.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger import message
from ledger.call import CallState
from ledger.errors import ConflictError, NotFoundError
from ledger.events import CallErased, DomainEvent, MessageStored, OpaqueEvent, ServerId, Stamp
from ledger.ids import erasure_stream_id, message_stream_id
from ledger.message import MessageState, MessageStatus
from ledger.server.act_on_message import change_message, events_of
from ledger.server.parts import ServerParts
from ledger.server.streams import load_call
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from ledger.storage.message_streams import in_log_order

_OVER_AFTER: Final = timedelta(days=1)
"""A call of which nobody told how it ended is held to be over by then."""


@dataclass(frozen=True, slots=True)
class Erasing:
    """Who erases, and why."""

    by: str
    reason: str
    is_told_to_all: bool = True
    """Is every server told? Else those that were sent the call. A server that is restored from an
    old backup learns of it from whoever was told."""
    only_in_trash_since: int | None = None
    """Only a message that is in the trash, and whose last event has this version."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was done, or was done before."""

    call_id: UUID
    kept_for: tuple[UUID, ...] = ()
    """Other messages of the call: because of them its key is kept."""

    @property
    def is_key_destroyed(self) -> bool:
        """Can nobody read anything of the call any more?"""
        return not self.kept_for


async def erase_message(
    parts: ServerParts, call_id: UUID, message_id: UUID, erasing: Erasing
) -> Erased | None:
    """Erase a message for good, and its call's key with the last message; durable on return.

    None, and nothing happened, when it only is to go while it is in the trash, and is not (any
    more) or was not all the time.
    Raises NotFoundError or NotInCustodyError, and ConflictError when the call is being recorded.
    """
    only_after = erasing.only_in_trash_since

    def decide(state: MessageState, stream: UUID, version: int, stamp: Stamp) -> DomainEvent | None:
        if only_after not in (None, version - 1):
            return None
        return message.erase(
            state,
            stream=stream,
            version=version,
            by=erasing.by,
            reason=erasing.reason,
            stamp=stamp,
            only_in_trash=only_after is not None,
        )

    async def complete(event: DomainEvent) -> Append:
        others = await _others(parts, call_id, message_id)
        if others:
            return Append([to_stored_event(event)])
        return await _with_key(parts, call_id, erasing, [event])

    async with _not_recorded(parts, call_id):
        is_done = await change_message(parts, call_id, message_id, decide, complete)
        if not is_done and only_after is not None:
            return None
        others = await _others(parts, call_id, message_id)
        if not (is_done or others):
            # It was erased before; a copy of the log may have ended within that commit.
            await _destroy_key(parts, call_id, erasing)
    return Erased(call_id, others)


async def erase_call(parts: ServerParts, call_id: UUID, erasing: Erasing) -> Erased:
    """Erase a call that left no message here; durable on return.

    Raises NotFoundError for an unknown call; ConflictError for one that another server took, that
    has a message, or that is not over.
    """
    async with _not_recorded(parts, call_id):
        state = await load_call(parts.log, call_id)
        _expect_over(parts, state)
        await _destroy_key(parts, call_id, erasing)
    return Erased(call_id)


async def is_erased(parts: ServerParts, call_id: UUID) -> bool:
    """Was the key of this call destroyed here?"""
    key = (await parts.log.read_keys([call_id])).get(call_id)
    return key is not None and key.wrapped is None


def _expect_over(parts: ServerParts, state: CallState) -> None:
    received, decision = state.received, state.decision
    if received.recorded_by != parts.config.server:
        raise ConflictError(f"call {state.id} was taken by {received.recorded_by}; ask that server")
    if state.messages:
        raise ConflictError(f"call {state.id} has a message; erase that")
    is_over = state.abandoned is not None or (decision is not None and not decision.to_voicemail)
    if not is_over and parts.clock.now() - received.recorded_at < _OVER_AFTER:
        raise ConflictError(f"call {state.id} is not over; try again later")


async def _destroy_key(parts: ServerParts, call_id: UUID, erasing: Erasing) -> None:
    """Destroy the key of a call that leaves nothing to be heard, unless that was done and told."""
    is_told = bool(await parts.log.read_streams([erasure_stream_id(call_id)]))
    if is_told and await is_erased(parts, call_id):
        return
    with contextlib.suppress(IntegrityError):  # somebody else erased it just now
        await parts.log.append(await _with_key(parts, call_id, erasing, []))


async def _with_key(
    parts: ServerParts, call_id: UUID, erasing: Erasing, events: Sequence[DomainEvent]
) -> Append:
    """Destroy the key with these events, unless that was done before."""
    stored = [to_stored_event(event) for event in events]
    told = await _told_of(parts, call_id)
    stream = erasure_stream_id(call_id)
    if not (await parts.log.read_streams([stream])).get(stream):
        erased = CallErased(
            originator_id=stream,
            originator_version=1,
            recorded_at=parts.clock.now(),
            recorded_by=parts.config.server,
            call_id=call_id,
            message_ids=tuple(dict.fromkeys(_messages_in(told))),
            told_to=tuple(sorted(_told_to(parts, told, erasing))),
            by=erasing.by,
            reason=erasing.reason,
        )
        stored.append(to_stored_event(erased))
    return Append(stored, keys=parts.vault.destroy([call_id]))


def _told_to(
    parts: ServerParts, told: Sequence[DomainEvent | OpaqueEvent], erasing: Erasing
) -> set[ServerId]:
    """Say who is told: all others, or whoever wrote about the call or was named as a home."""
    peers = {peer.id for peer in parts.config.directory.peers}
    if erasing.is_told_to_all:
        return peers
    named = {getattr(event, "home", None) for event in told} | {e.recorded_by for e in told}
    return {peer for peer in peers if peer in named}


async def _told_of(parts: ServerParts, call_id: UUID) -> list[DomainEvent | OpaqueEvent]:
    """Read all that this log tells of a call and its messages."""
    found = await parts.log.read_streams([call_id])
    if call_id not in found:
        raise NotFoundError(f"call {call_id} is not known here")
    stored = [e for e in events_of(found[call_id]) if isinstance(e, MessageStored)]
    own = [message_stream_id(e.message_id, parts.config.server) for e in stored]
    return events_of(in_log_order(await parts.log.read_with_earlier([call_id, *own])))


async def _others(parts: ServerParts, call_id: UUID, message_id: UUID) -> tuple[UUID, ...]:
    """Give the other messages of the call that are not erased."""
    told = await _told_of(parts, call_id)
    ids = [one for one in _messages_in(told) if one != message_id]
    states = {one: message.project(one, told) for one in ids}
    return tuple(o for o, s in states.items() if s and s.status is not MessageStatus.ERASED)


def _messages_in(told: Iterable[DomainEvent | OpaqueEvent]) -> list[UUID]:
    return [event.message_id for event in told if isinstance(event, MessageStored)]


@contextlib.asynccontextmanager
async def _not_recorded(parts: ServerParts, call_id: UUID) -> AsyncIterator[None]:
    """Let nobody record the call meanwhile; raises ConflictError while somebody does."""
    await parts.offload(partial(parts.spool.reserve, call_id))
    try:
        yield
    finally:
        parts.spool.free(call_id)
