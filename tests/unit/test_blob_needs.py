"""Which blobs a server must keep."""

import random
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from benchmarks.sample_events import START, call_with_message
from ledger.events import (
    MessageDelivered,
    MessageMigrated,
    MessageRequeued,
    MessageStored,
    MigrationRefused,
    PinChanged,
)
from vmledger.blob_needs import BlobNeeds

KEEP_FOR = timedelta(days=30)
SOON = START + timedelta(days=200)


def shipped(safe_position: int) -> tuple[MessageStored, MessageMigrated]:
    """A message for bravo, and its receipt, which says how far bravo's backup reaches."""
    *_, stored, migrated = call_with_message(random.Random(1), server="alpha", home="bravo")
    assert isinstance(stored, MessageStored)
    assert isinstance(migrated, MessageMigrated)
    receipt = msgspec.structs.replace(migrated.receipt, safe_position=safe_position)
    return stored, msgspec.structs.replace(migrated, receipt=receipt, recorded_at=SOON)


def needs(now=SOON) -> BlobNeeds:
    return BlobNeeds("alpha", KEEP_FOR, now)


def test_pending_message_needs_its_audio():
    stored, _ = shipped(0)
    kept = needs()
    kept.take(stored, 3)
    assert kept.needed() == {stored.blob}


def test_acknowledged_message_needs_its_audio_until_a_backup_of_the_home_covers_it():
    stored, migrated = shipped(safe_position=2)
    kept = needs()
    kept.take(stored, 3)
    kept.take(migrated, 4)
    assert kept.needed() == {stored.blob}


def test_message_that_a_backup_of_its_home_covers_needs_no_audio_here():
    stored, migrated = shipped(safe_position=3)
    kept = needs()
    kept.take(stored, 3)
    kept.take(migrated, 4)
    assert kept.needed() == set()


def test_backup_must_cover_the_position_under_which_a_message_was_shipped_again():
    stored, migrated = shipped(safe_position=50)
    requeued = MessageRequeued(
        originator_id=stored.originator_id,
        originator_version=4,
        recorded_at=SOON,
        recorded_by="alpha",
        message_id=stored.message_id,
        home="bravo",
        reason="operator",
    )
    kept = needs()
    kept.take(stored, 3)
    kept.take(requeued, 100)
    kept.take(migrated, 101)
    assert kept.needed() == {stored.blob}


def test_message_that_came_back_needs_its_audio_when_the_receipt_of_its_first_way_comes():
    stored, migrated = shipped(safe_position=50)
    delivered = MessageDelivered(
        originator_id=UUID(int=9),
        originator_version=1,
        recorded_at=SOON,
        recorded_by="alpha",
        message_id=stored.message_id,
        call_id=stored.originator_id,
        mailbox=stored.mailbox,
        origin="bravo",
        origin_position=20,
    )
    kept = needs(SOON + timedelta(days=400))
    kept.take(stored, 3)
    kept.take(delivered, 4)
    kept.take(migrated, 5)
    assert kept.needed() == {stored.blob}


def refused(stored: MessageStored, home: str = "bravo") -> MigrationRefused:
    return MigrationRefused(
        originator_id=stored.originator_id,
        originator_version=5,
        recorded_at=SOON,
        recorded_by="alpha",
        message_id=stored.message_id,
        home=home,
        reason="not-my-mailbox",
        detail="the mailbox moved to charlie",
    )


def test_message_that_its_home_lost_and_refuses_now_needs_its_audio_again():
    stored, migrated = shipped(safe_position=3)
    kept = needs(SOON + timedelta(days=400))
    kept.take(stored, 3)
    kept.take(migrated, 4)
    kept.take(refused(stored), 5)
    assert kept.needed() == {stored.blob}
    kept.take(migrated, 6)
    assert kept.needed() == set()


def test_late_refusal_of_a_former_home_frees_nothing_and_keeps_nothing():
    stored, migrated = shipped(safe_position=3)
    kept = needs()
    kept.take(stored, 3)
    kept.take(migrated, 4)
    kept.take(refused(stored, home="charlie"), 5)
    assert kept.needed() == set()


@pytest.mark.parametrize(("days", "is_needed"), [(29, True), (30, False)])
def test_audio_is_kept_for_the_retention_period_without_a_backup(days, is_needed):
    stored, migrated = shipped(safe_position=0)
    kept = needs(SOON + timedelta(days=days))
    kept.take(stored, 3)
    kept.take(migrated, 4)
    assert (stored.blob in kept.needed()) is is_needed


def pin(version: int, verifier: str | None, by: str = "bravo", epoch: int = 1) -> PinChanged:
    return PinChanged(
        originator_id=UUID(int=len(by)),
        originator_version=version,
        recorded_at=START,
        recorded_by=by,
        mailbox="2001@default",
        epoch=epoch,
        verifier=verifier,
        by="ann",
    )


@pytest.mark.parametrize("home", ["alpha", "bravo"])
def test_only_what_the_newest_pin_is_checked_against_is_needed(home):
    kept = needs()
    kept.take(pin(1, "a" * 64, home), 1)
    kept.take(pin(2, "b" * 64, home), 2)
    assert kept.needed() == {"b" * 64}
    kept.take(pin(3, None, home), 3)
    assert kept.needed() == set()


def test_what_a_new_home_set_takes_the_place_of_the_old_one_in_whatever_order():
    old, new = pin(1, "a" * 64, "bravo"), pin(1, "b" * 64, "charlie", epoch=2)
    for events in ([old, new], [new, old]):
        kept = needs()
        for position, event in enumerate(events, 1):
            kept.take(event, position)
        assert kept.needed() == {"b" * 64}


def test_former_home_keeps_its_own_last_one_for_whoever_has_not_heard_of_it():
    kept = needs()
    kept.take(pin(1, "a" * 64, "alpha"), 1)
    kept.take(pin(1, "b" * 64, "charlie", epoch=2), 2)
    assert kept.needed() == {"a" * 64, "b" * 64}
