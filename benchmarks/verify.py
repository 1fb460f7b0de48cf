"""Verifying a whole log: ``python -m benchmarks.verify``.

The baseline reads the same log from SQLite and hashes each event as it is kept, decompressed, which
is the least that any check of it must do, in one process. Verification also decodes each event,
checks streams and rows, compares hashes and nodes, and computes the tree; on a long log one process
a processor helps. Goal: at least 0.5 times the baseline.
"""

from __future__ import annotations

import tempfile
from hashlib import sha256
from pathlib import Path

from benchmarks.replay import sample
from benchmarks.report import report
from benchmarks.stores import rates
from ledger.events import DomainEvent
from ledger.storage.event_log import Append, LogRecorder
from ledger.storage.mapper import to_stored_event
from ledger.storage.open_recorder import open_recorder
from vmledger.verification import verify_log

EVENTS = 200_000
PAGE = 1000
ROUNDS = 3


def fill(log: LogRecorder) -> None:
    """Write the events of some calls again and again, each time as other streams."""
    events: list[DomainEvent] = []
    seed = 0
    while log.head().position < EVENTS:
        if len(events) < PAGE:
            events += sample(seed)
            seed += 1
        page, events = events[:PAGE], events[PAGE:]
        log.commit([Append([to_stored_event(event) for event in page])])


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
        fill(log)

        def verify() -> int:
            found = verify_log(log, url=url)
            assert found.is_intact, found.findings[:3]
            return found.position

        mine, baseline = rates(ROUNDS, [verify, lambda: read_and_hash(log)])
        report("verify-sqlite", mine, "events/s", "reading and hashing alone", baseline, 0.5)
        log.close()


if __name__ == "__main__":
    main()
