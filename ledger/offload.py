"""Blocking work off the event loop, as a port.

Stores are synchronous; the servers around them are not. Everything that may block goes through an
`Offload`, so that a simulation can run it in place and strike before or after it.

Source: claim 14 (common functions).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol, TypeVar

Result = TypeVar("Result")


class Offload(Protocol):
    """Runs a blocking function without blocking the event loop."""

    async def __call__(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` and give its result or raise its error.

        When the waiting task is cancelled the work still runs to its end.
        """


class ThreadOffload:
    """Runs blocking work in a pool of threads."""

    def __init__(self, threads: int = 8) -> None:
        self._executor: Executor = ThreadPoolExecutor(threads, thread_name_prefix="offload")

    async def __call__(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Wait for all running work, then free the threads: stores may be closed after this."""
        self._executor.shutdown(wait=True)
