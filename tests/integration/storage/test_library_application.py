"""An application of the eventsourcing library over a log of ours."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.persistence import IntegrityError

from ledger.errors import CallerError
from ledger.events import CallAbandoned, Caller, CallReceived, CallStatus
from ledger.storage.event_log import LogRecorder

CALL = UUID(int=1)
AT = datetime(2026, 1, 1, tzinfo=UTC)
RECEIVED = CallReceived(
    originator_id=CALL,
    originator_version=1,
    recorded_at=AT,
    recorded_by="alpha",
    called_extension="2001",
    context="default",
    status=CallStatus.BUSY,
    personal=Caller(),
)
ABANDONED = CallAbandoned(
    originator_id=CALL,
    originator_version=2,
    recorded_at=AT,
    recorded_by="alpha",
    reason="caller-hung-up",
)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name an empty log in a real store."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def application(url: str) -> Iterator[Application[UUID]]:
    environment = {"PERSISTENCE_MODULE": "ledger.storage.library_factory", "LEDGER_URL": url}
    with Application[UUID](env=environment) as application:
        yield application


def test_application_reads_back_the_typed_events_it_saved(application: Application[UUID]) -> None:
    application.events.put([RECEIVED, ABANDONED])

    assert list(application.events.get(CALL)) == [RECEIVED, ABANDONED]


def test_application_notices_a_stale_version(application: Application[UUID]) -> None:
    application.events.put([RECEIVED])

    with pytest.raises(IntegrityError):
        application.events.put([RECEIVED])


def test_notifications_are_the_positions_of_the_log(application: Application[UUID]) -> None:
    application.events.put([RECEIVED])
    application.events.put([ABANDONED])

    notifications = application.notification_log.select(start=1, limit=10)

    assert [(n.id, n.topic) for n in notifications] == [(1, "call-received"), (2, "call-abandoned")]
    assert isinstance(application.recorder, LogRecorder)
    assert application.recorder.head().position == 2


def test_application_without_a_url_says_what_is_missing() -> None:
    with pytest.raises(CallerError, match="LEDGER_URL"):
        Application[UUID](env={"PERSISTENCE_MODULE": "ledger.storage.library_factory"})
