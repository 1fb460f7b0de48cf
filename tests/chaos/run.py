"""One run of chaos: load and faults for some minutes, then peace, then the checkers."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx

from tests.chaos import faults, remains
from tests.chaos.cluster import SERVERS, Cluster, running_cluster
from tests.chaos.people import NOMADS, PATIENCE_S, SETTLED, Crowd
from tests.chaos.remains import RealRemains
from tests.simulation.checkers import ON_STORES, check_all, promises_during_the_run
from tests.simulation.promises import Told
from tests.simulation.sounds import intact_in
from tests.support.processes import ServerDiedError

SETTLES_WITHIN_S = 180.0
RESTART_PAUSE_S = 0.5
POLL_S = 0.05

COUNTED = (
    "calls placed",
    "calls accepted",
    "calls given up",
    "switch without an answer",
    "recordings handed over again",
    "accepted as stored before",
    "recordings cut short by a death",
    "deeds done",
    "messages listened to",
    "greetings recorded",
    "PINs chosen",
    "mailboxes moved",
    "users without an answer",
    "servers killed",
    "servers stopped",
    "servers ended by themselves",
    "ways spoiled",
    "ways of the switch spoiled",
    "PostgreSQL killed",
    "PostgreSQL frozen",
    "disks full",
    "clocks set apart",
    "held messages sent again",
)


@dataclass
class Report:
    """What came of a run."""

    seed: int
    minutes: float
    failures: list[str] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)
    counts: dict[str, object] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """Faults that cannot be made here, and why."""
    kept: Path | None = None
    """Where everything lies after a failure."""


class Run:
    """The faults' hands on a cluster, and its keeper: it starts again whatever has ended."""

    def __init__(self, cluster: Cluster, seed: int, lasts_s: float, calls_per_s: float) -> None:
        self.cluster = cluster
        self.told = Told()
        self.crowd = Crowd(cluster, seed, self.told, calls_per_s)
        self.tally = self.crowd.tally
        self.timeline: list[str] = []
        self.stopped: set[str] = set()
        self.full: set[str] = set()
        self.postgres_down_until_s = 0.0
        self.settled_after_s: float | None = None
        self._plan = list(faults.draw(seed, lasts_s))
        self._lasts_s = lasts_s
        self._down_until_s: dict[str, float] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._spooled: list[tuple[float, str, UUID, bytes]] = []
        self._began_s = time.monotonic()

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._began_s

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Do something when its time has come, or when all faults end."""
        heapq.heappush(self._later, (self.now_s + delay_s, next(self._numbers), work))

    def kill(self, server: str, down_s: float) -> bool:
        """End a server at once; False when it is down. What its spool holds becomes a message."""
        process = self.cluster.servers[server]
        if not process.is_running:
            return False
        process.kill9()
        self.stopped.discard(server)
        self._down_until_s[server] = self.now_s + down_s
        self._note_spool(server)
        return True

    def _note_spool(self, server: str) -> None:
        """Keep what its spool holds: it is opened at the end, the database may be away now."""
        for path in (self.cluster.data(server) / "spool").glob("*.zst"):
            self._spooled.append((self.now_s, server, UUID(path.stem), path.read_bytes()))

    def open_spooled(self, left: RealRemains) -> None:
        """Hear what was in a spool when its server died: it must not have vanished."""
        for at_s, server, call_id, stored in self._spooled:
            received = intact_in(stored, left.machines[server].vault)
            if received:
                self.tally.count("recordings cut short by a death")
                self.told.spooled.append((at_s, server, call_id, received))

    # --- life ---------------------------------------------------------------------------------

    def live(self) -> None:
        """Load and faults, until the time is over and all have finished what they began."""
        self._begin()
        plan = iter(self._plan)
        following = next(plan, None)
        while self.now_s < self._lasts_s:
            self._tick()
            if following is not None and following.at_s <= self.now_s:
                done = faults.strike(self, following)
                self.timeline.append(following.tell() + ("" if done else " (not possible then)"))
                following = next(plan, None)
            time.sleep(POLL_S)
        self._make_peace()
        self.crowd.stop()
        end_s = self.now_s + PATIENCE_S + 60
        while self.crowd.is_busy:
            self._tick()
            if self.now_s > end_s:
                raise AssertionError("people do not come to an end")
            time.sleep(POLL_S)

    def _begin(self) -> None:
        for process in self.cluster.servers.values():
            process.start(wait=False)
        for process in self.cluster.servers.values():
            process.wait_until_ready()
        self._began_s = time.monotonic()
        self.crowd.start()

    def _make_peace(self) -> None:
        """All faults end, and clocks are set right."""
        for _, _, work in sorted(self._later):
            work()
        self._later.clear()
        for clock in self.cluster.clocks.values():
            clock.set_off(0.0)
        self.postgres_down_until_s = 0.0
        self._down_until_s = dict.fromkeys(self._down_until_s, 0.0)
        self.timeline.append(f"{self.now_s:8.1f} s  all faults end")

    def _tick(self) -> None:
        while self._later and self._later[0][0] <= self.now_s:
            heapq.heappop(self._later)[2]()
        postgres = self.cluster.postgres
        if not postgres.is_running and self.now_s >= self.postgres_down_until_s:
            postgres.start()
            self.postgres_down_until_s = self.now_s + RESTART_PAUSE_S
        for name, process in self.cluster.servers.items():
            if not process.is_running:
                self._restart(name)

    def _restart(self, name: str) -> None:
        """Start a server again when its pause is over, as a service manager does."""
        if name not in self._down_until_s:
            self.tally.count("servers ended by themselves")
            self.timeline.append(f"{self.now_s:8.1f} s  {name} had ended by itself")
            self._note_spool(name)
            self._down_until_s[name] = self.now_s + RESTART_PAUSE_S
        if self.now_s >= self._down_until_s[name]:
            del self._down_until_s[name]
            self.cluster.servers[name].start(wait=False)

    # --- peace --------------------------------------------------------------------------------

    def settle(self, left: RealRemains) -> None:
        """Wait until nothing is on its way any more; an operator sends held messages again."""
        began_s = self.now_s
        while self.now_s < began_s + SETTLES_WITHIN_S:
            self._tick()
            left.refresh()
            if self._operate(left) and left.is_settled() and self._is_projected():
                self.settled_after_s = self.now_s - began_s
                return
            time.sleep(1.0)

    def _operate(self, left: RealRemains) -> bool:
        """Send what is held on its way again; False while a server does not answer."""
        try:
            for name, process in self.cluster.servers.items():
                process.wait_until_ready(1.0)
                with self._operator(name) as client:
                    for message_id, _ in list(left.view(name).held()):
                        self.tally.count("held messages sent again")
                        client.post(f"/v1/messages/{message_id}/requeue")
        except (ServerDiedError, httpx.HTTPError):
            return False
        return True

    def _is_projected(self) -> bool:
        for name in SERVERS:
            with self._operator(name) as client:
                for view in client.get("/v1/projections").json():
                    if view["lag_events"] or view["state"] == "stopped":
                        return False
        return True

    def _operator(self, server: str) -> httpx.Client:
        token = self.cluster.tokens[server]["operator"]
        return httpx.Client(
            base_url=self.cluster.servers[server].url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=20,
        )

    def stop_servers(self) -> None:
        for name, process in self.cluster.servers.items():
            if (status := process.stop()) != 0:
                self.told.broken.append(f"{name} ended with status {status} when it was stopped")


def run(folder: Path, seed: int, minutes: float, calls_per_s: float) -> Report:
    """Run chaos in a folder, look at what is left, and keep it all when something is wrong."""
    report = Report(seed, minutes)
    with running_cluster(folder, seed) as cluster:
        report.missing = cluster.missing
        chaos = Run(cluster, seed, minutes * 60, calls_per_s)
        try:
            chaos.live()
            left = RealRemains(cluster, chaos.told)
            try:
                chaos.settle(left)
                chaos.stop_servers()
                report.failures = check(chaos, left)
                report.counts = _counts(chaos, left)
            finally:
                left.close()
        except Exception as error:
            report.failures.append(f"the run itself failed: {error!r}")
        finally:
            chaos.crowd.stop()
            report.timeline = chaos.timeline
            if report.failures:
                report.kept = cluster.keep()
                (folder / "report.txt").write_text(tell(report))
    return report


def check(chaos: Run, left: RealRemains) -> list[str]:
    """Look at what stopped servers left; gives what is wrong with it."""
    left.refresh()
    left.note_profile_streams(NOMADS + SETTLED)
    chaos.open_spooled(left)
    failures = check_all(left, (promises_during_the_run, *ON_STORES, *remains.CHECKERS))
    if chaos.settled_after_s is None:
        failures.append(f"nothing settled within {SETTLES_WITHIN_S:.0f} s of peace")
    for name, process in chaos.cluster.servers.items():
        if count := process.log.read_text(errors="replace").count("Traceback"):
            failures.append(f"{name} printed {count} tracebacks")
    return failures


def _counts(chaos: Run, left: RealRemains) -> dict[str, object]:
    """Give the figures of the summary."""
    tally, told = chaos.tally, chaos.told
    at_home = sum(a.message.home == a.call.server for a in told.accepted.values())
    held_back = sum(a.message.is_pending for a in told.accepted.values())
    harmed = sum(way.suffered for way in chaos.cluster.network.ways.values())
    return {
        **{name: tally[name] for name in COUNTED},
        "messages stored at their home": at_home,
        "messages sent at once": len(told.accepted) - at_home - held_back,
        "messages held, then migrated": held_back,
        "connections and pieces harmed": harmed,
        "answers": tally.beginning("answer "),
        "ways": tally.beginning("way "),
        "no answer to the switch": tally.beginning("switch: "),
        "events": sum(len(m.image.entries) for m in left.machines.values()),
        "receipts": sum(len(left.view(name).receipts) for name in left.machines),
        "settled after (s)": round(chaos.settled_after_s or -1, 1),
    }


def tell(report: Report) -> str:
    """Give a report for people."""
    lines = [f"seed {report.seed}, {report.minutes:g} minutes of load and faults"]
    lines += [f"  {name}: {value}" for name, value in report.counts.items()]
    lines += [f"  not possible here: {what}" for what in report.missing]
    lines.append(f"failures: {len(report.failures)}")
    if report.failures:
        lines += [f"  {failure}" for failure in report.failures[:100]]
        lines += ["faults:", *report.timeline]
        lines.append(f"logs and data: {report.kept}")
        lines.append(f"again: make chaos SEED={report.seed} MINUTES={report.minutes:g}")
    return "\n".join(lines)
