"""Copy a log between any two databases, SQLite or PostgreSQL, beside the server that writes it.

The source is read in one snapshot, so what is copied is the log of one moment: its events, its
tree, its head, and all that was committed with them. A copy can be brought up to date: only those
events are read that it does not have yet, after both have shown the same Merkle root for those
that it has. The copy changes in one transaction: killed half-way, nothing happened.

Where blobs lie is not copied: a copy has its audio in a store of its own, and its maker says where.
The keys of calls are copied as they stand here, wrapped: what was destroyed since is gone from the
copy too once it is brought up to date.

Source: claim 10; RFC 9162 section 2.1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa

from ledger.errors import ConflictError, TransientError
from ledger.storage.event_log import BlobLocation, LogHead
from ledger.storage.open_recorder import begin_by, open_recorder, sqlalchemy_url
from ledger.storage.row_sums import BLOB_LOCATION_PLACE, blob_location_sum
from ledger.storage.schema import (
    APPEND_ONLY,
    BLOB_LOCATION,
    EVENTS,
    LOG_HEAD,
    METADATA,
    ROW_SUM,
    TREE_NODE,
)

_PAGE: Final = 2000

Progress = Callable[[int, int], None]
"""Called with the events that are copied and the events that there are to copy."""


def copy_log(
    source: str,
    target: str,
    *,
    blob_locations: Iterable[BlobLocation] = (),
    on_progress: Progress = lambda _done, _all: None,
    before_commit: Callable[[LogHead], None] = lambda _head: None,
) -> LogHead:
    """Make or continue the copy of a log in another database; gives the copy's head.

    ``blob_locations`` say where the blobs that the copy's events name lie, and are committed with
    them. ``before_commit`` is told the head that the copy has then. Raises ConflictError when the
    copy has events that the source does not have: it is of another log, or the log went back in
    time. TransientError when a database cannot be used now.
    """
    before = _expect_beginning_of(source, target)
    with _translated(source, target), snapshot(source) as old, _writing(target) as new:
        total = old.execute(sa.select(LOG_HEAD.c.position)).scalar_one() - before
        done = 0
        for rows in _pages(old, _events_after(before)):
            _insert(new, EVENTS, rows)
            done += len(rows)
            on_progress(done, total)
        for rows in _pages(old, _nodes_after(before)):
            _insert(new, TREE_NODE, rows)
        for table in METADATA.sorted_tables:
            if table.name not in APPEND_ONLY and table is not BLOB_LOCATION:
                which = _of_the_log(table)
                new.execute(table.delete().where(which))
                for rows in _pages(old, sa.select(table).where(which)):
                    _insert(new, table, rows)
        _insert_locations(new, blob_locations)
        before_commit(_head_in(old, source))
    with contextlib.closing(open_recorder(target)) as recorder:
        return recorder.head()


def add_blob_locations(url: str, locations: Iterable[BlobLocation]) -> None:
    """Note in a log that nobody else writes where blobs lie now."""
    with _translated(url), _writing(url) as connection:
        _insert_locations(connection, locations)


def _expect_beginning_of(source: str, target: str) -> int:
    """Say how many events the copy has; each must be the source's."""
    with (
        contextlib.closing(open_recorder(source)) as old,
        contextlib.closing(open_recorder(target)) as new,
    ):
        copied, head = new.head(), old.head()
        if copied.position > head.position or old.root_at(copied.position) != copied.root:
            raise ConflictError(
                f"the copy has {copied.position} events, and they are not the first events of the "
                "log: it is the copy of another log, or this log went back in time; keep it, and "
                "copy to another place"
            )
        return copied.position


def _head_in(connection: sa.Connection, url: str) -> LogHead:
    """Give the head of a log as a snapshot has it."""
    incarnation, position = connection.execute(
        sa.select(LOG_HEAD.c.incarnation, LOG_HEAD.c.position)
    ).one()
    with contextlib.closing(open_recorder(url)) as recorder:
        return LogHead(_as_uuid(incarnation), position, recorder.root_at(position))


def _events_after(position: int) -> sa.Select[Any]:
    return sa.select(EVENTS).where(EVENTS.c.position > position).order_by(EVENTS.c.position)


def _nodes_after(position: int) -> sa.Select[Any]:
    """Give the nodes that were complete only with an event behind this position."""
    last_event = (TREE_NODE.c.idx + 1).op("<<")(TREE_NODE.c.level)
    return sa.select(TREE_NODE).where(last_event > position)


def _of_the_log(table: sa.Table) -> sa.ColumnElement[bool]:
    """Say which rows are copied: all, but sums of where blobs lie."""
    if table is not ROW_SUM:
        return sa.true()
    return sa.not_(ROW_SUM.c.place.startswith(BLOB_LOCATION_PLACE, autoescape=True))


def _pages(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Sequence[Any]]:
    found = connection.execution_options(yield_per=_PAGE).execute(query)
    yield from found.mappings().partitions()


def _insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Any]) -> None:
    is_sqlite = connection.dialect.name == "sqlite"
    ids = [column.name for column in table.columns if isinstance(column.type, sa.Uuid)]
    written = [dict(row) for row in rows]
    for row in written:
        for name in ids:
            row[name] = _as_id(row[name], in_bytes=is_sqlite)
    connection.execute(table.insert(), written)


def _as_id(value: UUID | bytes, *, in_bytes: bool) -> UUID | bytes:
    """Write an id as this kind of database has it."""
    given = _as_uuid(value)
    return given.bytes if in_bytes else given


def _as_uuid(value: UUID | bytes) -> UUID:
    return value if isinstance(value, UUID) else UUID(bytes=value)


def _insert_locations(connection: sa.Connection, locations: Iterable[BlobLocation]) -> None:
    rows = [msgspec.structs.asdict(location) for location in locations]
    for start in range(0, len(rows), _PAGE):
        page = rows[start : start + _PAGE]
        known = [row["digest"] for row in page]
        connection.execute(BLOB_LOCATION.delete().where(BLOB_LOCATION.c.digest.in_(known)))
        connection.execute(BLOB_LOCATION.insert(), page)
        sums = dict(blob_location_sum(**row) for row in page)
        connection.execute(ROW_SUM.delete().where(ROW_SUM.c.place.in_(list(sums))))
        connection.execute(
            ROW_SUM.insert(), [{"place": place, "sum": value} for place, value in sums.items()]
        )


@contextlib.contextmanager
def snapshot(url: str) -> Iterator[sa.Connection]:
    """Read everything as it is at one moment."""
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    if engine.dialect.name == "sqlite":
        begin_by(engine, "BEGIN")
    else:
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextlib.contextmanager
def _writing(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    if engine.dialect.name == "sqlite":
        begin_by(engine, "BEGIN IMMEDIATE")
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextlib.contextmanager
def _translated(*urls: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        places = " or ".join(sqlalchemy_url(url).render_as_string() for url in urls)
        raise TransientError(f"{places} cannot be used now: {error.orig}") from error
