"""What waits here for its home: how much, how long, and what holds it up.

Keeps one record for each message that this server took for another one and still answers for, and
for each whose mailbox was given to another home and that has not arrived there yet. The record is
put away when the home's receipt is recorded, and back when the home lost the message and refuses it
then; it goes when the message is erased, which goes nowhere any more. What was refused stays until
somebody decides.

Source: claims 5 and 8 (voicemail migration module).
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa

from ledger.events import (
    MessageDelivered,
    MessageErased,
    MessageMigrated,
    MessageRehomed,
    MessageRequeued,
    MessageStored,
    MigrationRefused,
)
from projections.projection import Projection, Rule
from projections.records import Index, RecordTable, State
from projections.store import Asked, ProjectionStore


class PendingState(Enum):
    """How a pending message stands."""

    QUEUED = "queued"
    """It goes as soon as its home can be reached."""
    REFUSED = "refused"
    """Its home will not take it: it is held until somebody decides."""
    REQUEUED = "requeued"
    """It was refused or moved, and is on its way again."""


class PendingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that waits here for its home."""

    message_id: UUID
    call_id: UUID
    mailbox: str
    home: str
    state: PendingState
    reason: str | None
    """Why it was refused or requeued: a stable word."""
    detail: str | None
    """What the refusing server said about it."""
    stored_at: datetime
    """Since when it waits: since it was stored here, or since its mailbox was given away."""
    changed_at: datetime
    """When its state last changed."""
    size_bytes: int
    """Size of its stored form."""
    position: int


class PendingHome(msgspec.Struct, frozen=True, kw_only=True):
    """All that waits for one home."""

    home: str
    count: int
    size_bytes: int
    oldest_at: datetime
    held_count: int
    """Of those: refused, waiting for a decision."""
    held_reasons: dict[str, int]
    """How many are held for which reason."""
    held_since: datetime | None = None
    """When the first of those was refused."""

    def held_age_s(self, now: datetime) -> float:
        """Seconds that the oldest refusal has waited for a decision; 0 when nothing is held."""
        since = self.held_since
        return max(0.0, (now - since).total_seconds()) if since is not None else 0.0

    def oldest_age_s(self, now: datetime) -> float:
        """Seconds that the oldest message has waited; never negative, whatever clocks do."""
        return max(0.0, (now - self.oldest_at).total_seconds())


REHOMED: Final = "mailbox-rehomed"
"""Why a message that was at home here waits for another home."""

MESSAGE: Final = RecordTable(
    "message",
    PendingMessage,
    key="message_id",
    indexes=(Index("home", ("home", "position")),),
)
HANDED_OVER: Final = RecordTable("handed_over", PendingMessage, key="message_id")
"""Those that wait no longer, as they were: apart, so that nobody who asks what waits reads them."""


# --- The fold --------------------------------------------------------------------------------


def _store(state: State, event: MessageStored, position: int) -> None:
    if event.recorded_by != state.this_server or event.home == state.this_server:
        return
    pending = PendingMessage(
        message_id=event.message_id,
        call_id=event.originator_id,
        mailbox=event.mailbox,
        home=event.home,
        state=PendingState.QUEUED,
        reason=None,
        detail=None,
        stored_at=event.recorded_at,
        changed_at=event.recorded_at,
        size_bytes=event.blob_size_bytes,
        position=position,
    )
    state.put(MESSAGE, pending)


def _rehome(state: State, event: MessageRehomed, position: int) -> None:
    if event.recorded_by != state.this_server:
        return
    pending = PendingMessage(
        message_id=event.message_id,
        call_id=event.call_id,
        mailbox=event.mailbox,
        home=event.home,
        state=PendingState.REQUEUED,
        reason=REHOMED,
        detail=None,
        stored_at=event.recorded_at,
        changed_at=event.recorded_at,
        size_bytes=event.blob_size_bytes,
        position=position,
    )
    state.put(MESSAGE, pending)


def _refuse(state: State, event: MigrationRefused, _position: int) -> None:
    """After its receipt a home refuses only what it has lost: the message waits here again."""
    waiting = state.get(MESSAGE, event.message_id)
    pending = waiting or state.get(HANDED_OVER, event.message_id)
    if pending is None or pending.home != event.home:
        return  # a late word of a home that the message no longer waits for
    if waiting is None:
        state.drop(HANDED_OVER, event.message_id)
    refused = msgspec.structs.replace(
        pending,
        state=PendingState.REFUSED,
        reason=event.reason,
        detail=event.detail,
        changed_at=event.recorded_at,
    )
    state.put(MESSAGE, refused)


