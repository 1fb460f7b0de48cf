"""Records are what stands in the tables, exactly."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from uuid import UUID

import msgspec
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from projections.records import Index, RecordTable, to_micros, to_row


class Colour(Enum):
    RED = "red"


class Inner(msgspec.Struct, frozen=True):
    number: int


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    key: UUID
    at: datetime
    maybe_at: datetime | None
    name: str
    maybe_name: str | None
    count: int
    is_red: bool
    colour: Colour
    inner: Inner | None
    ids: tuple[UUID, ...]


TABLE = RecordTable("thing", Thing, key="key", indexes=(Index("at", ("at",)),))

TIMES = st.datetimes(timezones=st.just(UTC))
THINGS = st.builds(
    Thing,
    key=st.uuids(),
    at=TIMES,
    maybe_at=st.none() | TIMES,
    name=st.text(),
    maybe_name=st.none() | st.text(),
    count=st.integers(-(1 << 63), (1 << 63) - 1),
    is_red=st.booleans(),
    colour=st.sampled_from(Colour),
    inner=st.none() | st.builds(Inner, st.integers(-1000, 1000)),
    ids=st.lists(st.uuids(), max_size=3).map(tuple),
)


@given(thing=THINGS)
def test_a_record_that_is_written_in_bulk_is_read_back_as_it_was(thing: Thing):
    engine = sa.create_engine("sqlite://")
    table = TABLE.declare(sa.MetaData(), "x")
    with engine.begin() as connection:
        table.create(connection)
        row = to_row(thing, TABLE.writers("sqlite"))
        marks = ", ".join("?" * len(row))
        connection.exec_driver_sql(f"INSERT INTO x_thing VALUES ({marks})", tuple(row))
        (read,) = connection.execute(table.select().where(table.c.key == thing.key))
    engine.dispose()
    assert Thing(**read._mapping) == thing


@given(one=TIMES, other=TIMES)
def test_times_in_a_table_sort_as_times(one: datetime, other: datetime):
    assert (to_micros(one) < to_micros(other)) == (one < other)
    assert (to_micros(one) == to_micros(other)) == (one == other)


def test_a_field_that_may_be_absent_may_be_null_and_no_other():
    columns = {column.name: column.nullable for column in TABLE.sql_columns()}
    assert {name for name, nullable in columns.items() if nullable} == {
        "maybe_at",
        "maybe_name",
        "inner",
    }
