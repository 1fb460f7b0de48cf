"""Records: the rows of a read model as typed values, and the state that a fold works on.

A read model declares each of its tables once, as a frozen struct. The struct's fields are the
columns, the row is the answer that questions give, and a fold sees nothing but such records in a
`State`: the same fold therefore runs in memory (replay, time travel) and over SQL (the runner),
where a state is filled from the tables and written back page by page.

Times are stored as whole microseconds since 1970 and identifiers as 16 bytes (SQLite) or ``uuid``
(PostgreSQL), so that both stores sort and compare them alike.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import hashlib
import types
import typing
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

RecordT = TypeVar("RecordT", bound=msgspec.Struct)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_INDEXED: Final = 400
"""Characters, of up to four bytes each."""

Converter = Callable[[Any], Any]


def to_micros(moment: datetime) -> int:
    """Give whole microseconds since 1970, exactly."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


class ColumnType(TypeDecorator[Any]):
    """A column type whose conversion can also be had as a plain function, for bulk writing."""

    impl: type[TypeEngine[Any]] = sa.Text
    cache_ok = True

    def writer(self, dialect_name: str) -> Converter:
        """Give the function that turns a value (never None) into what the driver is handed."""
        raise NotImplementedError

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else self.writer(dialect.name)(value)


class TextColumn(ColumnType):
    """Text. PostgreSQL cannot hold U+0000, and a caller's name must not stop a projection."""

    cache_ok = True

    def writer(self, dialect_name: str) -> Converter:
        return _without_nul if dialect_name == "postgresql" else _itself


def _without_nul(text: str) -> str:
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


class SoughtTextColumn(TextColumn):
    """Text that rows are found by. An index of PostgreSQL takes no row above some 2 700 bytes."""

    cache_ok = True

    def writer(self, dialect_name: str) -> Converter:
        return _indexable if dialect_name == "postgresql" else _itself


def _indexable(text: str) -> str:
    """Cut what no honest name is as long as; its digest keeps it apart from others."""
    if len(text) > _MOST_INDEXED:
        text = text[:_MOST_INDEXED] + "\u2026" + hashlib.sha256(text.encode()).hexdigest()
    return _without_nul(text)


class UuidColumn(ColumnType):
    """An identifier."""

    impl = sa.LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        is_postgres = dialect.name == "postgresql"
        return dialect.type_descriptor(sa.Uuid() if is_postgres else sa.LargeBinary(16))

    def writer(self, dialect_name: str) -> Converter:
        return _itself if dialect_name == "postgresql" else _uuid_bytes

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else UUID(bytes=value)


def _itself(value: Any) -> Any:
    return value


def _uuid_bytes(value: UUID) -> bytes:
    return value.bytes


class TimeColumn(ColumnType):
    """An aware UTC time."""

    impl = sa.BigInteger
    cache_ok = True

    def writer(self, dialect_name: str) -> Converter:  # noqa: ARG002 - the same for both
        return to_micros

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - as above
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class EnumColumn(ColumnType):
    """A member of an enumeration, by its stable word."""

    cache_ok = True

    def __init__(self, members: type[Enum]) -> None:
        super().__init__()
        self.members = members

    def writer(self, dialect_name: str) -> Converter:  # noqa: ARG002 - the same for both
        return _enum_value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - as above
        return None if value is None else self.members(value)


def _enum_value(value: Enum) -> Any:
    # ``value._value_`` is the plain attribute behind the slow property ``value``.
    return value._value_


class JsonColumn(ColumnType):
    """A nested value (a struct, a tuple of identifiers) as JSON text."""

    cache_ok = True

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.shape = shape

    def writer(self, dialect_name: str) -> Converter:  # noqa: ARG002 - the same for both
        return _json_text

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - as above
        return None if value is None else msgspec.json.decode(value, type=self.shape)


def _json_text(value: Any) -> str:
    # JSON writes U+0000 as an escape that PostgreSQL's text accepts.
    return msgspec.json.encode(value).decode()


def _column_type(annotation: Any) -> tuple[TypeEngine[Any], bool]:
    """Give the column type of a field's annotation, and whether it may be NULL."""
    members = typing.get_args(annotation)
    is_union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    if is_union and type(None) in members:
        others = tuple(member for member in members if member is not type(None))
        return _column_type(typing.Union[others])[0], True  # noqa: UP007 - made of a tuple
    return _plain_column_type(annotation), False


