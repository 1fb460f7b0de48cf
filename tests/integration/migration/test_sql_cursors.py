"""Cursors of peers in the real stores."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from ledger.errors import TransientError
from ledger.migration.cursors import PeerCursor
from ledger.migration.sql_cursors import SqlCursorStore
from ledger.storage.open_recorder import sqlalchemy_url, upgrade

CURSOR = PeerCursor("bravo", UUID(int=7), 12, 3, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    upgrade(url)
    engine = sa.create_engine(sqlalchemy_url(url))
    yield engine
    engine.dispose()


def test_unknown_peer_has_no_cursor(engine: sa.Engine) -> None:
    assert SqlCursorStore(engine).load("bravo") is None


def test_cursor_comes_back_as_it_was_saved_last(engine: sa.Engine) -> None:
    store = SqlCursorStore(engine)
    store.save(PeerCursor("bravo", UUID(int=1), 1))
    store.save(PeerCursor("charlie", UUID(int=2), 99))

    store.save(CURSOR)

    assert SqlCursorStore(engine).load("bravo") == CURSOR
    assert store.load("charlie") == PeerCursor("charlie", UUID(int=2), 99)


def test_database_that_cannot_be_used_is_a_transient_error(tmp_path: Path) -> None:
    store = SqlCursorStore(sa.create_engine(f"sqlite:///{tmp_path}/absent/folder.sqlite"))

    with pytest.raises(TransientError, match="cursors"):
        store.load("bravo")
    with pytest.raises(TransientError, match="cursors"):
        store.save(CURSOR)
