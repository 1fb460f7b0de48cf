"""Hysteresis of what is known of a peer, and judgements when a call needs one."""

import asyncio

from ledger.configuration import Replication
from ledger.errors import TransientError
from ledger.events import PeerState
from ledger.migration.reachability import (
    ANSWERED,
    REFUSED,
    TIMED_OUT,
    Knowledge,
    Reachability,
    after_failure,
    after_success,
)
from tests.support.sites import VirtualClock, run

SETTINGS = Replication(down_after_failures=3, up_after_successes=2, fresh_for_s=10)


class ProbedLink:
    """A link whose probes behave as told."""

    peer = "bravo"

    def __init__(self) -> None:
        self.probes = 0
        self.takes_s = 0.01
        self.works = True

    async def probe(self) -> None:
        self.probes += 1
        await asyncio.sleep(self.takes_s)
        if not self.works:
            raise TransientError("connection refused")


def make() -> tuple[Reachability, ProbedLink, list]:
    link, changes = ProbedLink(), []
    return Reachability({"bravo": link}, SETTINGS, VirtualClock(), changes.append), link, changes


def test_one_failure_makes_suspect_and_some_make_down():
    known = Knowledge(PeerState.UP)
    assert after_failure(known, 3) is PeerState.SUSPECT
    assert after_failure(Knowledge(PeerState.SUSPECT, failures=1), 3) is PeerState.SUSPECT
    assert after_failure(Knowledge(PeerState.SUSPECT, failures=2), 3) is PeerState.DOWN


def test_down_peer_needs_successes_in_a_row():
    assert after_success(Knowledge(PeerState.DOWN), 2) is PeerState.DOWN
    assert after_success(Knowledge(PeerState.DOWN, successes=1), 2) is PeerState.UP
    assert after_success(Knowledge(PeerState.SUSPECT), 2) is PeerState.UP


def test_changes_to_down_and_back_are_told_once_each():
    async def main():
        known, _, changes = make()
        for _ in range(6):
            known.note_failure("bravo", "no answer")
        for _ in range(4):
            known.note_success("bravo")
        assert [change.state for change in changes] == [PeerState.DOWN, PeerState.UP]
        assert changes[0].consecutive_failures == 3

    run(main())


def test_fresh_knowledge_needs_no_probe():
    async def main():
        known, link, _ = make()
        known.note_success("bravo")
        evidence = await known.judge("bravo", 1.5)
        assert (evidence.state, evidence.probe, link.probes) == (PeerState.UP, None, 0)

    run(main())


def test_old_knowledge_is_renewed_by_a_probe():
    async def main():
        known, link, _ = make()
        known.note_success("bravo")
        await asyncio.sleep(11)
        evidence = await known.judge("bravo", 1.5)
        assert (evidence.state, evidence.probe, link.probes) == (PeerState.UP, ANSWERED, 1)

    run(main())


def test_probe_that_takes_too_long_is_a_failure_within_the_deadline():
    async def main():
        known, link, _ = make()
        link.takes_s = 60
        evidence = await known.judge("bravo", 1.5)
        assert (evidence.state, evidence.probe) == (PeerState.SUSPECT, TIMED_OUT)
        assert VirtualClock().monotonic_s() <= 1.5

    run(main())


def test_refused_probe_says_so():
    async def main():
        known, link, _ = make()
        link.works = False
        assert (await known.judge("bravo", 1.5)).probe == REFUSED

    run(main())


def test_calls_at_the_same_time_share_a_probe():
    async def main():
        known, link, _ = make()
        await asyncio.gather(*(known.judge("bravo", 1.5) for _ in range(20)))
        assert link.probes == 1

    run(main())


def test_server_that_nobody_configured_is_unknown():
    async def main():
        known, _, _ = make()
        assert (await known.judge("zulu", 1.5)).state is PeerState.UNKNOWN

    run(main())
