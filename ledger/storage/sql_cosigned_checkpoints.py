"""Checkpoints with a witness's signature, in the database of the log: SQLite or PostgreSQL.

Source: C2SP tlog-witness.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from ledger.errors import TransientError
from ledger.events import ServerId
from ledger.storage.cosigned_checkpoints import KEPT, CosignedCheckpoint
from ledger.storage.open_recorder import sqlalchemy_url
from ledger.storage.postgres_patience import patience
from ledger.storage.raw_rows import raw, raw_snapshot
from ledger.storage.schema import COSIGNED_CHECKPOINT

_BUSY_TIMEOUT_S: Final = 5.0
_T: Final = COSIGNED_CHECKPOINT.c
_ORDER: Final = (_T.log, _T.witness, _T.size)


class _OvertakenError(Exception):
    """Another checkpoint is the newest."""


class SqlCosignedCheckpoints:
    """A `CosignedCheckpoints` over the table ``cosigned_checkpoint``."""

    def __init__(self, url: str) -> None:
        """Open the store of this URL, whose schema must be there already."""
        parsed = sqlalchemy_url(url)
        self._is_sqlite = parsed.get_backend_name() == "sqlite"
        self._engine = sa.create_engine(
            parsed,
            connect_args={"timeout": _BUSY_TIMEOUT_S} if self._is_sqlite else patience(url),
            pool_pre_ping=True,
            pool_size=1,
            max_overflow=1,
            pool_timeout=_BUSY_TIMEOUT_S,
        )
        if self._is_sqlite:
            sa.event.listen(self._engine, "connect", _be_durable)

    def newest(self, log: str, witness: ServerId) -> CosignedCheckpoint | None:
        query = (
            sa.select(COSIGNED_CHECKPOINT)
            .where(_T.log == log, _T.witness == witness)
            .order_by(_T.size.desc())
            .limit(1)
        )
        return next(iter(self._select(query)), None)

    def all(self) -> list[CosignedCheckpoint]:
        return self._select(sa.select(COSIGNED_CHECKPOINT).order_by(*_ORDER))

    def add(self, new: CosignedCheckpoint, after: int) -> bool:
        try:
            with _translated(), self._engine.begin() as connection:
                self._add(connection, new, after)
        except (_OvertakenError, sa.exc.IntegrityError):
            return False
        return True

    def _add(self, connection: sa.Connection, new: CosignedCheckpoint, after: int) -> None:
        """Write first, and look then: SQLite's lock is taken by the first write."""
        if not self._is_sqlite:
            connection.execute(sa.text("LOCK TABLE cosigned_checkpoint IN EXCLUSIVE MODE"))
        same = (_T.log == new.log, _T.witness == new.witness)
        if new.size == after:
            connection.execute(sa.delete(COSIGNED_CHECKPOINT).where(*same, _T.size == after))
        connection.execute(
            sa.insert(COSIGNED_CHECKPOINT).values(
                log=new.log, witness=new.witness, size=new.size, note=new.note
            )
        )
        query = sa.select(_T.size).where(*same).order_by(_T.size.desc()).limit(KEPT + 1)
        sizes = list(connection.scalars(query))
        before = sizes[1] if len(sizes) > 1 else 0
        if sizes[0] != new.size or after not in (new.size, before):
            raise _OvertakenError
        if len(sizes) > KEPT:
            connection.execute(sa.delete(COSIGNED_CHECKPOINT).where(*same, _T.size <= sizes[KEPT]))

    def close(self) -> None:
        """Free connections."""
        self._engine.dispose()

    def _select(self, query: sa.Select[Any]) -> list[CosignedCheckpoint]:
        with _translated(), self._engine.connect() as connection:
            rows = connection.execute(query.with_only_columns(*_ORDER, _T.note)).all()
        return [_row(*row) for row in rows]


def read_to_verify(url: str) -> list[CosignedCheckpoint]:
    """Read all that a database keeps, as it is: what is damaged is for the reader to find out.

    Raises TransientError for a database that cannot be read.
    """
    with _translated(), raw_snapshot(url) as connection:
        rows = connection.execute(raw(COSIGNED_CHECKPOINT).order_by(*_ORDER)).all()
    return [_row(*row) for row in rows]


def _row(log: str, witness: str, size: int, note: object) -> CosignedCheckpoint:
    # What is no text any more is no note to whoever reads it.
    return CosignedCheckpoint(log, witness, size, note if isinstance(note, str) else "")


def _be_durable(connection: Any, _record: Any) -> None:
    """A signature leaves only after what it rests on is on the disk."""
    connection.execute("PRAGMA synchronous = FULL")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except sa.exc.SQLAlchemyError as error:
        raise TransientError(f"the store of checkpoints cannot work now: {error}") from error
