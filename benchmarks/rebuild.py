"""How fast are the mailboxes rebuilt from the log?

Ours: the projection runner over a log of lifelike events (local calls, some for other servers, half
of the messages heard), from an empty database to the log's end. Baseline: the way of the
eventsourcing library's own projection runner on the same events: a view on its SQLite tracking
recorder that folds one event a transaction (stock settings); on PostgreSQL the same statements and
the library's tracking statement, prepared, over plain psycopg. That one is given fewer events, for
it would take minutes; both rates are events a second. Rounds alternate; the median counts.

Goals: 40 000 events/s on SQLite, 20 000 on PostgreSQL, and at a million events (``--full``) no less
than 0.7 of the rate at a hundred thousand: the baseline of that figure is the smaller rebuild.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psycopg
from eventsourcing.persistence import Tracking
from eventsourcing.sqlite import SQLiteDatastore, SQLiteTrackingRecorder

from benchmarks.report import report
from benchmarks.sample_events import START, call_with_message
from benchmarks.stores import spare_what_is_prepared
from ledger.clock import SystemClock
from ledger.events import DomainEvent, MessageDelivered, MessageHeard, MessageStored
from ledger.storage.event_log import Append, LogRecorder
from ledger.storage.mapper import to_stored_event
from ledger.storage.open_recorder import open_recorder
from projections.mailboxes import MAILBOXES
from projections.projection import decode_entries
from projections.replay import mailboxes_digest, projected_mailboxes_digest
from projections.runner import ProjectionRunner
from projections.store import ProjectionStore
from tests.support.postgres import running_postgres

SERVER = "alpha"
BASELINE = "one transaction an event, with the library's tracking"
BASELINE_EVENTS = 1500
ROUNDS = 3


class Figure(NamedTuple):
    name: str
    value: float
    baseline: tuple[str, float]
    goal: float


def fill(log: LogRecorder, events: int, rng: random.Random) -> None:
    """Write whole calls until the log has about that many events."""
    while (missing := events - log.head().position) > 0:
        appends: list[Append] = []
        while missing > 0 and len(appends) < 2000:
            home = SERVER if rng.random() < 0.8 else "bravo"
            at = START + timedelta(seconds=log.head().position + len(appends) * 4)
            call = call_with_message(rng, server=SERVER, home=home, at=at)
            appends.append(Append([to_stored_event(event) for event in call]))
            missing -= len(call)
        log.commit(appends)


def rebuild(log: LogRecorder, url: str) -> float:
    """Build the mailboxes from nothing; gives events a second."""
    store = ProjectionStore(url, SERVER)
    runner = ProjectionRunner(log, store, [MAILBOXES], clock=SystemClock())
    started = time.perf_counter()
    runner.catch_up()
    elapsed_s = time.perf_counter() - started
    if log.head().position <= 100_500:
        assert projected_mailboxes_digest(store)[0] == mailboxes_digest(log, SERVER)
    store.close()
    return log.head().position / elapsed_s


# --- the baseline ------------------------------------------------------------------------------

STATEMENTS: dict[type[DomainEvent], tuple[str, Callable[[Any], tuple[str, ...]]]] = {
    MessageStored: (
        "INSERT INTO view_message VALUES ({0}, {0}, {0}, 'new')",
        lambda e: (str(e.message_id), e.mailbox, e.recorded_at.isoformat()),
    ),
    MessageDelivered: (
        "UPDATE view_message SET status = 'new' WHERE id = {0}",
        lambda e: (str(e.message_id),),
    ),
    MessageHeard: (
        "UPDATE view_message SET status = 'heard' WHERE id = {0}",
        lambda e: (str(e.message_id),),
    ),
}
TABLE = "CREATE TABLE view_message (id TEXT PRIMARY KEY, mailbox TEXT, at TEXT, status TEXT)"


def library_rate(log: LogRecorder, fold_one: Callable[[DomainEvent, Tracking], None]) -> float:
    """Fold the first events of the log one by one; gives events a second."""
    started = time.perf_counter()
    for logged in decode_entries(log.read(1, BASELINE_EVENTS)):
        fold_one(logged.event, Tracking("log", logged.position))
    return BASELINE_EVENTS / (time.perf_counter() - started)


def sqlite_baseline(log: LogRecorder, path: Path) -> float:
    datastore = SQLiteDatastore(str(path))
    view = SQLiteTrackingRecorder(datastore)
    view.create_table()
    with datastore.transaction(commit=True) as cursor:
        cursor.execute(TABLE)

    def fold_one(event: DomainEvent, tracking: Tracking) -> None:
        with datastore.transaction(commit=True) as cursor:
            if found := STATEMENTS.get(type(event)):
                cursor.execute(found[0].format("?"), found[1](event))
            view._insert_tracking(cursor, tracking)

    rate = library_rate(log, fold_one)
    datastore.close()
    return rate


def postgres_baseline(log: LogRecorder, url: str) -> float:
    with psycopg.connect(url) as connection:
        connection.execute(TABLE)
        connection.execute("CREATE TABLE tracking (name TEXT PRIMARY KEY, id BIGINT)")
        connection.commit()

        def fold_one(event: DomainEvent, tracking: Tracking) -> None:
            if found := STATEMENTS.get(type(event)):
                connection.execute(found[0].format("%s"), found[1](event))
            connection.execute(
                "INSERT INTO tracking VALUES (%s, %s) ON CONFLICT (name) DO UPDATE "
                "SET id = excluded.id WHERE tracking.id < excluded.id RETURNING id",
                (tracking.application_name, tracking.notification_id),
            )
            connection.commit()

        return library_rate(log, fold_one)


# --- the rounds --------------------------------------------------------------------------------


def alternate(
    ours: Callable[[int], float], baseline: Callable[[int], float]
) -> tuple[float, float]:
    """Run both in turn; gives the median of each."""
    spare_what_is_prepared()
    pairs = [(ours(turn), baseline(turn)) for turn in range(ROUNDS)]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


@contextmanager
def filled_log(folder: Path, events: int) -> Iterator[LogRecorder]:
    log = open_recorder(f"sqlite:///{folder / f'log-{events}.sqlite'}")
    fill(log, events, random.Random(events))
    yield log
    log.close()


def main() -> None:
    is_full = "--full" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = [sqlite_figure(folder, 10_000), sqlite_figure(folder, 100_000)]
        if is_full:
            figures.append(million_figure(folder, figures[-1].value))
        figures.append(postgres_figure(folder))
    for figure in figures:
        report(figure.name, figure.value, "events/s", *figure.baseline, figure.goal)


def sqlite_figure(folder: Path, events: int) -> Figure:
    with filled_log(folder, events) as log:
        ours, theirs = alternate(
            lambda turn: rebuild(log, f"sqlite:///{folder / f'v-{events}-{turn}.sqlite'}"),
            lambda turn: sqlite_baseline(log, folder / f"b-{events}-{turn}.sqlite"),
        )
    return Figure(f"rebuild-sqlite-{events}", ours, (BASELINE, theirs), 40_000)


def million_figure(folder: Path, smaller: float) -> Figure:
    with filled_log(folder, 1_000_000) as log:
        ours = rebuild(log, f"sqlite:///{folder / 'v-million.sqlite'}")
    baseline = ("the rebuild of 100 000 events", smaller)
    return Figure("rebuild-sqlite-1000000", ours, baseline, 40_000)


def postgres_figure(folder: Path) -> Figure:
    with filled_log(folder, 100_000) as log, running_postgres() as server:
        ours, theirs = alternate(
            lambda _: rebuild(log, server.new_database(with_schema=False)),
            lambda _: postgres_baseline(log, server.new_database(with_schema=False)),
        )
    return Figure("rebuild-postgres-100000", ours, (BASELINE, theirs), 20_000)


if __name__ == "__main__":
    main()
