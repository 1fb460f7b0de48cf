"""Who hears of an event, and what travels with it."""

from typing import Any
from uuid import UUID

import pytest

from ledger.events import (
    EVENT_CLASSES,
    AudioFacts,
    Caller,
    CallReceived,
    CallStatus,
    DomainEvent,
    MessageErased,
    MessageHeard,
    MessageMigrated,
    MessageRequeued,
    MessageStored,
    OpaqueEvent,
    PinChanged,
    Receipt,
    ServerStarted,
    decode,
    encode,
)
from ledger.migration.audience import (
    TRAVELLING,
    TRIGGERS,
    Role,
    StreamKind,
    build_shipment,
    destination_of,
    is_for,
    is_forbidden,
    may_be_for,
)
from ledger.storage.event_log import LogEntry
from tests.support.sites import START

CALL, MESSAGE = UUID(int=1), UUID(int=2)


def event(kind: type, version: int = 1, stream: UUID = CALL, **fields: Any) -> Any:
    return kind(
        originator_id=stream,
        originator_version=version,
        recorded_at=START,
        recorded_by="alpha",
        **fields,
    )


def received() -> CallReceived:
    fields = {"context": "default", "status": CallStatus.BUSY, "personal": Caller()}
    return event(CallReceived, called_extension="2001", **fields)


def stored(version: int = 2, home: str = "bravo", message_id: UUID = MESSAGE) -> MessageStored:
    audio = AudioFacts(
        digest="b" * 64,
        size_bytes=1,
        container="raw",
        codec="pcmu",
        sample_rate_hz=8000,
        channels=1,
        duration_ms=1,
    )
    return event(
        MessageStored,
        version,
        message_id=message_id,
        mailbox="2001@default",
        home=home,
        blob="a" * 64,
        blob_size_bytes=9,
        audio=audio,
    )


def requeued(version: int, home: str) -> MessageRequeued:
    return event(MessageRequeued, version, message_id=MESSAGE, home=home, reason="operator")


def heard(version: int, stream: UUID = CALL) -> MessageHeard:
    return event(MessageHeard, version, stream, message_id=MESSAGE, by="2001")


def migrated(version: int, home: str) -> MessageMigrated:
    receipt = Receipt(
        origin="alpha",
        origin_incarnation=UUID(int=9),
        origin_position=1,
        origin_root="a" * 64,
        home=home,
        home_incarnation=UUID(int=8),
        home_position=1,
        home_root="a" * 64,
        safe_position=0,
        issued_at=START,
        signature="",
    )
    return event(
        MessageMigrated, version, message_id=MESSAGE, home=home, home_position=1, receipt=receipt
    )


def ship(events: list[DomainEvent], trigger: int, peer: str = "bravo"):
    """Build the shipment of the event with this version; positions are ten times the version."""
    stream = [
        (
            LogEntry(
                each.originator_version * 10,
                each.originator_id,
                each.originator_version,
                each.topic,
                encode(each),
                None,
                None,
            ),
            each,
        )
        for each in events
    ]
    return build_shipment(stream[trigger - 1][0], stream, peer)


def test_stored_message_goes_to_its_home_alone():
    assert is_for(stored(), "bravo", "bravo")
    assert not is_for(stored(), "charlie", "bravo")


def test_only_what_is_sent_to_another_is_passed_over_without_its_stream():
    pin = event(PinChanged, mailbox="1001@default", verifier=None, by="x")
    for one in (stored(), requeued(3, "bravo"), heard(3), pin):
        for peer in ("bravo", "charlie"):
            assert may_be_for(one, peer) or not is_for(one, peer, "bravo")
    assert may_be_for(stored(), "bravo")
    assert not may_be_for(stored(), "charlie")


def test_message_at_its_own_home_goes_nowhere():
    assert not is_for(stored(home="alpha"), "bravo", "alpha")


def test_what_a_home_records_of_its_own_messages_goes_nowhere():
    assert not is_for(heard(2, stream=MESSAGE), "bravo", None)


def test_profile_goes_to_every_server():
    changed = event(PinChanged, mailbox="1001@default", verifier=None, by="x")
    assert all(is_for(changed, peer, None) for peer in ("bravo", "charlie"))


