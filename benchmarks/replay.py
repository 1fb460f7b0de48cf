"""Replaying the log into typed, validated events: ``python -m benchmarks.replay``.

Pages are read from the store, decompressed, decoded and checked against their rows.
Beside it the library reads the same content from its own recorder and decodes it with its own JSON
mapper, which validates nothing. Goals: 150 000 events/s on SQLite, 60 000 on PostgreSQL, both
at least 2 times the library's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import DomainEvent as LibraryEvent
from eventsourcing.utils import register_topic

from benchmarks.report import report
from benchmarks.sample_events import call_with_message
from benchmarks.stores import new_stores, rates
from ledger.events import DomainEvent
from ledger.storage.event_log import Append, LogRecorder
from ledger.storage.mapper import to_domain_event, to_stored_event
from ledger.storage.open_recorder import open_recorder
from projections.reader import PAGE_EVENTS
from tests.support.postgres import Postgres

EVENTS = 20_000
PAGE = 1000
ROUNDS = 7


class Recorded(LibraryEvent):
    """The fields of one of our events, as the library's own kind of event."""

    fields: dict[str, Any]


register_topic("recorded", Recorded)


def sample(seed: int = 2) -> list[DomainEvent]:
    """Make the events of some thousand calls."""
    rng = random.Random(seed)
    events: list[DomainEvent] = []
    while len(events) < EVENTS:
        events += call_with_message(rng, server="alpha")
    return events[:EVENTS]


def fill(log: LogRecorder, application: Application[UUID], events: list[DomainEvent]) -> None:
    """Write the same content to both."""
    for start in range(0, EVENTS, PAGE):
        page = events[start : start + PAGE]
        log.commit([Append([to_stored_event(event) for event in page])])
        for first in range(0, PAGE, 100):
            # A thousand in one of its pipelines wait for ever on PostgreSQL.
            application.events.put([_for_library(event) for event in page[first : first + 100]])


def _for_library(event: DomainEvent) -> Recorded:
    fields = msgspec.to_builtins(event)
    for name in ("originator_id", "originator_version", "recorded_at"):
        del fields[name]
    return Recorded(
        originator_id=event.originator_id,
        originator_version=event.originator_version,
        timestamp=event.recorded_at,
        fields=fields,  # type: ignore[call-arg]  # its metaclass makes it a dataclass
    )


def replay(log: LogRecorder) -> Callable[[], int]:
    """Read our log from its beginning."""

    def work() -> int:
        position = 0
        while entries := log.read(position + 1, PAGE_EVENTS):
            events = [to_domain_event(entry) for entry in entries]
            position += len(events)
        assert position == EVENTS
        return position

    return work


def library_replay(application: Application[UUID]) -> Callable[[], int]:
    """Read the library's notification log from its beginning."""

    def work() -> int:
        seen, last = 0, 0
        while found := application.recorder.select_notifications(last + 1, PAGE_EVENTS):
            events = [application.mapper.to_domain_event(notification) for notification in found]
            seen, last = seen + len(events), found[-1].id
        assert seen == EVENTS
        return seen

    return work


def measure(name: str, log: LogRecorder, environment: dict[str, str], goal: float) -> None:
    """Fill both stores, then read them in turns."""
    with Application[UUID](env=environment) as application:
        fill(log, application, sample())
        mine, theirs = rates(ROUNDS, [replay(log), library_replay(application)])
    print(f"{name}: {mine:,.0f} events/s, goal on a machine of its own {goal:,.0f}")
    report(f"replay-{name}", mine, "events/s", "library's recorder and JSON mapper", theirs, 2.0)
    log.close()


def on_sqlite(folder: Path) -> None:
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "SQLITE_DBNAME": str(folder / "theirs.sqlite"),
    }
    log = open_recorder(f"sqlite:///{folder / 'ours.sqlite'}")
    measure("sqlite", log, environment, 150_000)


def on_postgres(postgres: Postgres) -> None:
    url = urlsplit(postgres.new_database(with_schema=False))
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": url.path.lstrip("/"),
        "POSTGRES_HOST": parse_qs(url.query)["host"][0],
        "POSTGRES_PORT": "5432",
        "POSTGRES_USER": "postgres",
        "POSTGRES_PASSWORD": "none",
    }
    measure("postgres", open_recorder(postgres.new_database()), environment, 60_000)


def main() -> None:
    with new_stores() as (folder, postgres):
        on_sqlite(folder)
        on_postgres(postgres)


if __name__ == "__main__":
    main()
