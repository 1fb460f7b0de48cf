"""A log that went back is warned of until an operator says that it is known."""

from datetime import UTC, datetime
from uuid import UUID

from ledger.events import WentBackAcknowledged
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from ledger.storage.memory import MemoryLogRecorder
from projections.servers import WentBack
from vmledger.doctor import Verdict, _went_back
from vmledger.went_back import read_acknowledged

AT = datetime(2026, 3, 1, tzinfo=UTC)


def went_back(*, lost: int = 3, waiting_for: tuple[str, ...] = ()) -> WentBack:
    return WentBack(
        noticed_at=AT,
        position=10,
        reason="restored",
        missing_after=10,
        known_until=13,
        events_back=0,
        messages_back=0,
        not_taken=0,
        lost_events=lost,
        waiting_for=waiting_for,
        recalls=(),
    )


def acknowledged(version: int, incarnation: int, reason: str) -> WentBackAcknowledged:
    return WentBackAcknowledged(
        originator_id=UUID(int=1),
        originator_version=version,
        recorded_at=AT,
        recorded_by="alpha",
        server="alpha",
        incarnation=UUID(int=incarnation),
        by="ann",
        reason=reason,
    )


def test_lost_events_are_warned_of_until_they_are_acknowledged():
    assert _went_back(went_back(), None).verdict is Verdict.WARN
    known = _went_back(went_back(), acknowledged(1, 7, "old backup"))
    assert known.verdict is Verdict.OK
    assert "acknowledged by ann" in known.found
    assert "old backup" in known.found


def test_peers_that_may_know_more_are_waited_for_all_the_same():
    found = _went_back(went_back(waiting_for=("bravo",)), acknowledged(1, 7, "old backup"))
    assert found.verdict is Verdict.WARN


def test_acknowledgement_is_of_one_incarnation_and_the_newest_counts():
    log = MemoryLogRecorder(UUID(int=7))
    events = [acknowledged(1, 7, "first"), acknowledged(2, 7, "second"), acknowledged(3, 8, "old")]
    log.commit([Append([to_stored_event(event) for event in events])])
    known = read_acknowledged(log)
    assert {key: event.reason for key, event in known.items()} == {
        ("alpha", UUID(int=7)): "second",
        ("alpha", UUID(int=8)): "old",
    }