def test_server_events_go_nowhere():
    started = event(ServerStarted, incarnation=CALL, software_version="1")
    assert not is_for(started, "bravo", None)


def test_unknown_event_is_no_reason_for_a_parcel():
    opaque = decode(encode(heard(3)).replace(b"message-heard", b"message-tagged"))
    assert isinstance(opaque, OpaqueEvent)
    assert not is_for(opaque, "bravo", "bravo")


def test_every_travelling_topic_is_a_known_kind_of_event():
    assert set(TRAVELLING) <= set(EVENT_CLASSES)
    assert {role for topic, (_, role) in TRAVELLING.items() if topic in TRIGGERS} == {
        Role.DELIVERS,
        Role.FOLLOWS,
        Role.INFORMS,
    }


@pytest.mark.parametrize("topic", sorted(set(EVENT_CLASSES) - set(TRAVELLING)))
@pytest.mark.parametrize("kind", StreamKind)
def test_topics_that_do_not_travel_are_accepted_from_nobody(topic, kind):
    opaque = OpaqueEvent(
        originator_id=CALL,
        originator_version=1,
        recorded_at=START,
        recorded_by="alpha",
        topic=topic,
        v=99,
        plain=b"",
    )
    assert is_forbidden(opaque, kind)


def test_parcel_holds_the_whole_stream_up_to_its_reason_byte_for_byte():
    events = [received(), stored(), heard(3), heard(4)]
    shipment = ship(events, 2)
    assert shipment.parcel.position == 20
    assert [bytes(e.plain) for e in shipment.parcel.events] == [encode(e) for e in events[:2]]
    assert shipment.blobs == (("a" * 64, 9),)
    assert shipment.message == events[1]


def test_what_was_done_to_a_pending_message_follows_it_without_audio():
    shipment = ship([received(), stored(), heard(3)], 3)
    assert shipment.parcel.position == 30
    assert shipment.blobs == ()
    assert shipment.message is None


def test_message_that_was_sent_on_leaves_its_first_home_alone():
    events = [received(), stored(), requeued(3, "charlie")]
    assert destination_of(MESSAGE, events) == "charlie"
    assert ship(events, 2, "bravo") is None
    assert ship(events, 3, "bravo") is None
    assert ship(events, 3, "charlie").message == events[1]


def test_message_that_arrived_elsewhere_after_all_is_not_sent_again():
    events = [received(), stored(), requeued(3, "charlie"), migrated(4, "bravo")]
    assert ship(events, 3, "charlie") is None


def test_message_that_arrived_is_sent_again_to_the_same_home_when_it_asks():
    assert ship([received(), stored(), migrated(3, "bravo")], 2).message is not None


def test_erased_message_does_not_travel_but_its_erasure_does():
    erased = event(MessageErased, 3, message_id=MESSAGE, by="x", reason="asked for")
    events = [received(), stored(), erased]
    assert ship(events, 2) is None
    assert ship(events, 3).parcel.position == 30


def test_other_message_of_a_call_goes_its_own_way():
    other = UUID(int=3)
    events = [received(), stored(), stored(3, "charlie", other)]
    assert ship(events, 2, "bravo").message.message_id == MESSAGE
    assert ship(events, 3, "charlie").message.message_id == other
    assert ship(events, 3, "bravo") is None


def pin(version: int, verifier: str | None) -> PinChanged:
    fields = {"mailbox": "1001@default", "verifier": verifier, "by": "x"}
    return event(PinChanged, version, **fields, verifier_size_bytes=9 if verifier else 0)


def test_what_a_pin_is_checked_against_travels_with_its_change():
    shipment = ship([pin(1, "a" * 64)], 1)
    assert shipment.blobs == (("a" * 64, 9),)
    assert shipment.parcel.blobs == ("a" * 64,)


def test_changed_pin_travels_only_with_the_change_that_followed_it():
    """What the old one was checked against may be thrown away by now."""
    events = [pin(1, "a" * 64), pin(2, "b" * 64)]
    assert ship(events, 1) is None
    shipment = ship(events, 2)
    assert [bytes(e.plain) for e in shipment.parcel.events] == [encode(e) for e in events]
    assert shipment.blobs == (("b" * 64, 9),)


def test_removed_pin_needs_no_blob():
    assert ship([pin(1, "a" * 64), pin(2, None)], 2).blobs == ()
