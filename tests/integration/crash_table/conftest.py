"""Empty logs in real databases, made once and emptied for each run."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from ledger.storage.open_recorder import upgrade
from ledger.storage.postgres import PostgresLogRecorder
from ledger.storage.row_sums import incarnation_sum
from ledger.storage.sqlite import SqliteLogRecorder
from tests.integration.crash_table.world import MakeLog, OpenLog

TABLES = ("events", "tree_node", "tracking", "blob_location", "message_key", "row_sum")


@pytest.fixture(params=["sqlite", "postgres"])
def make_log(request: pytest.FixtureRequest) -> MakeLog:
    """Give what makes an empty log, for the server that dies."""
    return request.getfixturevalue(f"make_{request.param}_log")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "empty.sqlite"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def make_sqlite_log(tmp_path: Path, sqlite_template: Path) -> MakeLog:
    numbers = itertools.count()

    def make() -> OpenLog:
        path = tmp_path / f"{next(numbers)}.sqlite"
        shutil.copyfile(sqlite_template, path)
        return lambda: SqliteLogRecorder(path)

    return make


@pytest.fixture
def make_postgres_log(postgres_url: str) -> MakeLog:
    def make() -> OpenLog:
        empty(postgres_url)
        return lambda: PostgresLogRecorder(postgres_url)

    return make


def empty(url: str) -> None:
    """Make a log new again: ten times as fast as a new database."""
    with psycopg.connect(url) as connection:
        connection.execute("SET synchronous_commit = off")
        # The triggers that keep the log append-only sleep for this session.
        connection.execute("SET session_replication_role = replica")
        connection.execute("; ".join(f"DELETE FROM {table}" for table in TABLES))
        incarnation = uuid4()
        connection.execute(
            "UPDATE log_head SET incarnation = %s, position = 0, frontier = ''", (incarnation,)
        )
        connection.execute("INSERT INTO row_sum VALUES (%s, %s)", incarnation_sum(incarnation))
