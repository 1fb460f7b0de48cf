"""Running coroutines from a fuzzer, which knows none, and seeing what was only written to a log."""

from __future__ import annotations

import asyncio
import atexit
import logging
from collections.abc import Coroutine
from typing import Any

_RUNNER = asyncio.Runner()
atexit.register(_RUNNER.close)


def run_in_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run it on the one event loop of this process."""
    return _RUNNER.run(work)


class Unexpected(logging.Handler):
    """Keeps the errors that the program caught, logged as its own mistakes, and survived."""

    def __init__(self, logger: str, *actions: str) -> None:
        super().__init__(logging.ERROR)
        self._actions = tuple(f"action={action}" for action in actions)
        self._found: list[BaseException] = []
        logging.getLogger(logger).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.getMessage().startswith(self._actions):
            assert record.exc_info[1] is not None
            self._found.append(record.exc_info[1])

    def raise_any(self) -> None:
        """Raise the first since the last time."""
        found, self._found = self._found, []
        if found:
            raise found[0]
