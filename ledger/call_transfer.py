"""The call transfer module: which mailbox, which home server, is it remote, is it available?

Joins what the call status module decided with what the configuration says of the mailbox's home
and with what is known of that server. Pure: home and evidence come in as arguments. A wrong "not
reachable" costs a message that is stored here first and shipped a little later, a wrong "reachable"
costs the caller a wait; so doubt counts as not reachable.

Source: claims 1-4, 8 and 9.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.call_status import StatusDecision
from ledger.events import DecisionReason, PeerState, ReachabilityEvidence, ServerId
from ledger.ids import MailboxAddress

PROBE_ANSWERED: Final = "answered"
"""The outcome of a probe that found the server there."""


class TransferDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to the call. The fields mean what they mean in `TransferDecided`."""

    to_voicemail: bool
    reason: DecisionReason
    mailbox: MailboxAddress | None = None
    home: ServerId | None = None
    is_remote: bool | None = None
    is_reachable: bool | None = None
    evidence: ReachabilityEvidence | None = None


def decide_transfer(
    *,
    this_server: ServerId,
    mailbox: MailboxAddress,
    home: ServerId | None,
    evidence: ReachabilityEvidence | None,
    status_decision: StatusDecision,
) -> TransferDecision:
    """Decide where the call goes.

    ``home`` is None when no server of the configuration is home to the mailbox: the call is then
    handled normally. ``evidence`` is used only for a remote home, and must be about it; None says
    that nothing is known of it.
    """
    if not status_decision.to_voicemail:
        return TransferDecision(to_voicemail=False, reason=status_decision.reason)
    if home is None:
        return TransferDecision(to_voicemail=False, reason=DecisionReason.NO_MAILBOX)
    is_remote = home != this_server
    used = evidence if is_remote else None
    assert used is None or used.peer == home, "evidence must be about the home"
    return TransferDecision(
        to_voicemail=True,
        reason=status_decision.reason,
        mailbox=mailbox,
        home=home,
        is_remote=is_remote,
        is_reachable=is_reachable(used) if is_remote else None,
        evidence=used,
    )


def is_reachable(evidence: ReachabilityEvidence | None) -> bool:
    """Judge a remote server (claims 1, 4 and 5).

    A probe made for this very call beats older knowledge, but does not lift a server out of
    ``down``: that takes as many successes as the configuration asks for. Without a probe only a
    server that is ``up`` counts.
    """
    if evidence is None or evidence.state is PeerState.DOWN:
        return False
    if evidence.probe is not None:
        return evidence.probe == PROBE_ANSWERED
    return evidence.state is PeerState.UP
