"""PostgreSQL lost in the middle of a commit: every append is there once, or its caller knows."""

import socket
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError

from ledger.errors import TransientError
from ledger.sealing import WrappedKey
from ledger.storage import postgres as adapter
from ledger.storage.event_log import (
    Append,
    Appended,
    BlobLocation,
    PeerTracking,
    tracking_name,
)
from ledger.storage.postgres import PostgresLogRecorder
from tests.support.lossy_proxy import LossyProxy
from tests.support.stored_events import stored_event

FIRST, SECOND, THIRD = (UUID(int=number) for number in (1, 2, 3))
ONE_STATEMENT = b"SELECT 1\x00"
"""What ends the answer to an append that is one statement."""
TRANSACTION = b"COMMIT\x00"
"""What ends the answer to an append with tracking."""


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[LossyProxy]:
    folder = parse_qs(urlsplit(postgres_url).query)["host"][0]

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{folder}/.s.PGSQL.5432")
        return server

    proxy = LossyProxy(connect)
    yield proxy
    proxy.close()


@pytest.fixture
def log(postgres_url: str, proxy: LossyProxy) -> Iterator[PostgresLogRecorder]:
    parts = urlsplit(postgres_url)
    recorder = PostgresLogRecorder(f"postgresql://postgres@127.0.0.1:{proxy.port}{parts.path}")
    # The first append also prepares the statement: its answers are others.
    recorder.commit([Append([stored_event(1, 1)])])
    yield recorder
    recorder.close()


def _tracking(position: int, expected: int) -> PeerTracking:
    name = tracking_name("bravo", UUID(int=1))
    return PeerTracking(name, position, expected=expected, root=b"r" * 32)


def test_lost_answer_of_a_commit_is_no_failure(log: PostgresLogRecorder, proxy: LossyProxy) -> None:
    proxy.lose_answer_with(ONE_STATEMENT)

    [result] = log.commit([Append([stored_event(2, 1)])])

    assert proxy.lost == 1
    assert isinstance(result, Appended)
    assert (result.first_position, log.head()) == (2, result.head)


def test_lost_answer_of_a_tracked_commit_is_no_failure(
    log: PostgresLogRecorder, proxy: LossyProxy
) -> None:
    log.commit([Append([stored_event(2, 1)], tracking=_tracking(5, 0))])
    proxy.lose_answer_with(TRANSACTION)

    [result] = log.commit([Append([stored_event(2, 2)], tracking=_tracking(6, 5))])

    assert proxy.lost == 1
    assert isinstance(result, Appended)
    assert log.tracked("bravo")[0].position == 6


def test_lost_answer_of_a_commit_of_tracking_alone_is_no_failure(
    log: PostgresLogRecorder, proxy: LossyProxy
) -> None:
    log.commit([Append([], tracking=_tracking(5, 0))])
    proxy.lose_answer_with(TRANSACTION)

    [result] = log.commit([Append([], tracking=_tracking(6, 5))])

    assert proxy.lost == 1
    assert isinstance(result, Appended)


def test_lost_answer_of_a_commit_of_keys_alone_is_no_failure(
    log: PostgresLogRecorder, proxy: LossyProxy
) -> None:
    log.commit([Append([], keys=[WrappedKey(FIRST, b"one"), WrappedKey(SECOND, b"two")])])
    proxy.lose_answer_with(ONE_STATEMENT)

    [result] = log.commit([Append([], keys=[WrappedKey(FIRST, None), WrappedKey(THIRD, b"three")])])

    assert proxy.lost == 1
    assert isinstance(result, Appended)
    found = log.read_keys([FIRST, SECOND, THIRD])
    assert [found[call].wrapped for call in (FIRST, SECOND, THIRD)] == [None, b"two", b"three"]


def test_commit_of_places_alone_that_never_arrived_is_made_again(
    log: PostgresLogRecorder, postgres_url: str
) -> None:
    """A page of a copied log may bring nothing but where blobs lie."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    place = BlobLocation("a" * 64, "pack", 0, 7)

    log.commit_whole([Append([], blob_locations=[place])])

    assert log.locate_blobs([place.digest]) == {place.digest: place}


@pytest.mark.parametrize("key", [WrappedKey(FIRST, None), WrappedKey(SECOND, b"two")])
def test_commit_of_a_key_alone_that_never_arrived_is_made_again(
    log: PostgresLogRecorder, postgres_url: str, key: WrappedKey
) -> None:
    """The head does not tell that commit from none: it has no event."""
    log.commit([Append([], keys=[WrappedKey(FIRST, b"one")])])
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    [result] = log.commit([Append([], keys=[key])])

    assert isinstance(result, Appended)
    assert log.read_keys([key.key_id]) == {key.key_id: key}


def test_connection_lost_before_the_commit_is_made_again(
    log: PostgresLogRecorder, proxy: LossyProxy
) -> None:
    log.commit([Append([], tracking=_tracking(5, 0))])
    proxy.lose_answer_with(b"BEGIN\x00")

    [result] = log.commit([Append([stored_event(2, 1)], tracking=_tracking(6, 5))])

    assert proxy.lost == 1
    assert isinstance(result, Appended)
    assert [entry.position for entry in log.read(1, 10)] == [1, 2]


def test_connections_that_died_unused_are_replaced(
    log: PostgresLogRecorder, postgres_url: str
) -> None:
    log.head()
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    [result] = log.commit([Append([stored_event(2, 1)])])

    assert isinstance(result, Appended)
    assert log.head() == result.head
    assert len(log.read(1, 10)) == 2


def test_caller_is_told_when_nobody_knows_what_became_of_a_commit(
    log: PostgresLogRecorder, proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_RECONNECT_PAUSES_S", (0.0, 0.0))
    proxy.go_away_after_loss()
    proxy.lose_answer_with(ONE_STATEMENT)

    with pytest.raises(TransientError, match="not known"):
        log.commit([Append([stored_event(2, 1)])])

    proxy.come_back()
    [again] = log.commit([Append([stored_event(2, 1)])])
    assert isinstance(again, IntegrityError)
    [goes_on] = log.commit([Append([stored_event(2, 2)])])
    assert isinstance(goes_on, Appended)
    assert [entry.position for entry in log.read(1, 10)] == [1, 2, 3]


def test_disk_error_of_the_server_leaves_nothing_and_the_log_goes_on(
    log: PostgresLogRecorder, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        # Stands for a full disk: the insert fails with its error code on the real server.
        admin.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$"
        )
        admin.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON events "
            "FOR EACH STATEMENT EXECUTE FUNCTION full_disk()"
        )
    with pytest.raises(TransientError, match="no space left"):
        log.commit([Append([stored_event(2, 1)])])
    assert log.head().position == 1

    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("DROP TRIGGER full_disk ON events")

    [result] = log.commit([Append([stored_event(2, 1)])])
    assert isinstance(result, Appended)
    assert result.last_position == 2
