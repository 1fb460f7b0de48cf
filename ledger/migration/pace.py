"""Keeps what is sent to one peer within its limit of bytes a second.

A batch goes at once and as fast as the line is; the next one waits until the limit has paid for it.
So bodies never crawl, which time-outs at either end would take for a dead line, and the average
holds over a few seconds: under a limit, batches are made small.

Source: claims 5 and 8.
"""

from __future__ import annotations

from typing import Final

from ledger.clock import Clock
from ledger.configuration import BandwidthPlan

_SECONDS_A_BATCH: Final = 2.0
"""Under a limit, a batch holds no more than so many seconds of it pay for, if it holds several
messages."""


class Pace:
    """Says when the next body may go. For one event loop; who comes first goes first."""

    def __init__(self, plan: BandwidthPlan, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._free_at_s = 0.0
        """When all that was let go so far is paid for, in monotonic time."""

    @property
    def limit_bytes_per_s(self) -> int | None:
        """The limit that holds now; None when there is none."""
        return self._plan.limit_at(self._clock.now())

    def batch_bytes(self, most_bytes: int) -> int:
        """Say how large a batch of several messages may be now."""
        limit = self.limit_bytes_per_s
        return most_bytes if limit is None else min(most_bytes, round(limit * _SECONDS_A_BATCH))

    async def wait_for(self, size_bytes: int) -> None:
        """Return when a body of this size may go. Whoever is cancelled while waiting has paid."""
        limit = self.limit_bytes_per_s
        if limit is None:
            return
        now_s = self._clock.monotonic_s()
        begin_s = max(now_s, self._free_at_s)
        self._free_at_s = begin_s + size_bytes / limit
        if begin_s > now_s:
            await self._clock.sleep(begin_s - now_s)
