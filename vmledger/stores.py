"""Open a server's stores beside it, for the commands that look at them without asking it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ledger.configuration import Configuration
from ledger.storage.event_log import LogRecorder


@contextlib.contextmanager
def open_log_for_reading(config: Configuration) -> Iterator[LogRecorder]:
    """Open the log of a configuration, and close it again."""
    recorder = open_recorder(config.stores.events)
    try:
        yield recorder
    finally:
        recorder.close()
