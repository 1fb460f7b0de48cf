"""What this server remembers of its peers over a restart, beside its events.

Only hints: a lost or old one makes the origin send again what the home has already. They are
committed without waiting for more than the database's own care.

Source: claim 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from ledger.errors import TransientError
from ledger.events import ServerId
from ledger.migration.cursors import PeerCursor
from ledger.storage.schema import PEER_CURSOR

_COLUMNS: Final = PEER_CURSOR.c


class SqlCursorStore:
    """A `CursorStore` on the events database. Methods may be called from any thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"

    def load(self, peer: ServerId) -> PeerCursor | None:
        query = sa.select(PEER_CURSOR).where(_COLUMNS.peer == peer)
        with self._transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        next_at = row["next_attempt_at"]
        incarnation = row["incarnation"]
        return PeerCursor(
            peer=peer,
            incarnation=UUID(bytes=incarnation) if self._is_sqlite else incarnation,
            position=row["position"],
            attempts=row["attempts"],
            next_attempt_at=datetime.fromisoformat(next_at) if next_at is not None else None,
        )

    def save(self, cursor: PeerCursor) -> None:
        next_at = cursor.next_attempt_at
        incarnation = cursor.incarnation
        with self._transaction() as connection:
            connection.execute(sa.delete(PEER_CURSOR).where(_COLUMNS.peer == cursor.peer))
            connection.execute(
                sa.insert(PEER_CURSOR).values(
                    peer=cursor.peer,
                    incarnation=incarnation.bytes if self._is_sqlite else incarnation,
                    position=cursor.position,
                    attempts=cursor.attempts,
                    next_attempt_at=next_at.isoformat() if next_at is not None else None,
                )
            )

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise TransientError(f"hints about peers cannot be kept now: {error.orig}") from error