def _requeue(state: State, event: MessageRequeued, _position: int) -> None:
    pending = state.get(MESSAGE, event.message_id)
    if pending is None:
        return
    if event.home == state.this_server:
        state.drop(MESSAGE, event.message_id)
        return
    requeued = msgspec.structs.replace(
        pending,
        home=event.home,
        state=PendingState.REQUEUED,
        reason=event.reason,
        detail=None,
        changed_at=event.recorded_at,
    )
    state.put(MESSAGE, requeued)


def _migrate(state: State, event: MessageMigrated, _position: int) -> None:
    pending = state.get(MESSAGE, event.message_id)
    if pending is not None:
        state.drop(MESSAGE, event.message_id)
        state.put(HANDED_OVER, msgspec.structs.replace(pending, home=event.home))


def _leave(state: State, event: MessageDelivered | MessageErased, _position: int) -> None:
    for table in (MESSAGE, HANDED_OVER):
        if state.get(table, event.message_id) is not None:
            state.drop(table, event.message_id)


_THE_MESSAGE: Final = ((MESSAGE, attrgetter("message_id")),)
_WHEREVER_IT_IS: Final = (*_THE_MESSAGE, (HANDED_OVER, attrgetter("message_id")))

PENDING: Final = Projection(
    name="pending",
    version=3,
    readable_versions=frozenset({1, 2}),
    tables=(MESSAGE, HANDED_OVER),
    rules={
        MessageStored: Rule(_store, creates=_THE_MESSAGE),
        MessageRehomed: Rule(_rehome, reads=_THE_MESSAGE),
        MigrationRefused: Rule(_refuse, reads=_WHEREVER_IT_IS),
        MessageRequeued: Rule(_requeue, reads=_THE_MESSAGE),
        MessageMigrated: Rule(_migrate, reads=_WHEREVER_IT_IS),
        MessageDelivered: Rule(_leave, reads=_WHEREVER_IT_IS),
        MessageErased: Rule(_leave, reads=_WHEREVER_IT_IS),
    },
)


# --- The questions ---------------------------------------------------------------------------


class Pending:
    """Questions to the pending projection. Methods may be called from any thread."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store

    def homes(self) -> list[PendingHome]:
        """Sum up what waits, one row for each home that something waits for, by name."""
        return self._store.ask(PENDING, _homes)

    def messages(
        self, home: str | None = None, *, after_position: int = 0, limit: int = 100
    ) -> list[PendingMessage]:
        """List what waits (for one home, or for all), in the order in which it was stored."""

        def question(asked: Asked) -> list[PendingMessage]:
            table = asked.table(MESSAGE)
            query = table.select().where(table.c.position > after_position)
            if home is not None:
                query = query.where(table.c.home == home)
            return asked.records(MESSAGE, query.order_by(table.c.position).limit(limit))

        return self._store.ask(PENDING, question)


def _homes(asked: Asked) -> list[PendingHome]:
    table = asked.table(MESSAGE)
    held: dict[str, dict[str, int]] = {}
    refused = table.c.state == PendingState.REFUSED
    reasons = sa.select(table.c.home, table.c.reason, sa.func.count()).where(refused)
    for home, reason, count in asked.connection.execute(
        reasons.group_by(table.c.home, table.c.reason).order_by(table.c.home, table.c.reason)
    ):
        held.setdefault(home, {})[reason] = count
    first = sa.func.min(table.c.changed_at, type_=table.c.changed_at.type)
    firsts = sa.select(table.c.home, first).where(refused).group_by(table.c.home)
    since = {row[0]: row[1] for row in asked.connection.execute(firsts)}
    rows = asked.connection.execute(_sums(table))
    return [_home(row, held.get(row.home, {}), since.get(row.home)) for row in rows]


def _sums(table: sa.Table) -> sa.Select[Any]:
    size_bytes = sa.cast(sa.func.sum(table.c.size_bytes), sa.BigInteger)
    return (
        sa.select(
            table.c.home,
            sa.func.count().label("messages"),
            size_bytes.label("size_bytes"),
            sa.func.min(table.c.stored_at, type_=table.c.stored_at.type).label("oldest_at"),
        )
        .group_by(table.c.home)
        .order_by(table.c.home)
    )


def _home(row: sa.Row[Any], reasons: dict[str, int], since: datetime | None) -> PendingHome:
    return PendingHome(
        home=row.home,
        count=row.messages,
        size_bytes=row.size_bytes,
        oldest_at=row.oldest_at,
        held_count=sum(reasons.values()),
        held_reasons=reasons,
        held_since=since,
    )
