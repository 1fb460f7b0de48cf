"""Open the log that the configuration names, with its schema brought up to date.

Source: claims 6 and 10.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa

from ledger.errors import CallerError, CorruptionError, TransientError
from ledger.storage.event_log import LogRecorder
from ledger.storage.log_reserve import LogReserve
from ledger.storage.row_sums import incarnation_sum
from ledger.storage.schema import LOG_HEAD, NEWEST_REVISION, ROW_SUM

_KINDS: Final = "write sqlite:///PATH or postgresql://USER@HOST/DATABASE"
_SCRIPTS: Final = "migrations"
_MIGRATION_LOCK: Final = 0x766D6C
"""Key of PostgreSQL's advisory lock: two programs that start together take turns."""

_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

_ONE_AT_A_TIME: Final = threading.Lock()
"""Alembic keeps what it works on in one place for the whole process."""


def open_recorder(url: str, reserve: LogReserve | None = None) -> LogRecorder:
    """Open ``sqlite:///PATH`` or ``postgresql://…``; makes or upgrades the tables first.

    ``reserve`` is room for a log that is a file; see `open_reserve`.

    Raises CallerError for another kind of URL, or a database of a newer program.
    """
    upgrade(url)
    parsed = sqlalchemy_url(url)
    if parsed.drivername == "sqlite":
        from ledger.storage.sqlite import SqliteLogRecorder  # noqa: PLC0415  (one adapter is loaded)

        return SqliteLogRecorder(Path(str(parsed.database)), reserve)
    from ledger.storage.postgres import PostgresLogRecorder  # noqa: PLC0415  (one adapter is loaded)

    return PostgresLogRecorder(url)


def log_file(url: str) -> Path | None:
    """Give the file of a log that is one; None for a log in a database server."""
    parsed = sqlalchemy_url(url)
    return Path(str(parsed.database)) if parsed.drivername == "sqlite" else None


def open_reserve(url: str, size_bytes: int) -> LogReserve | None:
    """Give the reserve of a log that is a file, as an earlier run has left it; None for others."""
    file = log_file(url)
    return LogReserve(file.with_name(f"{file.name}.reserve"), size_bytes) if file else None


def upgrade(url: str, *, to: str = "head", incarnation: UUID | None = None) -> None:
    """Bring the tables up to a revision, in one transaction: killed half-way, nothing happened.

    A new log gets its first incarnation. Raises CallerError as `open_recorder` does,
    CorruptionError for a damaged file, TransientError when the database cannot be used now.
    """
    try:
        _upgrade(url, to, incarnation)
    except sa.exc.DBAPIError as error:
        place = sqlalchemy_url(url).render_as_string()
        if getattr(error.orig, "sqlite_errorname", "").startswith(_DAMAGED):
            raise CorruptionError(
                f"the database is damaged: {error.orig}",
                place=place,
                advice="stop the server and restore the log from a backup or a mirror",
            ) from error
        raise TransientError(f"the database {place} cannot be used now: {error.orig}") from error


def _upgrade(url: str, to: str, incarnation: UUID | None) -> None:
    with _ONE_AT_A_TIME, _locked_connection(url) as connection:
        if to != "head" or _revision(connection) != NEWEST_REVISION:
            _run_scripts(url, connection, to)
        if connection.execute(sa.select(sa.func.count()).select_from(LOG_HEAD)).scalar() == 0:
            _begin_log(connection, incarnation or uuid4())


def _begin_log(connection: sa.Connection, incarnation: UUID) -> None:
    connection.execute(
        LOG_HEAD.insert().values(
            id=1, incarnation=_stream(connection, incarnation), position=0, frontier=b""
        )
    )
    if sa.inspect(connection).has_table(ROW_SUM.name):
        place, value = incarnation_sum(incarnation)
        connection.execute(ROW_SUM.insert().values(place=place, sum=value))


def _revision(connection: sa.Connection) -> str | None:
    """Give the revision of the tables; None for a database without any."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _run_scripts(url: str, connection: sa.Connection, to: str) -> None:
    # Imported only when there is something to do: that is a third of a server's start.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    with as_file(files(_SCRIPTS)) as scripts:
        config = Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.attributes["connection"] = connection
        known = {s.revision for s in ScriptDirectory.from_config(config).walk_revisions()}
        current = _revision(connection)
        if current is not None and current not in known:
            raise CallerError(
                f"the database {sqlalchemy_url(url).render_as_string()} has schema {current}, "
                "which this program does not know; run the program that made it, or a newer one"
            )
        command.upgrade(config, to)


def _stream(connection: sa.Connection, stream: UUID) -> UUID | bytes:
    return stream.bytes if connection.dialect.name == "sqlite" else stream


@contextmanager
def _locked_connection(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    if engine.dialect.name == "sqlite":
        begin_by(engine, "BEGIN IMMEDIATE")
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            yield connection
    finally:
        engine.dispose()


def begin_by(engine: sa.Engine, statement: str) -> None:
    """Begin SQLite's transactions by this statement, not by its driver's own rules.

    Those open none for a read or for a change of the schema.
    """

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        try:
            connection.execute("PRAGMA busy_timeout = 30000")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # Else what is deleted, keys among it, stays on free pages.
            connection.execute("PRAGMA secure_delete = ON")
        except UnicodeDecodeError as error:
            # SQLite quotes what is damaged, and its driver cannot read that.
            raise sqlite3.DatabaseError("its schema is damaged, and is no text any more") from error

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(statement)


def sqlalchemy_url(url: str) -> sa.URL:
    """Give SQLAlchemy's form of a store's URL: PostgreSQL through psycopg 3.

    Raises CallerError for another kind of URL.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise CallerError(f"event store {url!r} is not a URL; {_KINDS}") from error
    if parsed.drivername in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    raise CallerError(f"event store {parsed.render_as_string()} is of no known kind; {_KINDS}")
