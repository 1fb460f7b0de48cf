"""The history of calls: what was decided for each, why, and how it ended.

Keeps one record a call that this log tells of: those that this server took, and those whose
messages came here from the servers that took them.

Source: claims 1-5 and 8.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa

from ledger.errors import CorruptionError
from ledger.events import (
    AnyCaller,
    CallAbandoned,
    CallReceived,
    CallStatus,
    DecisionReason,
    MessageDelivered,
    MessageMigrated,
    MessageStored,
    ReachabilityEvidence,
    RecordingSetAside,
    TransferDecided,
)
from projections.projection import Projection, Rule
from projections.records import Index, RecordTable, State
from projections.store import Asked, ProjectionStore, comes_before


class CallOutcome(Enum):
    """How far a call has come. Stable words: they are shown and filtered by."""

    IN_PROGRESS = "in-progress"
    """No more is known yet than that it came, or that it is for voicemail."""
    HANDLED_NORMALLY = "handled-normally"
    """Not for voicemail."""
    STORED = "stored"
    """Its message is safe at the server that took the call, and has not left it yet."""
    DELIVERED = "delivered"
    """Its message is in its mailbox at this server."""
    MIGRATED = "migrated"
    """Its message was handed over to its home, which gave its receipt."""
    ABANDONED = "abandoned"
    """It ended without a message."""
    SET_ASIDE = "set-aside"
    """What the switch handed over is no message; the bytes are kept for a person."""


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A call as this server knows it."""

    call_id: UUID
    taken_by: str
    """The server that took the call."""
    received_at: datetime
    called_extension: str
    context: str
    status: CallStatus
    """What the switch said of the call."""
    caller: AnyCaller
    """Who called and who sent the call on, as the call's event has it: perhaps sealed."""
    redirecting_reason: str | None
    switch_call_id: str | None
    outcome: CallOutcome
    to_voicemail: bool | None
    """None until it is decided; so are the next seven."""
    reason: DecisionReason | None
    mailbox: str | None
    home: str | None
    is_remote: bool | None
    is_reachable: bool | None
    evidence: ReachabilityEvidence | None
    """What the judgement about the home rested on."""
    message_ids: tuple[UUID, ...]
    """Usually one; two when an interrupted recording was repeated in full."""
    ended_reason: str | None
    """Why it was abandoned, or its recording set aside."""
    position: int
    changed_position: int


class CallKey(msgspec.Struct, frozen=True):
    """Where a page of calls ended: the next one holds what is older."""

    received_at: datetime
    call_id: UUID


class CallPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of the history, the newest call first."""

    calls: tuple[CallRecord, ...]
    next_before: CallKey | None
    """Ask with this for the next page; None at the end."""
    position: int
    """The log's position that this answer stands for."""


CALL: Final = RecordTable(
    "call",
    CallRecord,
    key="call_id",
    indexes=(
        Index("time", ("received_at", "call_id")),
        Index("extension", ("called_extension", "received_at", "call_id")),
    ),
)


# --- The fold --------------------------------------------------------------------------------


def _receive(state: State, event: CallReceived, position: int) -> None:
    call = CallRecord(
        call_id=event.originator_id,
        taken_by=event.recorded_by,
        received_at=event.recorded_at,
        called_extension=event.called_extension,
        context=event.context,
        status=event.status,
        caller=event.personal,
        redirecting_reason=event.redirecting_reason,
        switch_call_id=event.switch_call_id,
        outcome=CallOutcome.IN_PROGRESS,
        to_voicemail=None,
        reason=None,
        mailbox=None,
        home=None,
        is_remote=None,
        is_reachable=None,
        evidence=None,
        message_ids=(),
        ended_reason=None,
        position=position,
        changed_position=position,
    )
    state.put(CALL, call)


def _change(state: State, call_id: UUID, position: int, **changes: Any) -> None:
    call = _call(state, call_id, position)
    state.put(CALL, msgspec.structs.replace(call, changed_position=position, **changes))


def _call(state: State, call_id: UUID, position: int) -> CallRecord:
    call = state.get(CALL, call_id)
    if call is None:
        raise CorruptionError(
            f"call {call_id} was never received, but the log goes on with it",
            place=f"position {position}",
            advice="verify the log, then rebuild this projection",
        )
    return call


