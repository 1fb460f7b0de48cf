"""Appending to the log: ``python -m benchmarks.append``.

First: eight threads, each appending one call of four events at a time and waiting until it is
durable, beside the library's own ``app.save`` of the same events on its own recorders (with our
mapper, which is faster than its own). Goal: at least 3 times on each store.

Second: batches of 1000 events, beside the fastest raw way of the same database to write the same
events as they are (not compressed, not hashed, no tree) into a bare table with the same two keys:
binary COPY, executemany. Goal: at least 0.8 times.

Third, to see what the work around the database costs: the same batches beside COPY and executemany
of rows that are finished before the clock starts: compressed, hashed and numbered. Nothing that
makes such rows can reach 1 here; goal: at least 0.5 times.

Both stores commit to the disk: ``synchronous=FULL`` on SQLite, ``fsync=on`` on PostgreSQL.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from eventsourcing.application import Application
from eventsourcing.persistence import StoredEvent

from benchmarks.report import report
from benchmarks.sample_events import call_with_message
from benchmarks.stores import new_stores, rates
from ledger.events import DomainEvent
from ledger.storage.compression import compress
from ledger.storage.event_log import Append, LogRecorder
from ledger.storage.mapper import to_stored_event
from ledger.storage.merkle import leaf_hash
from ledger.storage.open_recorder import open_recorder, upgrade
from tests.support.postgres import Postgres

THREADS = 8
CALLS_A_THREAD = 60
BATCH = 1000
BATCHES = 4
ROUNDS = 7

RNG = random.Random(1)


def calls(number: int) -> list[list[DomainEvent]]:
    """Make calls of four events each: received, decided, stored, migrated."""
    return [call_with_message(RNG, server="alpha", home="bravo") for _ in range(number)]


class InThreads:
    """Calls made ahead of the clock, appended one at a time in each of eight threads."""

    def __init__(self, append: Callable[[list[DomainEvent]], object]) -> None:
        self._append = append
        self._ready = [[calls(CALLS_A_THREAD) for _ in range(THREADS)] for _ in range(ROUNDS)]

    def __call__(self) -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._run, self._ready.pop()))
        return 4 * CALLS_A_THREAD * THREADS

    def _run(self, part: list[list[DomainEvent]]) -> None:
        for call in part:
            self._append(call)


def ours(log: LogRecorder) -> Callable[[list[DomainEvent]], object]:
    """Append as a thread of a server would."""
    return lambda call: log.group.append(Append([to_stored_event(event) for event in call]))


def librarys(module: str, environment: dict[str, str]) -> Application[Any]:
    """Give the library's application on its own recorders."""
    mapper = "ledger.storage.mapper:LedgerMapper"
    return Application(env={"PERSISTENCE_MODULE": module, "MAPPER_TOPIC": mapper, **environment})


def concurrent_calls(name: str, log: LogRecorder, application: Application[Any]) -> None:
    """Measure eight concurrent callers beside the library's."""
    works = [InThreads(ours(log)), InThreads(lambda call: application.save(*call))]
    mine, theirs = rates(ROUNDS, works)
    report(f"append-{name}-8-callers", mine, "events/s", "library app.save", theirs, 3.0)


