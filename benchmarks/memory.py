"""How much memory a server takes: idle, and while it ships a backlog of 1 GB.

Real server processes. Idle is the resident memory some seconds after the start. Then the home of
2 000 messages of half a megabyte each is down while they are taken in, and comes up: the largest
resident memory of both servers is read while everything is shipped. Baseline: the resident memory
of a bare Python process that has imported the same program and does nothing.

Without ``--full`` the backlog is 100 MB. Goals: idle below 150 MB, shipping below 300 MB.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.call_latency import Switch
from benchmarks.report import report
from tests.support.processes import Servers, free_ports
from vmledger.cluster import write_cluster

MB = 1_000_000
MESSAGE_BYTES = 500_000
BACKLOG_BYTES = (1000 if "--full" in sys.argv else 100) * MB
IDLE_GOAL_MB, SHIPPING_GOAL_MB = 150.0, 300.0
EXTENSIONS = {"alpha": ["1000-1999"], "bravo": ["2000-2999"]}
BASELINE = "a process that has only imported the program"


def resident_mb(pid: int) -> float:
    """Give the resident memory of a process."""
    return _status_mb(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """Give the largest resident memory that a process ever had."""
    return _status_mb(pid, "VmHWM")


def _status_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / MB


def bare_mb() -> float:
    """Give what Python and the imported program take by themselves."""
    program = "import vmledger.app; print('imported', flush=True); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = resident_mb(process.pid)
        process.communicate(b"\n")
    return found


def noise(number: int) -> bytes:
    """Make half a megabyte of µ-law that does not compress, different for each message."""
    return number.to_bytes(8, "big") + os.urandom(MESSAGE_BYTES - 8)


def main(directory: Path) -> None:
    ports = free_ports(4)
    configs = write_cluster(
        directory,
        list(EXTENSIONS),
        EXTENSIONS,
        {"alpha": (ports[0], ports[1]), "bravo": (ports[2], ports[3])},
    )
    bare = bare_mb()
    with Servers(configs) as servers:
        alpha, bravo = servers["alpha"], servers["bravo"]
        servers.start_all()
        time.sleep(5)
        report("memory_idle", resident_mb(alpha.pid), "MB", BASELINE, bare, IDLE_GOAL_MB)
        bravo.stop()
        switch = Switch(alpha)
        count = BACKLOG_BYTES // MESSAGE_BYTES
        for number in range(count):
            switch.take_message("2001", noise(number), "audio/PCMU;rate=8000")
        print(f"{count} messages, {BACKLOG_BYTES / MB:.0f} MB, wait at alpha")
        bravo.start()
        began_s = time.perf_counter()
        while switch.get("/v1/pending")["count"]:
            if time.perf_counter() - began_s > 600:
                raise RuntimeError("the backlog is not shipped after ten minutes")
            time.sleep(0.2)
        took_s = time.perf_counter() - began_s
        print(f"shipped in {took_s:.1f} s, {BACKLOG_BYTES / MB / took_s:.0f} MB/s")
        peaks = {server.name: peak_mb(server.pid) for server in (alpha, bravo)}
        print(", ".join(f"{name} {peak:.0f} MB" for name, peak in peaks.items()))
        report("memory_shipping", max(peaks.values()), "MB", BASELINE, bare, SHIPPING_GOAL_MB)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
