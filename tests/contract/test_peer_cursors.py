"""What an origin remembers of its peers, over the real table and over the fake."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa

from ledger.migration.cursors import MemoryCursorStore, PeerCursor
from ledger.storage.open_recorder import sqlalchemy_url, upgrade
from vmledger.peer_cursors import SqlCursorStore

FIRST = PeerCursor("bravo", UUID(int=1), 5)
LATER = PeerCursor("bravo", UUID(int=2), 9, 3, datetime(2026, 1, 31, 8, tzinfo=UTC))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def cursors(request, tmp_path):
    if request.param == "memory":
        yield MemoryCursorStore()
        return
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/l.sqlite" if is_sqlite else request.getfixturevalue("postgres_url")
    upgrade(url)
    engine = sa.create_engine(sqlalchemy_url(url))
    yield SqlCursorStore(engine)
    engine.dispose()


def test_nothing_is_known_of_a_new_peer(cursors):
    assert cursors.load("bravo") is None


def test_what_was_saved_last_is_remembered(cursors):
    cursors.save(FIRST)
    assert cursors.load("bravo") == FIRST
    cursors.save(LATER)
    assert cursors.load("bravo") == LATER


def test_each_peer_has_a_cursor_of_its_own(cursors):
    cursors.save(FIRST)
    assert cursors.load("charlie") is None
