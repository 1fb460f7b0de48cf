"""What other servers answered when they were told that a call is erased.

A server that has a message of the call which the erasing one did not know keeps its key, and says
so. That is recorded beside the erasure: whoever certifies it must not claim more than is true.

Source: claim 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from ledger.events import CallErased, DomainEvent, ErasureAnswered, ServerId, Stamp
from ledger.ids import erasure_stream_id
from ledger.migration.audience import AnyEvent
from ledger.migration.wire import Refusal


def refusals_of(stream: Sequence[AnyEvent]) -> dict[ServerId, ErasureAnswered]:
    """Give the last word of each server that keeps its key, from the stream of an erasure."""
    last = {event.server: event for event in stream if isinstance(event, ErasureAnswered)}
    return {server: event for server, event in last.items() if event.reason}


def answer_to_record(
    stream: Sequence[AnyEvent],
    server: ServerId,
    stamp: Stamp,
    *,
    reason: str = "",
    detail: str = "",
) -> ErasureAnswered | None:
    """Give the event that records an answer; None when nothing is new.

    ``stream`` is that of the erasure; without a ``reason`` the server has destroyed its key.
    """
    before = refusals_of(stream).get(server)
    known = (before.reason, before.detail) if before is not None else ("", "")
    if not stream or known == (reason, detail):
        return None
    erasure = stream[0]
    assert isinstance(erasure, CallErased)
    return ErasureAnswered(
        originator_id=erasure.originator_id,
        originator_version=len(stream) + 1,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        call_id=erasure.call_id,
        server=server,
        reason=reason,
        detail=detail,
    )


def answers_to_record(
    answers: Mapping[UUID, Refusal | None],
    peer: ServerId,
    streams: Mapping[UUID, Sequence[AnyEvent]],
    stamp: Stamp,
) -> list[DomainEvent]:
    """Give the events that record what a peer answered for each of these calls."""
    new: list[DomainEvent] = []
    for call_id, refusal in answers.items():
        why = {"reason": refusal.reason, "detail": refusal.detail} if refusal is not None else {}
        stream = streams.get(erasure_stream_id(call_id), ())
        event = answer_to_record(stream, peer, stamp, **why)
        if event is not None:
            new.append(event)
    return new
