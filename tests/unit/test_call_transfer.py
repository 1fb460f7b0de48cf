"""The call transfer module, over its whole domain."""

from datetime import UTC, datetime
from itertools import product

import pytest

from ledger.call_status import StatusDecision
from ledger.call_transfer import TransferDecision, decide_transfer
from ledger.events import DecisionReason, PeerState, ReachabilityEvidence
from ledger.ids import MailboxAddress

MAILBOX = MailboxAddress("2001")
TO_VOICEMAIL = StatusDecision(to_voicemail=True, reason=DecisionReason.NO_ANSWER)
NORMAL = StatusDecision(to_voicemail=False, reason=DecisionReason.CALL_ANSWERED)
PROBES = [None, "answered", "refused", "timed-out"]


def evidence(state, probe=None):
    return ReachabilityEvidence(
        peer="bravo",
        state=state,
        last_success_at=datetime(2026, 1, 1, tzinfo=UTC),
        last_failure_at=None,
        consecutive_failures=0,
        probe=probe,
    )


def decide(home="bravo", known=None, status=TO_VOICEMAIL):
    return decide_transfer(
        this_server="alpha", mailbox=MAILBOX, home=home, evidence=known, status_decision=status
    )


EVERY_EVIDENCE = [None, *(evidence(state, probe) for state, probe in product(PeerState, PROBES))]


def test_call_not_for_voicemail_is_handled_normally_wherever_its_mailbox_lives():
    for home, known in product([None, "alpha", "bravo"], EVERY_EVIDENCE):
        expected = TransferDecision(to_voicemail=False, reason=DecisionReason.CALL_ANSWERED)
        assert decide(home, known, NORMAL) == expected


def test_call_without_a_mailbox_is_handled_normally_and_says_so():
    for known in EVERY_EVIDENCE:
        expected = TransferDecision(to_voicemail=False, reason=DecisionReason.NO_MAILBOX)
        assert decide(None, known) == expected


def test_call_for_this_servers_own_mailbox_asks_nothing_about_other_servers():
    for known in EVERY_EVIDENCE:
        assert decide("alpha", known) == TransferDecision(
            to_voicemail=True,
            reason=DecisionReason.NO_ANSWER,
            mailbox=MAILBOX,
            home="alpha",
            is_remote=False,
        )


def test_call_for_a_remote_mailbox_names_its_home_and_keeps_the_evidence():
    for known in EVERY_EVIDENCE:
        decision = decide("bravo", known)
        assert (decision.to_voicemail, decision.reason) == (True, DecisionReason.NO_ANSWER)
        assert (decision.mailbox, decision.home, decision.is_remote) == (MAILBOX, "bravo", True)
        assert decision.evidence is known
        assert decision.is_reachable is not None


@pytest.mark.parametrize(
    ("state", "probe", "is_reachable"),
    [
        (PeerState.UP, None, True),
        (PeerState.UP, "answered", True),
        (PeerState.UP, "refused", False),
        (PeerState.UP, "timed-out", False),
        (PeerState.SUSPECT, None, False),
        (PeerState.SUSPECT, "answered", True),
        (PeerState.SUSPECT, "refused", False),
        (PeerState.SUSPECT, "timed-out", False),
        (PeerState.UNKNOWN, None, False),
        (PeerState.UNKNOWN, "answered", True),
        (PeerState.UNKNOWN, "refused", False),
        (PeerState.UNKNOWN, "timed-out", False),
        (PeerState.DOWN, None, False),
        (PeerState.DOWN, "answered", False),
        (PeerState.DOWN, "refused", False),
        (PeerState.DOWN, "timed-out", False),
    ],
)
def test_reachability_of_a_remote_home(state, probe, is_reachable):
    assert decide("bravo", evidence(state, probe)).is_reachable is is_reachable


def test_remote_home_of_which_nothing_is_known_counts_as_not_reachable():
    assert decide("bravo", None).is_reachable is False


def test_evidence_about_another_server_is_not_accepted():
    with pytest.raises(AssertionError, match="about the home"):
        decide("charlie", evidence(PeerState.UP))
