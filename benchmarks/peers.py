"""Fifty homes, four of them ill: do the messages for the other forty-six take longer?

One real server takes calls at a steady rate for fifty homes, one after the other. The homes are
real listeners with mutual TLS (`benchmarks.homes`: two processes, stores in memory). Measured for
the homes that are well all the time, by the origin's own clock: from `MessageStored` to
`MessageMigrated`, which carries the home's receipt.

In one run, on the same servers, by turns: all are well, then one home is dead (its process is
killed), one is deaf (takes requests and never answers), one slow (3 s for each answer) and one
answers every request with an error; the last turn is of all well. The calls are the same all the
time, those for the ill homes too. The baseline is the time when all are well. Everything lies on a
file system in memory if there is one: what is asked is who waits for whom, not how long a disk
takes. Goals: 1.2 times for the median and 1.5 for the 99th percentile, which a few messages decide.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import local
from uuid import UUID

from benchmarks.call_latency import Switch
from benchmarks.homes import DEAF, FAILING, SLOW, WELL
from benchmarks.report import report
from ledger.configuration import load_configuration
from ledger.events import MessageMigrated, MessageStored, decode
from ledger.storage.open_recorder import open_recorder
from tests.support.pair import set_keys
from tests.support.processes import DIE_WITH_STARTER, ServerProcess, Servers, free_ports
from vmledger.cluster import write_cluster

HOMES = 50
FULL = "--full" in sys.argv
CALLS_A_SECOND = 10
TURNS = 24 if FULL else 8
PHASE_S = 8
SWITCHES = 32
"""So many calls can wait for an ill home at a time without holding up the next ones."""
AUDIO = bytes(range(256)) * 80
ILL = {"home-00": "dead", "home-01": DEAF, "home-02": SLOW, "home-03": FAILING}
GOAL_P50, GOAL_P99 = 1.2, 1.5
SETTLE_S = 120.0
MEMORY = Path("/dev/shm")


class Homes:
    """The processes of all homes; the one that dies has its own."""

    def __init__(self, configs: dict[str, Path]) -> None:
        self._mortal = [config for name, config in configs.items() if ILL.get(name) == "dead"]
        self._others = [config for name, config in configs.items() if ILL.get(name) != "dead"]
        self._processes = [_start(self._mortal), _start(self._others)]

    def fall_ill(self) -> None:
        self._processes[0].kill()
        self._tell({name: what for name, what in ILL.items() if what != "dead"})

    def recover(self) -> None:
        self._processes[0].wait()
        self._processes[0] = _start(self._mortal)
        self._tell({name: WELL for name, what in ILL.items() if what != "dead"})

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _tell(self, states: dict[str, str]) -> None:
        stdin = self._processes[1].stdin
        assert stdin is not None
        for name, state in states.items():
            stdin.write(f"{name} {state}\n")
        stdin.flush()


def _start(configs: list[Path]) -> subprocess.Popen[str]:
    command = [*DIE_WITH_STARTER, sys.executable, "-m", "benchmarks.homes", *map(str, configs)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "serving\n", "the homes did not start"
    return process


@contextmanager
def running(configs: dict[str, Path]) -> Iterator[Homes]:
    homes = Homes(configs)
    try:
        yield homes
    finally:
        homes.end()


class Telephones:
    """Leaves messages for all homes in turn, at a steady rate, whoever has to wait."""

    def __init__(self, origin: ServerProcess) -> None:
        self._origin = origin
        self._pool = ThreadPoolExecutor(SWITCHES)
        self._own = local()
        self._extensions = itertools.cycle([f"{1000 + number}" for number in range(HOMES)])

    def call(self, seconds: float) -> None:
        """Take calls for so long, and return when all are answered."""
        begin_s = time.monotonic()
        calls = []
        for number in range(round(seconds * CALLS_A_SECOND)):
            time.sleep(max(0.0, begin_s + number / CALLS_A_SECOND - time.monotonic()))
            calls.append(self._pool.submit(self._leave, next(self._extensions), number))
        for call in calls:
            call.result()

    def _leave(self, extension: str, number: int) -> None:
        if not hasattr(self._own, "switch"):
            self._own.switch = Switch(self._origin)
        audio = number.to_bytes(4, "big") + AUDIO
        self._own.switch.take_message(extension, audio, "audio/PCMU;rate=8000")


def latencies_ms(config: Path, phases: list[tuple[datetime, datetime]]) -> list[list[float]]:
    """Give for each phase how long the messages took that it stored for homes that stayed well."""
    recorder = open_recorder(load_configuration(config).stores.events)
    try:
        stored: dict[UUID, datetime] = {}
        took: list[list[float]] = [[] for _ in phases]
        for entry in recorder.read(1, 10_000_000):
            event = decode(entry.plain)
            if isinstance(event, MessageStored) and event.home not in ILL:
                stored[event.message_id] = event.recorded_at
            if isinstance(event, MessageMigrated) and event.message_id in stored:
                begin = stored.pop(event.message_id)
                for phase, (first, last) in zip(took, phases, strict=True):
                    if first <= begin < last:
                        phase.append((event.recorded_at - begin).total_seconds() * 1000)
        assert not stored, f"{len(stored)} messages for homes that are well did not arrive"
        return took
    finally:
        recorder.close()


def main(directory: Path) -> None:
    names = [f"home-{number:02}" for number in range(HOMES)]
    servers = ["origin", *names]
    ports = free_ports(2 * len(servers))
    extensions = {name: [f"{1000 + number}"] for number, name in enumerate(names)}
    listen = {name: (ports[2 * n], ports[2 * n + 1]) for n, name in enumerate(servers)}
    files = dict(zip(servers, write_cluster(directory, servers, extensions, listen), strict=True))
    origin = files.pop("origin")
    # The ill are asked again and again while we measure, and the deaf soon when they are well.
    set_keys(origin, backoff_max_s=5, request_timeout_s=10)
    with Servers([origin]) as program, running(files) as homes:
        program["origin"].start()
        telephones = Telephones(program["origin"])
        telephones.call(HOMES / CALLS_A_SECOND)  # every link is open once
        phases = [measure(telephones)]
        for _ in range(TURNS):
            homes.fall_ill()
            phases.append(measure(telephones))
            homes.recover()
            wait_until_shipped(Switch(program["origin"]))
            phases.append(measure(telephones))
        wait_until_shipped(Switch(program["origin"]))
    took = latencies_ms(origin, phases)
    chained = itertools.chain.from_iterable
    show(ill=list(chained(took[1::2])), well=list(chained(took[::2])))


def measure(telephones: Telephones) -> tuple[datetime, datetime]:
    """Take calls for a phase; give when it began and ended."""
    begin = datetime.now().astimezone()
    telephones.call(PHASE_S)
    return begin, datetime.now().astimezone()


def wait_until_shipped(switch: Switch) -> None:
    give_up_s = time.monotonic() + SETTLE_S
    while switch.get("/v1/pending")["count"]:
        if time.monotonic() > give_up_s:
            raise RuntimeError("not everything was shipped after all homes were well again")
        time.sleep(0.2)


def show(*, ill: list[float], well: list[float]) -> None:
    print(f"{len(ill)} messages while four homes were ill, {len(well)} while all were well")
    for name, percent, goal in (("p50", 50, GOAL_P50), ("p99", 99, GOAL_P99)):
        beside = percentile(well, percent)
        report(f"peers_{name}", percentile(ill, percent), "ms", "all 50 well", beside, goal)


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        main(Path(place))
