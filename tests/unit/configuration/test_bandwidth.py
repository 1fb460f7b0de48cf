"""Limits by the hour: which one holds when, in whose hours."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ledger.configuration import UNLIMITED, BandwidthPlan, parse_hours

DAY = parse_hours("08:00-18:00 1000000")
NIGHT = parse_hours("22:00-06:00  9000000")


def at(hour: int, minute: int = 0, month: int = 1) -> datetime:
    return datetime(2026, month, 15, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "limit"),
    [
        (at(7, 59), 5000),
        (at(8), 1000000),
        (at(17, 59), 1000000),
        (at(18), 5000),
        (at(21, 59), 5000),
        (at(22), 9000000),
        (at(0), 9000000),
        (at(5, 59), 9000000),
        (at(6), 5000),
    ],
)
def test_each_hour_has_its_limit_also_over_midnight(moment, limit):
    plan = BandwidthPlan(bytes_per_s=5000, hours=(DAY, NIGHT))
    assert plan.limit_at(moment) == limit


def test_hours_are_those_of_the_zone_in_summer_and_winter():
    plan = BandwidthPlan(hours=(DAY,), zone=ZoneInfo("Europe/Berlin"))
    assert plan.limit_at(at(7, 30)) == 1000000
    assert plan.limit_at(at(6, 30)) is None
    assert plan.limit_at(at(6, 30, month=7)) == 1000000


def test_first_hours_that_fit_count():
    plan = BandwidthPlan(hours=(parse_hours("00:00-12:00 2048"), DAY))
    assert plan.limit_at(at(9)) == 2048


def test_without_a_plan_there_is_no_limit():
    assert all(UNLIMITED.limit_at(at(0) + timedelta(hours=h)) is None for h in range(24))
