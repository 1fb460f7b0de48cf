"""The clock of the real machine."""

import asyncio
from datetime import UTC, timedelta

from ledger.clock import SystemClock


def test_wall_time_is_aware_and_in_utc():
    assert SystemClock().now().tzinfo is UTC


def test_monotonic_time_never_goes_back():
    clock = SystemClock()
    readings = [clock.monotonic_s() for _ in range(1000)]
    assert readings == sorted(readings)


def test_wall_time_is_that_of_this_machine():
    clock = SystemClock()
    before = clock.now()
    assert timedelta(0) <= clock.now() - before < timedelta(hours=1)


async def pause_and_work() -> list[str]:
    done: list[str] = []

    async def pause() -> None:
        await SystemClock().sleep(0.01)
        done.append("pause")

    pausing = asyncio.create_task(pause())
    await asyncio.sleep(0)
    done.append("work")
    await pausing
    return done


def test_others_work_while_the_clock_sleeps():
    assert asyncio.run(pause_and_work()) == ["work", "pause"]
