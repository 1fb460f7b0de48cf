"""A fold's state over SQL: filled from the tables for one page of the log, then written back.

The records that a page will look at are fetched with a few queries before the fold begins; what the
fold has changed is written in bulk after it ends. A record that comes into being and goes again
within a page never touches the database.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from msgspec.structs import replace

from projections.builds import BuildTables, read_records
from projections.bulk import BulkWriter, Row
from projections.projection import LoggedEvent, Projection
from projections.records import (
    ColumnType,
    RecordT,
    RecordTable,
    SoughtTextColumn,
    State,
    Tally,
    to_row,
    writers_of,
)

_KEYS_A_QUERY: Final = 1000
"""Both databases allow many more parameters; beyond this, queries get no quicker."""


class PageState(State):
    """The records that one page of the log touches, within one transaction."""

    def __init__(
        self,
        connection: sa.Connection,
        projection: Projection,
        tables: BuildTables,
        this_server: str,
    ) -> None:
        super().__init__(this_server)
        self._connection = connection
        self._projection = projection
        self._tables = tables
        self._before: dict[str, dict[Any, Any]] = {}
        """The records as they were loaded; None for those that did not exist."""
        for table in projection.tables:
            self.records[table.name] = {}
            self._before[table.name] = {}

    def prefetch(self, page: Sequence[LoggedEvent]) -> None:
        """Fetch the records that folding this page will look at."""
        wanted, created = self._keys(page)
        for table in self._projection.tables:
            self.records[table.name].update(dict.fromkeys(created[table.name]))
            missing = wanted[table.name] - created[table.name]
            self._load_many(table, list(missing))

    def _keys(self, page: Sequence[LoggedEvent]) -> tuple[dict[str, set[Any]], dict[str, set[Any]]]:
        wanted: dict[str, set[Any]] = {table.name: set() for table in self._projection.tables}
        created: dict[str, set[Any]] = {table.name: set() for table in self._projection.tables}
        rules = self._projection.rules
        for logged in page:
            rule = rules.get(type(logged.event))
            if rule is None:
                continue
            for table, key_of in rule.reads:
                wanted[table.name].add(key_of(logged.event))
            for table, key_of in rule.creates:
                created[table.name].add(key_of(logged.event))
        return wanted, created

    def _load_many(self, table: RecordTable[Any], keys: Sequence[Any]) -> None:
        self.records[table.name].update(dict.fromkeys(keys))
        sql_table = self._tables.tables[table.name]
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[start : start + _KEYS_A_QUERY]
            query = sql_table.select().where(sql_table.c[table.key].in_(some))
            found = read_records(self._connection, table, query)
            by_key = self._by_key(table, some, found)
            self.records[table.name].update(by_key)
            self._before[table.name].update(by_key)

    def _by_key(
        self, table: RecordTable[Any], keys: Sequence[Any], found: Sequence[Any]
    ) -> dict[Any, Any]:
        """Give each record the key that was asked for: a column may hold a shorter form of it."""
        column, dialect = self._tables.tables[table.name].c[table.key], self._connection.dialect
        if not isinstance(column.type, SoughtTextColumn):
            return {getattr(record, table.key): record for record in found}
        asked = {_key_value(column, key, dialect.name): key for key in keys}
        by_key: dict[Any, Any] = {}
        for record in found:
            kept = getattr(record, table.key)
            key = asked[kept]
            is_whole = key == kept
            by_key[key] = record if is_whole else replace(record, **{table.key: key})
        return by_key

    def load(self, table: RecordTable[RecordT], key: Any) -> RecordT | None:
        """Fetch one record that nobody had announced: right, but slow."""
        self._load_many(table, [key])
        found: RecordT | None = self.records[table.name][key]
        return found

    def flush(self) -> None:
        """Write what has changed since the records were loaded."""
        for table in self._projection.tables:
            changes = self._changes(table)
            self._write(table, changes)
            if table.tally is not None:
                self._write_tally(table, table.tally, changes)

    def _changes(self, table: RecordTable[Any]) -> list[tuple[Any, Any, Any]]:
        """Give (key, record before, record now) of all records that are not what they were."""
        before = self._before[table.name].get
        now = self.records[table.name].items()
        return [(key, was, record) for key, record in now if (was := before(key)) is not record]

    def _write(self, table: RecordTable[Any], changes: Iterable[tuple[Any, Any, Any]]) -> None:
        dialect = self._connection.dialect.name
        sql_table = self._tables.tables[table.name]
        writers = writers_of(sql_table.columns, dialect)
        inserted: list[Row] = []
        replaced: list[Row] = []
        deleted: list[Any] = []
        for key, was, record in changes:
            if record is None:
                deleted.append(_key_value(sql_table.c[table.key], key, dialect))
            else:
                (inserted if was is None else replaced).append(to_row(record, writers))
        writer = BulkWriter(self._connection, sql_table)
        writer.delete(deleted)
        writer.insert(inserted)
        writer.replace(replaced)

    def _write_tally(
        self, table: RecordTable[Any], tally: Tally, changes: Iterable[tuple[Any, Any, Any]]
    ) -> None:
        sql_table = self._tables.tallies[table.name]
        column, dialect = sql_table.c[tally.group], self._connection.dialect.name
        deltas: dict[Any, dict[str, int]] = {}
        for _, was, record in changes:
            for form, step in ((was, -1), (record, +1)):
                if form is None:
                    continue
                key = _key_value(column, getattr(form, tally.group), dialect)
                group = deltas.setdefault(key, dict.fromkeys(tally.counts, 0))
                for count in tally.counted_in(form):
                    group[count] += step
        rows = [
            (group, *counts.values())
            for group, counts in sorted(deltas.items())
            if any(counts.values())
        ]
        BulkWriter(self._connection, sql_table).add(rows)


def _key_value(column: sa.Column[Any], key: Any, dialect_name: str) -> Any:
    kind = column.type
    return kind.writer(dialect_name)(key) if isinstance(kind, ColumnType) else key
