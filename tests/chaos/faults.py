"""Faults at moments drawn from a seed: what strikes, whom, and for how long.

The seed fixes the plan, not the run: real processes and real time never do the same thing twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.chaos.cluster import SERVERS

if TYPE_CHECKING:
    from tests.chaos.run import Run

GAP_S: Final = 2.5
"""Mean time between two faults; most last longer, so that two or three overlap."""
WEIGHTS: Final = {
    "kill": 20,
    "stop": 8,
    "cut": 14,
    "half-dead way": 8,
    "truncate": 8,
    "corrupt": 8,
    "slow": 4,
    "switch cut": 10,
    "postgres": 10,
    "full disk": 7,
    "clock": 6,
}
KILLS_OF_POSTGRES: Final = ("all processes", "first process", "immediate", "frozen")
MOST_CLOCK_ERROR_S: Final = 900.0
"""Signed requests are taken for an hour: servers that are further apart refuse each other."""


@dataclass(frozen=True)
class Fault:
    """One fault of the plan."""

    at_s: float
    kind: str
    server: str
    peer: str
    lasts_s: float
    detail: str = ""
    amount: float = 0.0

    def tell(self) -> str:
        """Say it in one line."""
        peer = f"-{self.peer}" if self.peer else ""
        words = f"{self.at_s:8.1f} s  {self.kind} {self.server}{peer} {self.detail}".rstrip()
        return f"{words} for {self.lasts_s:.1f} s"


def draw(seed: int, lasts_s: float) -> Iterator[Fault]:
    """Draw the faults of a run, in their order."""
    rng = random.Random(f"faults/{seed}")
    at_s = 3.0
    while (at_s := at_s + rng.expovariate(1 / GAP_S)) < lasts_s:
        kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        server, peer = rng.sample(SERVERS, 2)
        duration_s = rng.choice((rng.uniform(0.1, 2), rng.uniform(1, 8), rng.uniform(3, 20)))
        match kind:
            case "cut" | "half-dead way" | "truncate" | "corrupt" | "slow":
                yield Fault(
                    at_s, kind, server, peer, duration_s, rng.choice(("one way", "both ways"))
                )
            case "switch cut":
                detail = rng.choice(("cut", "stalled", "truncated", "broken once"))
                yield Fault(at_s, kind, server, "", min(duration_s, 10), detail)
            case "postgres":
                detail = rng.choice(KILLS_OF_POSTGRES)
                yield Fault(at_s, kind, "", "", min(duration_s, 10), detail)
            case "clock":
                off_s = rng.uniform(-MOST_CLOCK_ERROR_S, MOST_CLOCK_ERROR_S)
                yield Fault(at_s, kind, server, "", 0.0, f"to {off_s:+.1f} s", off_s)
            case "full disk":
                left = rng.choice((0, 0, 100_000, 3_000_000))
                yield Fault(
                    at_s, kind, server, "", min(duration_s, 12), f"but {left} bytes", float(left)
                )
            case "kill":
                yield Fault(at_s, kind, server, "", min(duration_s, 6))
            case _:
                yield Fault(at_s, kind, server, "", min(duration_s, 12))


def strike(run: Run, fault: Fault) -> bool:
    """Let a fault strike; False when it cannot now, since something else lies there already."""
    return _STRIKES[fault.kind](run, fault)


def _kill(run: Run, fault: Fault) -> bool:
    if not run.kill(fault.server, fault.lasts_s):
        return False
    run.tally.count("servers killed")
    return True


def _stop(run: Run, fault: Fault) -> bool:
    server = run.cluster.servers[fault.server]
    if fault.server in run.stopped or not server.is_running:
        return False
    server.freeze()
    run.stopped.add(fault.server)
    run.later(fault.lasts_s, partial(_thaw, run, fault.server))
    run.tally.count("servers stopped")
    return True


def _thaw(run: Run, server: str) -> None:
    run.stopped.discard(server)
    run.cluster.servers[server].thaw()


def _spoil_ways(run: Run, fault: Fault, **trouble: object) -> bool:
    ends = [(fault.server, fault.peer), (fault.peer, fault.server)]
    ways = [run.cluster.way(*pair) for pair in ends[: 1 if fault.detail == "one way" else 2]]
    for way in ways:
        for name, value in trouble.items():
            setattr(way, name, value)
        if trouble.get("is_cut"):
            run.cluster.network.do(way.break_connections)
        run.later(fault.lasts_s, way.heal)
    run.tally.count("ways spoiled")
    run.tally.count(f"way {fault.kind}")
    return True


def _spoil_switch(run: Run, fault: Fault) -> bool:
    way = run.cluster.way("switch", fault.server)
    match fault.detail:
        case "cut":
            way.is_cut = True
            run.cluster.network.do(way.break_connections)
        case "stalled":
            way.is_stalled = True
        case "truncated":
            way.truncate = 5
        case _:
            run.cluster.network.do(way.break_connections)
    run.later(fault.lasts_s, way.heal)
    run.tally.count("ways of the switch spoiled")
    return True


def _postgres(run: Run, fault: Fault) -> bool:
    postgres = run.cluster.postgres
    if run.postgres_down_until_s > run.now_s or not postgres.is_running:
        return False
    run.postgres_down_until_s = run.now_s + fault.lasts_s
    match fault.detail:
        case "all processes":
            postgres.kill_all()
        case "first process":
            postgres.kill_postmaster()
        case "immediate":
            postgres.quit_now()
        case _:
            postgres.freeze()
            run.later(fault.lasts_s, postgres.thaw)
    run.tally.count("PostgreSQL frozen" if fault.detail == "frozen" else "PostgreSQL killed")
    return True


def _full_disk(run: Run, fault: Fault) -> bool:
    disk = run.cluster.disks.get(fault.server)
    if disk is None or fault.server in run.full:
        return False
    run.full.add(fault.server)
    disk.fill(leave_bytes=int(fault.amount))

    def free() -> None:
        run.full.discard(fault.server)
        disk.free()

    run.later(fault.lasts_s, free)
    run.tally.count("disks full")
    return True


def _clock(run: Run, fault: Fault) -> bool:
    clock = run.cluster.clocks.get(fault.server)
    if clock is None:
        return False
    clock.set_off(fault.amount)
    run.tally.count("clocks set apart")
    return True


_STRIKES: Final[dict[str, Callable[[Run, Fault], bool]]] = {
    "kill": _kill,
    "stop": _stop,
    "cut": partial(_spoil_ways, is_cut=True),
    "half-dead way": partial(_spoil_ways, is_stalled=True),
    "truncate": partial(_spoil_ways, truncate=4),
    "corrupt": partial(_spoil_ways, corruption=0.2),
    "slow": partial(_spoil_ways, delay_s=0.5),
    "switch cut": _spoil_switch,
    "postgres": _postgres,
    "full disk": _full_disk,
    "clock": _clock,
}
