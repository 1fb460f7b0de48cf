"""Open a server's stores beside it, for the commands that look at them without asking it.

Source: claim 10.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ledger.clock import SystemClock
from ledger.configuration import Configuration
from ledger.storage.event_log import LogRecorder
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.open_recorder import open_recorder
from vmledger.tokens import TokenStore, ensure_local_operator_token


@contextlib.contextmanager
def open_log(config: Configuration) -> Iterator[LogRecorder]:
    """Open the log of a configuration, and close it again."""
    recorder = open_recorder(config.stores.events)
    try:
        yield recorder
    finally:
        recorder.close()
