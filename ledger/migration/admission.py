"""How much a home takes on at a time: the rest waits in line, fairly, or comes back later.

When a home returns after an outage every origin has a backlog for it. A few batches at a time keep
memory and disk calm. The others wait in line with their bodies unread, so that they cost no memory:
each origin's in the order in which they came, the origins by turns, so that one with a large
backlog never stands before the others. Whoever has waited too long, or finds the line full, is
asked to come back after a pause of random length, so that they do not all come back together.

Source: claim 7.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from ledger.errors import TransientError
from ledger.events import ServerId

MAX_BYTES: Final = 64 * 1024 * 1024
"""Of all batches together; a larger one is let in when it is alone."""
MAX_WAIT_S: Final = 10.0
"""In line. Well below the time that an origin gives a batch (``request_timeout_s``)."""
MAX_WAITING: Final = 16
"""Of one origin: as many batches as one may have on their way at a time."""
_PAUSE_S: Final = (0.2, 2.0)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A batch in line."""

    size_bytes: int
    called: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it has its place."""


class Admission:
    """Gives places to batches, and keeps the line before them. For one event loop."""

    def __init__(
        self,
        max_batches: int,
        rng: random.Random,
        *,
        max_bytes: int = MAX_BYTES,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        """Let ``max_batches`` in at a time, of one origin at most half of them."""
        self._max_batches = max_batches
        self._max_per_origin = max(1, max_batches // 2)
        self._max_bytes = max_bytes
        self._max_wait_s = max_wait_s
        self._rng = rng
        self._inside: Counter[ServerId] = Counter()
        self._bytes = 0
        self._lines: dict[ServerId, deque[_Waiting]] = {}
        """Of the origins that wait; the one whose turn is next stands first."""

    @asynccontextmanager
    async def enter(self, origin: ServerId, size_bytes: int) -> AsyncIterator[None]:
        """Hold a place, after waiting for it; raises TransientError with a random pause."""
        await self._wait_for_place(origin, size_bytes)
        try:
            yield
        finally:
            self._leave(origin, size_bytes)

    async def _wait_for_place(self, origin: ServerId, size_bytes: int) -> None:
        line = self._lines.setdefault(origin, deque())
        if len(line) >= MAX_WAITING:
            raise self._sent_away()
        waiting = _Waiting(size_bytes)
        line.append(waiting)
        self._call_in()
        if waiting.called.is_set():
            return  # as mostly: there is nothing to wait for
        try:
            async with asyncio.timeout(self._max_wait_s):
                await waiting.called.wait()
        except BaseException as error:
            # Out of time, or the request was given up; perhaps in the moment it was called.
            if waiting.called.is_set():
                self._leave(origin, size_bytes)
            else:
                self._step_out(origin, waiting)
            if isinstance(error, TimeoutError):
                raise self._sent_away() from error
            raise

    def _sent_away(self) -> TransientError:
        pause_s = self._rng.uniform(*_PAUSE_S)
        return TransientError("this server takes in enough batches now", retry_after_s=pause_s)

    def _leave(self, origin: ServerId, size_bytes: int) -> None:
        self._inside[origin] -= 1
        self._bytes -= size_bytes
        self._call_in()

    def _step_out(self, origin: ServerId, waiting: _Waiting) -> None:
        self._lines[origin].remove(waiting)
        if not self._lines[origin]:
            del self._lines[origin]
        self._call_in()  # it may have been too large, and those behind it are not

    def _call_in(self) -> None:
        """Give the free places to those in line, one of each origin by turns."""
        while (origin := self._next_origin()) is not None:
            line = self._lines.pop(origin)
            waiting = line.popleft()
            if line:
                self._lines[origin] = line  # at the end: the others come first now
            self._inside[origin] += 1
            self._bytes += waiting.size_bytes
            waiting.called.set()

    def _next_origin(self) -> ServerId | None:
        """Say whose batch comes in now; None when there is no place for the next one."""
        count = self._inside.total()
        if count >= self._max_batches:
            return None
        for origin, line in self._lines.items():
            if self._inside[origin] < self._max_per_origin:
                # One that is too large now holds up the line: smaller ones would for ever pass it.
                fits = count == 0 or self._bytes + line[0].size_bytes <= self._max_bytes
                return origin if fits else None
        return None
