"""Peer cursors in the database of the log, SQLite or PostgreSQL.

Source: claim 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa

from ledger.errors import CorruptionError, TransientError
from ledger.events import ServerId
from ledger.storage.open_recorder import sqlalchemy_url
from ledger.storage.peer_cursors import HomeMark, PeerCursor
from ledger.storage.postgres_patience import patience
from ledger.storage.schema import PEER_CURSOR

_BUSY_TIMEOUT_S: Final = 5.0
_READ_MARKS: Final = msgspec.json.Decoder(tuple[HomeMark, ...])


class SqlCursorStore:
    """A `CursorStore` over the table ``peer_cursor``. Safe to call from any thread."""

    def __init__(self, url: str) -> None:
        """Open the store of this URL, whose schema must be there already."""
        parsed = sqlalchemy_url(url)
        self._is_sqlite = parsed.get_backend_name() == "sqlite"
        arguments = {"timeout": _BUSY_TIMEOUT_S} if self._is_sqlite else patience(url)
        self._engine = sa.create_engine(
            parsed,
            connect_args=arguments,
            pool_pre_ping=True,
            pool_size=1,
            max_overflow=1,
            pool_timeout=_BUSY_TIMEOUT_S,
        )
        if self._is_sqlite:
            sa.event.listen(self._engine, "connect", _spare_the_disk)

    def load(self, peer: ServerId) -> PeerCursor | None:
        query = sa.select(PEER_CURSOR).where(PEER_CURSOR.c.peer == peer)
        with _translated(), self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        try:
            return _cursor(peer, row)
        except (ValueError, msgspec.DecodeError) as error:
            raise CorruptionError(
                f"the hint about server {peer} cannot be read: {error}",
                place=f"peer_cursor {peer}",
                advice="nothing is lost; the server asks that peer and writes it anew",
            ) from error

    def save(self, cursor: PeerCursor) -> None:
        next_at = cursor.next_attempt_at
        values: dict[str, Any] = {
            "incarnation": cursor.incarnation.bytes if self._is_sqlite else cursor.incarnation,
            "position": cursor.position,
            "attempts": cursor.attempts,
            "next_attempt_at": next_at.isoformat() if next_at else None,
            "marks": msgspec.json.encode(cursor.marks).decode(),
        }
        with _translated(), self._engine.begin() as connection:
            update = sa.update(PEER_CURSOR).where(PEER_CURSOR.c.peer == cursor.peer)
            # One worker a peer writes: so nobody inserts between these two statements.
            if not connection.execute(update.values(values)).rowcount:
                connection.execute(sa.insert(PEER_CURSOR).values(peer=cursor.peer, **values))

    def close(self) -> None:
        """Free connections."""
        self._engine.dispose()


def _cursor(peer: ServerId, row: sa.RowMapping) -> PeerCursor:
    """Read a row.

    Raises ValueError or msgspec.DecodeError for one that `SqlCursorStore.save` cannot have written.
    """
    stored = row["incarnation"]
    next_at = datetime.fromisoformat(row["next_attempt_at"]) if row["next_attempt_at"] else None
    if next_at is not None and next_at.tzinfo is None:
        raise ValueError(f"the time {row['next_attempt_at']!r} is of no zone")
    return PeerCursor(
        peer=peer,
        incarnation=UUID(bytes=stored) if isinstance(stored, bytes) else stored,
        position=row["position"],
        attempts=row["attempts"],
        next_attempt_at=next_at,
        marks=_READ_MARKS.decode(row["marks"]),
    )


def _spare_the_disk(connection: Any, _record: Any) -> None:
    """A hint need not be on the disk when `save` returns."""
    connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise TransientError(f"the store of peer cursors cannot work now: {error}") from error
