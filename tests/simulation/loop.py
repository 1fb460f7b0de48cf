"""An asyncio event loop whose time is virtual: it jumps to the next timer when nothing is ready.

Callbacks run in the order in which they were made ready, timers in the order of their times, so a
run depends on nothing but the program and its seed. There are no sockets, signals or threads.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import base_events, events
from typing import Any


class Stuck(AssertionError):  # noqa: N818  (a finding, in a word)
    """Nothing is ready and no timer is set, or the run takes more steps than it may."""


class _NoSelector:
    """Stands where a loop has its selector: there is nothing outside to wait for."""


class VirtualLoop(base_events.BaseEventLoop):
    """Runs asyncio programs on virtual time."""

    most_steps = 200_000
    """A run that takes more is taken for a hot loop."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _NoSelector()
        self._clock_resolution = 1e-9
        self._now_s = 0.0
        self.steps = 0

    def time(self) -> float:
        return self._now_s

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """Run all that is ready; when nothing is, it is the time of the next timer at once."""
        self.steps += 1
        if self.steps > self.most_steps:
            raise Stuck(f"no end after {self.steps} steps: a hot loop?")
        ready = self._ready
        if not ready:
            self._jump()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _jump(self) -> None:
        timers = self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        if not timers:
            raise Stuck("every task waits for something that nobody will do")
        self._now_s = max(self._now_s, timers[0]._when)
        while timers and timers[0]._when <= self._now_s:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            self._ready.append(timer)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # it is passed over when its time comes

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        pass  # nobody else's thread can wake this loop

    def run(self, main: Any) -> Any:
        """Run a coroutine to its end on this loop; every other task is then abandoned."""
        events._set_running_loop(None)
        self.set_exception_handler(lambda _loop, _context: None)
        try:
            return self.run_until_complete(main)
        finally:
            self._ready.clear()
            self._scheduled.clear()
