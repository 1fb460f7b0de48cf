"""Many rows at once: the fastest way that each database has, behind one set of functions.

SQLite takes rows one by one in a prepared statement; PostgreSQL takes them as a COPY stream, into
the table itself for new rows, and into a temporary table that is merged for changed ones. The SQL
is made from table declarations only; values always travel apart from it.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

Row = Sequence[Any]

_WORTH_A_COPY: Final = 24
"""Below this many rows, a pipelined INSERT is quicker than a temporary table (measured)."""


class BulkWriter:
    """Writes rows of one table within a transaction. A row holds all columns, in their order."""

    def __init__(self, connection: sa.Connection, table: sa.Table) -> None:
        self._driver: Any = connection.connection.driver_connection
        self._is_postgres = connection.dialect.name == "postgresql"
        self._quote = connection.dialect.identifier_preparer.quote
        self._table = self._quote(table.name)
        self._columns = [self._quote(column.name) for column in table.columns]
        self._key = self._quote(next(iter(table.primary_key)).name)

    def insert(self, rows: Sequence[Row]) -> None:
        """Insert rows whose keys are new."""
        if self._is_postgres and len(rows) >= _WORTH_A_COPY:
            self._copy(self._table, rows)
        elif rows:
            self._execute_many(self._insert_sql(), rows)

    def replace(self, rows: Sequence[Row]) -> None:
        """Write rows whose keys exist (or not: then they are inserted)."""
        others = [name for name in self._columns if name != self._key]
        changes = ", ".join(f"{name} = excluded.{name}" for name in others)
        self._merge(rows, changes)

    def add(self, rows: Sequence[Row]) -> None:
        """Add the numbers of each row to those of the row with the same key; absent counts as 0."""
        counts = [name for name in self._columns if name != self._key]
        changes = ", ".join(f"{name} = {self._table}.{name} + excluded.{name}" for name in counts)
        self._merge(rows, changes)

    def delete(self, keys: Sequence[Any]) -> None:
        """Delete the rows of these keys."""
        if keys:
            sql = f"DELETE FROM {self._table} WHERE {self._key} = {self._mark}"  # noqa: S608 - names only
            self._execute_many(sql, [(key,) for key in keys])

    @property
    def _mark(self) -> str:
        return "%s" if self._is_postgres else "?"

    def _insert_sql(self) -> str:
        marks = ", ".join([self._mark] * len(self._columns))
        names = ", ".join(self._columns)
        return f"INSERT INTO {self._table} ({names}) VALUES ({marks})"  # noqa: S608 - names only

    def _merge(self, rows: Sequence[Row], changes: str) -> None:
        on_conflict = f"ON CONFLICT ({self._key}) DO UPDATE SET {changes}"
        if self._is_postgres and len(rows) >= _WORTH_A_COPY:
            self._merge_copied(rows, on_conflict)
        elif rows:
            self._execute_many(f"{self._insert_sql()} {on_conflict}", rows)

    def _merge_copied(self, rows: Sequence[Row], on_conflict: str) -> None:
        stage = "projection_stage"
        with self._driver.cursor() as cursor:
            cursor.execute(f"CREATE TEMPORARY TABLE {stage} (LIKE {self._table}) ON COMMIT DROP")
            self._copy(stage, rows)
            cursor.execute(
                f"INSERT INTO {self._table} SELECT * FROM {stage} {on_conflict}"  # noqa: S608 - names only
            )
            cursor.execute(f"DROP TABLE {stage}")

    def _copy(self, target: str, rows: Sequence[Row]) -> None:
        names = ", ".join(self._columns)
        with (
            self._driver.cursor() as cursor,
            cursor.copy(f"COPY {target} ({names}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def _execute_many(self, sql: str, rows: Sequence[Row]) -> None:
        cursor = self._driver.cursor()
        try:
            cursor.executemany(sql, rows)
        finally:
            cursor.close()
