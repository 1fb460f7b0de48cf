"""What another configuration would have decided of the calls of the past.

Each call that this server took is decided again: from what the switch said then, and with what was
known of the home then, but with the policy and the homes of another configuration. Pure, except
for reading the log; nothing is recorded.

What was not known then stays unknown: a home that nobody judged at the time (because the call was
not for voicemail, or its home was another one) counts as not reachable, and the difference says so.

Source: claims 1, 2, 8 and 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from ledger.call_status import decide_status
from ledger.call_transfer import TransferDecision, decide_transfer
from ledger.configuration import Configuration, Homes
from ledger.events import (
    CallReceived,
    DomainEvent,
    OpaqueEvent,
    ReachabilityEvidence,
    ServerId,
    TransferDecided,
    decode,
)
from ledger.ids import MailboxAddress
from ledger.mailbox import home_claim_of
from projections.reader import LogReader, read_pages

_COMPARED: Final = ("to_voicemail", "reason", "mailbox", "home", "is_remote", "is_reachable")


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, as far as two of them are compared."""

    to_voicemail: bool
    reason: str
    mailbox: str | None
    home: ServerId | None
    is_remote: bool | None
    is_reachable: bool | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A call that would have been decided otherwise."""

    position: int
    """Of the decision, in this log."""
    decided_at: datetime
    call_id: UUID
    called_extension: str
    context: str
    status: str
    """What the switch said of the call."""
    then: Decided
    would_be: Decided
    changed: list[str]
    """The names of what differs."""
    is_home_unjudged: bool
    """Nothing is known of whether that home could be reached then: it counts as not reachable."""


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of a log under another configuration."""

    through_position: int
    calls: int
    """How many were decided again."""
    differences: list[Difference]


def replay_calls(reader: LogReader, other: Configuration, through_position: int) -> WhatIf:
    """Decide all calls that the configuration's server took again, up to a position."""
    homes = Homes(other.directory)
    received: dict[UUID, CallReceived] = {}
    differences: list[Difference] = []
    calls = 0
    for position, event in _events(reader, through_position):
        if home_claim_of(event) is not None:
            homes.learn(event)
        elif isinstance(event, CallReceived) and event.recorded_by == other.server:
            received[event.originator_id] = event
        elif isinstance(event, TransferDecided) and event.originator_id in received:
            calls += 1
            call = received.pop(event.originator_id)
            difference = _compare(position, call, event, other, homes)
            if difference is not None:
                differences.append(difference)
    return WhatIf(through_position=through_position, calls=calls, differences=differences)


def _events(reader: LogReader, stop: int) -> Iterator[tuple[int, DomainEvent | OpaqueEvent]]:
    for page in read_pages(reader, stop):
        for entry in page:
            yield entry.position, decode(entry.plain, f"position {entry.position}")


def _compare(
    position: int, call: CallReceived, event: TransferDecided, other: Configuration, homes: Homes
) -> Difference | None:
    decision, is_unjudged = _decide(call, event.evidence, other, homes)
    then, would_be = _of_event(event), _of_decision(decision)
    changed = [name for name in _COMPARED if getattr(then, name) != getattr(would_be, name)]
    if not changed:
        return None
    return Difference(
        position=position,
        decided_at=event.recorded_at,
        call_id=call.originator_id,
        called_extension=call.called_extension,
        context=call.context,
        status=call.status.value,
        then=then,
        would_be=would_be,
        changed=changed,
        is_home_unjudged=is_unjudged,
    )


def _decide(
    call: CallReceived,
    evidence: ReachabilityEvidence | None,
    other: Configuration,
    homes: Homes,
) -> tuple[TransferDecision, bool]:
    """Decide again; also say whether nothing was known of the home."""
    mailbox = MailboxAddress(call.called_extension, call.context)
    home = homes.home_of(mailbox)
    fits = evidence is not None and home is not None and evidence.peer == home.id
    decision = decide_transfer(
        this_server=other.server,
        mailbox=mailbox,
        home=home.id if home is not None else None,
        evidence=evidence if fits else None,
        status_decision=decide_status(call.status, other.policy_of(mailbox)),
    )
    return decision, bool(decision.is_remote) and not fits


def _of_event(event: TransferDecided) -> Decided:
    return Decided(
        to_voicemail=event.to_voicemail,
        reason=event.reason.value,
        mailbox=event.mailbox,
        home=event.home,
        is_remote=event.is_remote,
        is_reachable=event.is_reachable,
    )


def _of_decision(decision: TransferDecision) -> Decided:
    return Decided(
        to_voicemail=decision.to_voicemail,
        reason=decision.reason.value,
        mailbox=str(decision.mailbox) if decision.mailbox is not None else None,
        home=decision.home,
        is_remote=decision.is_remote,
        is_reachable=decision.is_reachable,
    )
