"""Is the second server available? What is known of it, and how a judgement is made.

Every exchange with a peer counts as evidence, so in normal traffic nobody is probed. A few failures
make a peer suspect, some more make it down, and it takes a success to bring it back: one lost
packet changes nothing. When a call needs an answer and what is known is old or doubtful, the peer
is probed with a deadline. A wrong "down" only means that the message is shipped a little later.

Source: claims 1, 4 and 5.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from ledger.clock import Clock
from ledger.configuration import Replication
from ledger.errors import LedgerError
from ledger.events import PeerState, ReachabilityEvidence, ServerId
from ledger.migration.link import PeerLink

_LOG: Final = logging.getLogger(__name__)

ANSWERED: Final = "answered"
REFUSED: Final = "refused"
TIMED_OUT: Final = "timed-out"


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known of one peer."""

    state: PeerState = PeerState.UNKNOWN
    failures: int = 0
    """In a row."""
    successes: int = 0
    """In a row."""
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    known_since_s: float | None = None
    """Monotonic time of the last exchange."""


def after_success(known: Knowledge, up_after: int) -> PeerState:
    """Give the state after one more success."""
    is_enough = known.state is not PeerState.DOWN or known.successes + 1 >= up_after
    return PeerState.UP if is_enough else PeerState.DOWN


def after_failure(known: Knowledge, down_after: int) -> PeerState:
    """Give the state after one more failure."""
    is_enough = known.state is PeerState.DOWN or known.failures + 1 >= down_after
    return PeerState.DOWN if is_enough else PeerState.SUSPECT


class ExchangeObserver(Protocol):
    """Is told how exchanges with peers end."""

    def note_success(self, peer: ServerId) -> None:
        """The peer answered."""

    def note_failure(self, peer: ServerId, problem: str) -> None:
        """The peer did not answer, or not as a peer should; ``problem`` says how."""


ChangeListener = Callable[[ReachabilityEvidence], None]


class Reachability:
    """What is known of all peers. For one event loop."""

    def __init__(
        self,
        links: Mapping[ServerId, PeerLink],
        settings: Replication,
        clock: Clock,
        on_change: ChangeListener | None = None,
    ) -> None:
        """Begin with no knowledge.

        ``on_change`` is told when a peer goes down (the evidence says DOWN), and when one that was
        down is back (UP). It must not block.
        """
        self._links = links
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._known: dict[ServerId, Knowledge] = {}
        self._probes: dict[ServerId, asyncio.Task[str]] = {}

    def evidence(self, peer: ServerId, probe: str | None = None) -> ReachabilityEvidence:
        """Give what is known of a peer now."""
        known = self._known.get(peer, Knowledge())
        return ReachabilityEvidence(
            peer=peer,
            state=known.state,
            last_success_at=known.last_success_at,
            last_failure_at=known.last_failure_at,
            consecutive_failures=known.failures,
            probe=probe,
        )

    def note_success(self, peer: ServerId) -> None:
        known = self._known.get(peer, Knowledge())
        self._change(
            peer,
            replace(
                known,
                state=after_success(known, self._settings.up_after_successes),
                failures=0,
                successes=known.successes + 1,
                last_success_at=self._clock.now(),
                known_since_s=self._clock.monotonic_s(),
            ),
        )

    def note_failure(self, peer: ServerId, problem: str) -> None:  # noqa: ARG002 - not kept here
        known = self._known.get(peer, Knowledge())
        self._change(
            peer,
            replace(
                known,
                state=after_failure(known, self._settings.down_after_failures),
                failures=known.failures + 1,
                successes=0,
                last_failure_at=self._clock.now(),
                known_since_s=self._clock.monotonic_s(),
            ),
        )

    async def judge(self, peer: ServerId, deadline_s: float) -> ReachabilityEvidence:
        """Judge a peer now, probing it unless it was heard of lately; never later than that.

        A peer that the configuration does not name stays UNKNOWN.
        """
        if peer not in self._links or self._is_fresh(peer):
            return self.evidence(peer)
        return self.evidence(peer, await self._probe_together(peer, deadline_s))

    async def close(self) -> None:
        """End the probes that are still running."""
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    def _is_fresh(self, peer: ServerId) -> bool:
        known = self._known.get(peer, Knowledge())
        if known.state is not PeerState.UP or known.known_since_s is None:
            return False
        return self._clock.monotonic_s() - known.known_since_s <= self._settings.fresh_for_s

    async def _probe_together(self, peer: ServerId, deadline_s: float) -> str:
        """Calls that ask at the same time share one probe; each keeps to its own deadline."""
        task = self._probes.get(peer)
        if task is None:
            task = asyncio.create_task(self._probe(peer, deadline_s), name=f"probe-{peer}")
            self._probes[peer] = task
            task.add_done_callback(lambda _: self._probes.pop(peer, None))
            return await asyncio.shield(task)  # it has this very deadline
        try:
            async with asyncio.timeout(deadline_s):
                return await asyncio.shield(task)
        except TimeoutError:
            return TIMED_OUT

    async def _probe(self, peer: ServerId, deadline_s: float) -> str:
        try:
            async with asyncio.timeout(deadline_s):
                await self._links[peer].probe()
        except TimeoutError:
            self.note_failure(peer, TIMED_OUT)
            return TIMED_OUT
        except LedgerError as error:
            _LOG.info("action=probe-failed peer=%s error=%s", peer, error)
            self.note_failure(peer, error.message)
            return REFUSED
        self.note_success(peer)
        return ANSWERED

    def _change(self, peer: ServerId, after: Knowledge) -> None:
        before = self._known.get(peer, Knowledge())
        self._known[peer] = after
        went_down = after.state is PeerState.DOWN and before.state is not PeerState.DOWN
        came_back = before.state is PeerState.DOWN and after.state is PeerState.UP
        if went_down or came_back:
            _LOG.warning("action=peer-%s peer=%s", after.state.value, peer)
            if self._on_change is not None:
                self._on_change(self.evidence(peer))
