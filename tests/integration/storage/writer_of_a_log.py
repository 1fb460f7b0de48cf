"""Appends to a log until it is killed; says each acknowledged position, one a line.

Run as a process: ``python -m tests.integration.storage.writer_of_a_log URL SEED``.
"""

import random
import sys
from uuid import UUID

from ledger.storage.event_log import Append, Appended, BlobLocation, PeerTracking, tracking_name
from ledger.storage.open_recorder import open_recorder
from tests.support.stored_events import stored_events

ORIGIN, INCARNATION = "bravo", UUID(int=1)


def main(url: str, seed: int) -> None:
    rng = random.Random(seed)
    log = open_recorder(url)
    print("ready", flush=True)
    streams = log.head().position
    tracked = sum(t.position for t in log.tracked(ORIGIN))
    while True:
        appends = []
        for _ in range(rng.randint(1, 4)):
            streams += 1
            events = stored_events(streams, range(1, rng.choice((2, 5, 5, 300))))
            name = tracking_name(ORIGIN, INCARNATION)
            # What is tracked is the number of events: a checker can compare the two.
            tracking = PeerTracking(name, tracked + len(events), expected=tracked, root=b"")
            tracked += len(events)
            place = BlobLocation(f"{streams:064x}", "pack", streams, len(events))
            appends.append(Append(events, tracking=tracking, blob_locations=[place]))
        results = log.commit(appends)
        acknowledged = [r.last_position for r in results if isinstance(r, Appended)]
        assert len(acknowledged) == len(appends)
        print(acknowledged[-1], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