def _plain_column_type(annotation: Any) -> TypeEngine[Any]:
    plain: dict[Any, TypeEngine[Any]] = {
        UUID: UuidColumn(),
        datetime: TimeColumn(),
        bool: sa.Boolean(),
        int: sa.BigInteger(),
        str: TextColumn(),
    }
    if annotation in plain:
        return plain[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return EnumColumn(annotation)
    return JsonColumn(annotation)


@dataclass(frozen=True, slots=True)
class Index:
    """An index of a record table."""

    name: str
    columns: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts kept beside a table, one row a group, always written in the transaction of its rows.

    They are kept from the difference between the old and the new form of each record, so they
    cannot drift from what they count and no fold has to think of them.
    """

    name: str
    group: str
    """The column that records are counted by."""
    counts: Sequence[str]
    counted_in: Callable[[Any], Sequence[str]]
    """Which of the counts one record is part of."""


@dataclass(frozen=True, eq=False, slots=True)
class RecordTable(Generic[RecordT]):
    """One table of a read model: its rows are records of one struct, found by one key."""

    name: str
    record: type[RecordT]
    key: str
    indexes: Sequence[Index] = ()
    tally: Tally | None = None
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", self.record.__struct_fields__)

    def declare(self, metadata: sa.MetaData, prefix: str) -> sa.Table:
        """Declare the SQL table (and its indexes) under names that begin with ``prefix``."""
        table = sa.Table(f"{prefix}_{self.name}", metadata, *self.sql_columns())
        for index in self.indexes:
            columns = (table.c[name] for name in index.columns)
            sa.Index(f"{table.name}_{index.name}", *columns)
        return table

    def sql_columns(self) -> list[sa.Column[Any]]:
        """Derive the columns from the struct's fields; a fresh list at every call."""
        hints = typing.get_type_hints(self.record)
        typed = {name: _column_type(hints[name]) for name in self.columns}
        sought = {self.key, *(name for index in self.indexes for name in index.columns)}
        return [
            sa.Column(
                name,
                SoughtTextColumn() if name in sought and type(kind) is TextColumn else kind,
                primary_key=name == self.key,
                nullable=nullable,
            )
            for name, (kind, nullable) in typed.items()
        ]

    def declare_tally(self, metadata: sa.MetaData, prefix: str) -> sa.Table | None:
        """Declare the table of counts, where the read model keeps one."""
        if self.tally is None:
            return None
        return sa.Table(
            f"{prefix}_{self.tally.name}",
            metadata,
            sa.Column(self.tally.group, SoughtTextColumn(), primary_key=True),
            *(sa.Column(count, sa.BigInteger, nullable=False) for count in self.tally.counts),
        )

    def writers(self, dialect_name: str) -> list[tuple[int, Converter]]:
        """Give the conversions that a row needs: place in the row, function for a value."""
        return writers_of(self.sql_columns(), dialect_name)


def writers_of(columns: Iterable[sa.Column[Any]], dialect_name: str) -> list[tuple[int, Converter]]:
    """Give the conversions that a row of these columns needs; see `RecordTable.writers`."""
    found = [
        (place, column.type.writer(dialect_name))
        for place, column in enumerate(columns)
        if isinstance(column.type, ColumnType)
    ]
    return [(place, writer) for place, writer in found if writer is not _itself]


def to_row(record: msgspec.Struct, writers: Sequence[tuple[int, Converter]]) -> list[Any]:
    """Turn a record into the values of its row."""
    values = list(msgspec.structs.astuple(record))
    for place, writer in writers:
        value = values[place]
        if value is not None:
            values[place] = writer(value)
    return values


class State:
    """The records that a fold reads and writes, held in memory.

    On its own it starts empty and keeps everything: that is a replay. The runner's page state
    (``projections.page_state``) adds loading from SQL.
    """

    def __init__(self, this_server: str) -> None:
        self.this_server = this_server
        """The server whose log is folded: custody is seen from here."""
        self.records: defaultdict[str, dict[Any, Any]] = defaultdict(dict)

    def get(self, table: RecordTable[RecordT], key: Any) -> RecordT | None:
        """Give the record of this key, or None."""
        try:
            found: RecordT | None = self.records[table.name][key]
        except KeyError:
            return self.load(table, key)
        return found

    def load(
        self,
        table: RecordTable[RecordT],  # noqa: ARG002 - for states that have a store behind them
        key: Any,  # noqa: ARG002 - as above
    ) -> RecordT | None:
        """Fetch a record that is not in memory; None when there is none."""
        return None

    def put(self, table: RecordTable[RecordT], record: RecordT) -> None:
        """Insert the record, or replace the one with the same key."""
        self.records[table.name][getattr(record, table.key)] = record

    def drop(self, table: RecordTable[Any], key: Any) -> None:
        """Remove the record of this key."""
        self.records[table.name][key] = None

    def all(self, table: RecordTable[RecordT]) -> list[RecordT]:
        """Give all records in memory."""
        found = self.records.get(table.name, {}).values()
        return [record for record in found if record is not None]
