"""An asyncio event loop whose time is virtual: it jumps to the next timer when nothing is ready.

Callbacks run in the order in which they were made ready, timers in the order of their times, so a
run depends on nothing but the program and its seed. There are no sockets, signals or threads.
"""

from __future__ import annotations

import heapq
from asyncio import base_events, events, tasks
from collections import deque
from typing import Any


class Stuck(AssertionError):  # noqa: N818  (a finding, in a word)
    """Nothing is ready and no timer is set, or the run takes more steps than it may."""


class _NoSelector:
    """Stands where a loop has its selector: there is nothing outside to wait for."""


class _Handle:
    """A callback that waits for its turn; asyncio's own costs three times as much."""

    __slots__ = ("args", "callback", "is_cancelled", "when_s")

    def __init__(self, callback: Any, args: tuple[Any, ...], when_s: float) -> None:
        self.callback = callback
        self.args = args
        self.when_s = when_s
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
        self.callback = self.args = None

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.when_s


class VirtualLoop(base_events.BaseEventLoop):
    """Runs asyncio programs on virtual time. Context variables are all of one context."""

    most_steps = 200_000
    """A run that takes more is taken for a hot loop."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _NoSelector()
        self._clock_resolution = 1e-9
        self._now_s = 0.0
        self._turns: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._count = 0
        self.steps = 0

    def time(self) -> float:
        return self._now_s

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = _Handle(callback, args, self._now_s)
        self._turns.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = _Handle(callback, args, when)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self._now_s + delay, callback, *args)

    def _run_once(self) -> None:
        """Run until somebody stops the loop: it costs something to come back here for each step."""
        turns = self._turns
        while not self._stopping:
            self.steps += 1
            if self.steps > self.most_steps:
                raise Stuck(f"no end after {self.steps} steps: a hot loop?")
            if not turns:
                self._jump()
            for _ in range(len(turns)):
                handle = turns.popleft()
                if not handle.is_cancelled:
                    handle.callback(*handle.args)

    def _jump(self) -> None:
        timers = self._timers
        while timers and timers[0][2].is_cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Stuck("every task waits for something that nobody will do")
        self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            self._turns.append(heapq.heappop(timers)[2])

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        pass  # nobody else's thread can wake this loop

    def run(self, main: Any) -> Any:
        """Run a coroutine to its end on this loop, then cancel every task that it left."""
        try:
            return self._run_alone(main)
        finally:
            while left := tasks.all_tasks(self):
                for task in left:
                    task.cancel()
                self.run_until_complete(tasks.gather(*left, return_exceptions=True))
            self.close()

    def run_and_abandon(self, main: Any) -> Any:
        """Run a coroutine to its end on this loop; no other task runs on, not even its clean-up.

        That is how a crash ends a program. Python closes the abandoned coroutines some time later
        and complains of it, unless it is told not to.
        """
        try:
            return self._run_alone(main)
        finally:
            self._turns.clear()
            self._timers.clear()
            self.close()

    def _run_alone(self, main: Any) -> Any:
        events._set_running_loop(None)
        self.set_exception_handler(lambda _loop, _context: None)
        return self.run_until_complete(main)
