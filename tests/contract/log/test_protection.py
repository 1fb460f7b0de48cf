"""The database itself refuses to change history, whoever asks."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.storage.event_log import Append
from ledger.storage.open_recorder import open_recorder
from tests.support.stored_events import stored_events

Execute = Callable[[str], object]


@pytest.fixture(params=["sqlite", "postgres"])
def execute(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Execute]:
    """Give a way past the recorder: straight into a database that holds 300 events."""
    path = tmp_path / "ledger.sqlite"
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{path}" if is_sqlite else request.getfixturevalue("postgres_url")
    recorder = open_recorder(url)
    recorder.commit([Append(stored_events(1, range(1, 301)))])
    if is_sqlite:
        connection = sqlite3.connect(path, isolation_level=None)
    else:
        connection = psycopg.connect(url, autocommit=True)
    yield connection.execute
    connection.close()
    assert recorder.head().root == recorder.root_at(300)
    assert len(recorder.read(1, 1000)) == 300
    recorder.close()


CHANGES = [
    "UPDATE events SET topic = 'other'",
    "UPDATE events SET position = 1000 WHERE position = 3",
    "DELETE FROM events WHERE position = 300",
    "DELETE FROM events",
    "UPDATE tree_node SET hash = leaf_hash FROM events",
    "DELETE FROM tree_node",
]


@pytest.mark.parametrize("change", CHANGES)
def test_history_cannot_be_changed(execute: Execute, change: str) -> None:
    with pytest.raises(
        (sqlite3.IntegrityError, psycopg.errors.RaiseException), match="append-only"
    ):
        execute(change)


@pytest.mark.parametrize("table", ["events", "tree_node"])
def test_postgres_refuses_to_empty_history(postgres_url: str, table: str) -> None:
    with (
        psycopg.connect(postgres_url) as connection,
        pytest.raises(psycopg.errors.RaiseException, match="append-only"),
    ):
        connection.execute(f"TRUNCATE {table} CASCADE")


def test_postgres_gives_nobody_else_a_right_to_change_history(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        rights = connection.execute(
            "SELECT table_name, privilege_type FROM information_schema.role_table_grants "
            "WHERE table_schema = 'public' AND grantee <> current_user"
        ).fetchall()

    assert rights == []
