"""What stands beside the events has sums of its own: a changed row is found, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from ledger.clock import SystemClock
from ledger.storage.event_log import Append, BlobLocation, PeerTracking, tracking_name
from ledger.storage.open_recorder import open_recorder, sqlalchemy_url, upgrade
from ledger.storage.row_check import check_rows
from tests.support.stored_events import stored_events
from vmledger.access import Scope
from vmledger.tokens import TokenStore

Change = Callable[[str], list[str]]
NAME = tracking_name("bravo", UUID(int=1))
DIGEST = "ab" * 32


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a log with two batches of bravo's, one event of its own between, and two tokens."""
    is_sqlite = request.param == "sqlite"
    url = (
        f"sqlite:///{tmp_path}/log.sqlite" if is_sqlite else request.getfixturevalue("postgres_url")
    )
    recorder = open_recorder(url)
    for number, count in ((1, 3), (2, 120)):
        positions = range(10 * number, 10 * number + count)
        batch = Append(
            stored_events(number, range(1, count + 2)),
            tracking=PeerTracking(NAME, 10 * number, expected=10 * (number - 1), root=b"r" * 32),
            blob_locations=[BlobLocation(DIGEST, f"pack-{number}", 0, 10)],
            origin="bravo",
            origin_positions=positions,
        )
        (done,) = recorder.commit([batch])
        assert not isinstance(done, Exception)
    recorder.start_incarnation(UUID(int=9))
    recorder.close()
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    tokens = TokenStore(engine, SystemClock())
    tokens.create("kept", [Scope.READER])
    tokens.create("ended", [Scope.READER])
    tokens.revoke(tokens.list_tokens()[1].id)
    return url


@pytest.fixture
def change(url: str) -> Iterator[Change]:
    """Give a way to change the database past its protection; gives the places that are faulty."""
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)

    def execute(statement: str) -> list[str]:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET session_replication_role = replica")
            else:
                connection.exec_driver_sql("DROP TRIGGER events_refuse_update")
            assert connection.exec_driver_sql(statement).rowcount == 1
        # That the trigger is gone is a fault of its own.
        return [
            place
            for place, _ in check_rows(url)
            if "trigger" not in place and "schema" not in place
        ]

    yield execute
    engine.dispose()


def test_rows_as_they_were_written_have_no_fault(url: str) -> None:
    assert check_rows(url) == []


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE events SET origin = 'brave' WHERE position = 2", "origin of positions 1 to 3"),
        ("UPDATE events SET origin = NULL WHERE position = 2", "origin of positions 1 to 3"),
        ("UPDATE events SET origin_position = 11 WHERE position = 3", "origin of positions 1 to 3"),
        ("UPDATE events SET origin = 'bravo' WHERE position = 4", "origin of position 4"),
        ("UPDATE events SET origin_position = 9 WHERE position = 9", "origin of positions 5 to "),
        ("UPDATE tracking SET notification_id = 21", f"tracking of {NAME}"),
        ("UPDATE tracking SET updated = 7", f"tracking of {NAME}"),
        ("UPDATE blob_location SET offset_bytes = 1", f"place of blob {DIGEST}"),
        ("DELETE FROM blob_location", f"place of blob {DIGEST}"),
        ("UPDATE access_token SET revoked_at = NULL WHERE name = 'ended'", "access token "),
        ("UPDATE access_token SET scopes = 'operator' WHERE name = 'kept'", "access token "),
        ("DELETE FROM row_sum WHERE place = 'log_head'", "log_head"),
    ],
)  # fmt: skip
def test_changed_row_is_found_and_named(change: Change, statement: str, place: str) -> None:
    (found,) = change(statement)
    assert found == place or (place[-1] == " " and found.startswith(place))


def test_log_of_before_the_sums_gets_them_at_the_upgrade(url: str) -> None:
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        for later in ("row_sum", "message_key"):
            connection.exec_driver_sql(f"DROP TABLE {later}")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0003'")
    upgrade(url)
    assert check_rows(url) == []
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM row_sum").scalar() == 7
