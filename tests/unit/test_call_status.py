"""The call status module: every status under every policy."""

from itertools import chain, combinations

import pytest

from ledger.call_status import (
    DEFAULT_VOICEMAIL,
    NEVER_VOICEMAIL,
    REASONS,
    VoicemailPolicy,
    decide_status,
)
from ledger.errors import CallerError
from ledger.events import CallStatus, DecisionReason

POSSIBLE = sorted(set(CallStatus) - NEVER_VOICEMAIL, key=lambda status: status.value)
EVERY_POLICY = [
    VoicemailPolicy(voicemail_for=frozenset(chosen))
    for chosen in chain.from_iterable(
        combinations(POSSIBLE, size) for size in range(len(POSSIBLE) + 1)
    )
]


@pytest.mark.parametrize(
    ("status", "to_voicemail", "reason"),
    [
        (CallStatus.ANSWERED, False, DecisionReason.CALL_ANSWERED),
        (CallStatus.BUSY, True, DecisionReason.CALLED_PARTY_BUSY),
        (CallStatus.NO_ANSWER, True, DecisionReason.NO_ANSWER),
        (CallStatus.UNCONDITIONAL, True, DecisionReason.FORWARDED_ALWAYS),
        (CallStatus.DO_NOT_DISTURB, True, DecisionReason.DO_NOT_DISTURB),
        (CallStatus.UNREACHABLE, True, DecisionReason.PHONE_UNREACHABLE),
        (CallStatus.REJECTED, True, DecisionReason.CALL_REJECTED),
        (CallStatus.UNKNOWN_NUMBER, False, DecisionReason.NUMBER_UNKNOWN),
        (CallStatus.ABANDONED, False, DecisionReason.CALLER_HUNG_UP),
    ],
)
def test_default_policy_decides_each_status(status, to_voicemail, reason):
    decision = decide_status(status, VoicemailPolicy())
    assert (decision.to_voicemail, decision.reason) == (to_voicemail, reason)


def test_every_status_has_a_reason_of_its_own():
    assert set(REASONS) == set(CallStatus)
    assert len(set(REASONS.values())) == len(CallStatus)


def test_call_goes_to_voicemail_exactly_when_the_policy_names_its_status():
    assert len(EVERY_POLICY) == 2**7
    for policy in EVERY_POLICY:
        for status in CallStatus:
            assert decide_status(status, policy).to_voicemail == (status in policy.voicemail_for)


def test_status_that_usually_takes_a_message_is_refused_by_policy_and_says_so():
    nothing = VoicemailPolicy(voicemail_for=frozenset())
    for status in DEFAULT_VOICEMAIL:
        assert decide_status(status, nothing).reason is DecisionReason.POLICY_FORBIDS


def test_unknown_number_can_be_turned_on():
    policy = VoicemailPolicy(voicemail_for=frozenset({CallStatus.UNKNOWN_NUMBER}))
    assert decide_status(CallStatus.UNKNOWN_NUMBER, policy).to_voicemail


@pytest.mark.parametrize("status", sorted(NEVER_VOICEMAIL, key=lambda s: s.value))
def test_policy_for_a_call_with_nobody_on_the_line_cannot_be_built(status):
    with pytest.raises(CallerError, match=f"{status.value}: nobody is left on the line"):
        VoicemailPolicy(voicemail_for=frozenset({CallStatus.BUSY, status}))
