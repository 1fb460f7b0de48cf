"""The mapper: a row of the log and the event in it must name the same thing."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from eventsourcing.persistence import StoredEvent

from ledger.errors import CorruptionError
from ledger.events import CallAbandoned, OpaqueEvent, encode
from ledger.storage.event_log import LogEntry
from ledger.storage.mapper import LedgerMapper, to_domain_event, to_stored_event

EVENT = CallAbandoned(
    originator_id=UUID(int=1),
    originator_version=2,
    recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
    recorded_by="alpha",
    reason="caller-hung-up",
)


def test_state_of_a_stored_event_is_the_plain_json() -> None:
    stored = to_stored_event(EVENT)

    assert stored == StoredEvent(UUID(int=1), 2, "call-abandoned", encode(EVENT))


def test_event_comes_back_from_a_stored_event_and_from_an_entry() -> None:
    stored = to_stored_event(EVENT)
    entry = LogEntry(9, stored.originator_id, 2, stored.topic, stored.state, None, None)

    assert to_domain_event(stored) == to_domain_event(entry) == EVENT


def test_unknown_event_comes_back_byte_for_byte() -> None:
    plain = encode(EVENT).replace(b"call-abandoned", b"call-of-the-future")
    stored = StoredEvent(UUID(int=1), 2, "call-of-the-future", plain)

    event = to_domain_event(stored)

    assert isinstance(event, OpaqueEvent)
    assert to_stored_event(event) == stored


@pytest.mark.parametrize(
    "change",
    [
        {"originator_id": UUID(int=7)},
        {"originator_version": 3},
        {"topic": "message-heard"},
    ],
)
def test_row_that_names_another_event_is_corrupt(change: dict[str, object]) -> None:
    with pytest.raises(CorruptionError, match="another event"):
        to_domain_event(replace(to_stored_event(EVENT), **change))  # type: ignore[arg-type]


def test_error_says_where_the_bad_row_stands() -> None:
    stored = replace(to_stored_event(EVENT), state=b"{")

    with pytest.raises(CorruptionError, match="version 2"):
        to_domain_event(stored)


def test_librarys_mapper_speaks_of_the_same_bytes() -> None:
    mapper = LedgerMapper(transcoder=None)  # type: ignore[call-arg]  # ours needs no transcoder

    stored = mapper.to_stored_event(EVENT)

    assert stored.state == encode(EVENT)
    assert mapper.to_domain_event(stored) == EVENT
