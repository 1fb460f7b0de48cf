"""An asyncio event loop whose time is virtual: it jumps to the next timer when nothing is ready.

Callbacks run in the order in which they were made ready, timers in the order of their times, so a
run depends on nothing but the program and its seed. There are no sockets, signals or threads.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import base_events, events
from typing import Any

OWNER: contextvars.ContextVar[Any] = contextvars.ContextVar("owner", default=None)
"""The simulated server that the running task belongs to."""


class Stuck(AssertionError):  # noqa: N818  (a finding, in a word)
    """Nothing is ready and no timer is set, or the run takes more steps than it may."""


class _TimeJump:
    """Stands where a loop has its selector: waiting is moving the clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.steps = 0
        self.most_steps = 2_000_000

    def select(self, timeout: float | None) -> list[Any]:
        self.steps += 1
        if timeout is None:
            raise Stuck("every task waits for something that nobody will do")
        if self.steps > self.most_steps:
            raise Stuck(f"no end after {self.steps} steps: a hot loop?")
        if timeout > 0:
            self.now_s += timeout
        return []


class VirtualLoop(base_events.BaseEventLoop):
    """Runs asyncio programs on virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _TimeJump()
        self._clock_resolution = 1e-9

    @property
    def steps(self) -> int:
        return self._selector.steps

    def time(self) -> float:
        return self._selector.now_s

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
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False
            self._ready.clear()
            self._scheduled.clear()
