"""Check what a database keeps beside the events and their tree, in one snapshot of it.

That is: the database's own structure (pages and indexes, where SQLite can check them itself; tables
and the triggers that protect the log), and every row that has a sum of its own
(`ledger.storage.row_sums`). Events, hashes and signatures are others' to check.

Source: claim 10.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from ledger.storage.open_recorder import upgrade
from ledger.storage.raw_rows import raw, raw_snapshot
from ledger.storage.row_sums import (
    Sum,
    access_token_sum,
    arrival_sum,
    blob_location_sum,
    incarnation_sum,
    read_arrival,
    tracking_sum,
)
from ledger.storage.schema import (
    ACCESS_TOKEN,
    BLOB_LOCATION,
    EVENTS,
    LOG_HEAD,
    PROTECTION,
    ROW_SUM,
    TRACKING,
)

_PAGE: Final = 2000
_MOST_PROBLEMS: Final = 100

Fault: TypeAlias = tuple[str, str]
"""A place, and what is wrong there."""


def check_rows(url: str) -> list[Fault]:
    """Check a database beside the server that writes it; gives what is not as it was written.

    Raises nothing for a damaged database: what cannot be read is a fault too.
    """
    faults: list[Fault] = []
    for check in (_check_structure, _check_sums):
        try:
            with raw_snapshot(url) as connection:
                faults += check(connection)
        except (sa.exc.SQLAlchemyError, ValueError, TypeError, OverflowError) as error:
            reason = getattr(error, "orig", None) or error
            faults.append(("database", f"cannot be read: {reason}"))
    return faults


# --- Structure ----------------------------------------------------------------------------------


def _check_structure(connection: sa.Connection) -> Iterator[Fault]:
    if connection.dialect.name != "sqlite":
        yield from _check_triggers(connection)
        return
    query = f"PRAGMA integrity_check({_MOST_PROBLEMS})"
    for (line,) in connection.exec_driver_sql(query):
        if line != "ok":
            yield "database file", line
    found, declared = _catalog(connection), _declared_catalog()
    for name in sorted(found.keys() | declared.keys()):
        if found.get(name) != declared.get(name):
            yield f"schema of {name}", "is not the one that this program makes"


def _catalog(connection: sa.Connection) -> dict[str, Any]:
    rows = connection.exec_driver_sql("SELECT name, type, tbl_name, sql FROM sqlite_master")
    return {name: tuple(rest) for name, *rest in rows if not name.startswith("sqlite_stat")}


@cache
def _declared_catalog() -> dict[str, Any]:
    """Say how a database looks that the schema migrations have just made."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'fresh.sqlite'}"
        upgrade(url)
        with raw_snapshot(url) as connection:
            return _catalog(connection)


def _check_triggers(connection: sa.Connection) -> Iterator[Fault]:
    wanted = {s.split()[2] for s in PROTECTION["postgresql"] if s.startswith("CREATE TRIGGER")}
    query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'"
    found = set(connection.exec_driver_sql(query).scalars())
    for name in sorted(wanted - found):
        yield f"trigger {name}", "is gone or switched off: the log can be changed"


# --- Sums ---------------------------------------------------------------------------------------


def _check_sums(connection: sa.Connection) -> Iterator[Fault]:
    sums: dict[str, Any] = {}
    for place, value in connection.execute(raw(ROW_SUM)):
        sums[str(place)] = value
    yield from _check_arrivals(connection, sums)
    for table, to_sum in _SUMMED:
        for row in connection.execute(raw(table)).mappings():
            place, value = to_sum(row)
            kept = sums.pop(place, None)
            if kept is None:
                yield place, "has no checksum: it was not written by this program, or is changed"
            elif kept != value:
                yield place, "is not what was written: its checksum is another one"
    for place in sorted(sums):
        yield place, "there is a checksum, and what it covers is gone"


def _of_tracking(row: sa.RowMapping) -> Sum:
    return tracking_sum(
        row["application_name"], row["notification_id"], row["root"], row["updated"]
    )


def _of_head(row: sa.RowMapping) -> Sum:
    return incarnation_sum(row["incarnation"])


def _of_blob_location(row: sa.RowMapping) -> Sum:
    return blob_location_sum(row["digest"], row["pack"], row["offset_bytes"], row["length_bytes"])


_SUMMED: Final[tuple[tuple[sa.Table, Callable[[sa.RowMapping], Sum]], ...]] = (
    (LOG_HEAD, _of_head),
    (TRACKING, _of_tracking),
    (BLOB_LOCATION, _of_blob_location),
    (ACCESS_TOKEN, access_token_sum),
)


def _check_arrivals(connection: sa.Connection, sums: dict[str, Any]) -> Iterator[Fault]:
    """Hold the origins of events against the sums of the batches in which they came."""
    stops: dict[int, tuple[int, str, Any]] = {}
    for place in list(sums):
        arrival = read_arrival(place)
        if arrival is not None:
            stops[arrival[0]] = (arrival[1], place, sums.pop(place))
    run: list[Any] = []
    for row in _foreign(connection):
        if run and row[0] > (stops[run[0][0]][0] if run[0][0] in stops else 0):
            yield from _check_run(run, stops)
            run = []
        run.append(row)
    if run:
        yield from _check_run(run, stops)
    for _, place, _ in stops.values():
        yield place, "there is a checksum, and what it covers is gone"


def _foreign(connection: sa.Connection) -> Iterator[Any]:
    c = EVENTS.c
    query = (
        sa.select(c.position, c.origin, c.origin_position)
        .where(sa.or_(c.origin.is_not(None), c.origin_position.is_not(None)))
        .order_by(c.position)
    )
    yield from connection.execution_options(yield_per=_PAGE).execute(query)


def _check_run(run: list[Any], stops: dict[int, tuple[int, str, Any]]) -> Iterator[Fault]:
    first = run[0][0]
    _, place, value = stops.pop(first, (first, "", b""))
    if not place:
        yield f"origin of position {first}", "has no checksum: it was not written as it is"
    elif arrival_sum(first, run[0][1], [row[2] for row in run]) != (place, value) or any(
        row[1] != run[0][1] for row in run
    ):
        yield place, "is not what was written: its checksum is another one"
