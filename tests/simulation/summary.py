"""What a long run has done, in a form that can be put into the documentation."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.faults import Act, Call, ChangePin, Greet
from tests.simulation.world import World

_PEOPLE = frozenset(kind.__name__ for kind in (Act, Call, ChangePin, Greet))


@dataclass
class Summary:
    """Counts what happened in many worlds."""

    schedules: int = 0
    failed: int = 0
    servers: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    shipped: int = 0
    requests: int = 0
    deaths: int = 0
    power_cuts: int = 0
    virtual_s: float = 0.0
    began_s: float = field(default_factory=time.monotonic)
    began_cpu_s: float = field(default_factory=time.process_time)

    def add(self, world: World) -> None:
        """Count one world that was run."""
        self.schedules += 1
        self.failed += bool(world.failures)
        self.servers += len(world.all_machines)
        self.steps.update(type(step).__name__ for step in world.schedule.steps)
        self.accepted += len(world.told.accepted)
        self.shipped += sum(len(world.view(name).receipts) for name in world.all_machines)
        self.requests += world.network.sent
        self.deaths += world.deaths
        self.power_cuts += world.power_cuts
        self.virtual_s += world.now_s

    def lines(self) -> Iterator[str]:
        """Say it all, for people."""
        cpu_s = time.process_time() - self.began_cpu_s
        took_s = time.monotonic() - self.began_s
        done = max(1, self.schedules)
        faults = {kind: n for kind, n in self.steps.most_common() if kind not in _PEOPLE}
        people = {kind: n for kind, n in self.steps.most_common() if kind in _PEOPLE}
        yield f"{self.schedules:,} schedules, {self.servers:,} servers, {self.failed} failed"
        yield f"{self.virtual_s / 86400:,.1f} days of virtual time in {took_s:,.0f} s"
        yield f"{self.accepted:,} calls accepted of {_told(people)}"
        yield f"{self.shipped:,} messages shipped, {self.requests:,} requests"
        yield f"{self.deaths:,} processes died, {self.power_cuts:,} of them with the power"
        yield f"{sum(faults.values()):,} faults: {_told(faults)}"
        each_ms = max(cpu_s, 1e-9) * 1000 / done
        yield f"{60_000 / each_ms:,.0f} schedules a minute of one core ({each_ms:.1f} ms each)"


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
