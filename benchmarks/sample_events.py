"""Made-up but lifelike events, for benchmarks and for training the dictionary."""

from __future__ import annotations

import base64
import os
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ledger.caller import seal_caller
from ledger.events import (
    AudioFacts,
    Caller,
    CallReceived,
    CallStatus,
    DecisionReason,
    DomainEvent,
    MessageDelivered,
    MessageHeard,
    MessageMigrated,
    MessageStored,
    PeerState,
    ReachabilityEvidence,
    Receipt,
    Sealed,
    TransferDecided,
)
from ledger.ids import message_stream_id, uuid7
from ledger.sealing import MasterKey, MessageKey, WrappedKey, new_message_key

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ["Ann Lee", "Bo Chen", "Carla Ruiz", "Dilip Rao", "Eva Novak", None, None]
SERVERS = ["alpha", "bravo", "charlie", "berlin-1", "tokyo"]
REASONS = [
    (CallStatus.NO_ANSWER, DecisionReason.NO_ANSWER),
    (CallStatus.BUSY, DecisionReason.CALLED_PARTY_BUSY),
    (CallStatus.UNREACHABLE, DecisionReason.PHONE_UNREACHABLE),
]
MASTER_KEY = MasterKey(bytes(32))


def call_with_message(
    rng: random.Random,
    *,
    server: str | None = None,
    home: str | None = None,
    extensions: int = 1000,
    extension: str | None = None,
    at: datetime | None = None,
) -> list[DomainEvent]:
    """Give the events of one call that left a message.

    Received, decided, stored; then delivered and sometimes heard (at its own home), or migrated.
    """
    at = at or START + timedelta(milliseconds=rng.randrange(10**10))
    server = server or rng.choice(SERVERS)
    home = home or rng.choice(SERVERS)
    call_id, message_id = _id(rng, at), _id(rng, at)
    extension = extension or str(2000 + rng.randrange(extensions))
    mailbox = f"{extension}@default"
    status, reason = rng.choice(REASONS)

    def header(version: int, stream: UUID = call_id) -> dict[str, Any]:
        return {
            "originator_id": stream,
            "originator_version": version,
            "recorded_at": at + timedelta(seconds=version, microseconds=rng.randrange(10**6)),
            "recorded_by": server,
        }

    events: list[DomainEvent] = [
        CallReceived(
            **header(1),
            called_extension=extension,
            context="default",
            status=status,
            personal=_sealed_caller(rng, call_id),
            switch_call_id=f"{rng.randrange(10**10)}.{rng.randrange(1000)}",
        ),
        TransferDecided(
            **header(2),
            to_voicemail=True,
            reason=reason,
            mailbox=mailbox,
            home=home,
            is_remote=home != server,
            is_reachable=None if home == server else True,
            evidence=None if home == server else _evidence(rng, home, at),
        ),
        MessageStored(
            **header(3),
            message_id=message_id,
            mailbox=mailbox,
            home=home,
            blob=rng.randbytes(32).hex(),
            blob_size_bytes=rng.randrange(8_000, 300_000),
            audio=AudioFacts(
                digest=rng.randbytes(32).hex(),
                size_bytes=rng.randrange(8_000, 400_000),
                container="wav",
                codec="pcmu",
                sample_rate_hz=8000,
                channels=1,
                duration_ms=rng.randrange(1000, 50_000),
            ),
        ),
    ]
    if home != server:
        receipt = _receipt(rng, server, home, at)
        return [
            *events,
            MessageMigrated(
                **header(4),
                message_id=message_id,
                home=home,
                home_position=receipt.home_position,
                receipt=receipt,
            ),
        ]
    own = message_stream_id(message_id, home)
    events.append(
        MessageDelivered(
            **header(1, own),
            message_id=message_id,
            call_id=call_id,
            mailbox=mailbox,
            origin=server,
            origin_position=0,
        )
    )
    if rng.random() < 0.5:
        events.append(
            MessageHeard(**header(2, own), message_id=message_id, by=f"owner:{extension}")
        )
    return events


def kept_keys(events: Iterable[DomainEvent]) -> list[WrappedKey]:
    """Give the keys that a server commits with these events: those of the calls that begin here."""
    calls = [event.originator_id for event in events if isinstance(event, CallReceived)]
    return [MASTER_KEY.wrap(_key(call_id), os.urandom) for call_id in calls]


def _sealed_caller(rng: random.Random, call_id: UUID) -> Sealed:
    caller = Caller(number=f"+49{rng.randrange(10**9, 10**10)}", name=rng.choice(NAMES))
    return seal_caller(caller, _key(call_id), rng.randbytes)


def _key(call_id: UUID) -> MessageKey:
    """Give the key of a call, the same each time that it is asked for."""
    return new_message_key(call_id, random.Random(call_id.int).randbytes)


def _id(rng: random.Random, at: datetime) -> UUID:
    return uuid7(int(at.timestamp() * 1000), rng.randbytes(10))


def _evidence(rng: random.Random, peer: str, at: datetime) -> ReachabilityEvidence:
    return ReachabilityEvidence(
        peer=peer,
        state=PeerState.UP,
        last_success_at=at - timedelta(milliseconds=rng.randrange(5000)),
        last_failure_at=None,
        consecutive_failures=0,
    )


def _receipt(rng: random.Random, origin: str, home: str, at: datetime) -> Receipt:
    return Receipt(
        origin=origin,
        origin_incarnation=UUID(bytes=rng.randbytes(16)),
        origin_position=rng.randrange(10**6),
        origin_root=rng.randbytes(32).hex(),
        home=home,
        home_incarnation=UUID(bytes=rng.randbytes(16)),
        home_position=rng.randrange(10**6),
        home_root=rng.randbytes(32).hex(),
        safe_position=0,
        issued_at=at,
        signature=base64.b64encode(rng.randbytes(64)).decode(),
    )
