"""A long backlog: does it go as fast at its end as at its beginning, and in the same memory?

Two ``vmledger serve`` processes on loopback, mutual TLS, SQLite, durable at both ends. The origin
holds 100 000 messages of 20 KB while its home is away, and its read models know of all of them;
then the home starts. Receipts are counted as the origin records them, by its own clock.

The rate: the last tenth of the messages beside the first, from a tenth's first receipt to its last.
The memory: what is resident in each process when all is shipped, beside what was resident when the
first tenth was. Goals: at least 0.8 times the rate, at most 1.2 times the memory.

Takes ten minutes with its backlog, so it runs only by name; ``--brief`` has a tenth of it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from benchmarks.backlog import fill
from benchmarks.call_latency import Switch
from benchmarks.memory import peak_mb, resident_mb
from benchmarks.report import report
from ledger.configuration import load_configuration
from ledger.events import MessageMigrated, decode
from ledger.storage.open_recorder import open_recorder
from tests.support.processes import Servers, free_ports
from vmledger.cluster import write_cluster

MESSAGES = 10_000 if "--brief" in sys.argv else 100_000
TENTH = MESSAGES // 10
SIZE_BYTES = 20_000
EXTENSIONS = {"alpha": ["2000-2999"], "bravo": ["3000-3999"]}
GOAL_RATE, GOAL_MEMORY = 0.8, 1.2
GIVE_UP_S = 900.0


def drain(alpha: Path, on_tenth: Callable[[int], None]) -> list[datetime]:
    """Give when each receipt was recorded; ``on_tenth`` is told how many tenths are shipped."""
    recorder = open_recorder(load_configuration(alpha).stores.events)
    receipts: list[datetime] = []
    position, give_up_s = 1, time.monotonic() + GIVE_UP_S
    try:
        while len(receipts) < MESSAGES:
            tenths = len(receipts) // TENTH
            for entry in (entries := recorder.read(position, 2000)):
                event = decode(entry.plain)
                if isinstance(event, MessageMigrated):
                    receipts.append(event.recorded_at)
            position += len(entries)
            if len(receipts) // TENTH > tenths:
                on_tenth(len(receipts) // TENTH)
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"only {len(receipts)} of {MESSAGES} messages were shipped")
            if len(entries) < 2000:
                time.sleep(0.2)
        return receipts
    finally:
        recorder.close()


def rate(receipts: list[datetime]) -> float:
    """Give messages a second, from the first to the last of these."""
    return len(receipts) / (receipts[-1] - receipts[0]).total_seconds()


def main(folder: Path) -> None:
    ports = free_ports(4)
    places = {"alpha": (ports[0], ports[1]), "bravo": (ports[2], ports[3])}
    alpha, bravo = write_cluster(folder, list(EXTENSIONS), EXTENSIONS, places)
    start_s = time.perf_counter()
    fill(alpha, "bravo", "3001", MESSAGES, SIZE_BYTES, in_packs=True)
    print(f"{MESSAGES} messages wait, made in {time.perf_counter() - start_s:.0f} s", flush=True)
    memory: dict[int, dict[str, float]] = {}
    with Servers([alpha, bravo]) as servers:

        def note_memory(tenths: int) -> None:
            memory[tenths] = {server.name: resident_mb(server.pid) for server in servers.all}
            shown = ", ".join(f"{name} {found:.0f} MB" for name, found in memory[tenths].items())
            print(f"{tenths} tenths shipped: {shown}", flush=True)

        servers["alpha"].start()
        switch = Switch(servers["alpha"])
        while switch.get("/v1/pending?limit=1")["count"] < MESSAGES:
            time.sleep(1)
        servers["bravo"].start()
        note_memory(0)
        receipts = drain(alpha, note_memory)
        peaks = ", ".join(f"{s.name} {peak_mb(s.pid):.0f} MB" for s in servers.all)
    print(f"shipped {rate(receipts):.0f} messages/s, at most {peaks}")
    show(receipts, memory)


def show(receipts: list[datetime], memory: dict[int, dict[str, float]]) -> None:
    first, last = rate(receipts[:TENTH]), rate(receipts[-TENTH:])
    report("drain_rate", last, "messages/s", "the first tenth", first, GOAL_RATE)
    for name in EXTENSIONS:
        begin, end = memory[min(memory.keys() - {0})][name], memory[10][name]
        report(f"drain_memory_{name}", end, "MB", "the first tenth", begin, GOAL_MEMORY)


if __name__ == "__main__":
    place = Path(tempfile.mkdtemp(prefix="bench-drain-", dir=Path.cwd()))
    try:
        main(place)
    finally:
        shutil.rmtree(place)
