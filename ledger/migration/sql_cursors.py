"""Cursors of peers in the server's own database, beside its events.

Source: claim 5.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from ledger.errors import TransientError
from ledger.events import ServerId
from ledger.migration.cursors import PeerCursor
from ledger.storage.schema import PEER_CURSOR


class SqlCursorStore:
    """A `CursorStore` over table ``peer_cursor`` of SQLite or PostgreSQL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"

    def load(self, peer: ServerId) -> PeerCursor | None:
        query = sa.select(PEER_CURSOR).where(PEER_CURSOR.c.peer == peer)
        try:
            with self._engine.connect() as connection:
                row = connection.execute(query).one_or_none()
        except sa.exc.DBAPIError as error:
            raise _unusable(error) from error
        if row is None:
            return None
        at = row.next_attempt_at
        return PeerCursor(
            peer=row.peer,
            incarnation=UUID(bytes=row.incarnation) if self._is_sqlite else row.incarnation,
            position=row.position,
            attempts=row.attempts,
            next_attempt_at=None if at is None else datetime.fromisoformat(at),
        )

    def save(self, cursor: PeerCursor) -> None:
        at = cursor.next_attempt_at
        values = {
            "incarnation": cursor.incarnation.bytes if self._is_sqlite else cursor.incarnation,
            "position": cursor.position,
            "attempts": cursor.attempts,
            "next_attempt_at": None if at is None else at.isoformat(),
        }
        of_peer = PEER_CURSOR.c.peer == cursor.peer
        try:
            # A crash before the commit leaves the older cursor: more is sent again, nothing lost.
            with self._engine.begin() as connection:
                if not connection.execute(
                    PEER_CURSOR.update().where(of_peer).values(values)
                ).rowcount:
                    connection.execute(PEER_CURSOR.insert().values(peer=cursor.peer, **values))
        except sa.exc.DBAPIError as error:
            raise _unusable(error) from error


def _unusable(error: Exception) -> TransientError:
    return TransientError(f"the cursors of peers cannot be used now: {error}")
