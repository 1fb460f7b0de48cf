"""The call status module: shall the call go to voicemail?

One table: each status of a call is taken to voicemail or handled normally, as the policy of the
mailbox says, and each outcome has its reason. The function is pure; whether there is a mailbox at
all, and where, is the call transfer module's question.

Two statuses never lead to voicemail, whatever a policy says: an *answered* call has found its
party, and after an *abandoned* one nobody is left on the line to speak. A policy that asks for
either is a mistake that would fill mailboxes with silence, so it cannot be built.

Source: claims 1, 2 and 8; RFC 4458 for the causes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.errors import CallerError
from ledger.events import CallStatus, DecisionReason

NEVER_VOICEMAIL: Final = frozenset({CallStatus.ANSWERED, CallStatus.ABANDONED})
"""Statuses that no policy can turn on: nobody is there to leave a message."""

DEFAULT_VOICEMAIL: Final = frozenset(
    {
        CallStatus.BUSY,
        CallStatus.NO_ANSWER,
        CallStatus.UNCONDITIONAL,
        CallStatus.DO_NOT_DISTURB,
        CallStatus.UNREACHABLE,
        CallStatus.REJECTED,
    }
)
"""Statuses that take a message unless a policy says otherwise. Not among them: a number that the
switch does not know, because a wrong number should be told so."""

REASONS: Final[dict[CallStatus, DecisionReason]] = {
    CallStatus.ANSWERED: DecisionReason.CALL_ANSWERED,
    CallStatus.BUSY: DecisionReason.CALLED_PARTY_BUSY,
    CallStatus.NO_ANSWER: DecisionReason.NO_ANSWER,
    CallStatus.UNCONDITIONAL: DecisionReason.FORWARDED_ALWAYS,
    CallStatus.DO_NOT_DISTURB: DecisionReason.DO_NOT_DISTURB,
    CallStatus.UNREACHABLE: DecisionReason.PHONE_UNREACHABLE,
    CallStatus.REJECTED: DecisionReason.CALL_REJECTED,
    CallStatus.UNKNOWN_NUMBER: DecisionReason.NUMBER_UNKNOWN,
    CallStatus.ABANDONED: DecisionReason.CALLER_HUNG_UP,
}
"""The reason that each status gives when the policy does not stand in its way."""


class VoicemailPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Which statuses of a call take a message. Raises CallerError for one that never can."""

    voicemail_for: frozenset[CallStatus] = DEFAULT_VOICEMAIL

    def __post_init__(self) -> None:
        impossible = sorted(status.value for status in self.voicemail_for & NEVER_VOICEMAIL)
        if impossible:
            raise CallerError(
                f"no policy can take messages for calls that are {' or '.join(impossible)}: "
                "nobody is left on the line to speak; take it out of the list"
            )


class StatusDecision(msgspec.Struct, frozen=True, kw_only=True):
    """Shall the call go to voicemail, and why."""

    to_voicemail: bool
    reason: DecisionReason


def decide_status(status: CallStatus, policy: VoicemailPolicy) -> StatusDecision:
    """Decide from the call's status alone (claims 1 and 2)."""
    if status in policy.voicemail_for:
        return StatusDecision(to_voicemail=True, reason=REASONS[status])
    is_policy = status in DEFAULT_VOICEMAIL
    reason = DecisionReason.POLICY_FORBIDS if is_policy else REASONS[status]
    return StatusDecision(to_voicemail=False, reason=reason)
