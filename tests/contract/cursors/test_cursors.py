"""What every store of peer cursors promises."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from ledger.storage.open_recorder import upgrade
from ledger.storage.peer_cursors import MemoryCursorStore, PeerCursor
from ledger.storage.sql_peer_cursors import SqlCursorStore

CURSOR = PeerCursor("bravo", UUID(int=7), 42, 3, datetime(2026, 1, 1, 12, 30, tzinfo=UTC))


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
