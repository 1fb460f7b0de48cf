"""Time as a port: what a module needs of a clock, and the clock of the real machine.

Every module that needs the time or a pause takes a `Clock`, so that a simulation can run days in
milliseconds and let clocks jump.

Source: claim 14 (common functions).
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for people, monotonic time for intervals, and a pause."""

    def now(self) -> datetime:
        """Give the wall time, aware and in UTC. It may jump: never subtract two of them."""

    def monotonic_s(self) -> float:
        """Give seconds since some fixed moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds of monotonic time."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
