"""Every failed attempt to reach a home, counted in the log without flooding it.

A home that is away for a weekend costs thousands of attempts. So a run of failures is recorded by
its 1st, 2nd, 4th, 8th, … attempt and at its end, each event standing for those since the one
before: all are counted, with when the first and the last of them were, and an outage of any length
costs a dozen events.

A crash loses the count of those that were not recorded yet; no decision rests on it.

Source: claim 5; RFC 5321 section 4.5.4.1 (what is tried again is known to the operator).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from ledger.clock import Clock
from ledger.events import ServerId
from ledger.migration.reachability import ExchangeObserver


@dataclass(frozen=True, slots=True)
class FailedAttempts:
    """Attempts that failed one after the other: what `AttemptsFailed` will say."""

    home: ServerId
    attempts: int
    attempts_before: int
    first_at: datetime
    last_at: datetime
    problem: str


class AttemptCount:
    """An `ExchangeObserver` before another one, that counts runs of failures. For one event loop.

    ``on_run`` is told of each part of a run that is to be recorded; it must not block.
    """

    def __init__(
        self,
        observer: ExchangeObserver,
        clock: Clock,
        on_run: Callable[[FailedAttempts], None],
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._on_run = on_run
        self._open: dict[ServerId, FailedAttempts] = {}
        """What is not recorded yet, of each peer whose run goes on."""

    def note_success(self, peer: ServerId) -> None:
        run = self._open.pop(peer, None)
        if run is not None and run.attempts > 0:
            self._on_run(run)
        self._observer.note_success(peer)

    def note_failure(self, peer: ServerId, problem: str) -> None:
        self._observer.note_failure(peer, problem)
        now = self._clock.now()
        run = self._open.get(peer) or FailedAttempts(peer, 0, 0, now, now, problem)
        first_at = run.first_at if run.attempts else now
        run = replace(
            run, attempts=run.attempts + 1, first_at=first_at, last_at=now, problem=problem
        )
        total = run.attempts_before + run.attempts
        if total & (total - 1) == 0:  # a power of two
            self._on_run(run)
            run = FailedAttempts(peer, 0, total, now, now, problem)
        self._open[peer] = run
