"""Ship a backlog to a home that just came back, beside ``rsync --fsync`` of the same files.

Two ``vmledger serve`` processes on loopback, mutual TLS, SQLite, durable at both ends. The origin
holds the messages while its home is away; then the home starts. Measured from the moment at which
the origin notices it (`PeerReturned`) to the last receipt that the origin has recorded, both by the
origin's clock. The baseline copies the very same stored files to another folder of the same disk,
each file synced. ``goal`` is the ratio of messages a second to files a second.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.backlog import blob_files, fill
from benchmarks.report import report
from ledger.configuration import load_configuration
from ledger.events import MessageMigrated, PeerReturned, decode
from ledger.storage.open_recorder import open_recorder
from tests.support.processes import Servers, free_ports
from vmledger.cluster import write_cluster

CASES = ((20_000, 2.5), (100_000, 1.0))
MESSAGES = 2_000
ROUNDS = 3
EXTENSIONS = {"alpha": ["2000-2999"], "bravo": ["3000-3999"]}
GIVE_UP_S = 300.0


def ship(folder: Path, size_bytes: int) -> tuple[float, float]:
    """Give messages a second shipped, and files a second copied by rsync, of one fresh backlog."""
    ports = free_ports(4)
    places = {"alpha": (ports[0], ports[1]), "bravo": (ports[2], ports[3])}
    alpha, bravo = write_cluster(folder, list(EXTENSIONS), EXTENSIONS, places)
    fill(alpha, "bravo", "3001", MESSAGES, size_bytes)
    copied = copy(alpha, folder / "copied")
    with Servers([alpha, bravo]) as servers:
        servers["alpha"].start()
        time.sleep(3)  # it finds that its home is away
        servers["bravo"].start()
        return MESSAGES / seconds_to_ship(alpha), copied


def seconds_to_ship(alpha: Path) -> float:
    recorder = open_recorder(load_configuration(alpha).stores.events)
    try:
        returned: datetime | None = None
        migrated, position, give_up = 0, 1, time.monotonic() + GIVE_UP_S
        while time.monotonic() < give_up:
            for entry in (entries := recorder.read(position, 2000)):
                event = decode(entry.plain)
                if isinstance(event, PeerReturned):
                    returned = event.recorded_at
                if isinstance(event, MessageMigrated):
                    migrated += 1
                    if migrated == MESSAGES:
                        assert returned is not None, "the home was never missed"
                        return (event.recorded_at - returned).total_seconds()
            position += len(entries)
            time.sleep(0.2)
        raise TimeoutError(f"only {migrated} of {MESSAGES} messages were shipped")
    finally:
        recorder.close()


def copy(config: Path, target: Path) -> float:
    """Give files a second of ``rsync --fsync``."""
    source = Path(load_configuration(config).stores.blobs.removeprefix("file://"))
    count = sum(1 for _ in blob_files(config))
    start = time.perf_counter()
    subprocess.run(["rsync", "-a", "--fsync", f"{source}/", f"{target}/"], check=True)
    return count / (time.perf_counter() - start)


def main() -> None:
    for size_bytes, goal in CASES:
        rounds = []
        for _ in range(ROUNDS):
            folder = Path(tempfile.mkdtemp(prefix="bench-shipping-", dir=Path.cwd()))
            try:
                rounds.append(ship(folder, size_bytes))
                print(f"{size_bytes} B: shipped {rounds[-1][0]:.0f}/s, rsync {rounds[-1][1]:.0f}/s")
            finally:
                shutil.rmtree(folder)
        report(
            f"shipping-{size_bytes // 1000}KB",
            statistics.median(shipped for shipped, _ in rounds),
            "messages/s",
            "rsync --fsync",
            statistics.median(copied for _, copied in rounds),
            goal,
        )


if __name__ == "__main__":
    main()
