"""Builds of projections: which tables exist for which version, how far each is, which one serves.

The registry is one table, ``projection``, with a row for each *build*: one set of tables of one
version of a projection, filled from the log's first event on. At most one build of a projection
serves questions; another may be growing beside it, and takes its place when it has caught up.

A build's row is changed only in the transaction that changes its tables, so the position in it is
always that of its tables, whatever crashes.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from projections.projection import Projection
from projections.records import RecordT, RecordTable


class BuildState(Enum):
    """What the runner does with a build."""

    RUNNING = "running"
    """It follows the log."""
    STOPPED = "stopped"
    """An event could not be folded: it stays before that event, and says why."""
    FROZEN = "frozen"
    """It tells of a log that is no more (restored, rolled back) or was made by another version:
    it serves as it is until its successor has caught up."""


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the registry."""

    prefix: str
    """What the names of its tables begin with."""
    name: str
    version: int
    number: int
    """1 for the first build of a version; rebuilds count on."""
    is_serving: bool
    state: BuildState = BuildState.RUNNING
    position: int = 0
    """It holds what the log told up to here."""
    root: str = ""
    """The log's Merkle root at that position, hexadecimal: the proof that it is the same log."""
    opaque_count: int = 0
    """Events of a newer version or unknown topic that were passed over."""
    stopped_topic: str | None = None
    stopped_position: int | None = None
    stopped_error: str | None = None
    created_at: datetime
    updated_at: datetime


REGISTRY: Final = RecordTable("projection", Build, key="prefix")
_METADATA: Final = sa.MetaData()
REGISTRY_SQL: Final = sa.Table("projection", _METADATA, *REGISTRY.sql_columns())


@dataclass(frozen=True, slots=True)
class BuildTables:
    """The SQL tables of one build."""

    metadata: sa.MetaData
    tables: dict[str, sa.Table]
    """By the name of the record table."""
    tallies: dict[str, sa.Table]
    """By the name of the record table that they count."""


@lru_cache(maxsize=64)
def build_tables(projection: Projection, prefix: str) -> BuildTables:
    """Declare the tables of a build."""
    metadata = sa.MetaData()
    declared = {table.name: table.declare(metadata, prefix) for table in projection.tables}
    tallies = {
        table.name: tally
        for table in projection.tables
        if (tally := table.declare_tally(metadata, prefix)) is not None
    }
    return BuildTables(metadata, declared, tallies)


def create_registry(connection: sa.Connection) -> None:
    """Create the registry unless it exists."""
    _METADATA.create_all(connection)


def list_builds(connection: sa.Connection, name: str | None = None) -> list[Build]:
    """Read the registry: all builds, or those of one projection; the oldest first."""
    query = REGISTRY_SQL.select().order_by(REGISTRY_SQL.c.name, REGISTRY_SQL.c.created_at)
    if name is not None:
        query = query.where(REGISTRY_SQL.c.name == name)
    return read_records(connection, REGISTRY, query)


def lock_build(connection: sa.Connection, prefix: str) -> Build | None:
    """Read a build and keep others from changing it until the transaction ends; None if gone."""
    query = REGISTRY_SQL.select().where(REGISTRY_SQL.c.prefix == prefix).with_for_update()
    found = read_records(connection, REGISTRY, query)
    return found[0] if found else None


def save_build(connection: sa.Connection, build: Build) -> None:
    """Write a build's row."""
    values = msgspec.structs.asdict(build)
    connection.execute(
        REGISTRY_SQL.update().where(REGISTRY_SQL.c.prefix == build.prefix).values(values)
    )


def create_build(
    connection: sa.Connection, projection: Projection, *, is_serving: bool, now: datetime
) -> Build:
    """Make a new, empty build of this projection's version."""
    numbers = [
        build.number
        for build in list_builds(connection, projection.name)
        if build.version == projection.version
    ]
    number = max(numbers, default=0) + 1
    build = Build(
        prefix=_prefix(projection, number),
        name=projection.name,
        version=projection.version,
        number=number,
        is_serving=is_serving,
        created_at=now,
        updated_at=now,
    )
    build_tables(projection, build.prefix).metadata.create_all(connection)
    connection.execute(REGISTRY_SQL.insert().values(msgspec.structs.asdict(build)))
    return build


def _prefix(projection: Projection, number: int) -> str:
    first = f"{projection.name}_v{projection.version}"
    return first if number == 1 else f"{first}_r{number}"


def drop_build(connection: sa.Connection, build: Build) -> None:
    """Remove a build and its tables, also those of a version that this program no longer knows."""
    connection.execute(REGISTRY_SQL.delete().where(REGISTRY_SQL.c.prefix == build.prefix))
    names = sa.inspect(connection).get_table_names()
    others = [other.prefix for other in list_builds(connection)]
    for name in names:
        if _belongs_to(name, build.prefix, others):
            sa.Table(name, sa.MetaData()).drop(connection)


def _belongs_to(table_name: str, prefix: str, other_prefixes: Sequence[str]) -> bool:
    """Is it a table of this build? ``x_v1_r2_message`` begins with ``x_v1_`` but is not of it."""
    owners = [p for p in (prefix, *other_prefixes) if table_name.startswith(f"{p}_")]
    return bool(owners) and max(owners, key=len) == prefix


def read_records(
    connection: sa.Connection, table: RecordTable[RecordT], query: sa.Select[Any]
) -> list[RecordT]:
    """Run a query for whole rows of a record table."""
    rows = connection.execute(query).all()
    columns = table.columns
    return [table.record(**dict(zip(columns, row, strict=True))) for row in rows]
