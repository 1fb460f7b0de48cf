"""Where projections live: an SQL database that may be thrown away at any time.

Everything in it can be made again from the log. That is why a commit here need not wait for the
disk (``synchronous=NORMAL`` on SQLite, ``synchronous_commit=off`` on PostgreSQL): after a power cut
the newest commits may be missing, but rows and position are missing together, and the runner folds
those events again.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

from ledger.errors import CorruptionError, TransientError
from ledger.storage.postgres_patience import patience
from projections.builds import (
    Build,
    BuildTables,
    build_tables,
    create_registry,
    list_builds,
    read_records,
)
from projections.projection import Projection
from projections.records import RecordT, RecordTable

if TYPE_CHECKING:
    import psycopg

Answer = TypeVar("Answer")

_REGISTRY_LOCK: Final = 0x766D_6C65_6467_6572
"""Advisory lock (PostgreSQL) of whoever creates or drops tables."""

_KEPT_CONNECTIONS: Final = 4
_MOST_CONNECTIONS: Final = 8
"""The runner needs one or two; the others answer questions."""
_POOL_TIMEOUT_S: Final = 5.0
"""How long a question waits for a connection before it is asked to come back."""

_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

_ATTEMPTS: Final = 3
"""A question can meet at most a few swaps in a row; each is rarer than the one before."""


class DamagedStoreError(CorruptionError):
    """The database itself is damaged. Nothing in it is missed: the log has it all."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question works with: one snapshot of the build that serves."""

    connection: sa.Connection
    tables: BuildTables
    position: int
    """The log's position that the snapshot stands for."""

    def table(self, table: RecordTable[Any]) -> sa.Table:
        """Give the SQL table behind a record table."""
        return self.tables.tables[table.name]

    def tally(self, table: RecordTable[Any]) -> sa.Table:
        """Give the table of counts that is kept beside a record table."""
        return self.tables.tallies[table.name]

    def records(self, table: RecordTable[RecordT], query: sa.Select[Any]) -> list[RecordT]:
        """Run a query for whole rows."""
        return read_records(self.connection, table, query)


def comes_before(
    columns: Sequence[sa.Column[Any]], values: Sequence[Any]
) -> sa.ColumnElement[bool]:
    """Compare columns with the key where a page ended: one walk along an index, both stores."""
    key = sa.tuple_(*values, types=[column.type for column in columns])
    return sa.tuple_(*columns) < key


class ProjectionStore:
    """One database with the projections of one server. Methods may be called from any thread."""

    def __init__(self, url: str, this_server: str) -> None:
        """Open (and create) the store; ``sqlite:///path`` or ``postgresql://…``.

        Raises TransientError when the database cannot be reached, DamagedStoreError for a file that
        is none any more.
        """
        self.this_server = this_server
        self._engine = _open_engine(url)
        self.dialect: str = self._engine.dialect.name
        level = {"isolation_level": "REPEATABLE READ"} if self.is_postgres else {}
        self._reading = self._engine.execution_options(**level)
        self._writing = self._engine.execution_options(takes_write_lock=True)
        try:
            with self.writing() as connection:
                self.lock_tables(connection)
                create_registry(connection)
        except sa.exc.OperationalError as error:
            raise TransientError(
                f"the projections database {self._engine.url!r} cannot be opened: {error.orig}"
            ) from error

    @property
    def is_postgres(self) -> bool:
        """Is it PostgreSQL, rather than SQLite?"""
        return self.dialect == "postgresql"

    def close(self) -> None:
        """Release all connections. No question may be running: SQLite would crash the process."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that will write; commits at the end, rolls back on an error."""
        with _damage_told(), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that sees one snapshot throughout."""
        with _damage_told(), self._reading.begin() as connection:
            yield connection

    def lock_tables(self, connection: sa.Connection) -> None:
        """Keep other processes from creating and dropping tables until the transaction ends."""
        if self.is_postgres:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_REGISTRY_LOCK)))

    def builds(self, name: str | None = None) -> list[Build]:
        """Read the registry; raises TransientError when the database cannot be used now."""
        try:
            with self.reading() as connection:
                return list_builds(connection, name)
        except sa.exc.SQLAlchemyError as error:
            raise _unavailable("registry", error) from error

    def ask(self, projection: Projection, question: Callable[[Asked], Answer]) -> Answer:
        """Answer a question from one snapshot of the build that serves.

        A build that is replaced under the question costs another attempt, never a wrong answer.
        Raises TransientError while no build serves, or when the database cannot be reached.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._ask_once(projection, question)
            except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
                if not _is_missing_table(error):
                    raise _unavailable(projection.name, error) from error
        return self._ask_once(projection, question)

    def _ask_once(self, projection: Projection, question: Callable[[Asked], Answer]) -> Answer:
        with self.reading() as connection:
            builds = list_builds(connection, projection.name)
            serving = next((build for build in builds if build.is_serving), None)
            if serving is None:
                raise TransientError(f"projection {projection.name} is not built yet; ask again")
            tables = build_tables(projection, serving.prefix)
            return question(Asked(connection, tables, serving.position))


@contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        if not getattr(error.orig, "sqlite_errorname", "").startswith(_DAMAGED):
            raise
        raise DamagedStoreError(
            f"the read models' database is damaged: {error.orig}",
            place="[store] projections",
            advice="stop the server and remove the file: the next start makes it anew from the log",
        ) from error


def _unavailable(name: str, error: sa.exc.SQLAlchemyError) -> Exception:
    if is_passing_trouble(error):
        return TransientError(f"projection {name} cannot be read now: {_driver_error(error)}")
    return error


def _open_engine(url: str) -> sa.Engine:
    address = sa.make_url(url)
    if address.drivername in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    is_sqlite = address.drivername == "sqlite"
    engine = sa.create_engine(
        address,
        pool_pre_ping=not is_sqlite,
        pool_size=_KEPT_CONNECTIONS,
        max_overflow=_MOST_CONNECTIONS - _KEPT_CONNECTIONS,
        pool_timeout=_POOL_TIMEOUT_S,
        connect_args={} if is_sqlite else patience(url),
    )
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    else:
        sa.event.listen(engine, "connect", _prepare_postgres)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",  # derived data: see above
        "busy_timeout=10000",
        "cache_size=-32768",
        "wal_autocheckpoint=4000",  # a rebuild touches the same pages again and again
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A deferred transaction that reads first and writes later fails at once when another connection
    # has written in between; who will write says so at the start.
    is_writing = connection.get_execution_options().get("takes_write_lock", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


def _prepare_postgres(connection: psycopg.Connection[Any], _record: object) -> None:
    connection.execute("SET synchronous_commit = off")  # derived data: see above
    connection.commit()


def _driver_error(error: BaseException) -> BaseException | None:
    return error.orig if isinstance(error, sa.exc.DBAPIError) else error


def _is_missing_table(error: sa.exc.SQLAlchemyError) -> bool:
    cause = _driver_error(error)
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.OperationalError) and "no such table" in str(cause)
    import psycopg  # noqa: PLC0415  (a tenth of the start of a server that needs none)

    return isinstance(cause, psycopg.errors.UndefinedTable)


_PASSING_SQLSTATES: Final = ("08", "25", "40", "53", "55", "57", "58")
"""Classes: connection, transaction state, rollback, resources, lock, operator, system."""


def is_passing_trouble(error: BaseException) -> bool:
    """Is it trouble of the database, rather than of what was to be written?"""
    cause = _driver_error(error)
    if isinstance(error, sa.exc.TimeoutError | sa.exc.InterfaceError | DamagedStoreError):
        return True
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.OperationalError)
    import psycopg  # noqa: PLC0415  (as above)

    if isinstance(cause, psycopg.OperationalError):
        return cause.sqlstate is None or cause.sqlstate.startswith(_PASSING_SQLSTATES)
    return False