def _decide(state: State, event: TransferDecided, position: int) -> None:
    _change(
        state,
        event.originator_id,
        position,
        to_voicemail=event.to_voicemail,
        reason=event.reason,
        mailbox=event.mailbox,
        home=event.home,
        is_remote=event.is_remote,
        is_reachable=event.is_reachable,
        evidence=event.evidence,
        outcome=CallOutcome.IN_PROGRESS if event.to_voicemail else CallOutcome.HANDLED_NORMALLY,
    )


def _store(state: State, event: MessageStored, position: int) -> None:
    call = _call(state, event.originator_id, position)
    message_ids = (*call.message_ids, event.message_id)
    _change(state, call.call_id, position, message_ids=message_ids, outcome=CallOutcome.STORED)


def _migrate(state: State, event: MessageMigrated, position: int) -> None:
    """A message that left its home later does not change how the call went."""
    call = state.get(CALL, event.originator_id)
    is_home = call is not None and call.outcome is CallOutcome.DELIVERED
    if call is not None and not is_home and event.home != state.this_server:
        _change(state, event.originator_id, position, outcome=CallOutcome.MIGRATED)


def _deliver(state: State, event: MessageDelivered, position: int) -> None:
    if event.recorded_by == state.this_server:
        _change(state, event.call_id, position, outcome=CallOutcome.DELIVERED)


def _abandon(state: State, event: CallAbandoned, position: int) -> None:
    _change(
        state,
        event.originator_id,
        position,
        outcome=CallOutcome.ABANDONED,
        ended_reason=event.reason,
    )


def _set_aside(state: State, event: RecordingSetAside, position: int) -> None:
    call = _call(state, event.originator_id, position)
    outcome = call.outcome if call.message_ids else CallOutcome.SET_ASIDE
    _change(state, call.call_id, position, outcome=outcome, ended_reason=event.reason)


_THE_STREAM: Final = ((CALL, attrgetter("originator_id")),)

CALLS: Final = Projection(
    name="calls",
    version=3,
    tables=(CALL,),
    rules={
        CallReceived: Rule(_receive, creates=_THE_STREAM),
        TransferDecided: Rule(_decide, reads=_THE_STREAM),
        MessageStored: Rule(_store, reads=_THE_STREAM),
        MessageMigrated: Rule(_migrate, reads=_THE_STREAM),
        MessageDelivered: Rule(_deliver, reads=((CALL, attrgetter("call_id")),)),
        CallAbandoned: Rule(_abandon, reads=_THE_STREAM),
        RecordingSetAside: Rule(_set_aside, reads=_THE_STREAM),
    },
)


# --- The questions ---------------------------------------------------------------------------


class Calls:
    """Questions to the calls projection. Methods may be called from any thread."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store

    def call(self, call_id: UUID) -> CallRecord | None:
        """Give what this log tells of a call; None when it tells nothing."""

        def question(asked: Asked) -> CallRecord | None:
            table = asked.table(CALL)
            found = asked.records(CALL, table.select().where(table.c.call_id == call_id))
            return found[0] if found else None

        return self._store.ask(CALLS, question)

    def page(
        self,
        *,
        extension: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: CallKey | None = None,
        limit: int = 50,
    ) -> CallPage:
        """Give the next ``limit`` calls, the newest first; since is inclusive, until is not."""

        def question(asked: Asked) -> CallPage:
            table = asked.table(CALL)
            query = _filtered(table, extension, since, until, before)
            newest_first = (table.c.received_at.desc(), table.c.call_id.desc())
            calls = asked.records(CALL, query.order_by(*newest_first).limit(limit + 1))
            return CallPage(
                calls=tuple(calls[:limit]),
                next_before=_next_key(calls, limit),
                position=asked.position,
            )

        return self._store.ask(CALLS, question)


def _filtered(
    table: sa.Table,
    extension: str | None,
    since: datetime | None,
    until: datetime | None,
    before: CallKey | None,
) -> sa.Select[Any]:
    query = table.select()
    if extension is not None:
        query = query.where(table.c.called_extension == extension)
    if since is not None:
        query = query.where(table.c.received_at >= since)
    if until is not None:
        query = query.where(table.c.received_at < until)
    if before is not None:
        place = (table.c.received_at, table.c.call_id)
        query = query.where(comes_before(place, (before.received_at, before.call_id)))
    return query


def _next_key(calls: list[CallRecord], limit: int) -> CallKey | None:
    if len(calls) <= limit:
        return None
    return CallKey(calls[limit - 1].received_at, calls[limit - 1].call_id)