def batch() -> list[StoredEvent]:
    return [to_stored_event(event) for call in calls(BATCH // 4) for event in call]


Rows = list[tuple[Any, ...]]


def plain_rows(start: int) -> Rows:
    """Give stored events as they are, numbered."""
    return [
        (start + number, e.originator_id, e.originator_version, e.topic, e.state)
        for number, e in enumerate(batch())
    ]


def finished_rows(start: int) -> Rows:
    """Give what a recorder would store: only the writing is left to do."""
    return [
        (*row[:4], compress(row[4]), leaf_hash(row[4]), None, None) for row in plain_rows(start)
    ]


def numbered(make: Callable[[int], Rows]) -> Callable[[], Rows]:
    """Make batch after batch, each numbered on from the one before."""
    starts = iter(range(1, 10**9, BATCH))
    return lambda: make(next(starts))


class Batches:
    """Batches made ahead of the clock, and written by one of two ways."""

    def __init__(self, make: Callable[[], list[Any]], write: Callable[[list[Any]], object]) -> None:
        self._write = write
        self._ready = [make() for _ in range(BATCHES * ROUNDS)]

    def __call__(self) -> int:
        for _ in range(BATCHES):
            self._write(self._ready.pop(0))
        return BATCH * BATCHES


def large_batches(
    name: str, log: LogRecorder, way: str, write: Callable[[str, Rows], object]
) -> None:
    """Measure batches of 1000 beside the raw way, for plain and for finished rows."""
    works = [
        Batches(batch, lambda events: log.group.append(Append(events))),
        Batches(numbered(plain_rows), lambda rows: write("plain_events", rows)),
        Batches(numbered(finished_rows), lambda rows: write("events", rows)),
    ]
    mine, plain, finished = rates(ROUNDS, works)
    name = f"append-{name}-batches-of-{BATCH}"
    report(name, mine, "events/s", f"{way} of the plain events into a bare table", plain, 0.8)
    report(f"{name}-finished", mine, "events/s", f"{way} of finished rows", finished, 0.5)


def on_sqlite(folder: Path) -> None:
    """Measure SQLite."""
    log = open_recorder(f"sqlite:///{folder / 'ours.sqlite'}")
    application = librarys("eventsourcing.sqlite", {"SQLITE_DBNAME": str(folder / "theirs.sqlite")})
    default = sqlite3.connect(folder / "theirs.sqlite").execute("PRAGMA synchronous").fetchone()
    assert default == (2,), "the library leaves the default, which must be FULL to be comparable"
    concurrent_calls("sqlite", log, application)

    upgrade(f"sqlite:///{folder / 'raw.sqlite'}")
    raw = sqlite3.connect(folder / "raw.sqlite", isolation_level=None)
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute(
        "CREATE TABLE plain_events (position INTEGER PRIMARY KEY, originator_id BLOB, "
        "originator_version INTEGER, topic TEXT, state BLOB, "
        "UNIQUE (originator_id, originator_version))"
    )

    def write(table: str, rows: Rows) -> None:
        marks = ",".join("?" * len(rows[0]))
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(
            f"INSERT INTO {table} VALUES ({marks})",
            [(row[0], row[1].bytes, *row[2:]) for row in rows],
        )
        raw.execute("COMMIT")

    large_batches("sqlite", log, "executemany", write)
    raw.close()
    log.close()


def on_postgres(postgres: Postgres) -> None:
    """Measure PostgreSQL."""
    log = open_recorder(postgres.new_database())
    their_url = urlsplit(postgres.new_database(with_schema=False))
    environment = {
        "POSTGRES_DBNAME": their_url.path.lstrip("/"),
        "POSTGRES_HOST": parse_qs(their_url.query)["host"][0],
        "POSTGRES_PORT": "5432",
        "POSTGRES_USER": "postgres",
        "POSTGRES_PASSWORD": "none",
    }
    concurrent_calls("postgres", log, librarys("eventsourcing.postgres", environment))

    raw = psycopg.connect(postgres.new_database())
    raw.execute(
        "CREATE TABLE plain_events (position bigint PRIMARY KEY, originator_id uuid, "
        "originator_version bigint, topic text, state bytea, "
        "UNIQUE (originator_id, originator_version))"
    )
    raw.commit()
    types = ["int8", "uuid", "int8", "text", "bytea", "bytea", "text", "int8"]

    def write(table: str, rows: Rows) -> None:
        statement = f"COPY {table} FROM STDIN (FORMAT BINARY)"
        with raw.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.set_types(types[: len(rows[0])])
            for row in rows:
                copy.write_row(row)
        raw.commit()

    large_batches("postgres", log, "binary COPY", write)
    raw.close()
    log.close()


def main() -> None:
    with new_stores() as (folder, postgres):
        on_sqlite(folder)
        on_postgres(postgres)


if __name__ == "__main__":
    main()
