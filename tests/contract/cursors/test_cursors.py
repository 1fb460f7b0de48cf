"""What every store of peer cursors promises."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa

from ledger.errors import CorruptionError
from ledger.storage.open_recorder import sqlalchemy_url, upgrade
from ledger.storage.peer_cursors import HomeMark, MemoryCursorStore, PeerCursor
from ledger.storage.sql_peer_cursors import SqlCursorStore

CURSOR = PeerCursor(
    "bravo",
    UUID(int=7),
    42,
    3,
    datetime(2026, 1, 1, 12, 30, tzinfo=UTC),
    (HomeMark(origin_position=40, home_position=80, home_root="a" * 64),),
)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryCursorStore()
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'log.sqlite'}"
        upgrade(url)
    else:
        url = request.getfixturevalue("postgres_url")
    opened = SqlCursorStore(url)
    yield opened
    opened.close()


def test_unknown_peer_has_no_cursor(store):
    assert store.load("bravo") is None


def test_saved_cursor_is_given_back(store):
    store.save(CURSOR)
    assert store.load("bravo") == CURSOR


def test_newest_cursor_counts(store):
    store.save(CURSOR)
    newer = PeerCursor("bravo", UUID(int=8), 43)
    store.save(newer)
    assert store.load("bravo") == newer


def test_peers_have_cursors_of_their_own(store):
    store.save(CURSOR)
    assert store.load("charlie") is None


@pytest.mark.parametrize(
    ("column", "damaged"),
    [
        ("next_attempt_at", "soon"),
        ("next_attempt_at", "2026-01-01T12:30:00"),
        ("marks", "[1"),
        ("marks", '[{"origin_position":1,"home_position":-1,"home_root":"x"}]'),
    ],
)
def test_damaged_hint_is_named(tmp_path, column, damaged):
    url = f"sqlite:///{tmp_path / 'log.sqlite'}"
    upgrade(url)
    store = SqlCursorStore(url)
    store.save(CURSOR)
    engine = sa.create_engine(sqlalchemy_url(url))
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE peer_cursor SET {column} = :to"), {"to": damaged})
    engine.dispose()
    with pytest.raises(CorruptionError, match="the hint about server bravo cannot be read"):
        store.load("bravo")
    store.close()
