"""What the server finds tight by itself, and how it tells."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from ledger.configuration import Limits, Replication
from ledger.errors import TransientError
from ledger.storage.disk_room import DiskRoom
from ledger.storage.log_reserve import SLICE_BYTES, LogReserve
from projections.pending import PendingHome
from vmledger.connections import Doorkeeper, DoorLimits, Guest
from vmledger.watch import Watch

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LIMITS = Limits(min_free_disk_bytes=100, min_free_disk_for_batches_bytes=400)


async def in_place(work):
    return work()


class Place:
    """A server's surroundings, to be changed by a test."""

    def __init__(self, reserve=None):
        self.free_bytes = 1 << 40
        self.homes = []
        self.door = Doorkeeper(DoorLimits(most=10, head_timeout_s=1, body_timeout_s=1))
        replication = Replication(alarm_pending_age_s=60, alarm_held_age_s=30)
        self.watch = Watch(
            SimpleNamespace(limits=LIMITS, replication=replication),
            room=DiskRoom([Path()], LIMITS, free_bytes_at=lambda _: self.free_bytes),
            reserve=reserve,
            pending=lambda: self.homes,
            doors={"api": self.door},
            clock=SimpleNamespace(now=lambda: NOW),
            offload=in_place,
        )

    def look(self):
        asyncio.run(self.watch.look())
        return set(self.watch.alarms)


def home(age_s=0.0, held_age_s=None):
    held = held_age_s is not None
    return PendingHome(
        home="bravo",
        count=2,
        size_bytes=1,
        oldest_at=NOW - timedelta(seconds=age_s),
        held_count=int(held),
        held_reasons={"rejected": 1} if held else {},
        held_since=NOW - timedelta(seconds=held_age_s) if held else None,
    )


def test_nothing_tight_is_no_alarm():
    place = Place()
    place.homes = [home(59, 29)]
    assert place.look() == set()


def test_the_disk_is_told_by_what_is_turned_away():
    place = Place()
    place.free_bytes = 399
    assert place.look() == {"disk-batches"}
    place.free_bytes = 99
    assert place.look() == {"disk-batches", "disk-recordings"}


def test_messages_that_wait_or_are_held_too_long_are_told_by_home():
    place = Place()
    place.homes = [home(61, 31)]
    assert place.look() == {"pending-bravo", "held-bravo"}


def test_read_models_that_cannot_be_asked_hide_no_other_alarm():
    place = Place()
    place.free_bytes = 0

    def fail():
        raise TransientError("away")

    place.watch._pending = fail
    assert "disk-recordings" in place.look()


def test_a_door_that_is_nearly_full_is_told():
    place = Place()
    for number in range(9):
        place.door.admit(Guest(str(number), lambda why: None, 0, 0))
    assert place.look() == {"connections-api"}


def test_an_alarm_is_one_line_when_it_begins_and_one_when_it_ends(caplog):
    caplog.set_level(logging.INFO)
    place = Place()
    place.free_bytes = 399
    place.look()
    place.look()
    place.free_bytes = 400
    place.look()
    told = [r.getMessage().split(" detail")[0] for r in caplog.records if "alarm" in r.getMessage()]
    assert told == ["action=alarm alarm=disk-batches", "action=alarm-over alarm=disk-batches"]


@pytest.mark.parametrize(("free_bytes", "held"), [(SLICE_BYTES + 99, 0), (SLICE_BYTES + 100, 1)])
def test_the_reserve_is_filled_only_from_what_calls_do_not_need(tmp_path, free_bytes, held):
    reserve = LogReserve(tmp_path / "reserve", SLICE_BYTES)
    place = Place(reserve)
    place.free_bytes = free_bytes
    assert ("disk-reserve" in place.look()) is (not held)
    assert reserve.held_bytes() == held * SLICE_BYTES
