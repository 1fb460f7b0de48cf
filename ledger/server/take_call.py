"""Take a call: decide whether it goes to voicemail and where, and record the decision.

Source: claims 1 (receive, decide, is the home available), 2 (handle normally), 3, 4, 8, 9 and 12.
"""

from __future__ import annotations

from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.call_status import decide_status
from ledger.call_transfer import TransferDecision, decide_transfer
from ledger.caller import seal_caller
from ledger.events import (
    Caller,
    CallReceived,
    ReachabilityEvidence,
    Sealed,
    Stamp,
    TransferDecided,
)
from ledger.ids import MailboxAddress
from ledger.server.parts import ServerParts
from ledger.server.streams import load_call
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from ledger.telephony.switch import CallDecision, CallReport


async def take_call(parts: ServerParts, report: CallReport) -> CallDecision:
    """Decide on a reported call; the decision is durable on return.

    A report with a known ``call_id`` gives the decision that was made then.
    """
    call_id = report.call_id or parts.new_id()
    decision = await _decide(parts, report)
    stamp = Stamp(at=parts.clock.now(), by=parts.config.server)
    decided = _transfer_decided(call_id, decision, stamp)
    # The key is in the commit of the first event of its call: neither is ever there alone. Of two
    # that report one call at the same time, only the winner's key is kept.
    key, wrapped = parts.vault.new_key(call_id)
    sealed = seal_caller(_caller(report), key, parts.vault.random_bytes)
    received = _call_received(call_id, report, sealed, stamp)
    events = [to_stored_event(event) for event in (received, decided)]
    try:
        await parts.log.append(Append(events, keys=[wrapped]))
    except IntegrityError:
        earlier = (await load_call(parts.log, call_id)).decision
        assert earlier is not None, "both events are in one append"
        decided = earlier
    return _answer(call_id, decided)


async def _decide(parts: ServerParts, report: CallReport) -> TransferDecision:
    mailbox = MailboxAddress(report.called_extension, report.context)
    status = decide_status(report.status, parts.config.policy_of(mailbox))
    # A prefix claims also what no mailbox can be called; there nobody could fetch a message.
    home = parts.homes.home_of(mailbox) if mailbox.is_name else None
    evidence: ReachabilityEvidence | None = None
    if status.to_voicemail and home is not None and home.id != parts.config.server:
        evidence = await parts.reachability.judge(home.id, parts.config.replication.deadline_s)
    return decide_transfer(
        this_server=parts.config.server,
        mailbox=mailbox,
        home=home.id if home is not None else None,
        evidence=evidence,
        status_decision=status,
    )


def _caller(report: CallReport) -> Caller:
    return Caller(
        number=report.caller_number,
        name=report.caller_name,
        redirecting_number=report.redirecting_number,
    )


def _call_received(call_id: UUID, report: CallReport, caller: Sealed, stamp: Stamp) -> CallReceived:
    return CallReceived(
        originator_id=call_id,
        originator_version=1,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        called_extension=report.called_extension,
        context=report.context,
        status=report.status,
        personal=caller,
        switch_call_id=report.switch_call_id,
        redirecting_reason=report.redirecting_reason,
    )


def _transfer_decided(call_id: UUID, decision: TransferDecision, stamp: Stamp) -> TransferDecided:
    return TransferDecided(
        originator_id=call_id,
        originator_version=2,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        to_voicemail=decision.to_voicemail,
        reason=decision.reason,
        mailbox=str(decision.mailbox) if decision.mailbox is not None else None,
        home=decision.home,
        is_remote=decision.is_remote,
        is_reachable=decision.is_reachable,
        evidence=decision.evidence,
    )


def _answer(call_id: UUID, decided: TransferDecided) -> CallDecision:
    mailbox = decided.mailbox
    return CallDecision(
        call_id=call_id,
        transfer=decided.to_voicemail,
        reason=decided.reason,
        extension=MailboxAddress.parse(mailbox).extension if mailbox is not None else None,
        mailbox=mailbox,
        home=decided.home,
        is_remote=decided.is_remote,
        is_reachable=decided.is_reachable,
    )
