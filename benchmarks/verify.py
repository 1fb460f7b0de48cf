"""Verifying a whole log: ``python -m benchmarks.verify``.

The baseline reads the same log from SQLite and hashes each event as it is kept, decompressed, which
is the least that any check of it must do, in one process. Verification also decodes each event,
checks streams and rows, compares hashes and nodes, and computes the tree; on a long log one process
a processor helps. Goal: at least 0.5 times the baseline.
"""

from __future__ import annotations

import random
import tempfile
from hashlib import sha256
from pathlib import Path

from benchmarks.report import report
from benchmarks.sample_events import call_with_message, kept_keys
from benchmarks.stores import rates
from ledger.storage.event_log import Append, LogRecorder
from ledger.storage.mapper import to_stored_event
from ledger.storage.open_recorder import open_recorder
from vmledger.verification import verify_log

EVENTS = 200_000
PAGE = 1000
CALLS_A_COMMIT = 250
ROUNDS = 3


def fill(log: LogRecorder, events: int) -> None:
    """Write calls, with their keys: a sealed call without one would be a finding."""
    rng = random.Random(2)
    while log.head().position < events:
        calls = [call_with_message(rng, server="alpha") for _ in range(CALLS_A_COMMIT)]
        page = [event for call in calls for event in call]
        log.commit([Append([to_stored_event(event) for event in page], keys=kept_keys(page))])


def read_and_hash(log: LogRecorder) -> int:
    position = 0
    while entries := log.read(position + 1, PAGE):
        for entry in entries:
            sha256(entry.plain).digest()
        position = entries[-1].position
    return position


def main() -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.sqlite'}"
        log = open_recorder(url)
        fill(log, EVENTS)

        def verify() -> int:
            found = verify_log(log, url=url)
            assert found.is_intact, found.findings[:3]
            return found.position

        mine, baseline = rates(ROUNDS, [verify, lambda: read_and_hash(log)])
        report("verify-sqlite", mine, "events/s", "reading and hashing alone", baseline, 0.5)
        log.close()


if __name__ == "__main__":
    main()
