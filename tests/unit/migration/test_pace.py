"""The pace of sending: the average keeps the limit, whoever comes first goes first."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.configuration import UNLIMITED, BandwidthPlan, parse_hours
from ledger.migration.pace import Pace
from tests.support.clocks import SetClock
from tests.support.sites import VirtualClock, run

LIMIT = 10_000


def test_without_a_limit_nothing_waits():
    clock = SetClock()
    pace = Pace(UNLIMITED, clock)
    for _ in range(10):
        asyncio.run(pace.wait_for(10**9))
    assert clock.monotonic_s() == 1000.0
    assert pace.batch_bytes(8_000_000) == 8_000_000


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=30), st.floats(0, 20))
def test_what_was_sent_before_is_paid_for_when_the_next_body_goes(sizes, idle_s):
    clock = SetClock()
    pace = Pace(BandwidthPlan(bytes_per_s=LIMIT), clock)
    clock.advance(idle_s)  # having been idle earns nothing
    begin_s = clock.monotonic_s()
    sent = 0
    for size in sizes:
        asyncio.run(pace.wait_for(size))
        assert clock.monotonic_s() - begin_s == pytest.approx(sent / LIMIT, abs=1e-6)
        sent += size


def test_bodies_that_wait_together_go_in_their_order_and_one_after_the_other():
    async def main():
        clock = VirtualClock()
        pace = Pace(BandwidthPlan(bytes_per_s=LIMIT), clock)
        begin_s = clock.monotonic_s()
        went: list[tuple[int, float]] = []

        async def send(number: int) -> None:
            await pace.wait_for(LIMIT)
            went.append((number, round(clock.monotonic_s() - begin_s, 3)))

        await asyncio.gather(*(send(number) for number in range(4)))
        assert went == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]

    run(main())


def test_limit_of_the_hour_holds():
    clock = SetClock()  # it is eight o'clock
    pace = Pace(BandwidthPlan(hours=(parse_hours("09:00-10:00 2048"),)), clock)
    assert pace.limit_bytes_per_s is None
    clock.advance(3600)
    assert pace.limit_bytes_per_s == 2048
    assert pace.batch_bytes(8_000_000) == 4096
    assert pace.batch_bytes(1000) == 1000
