"""Projections at work in a test: run over a history, look at what stands in the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from ledger.clock import SystemClock
from projections.builds import build_tables, drop_build, list_builds, read_records
from projections.calls import CALLS
from projections.mailboxes import MAILBOXES
from projections.pending import PENDING
from projections.profiles import PROFILES
from projections.projection import Projection, decode_entries, fold_events
from projections.reader import LogReader
from projections.records import State
from projections.runner import ProjectionRunner, ProjectionStatus
from projections.servers import SERVERS
from projections.store import ProjectionStore
from tests.support.histories import START

ALL = (MAILBOXES, PENDING, CALLS, SERVERS, PROFILES)


class FixedClock(SystemClock):
    """A clock that stands still."""

    def now(self) -> Any:
        return START + timedelta(days=1)


class Bench:
    """One store, and whatever runners a test wants over it."""

    def __init__(self, store: ProjectionStore) -> None:
        self.store = store

    def runner(
        self,
        reader: LogReader,
        projections: Sequence[Projection] = ALL,
        *,
        page_events: int = 1000,
        poll_interval_s: float = 60.0,
        may_build: Callable[[], bool] = lambda: True,
    ) -> ProjectionRunner:
        return ProjectionRunner(
            reader,
            self.store,
            projections,
            clock=FixedClock(),
            page_events=page_events,
            poll_interval_s=poll_interval_s,
            may_build=may_build,
        )

    def run(self, reader: LogReader, projections: Sequence[Projection] = ALL) -> ProjectionRunner:
        runner = self.runner(reader, projections)
        runner.catch_up()
        return runner

    def clear(self) -> None:
        with self.store.writing() as connection:
            for build in list_builds(connection):
                drop_build(connection, build)

    def contents(self) -> dict[str, Any]:
        """Read the records of all serving builds, and the counts beside them."""
        with self.store.reading() as connection:
            builds = {b.name: b for b in list_builds(connection) if b.is_serving}
            found: dict[str, Any] = {}
            for projection in (p for p in ALL if p.name in builds):
                tables = build_tables(projection, builds[projection.name].prefix)
                for table in projection.tables:
                    query = tables.tables[table.name].select()
                    records = read_records(connection, table, query)
                    found[f"{projection.name}.{table.name}"] = _by_key(table.key, records)
                for name, tally in tables.tallies.items():
                    rows = connection.execute(tally.select())
                    counted = {row[0]: tuple(row[1:]) for row in rows if any(row[1:])}
                    found[f"{projection.name}.{name}.count"] = counted
        return found

    def positions(self) -> dict[str, int]:
        """Give how far each serving build has come in the log."""
        with self.store.reading() as connection:
            return {b.name: b.position for b in list_builds(connection) if b.is_serving}


def replayed(
    reader: LogReader, server: str = "alpha", until: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Give what `Bench.contents` must be, by folding the log in memory.

    ``until`` is the last position for each projection, by its name; without it, the whole log.
    """
    log = decode_entries(reader.read(1, 1_000_000))
    found: dict[str, Any] = {}
    for projection in ALL:
        page = [e for e in log if until is None or e.position <= until[projection.name]]
        state = State(server)
        fold_events(projection, state, page)
        for table in projection.tables:
            records = state.all(table)
            found[f"{projection.name}.{table.name}"] = _by_key(table.key, records)
            if table.tally is not None:
                counts: dict[str, list[int]] = {}
                for record in records:
                    group = counts.setdefault(
                        getattr(record, table.tally.group), [0] * len(table.tally.counts)
                    )
                    for count in table.tally.counted_in(record):
                        group[table.tally.counts.index(count)] += 1
                counted = {k: tuple(v) for k, v in counts.items() if any(v)}
                found[f"{projection.name}.{table.name}.count"] = counted
    return found


def _by_key(key: str, records: Sequence[Any]) -> dict[Any, Any]:
    return {getattr(record, key): record for record in records}


def serving(runner: ProjectionRunner, name: str) -> ProjectionStatus:
    """Give the status of the build that serves."""
    return next(s for s in runner.status() if s.name == name and s.is_serving)
