"""A server's history in a few words: each call of a method is something that happened to it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.persistence import StoredEvent

from ledger import events as e
from ledger.caller import seal_caller
from ledger.ids import message_stream_id, uuid7
from ledger.sealing import MasterKey, WrappedKey
from ledger.storage.callers import Callers
from ledger.storage.event_log import Append, Appended
from ledger.storage.mapper import to_stored_event
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.vault import Vault

START = datetime(2026, 1, 1, tzinfo=UTC)
ANN = {"number": "+49301234", "name": "Ann"}
DEEDS = {
    "hear": e.MessageHeard,
    "save": e.MessageSaved,
    "delete": e.MessageDeleted,
    "restore": e.MessageRestored,
    "erase": e.MessageErased,
}


@dataclass
class Taken:
    """A call that left a message."""

    call_id: UUID
    message_id: UUID
    mailbox: str
    taken_by: str
    home: str
    custody: str
    versions: dict[UUID, int] = field(default_factory=dict)


class History:
    """What happened at one server, in the log of that server.

    Who called is sealed; the keys stand beside the log, also those of calls that others took.
    """

    def __init__(self, server: str = "alpha", seed: int = 1, at: datetime = START) -> None:
        self.server = server
        self.log = MemoryLogRecorder(UUID(int=1))
        self.taken: list[Taken] = []
        self.at = at
        self._rng = random.Random(seed)
        self.vault = Vault(self.log, MasterKey(self._rng.randbytes(32)), self._rng.randbytes)
        self.callers = Callers(self.vault)
        self._own_version = 0
        self._origin_position = 0

    @property
    def position(self) -> int:
        return self.log.head().position

    # --- calls --------------------------------------------------------------------------------

    def call(
        self,
        extension: str = "2001",
        *,
        home: str = "alpha",
        taken_by: str = "alpha",
        caller: e.Caller | None = None,
        is_recovered: bool = False,
        duration_ms: int = 4000,
        has_key: bool = True,
    ) -> Taken:
        """Take a call that leaves a message; delivered at once where its home is this server.

        Without ``has_key`` it is a call of another server whose key has not come here.
        """
        taken = Taken(self._id(), self._id(), f"{extension}@default", taken_by, home, taken_by)
        self.taken.append(taken)
        personal, key = self._sealed(taken.call_id, caller or e.Caller(**ANN))
        told: list[e.DomainEvent] = [
            e.CallReceived(
                **self._next(taken, taken.call_id, taken_by),
                called_extension=extension,
                context="default",
                status=e.CallStatus.NO_ANSWER,
                personal=personal,
            ),
            e.TransferDecided(
                **self._next(taken, taken.call_id, taken_by),
                to_voicemail=True,
                reason=e.DecisionReason.NO_ANSWER,
                mailbox=taken.mailbox,
                home=home,
                is_remote=home != taken_by,
                is_reachable=None if home == taken_by else False,
                evidence=None if home == taken_by else self._evidence(home),
            ),
            self._stored(taken, is_recovered, duration_ms),
        ]
        foreign = len(told) if taken_by != self.server else 0
        if home == self.server:
            taken.custody = self.server
            told.append(self._delivered(taken, foreign))
        self._commit(
            told,
            origin=taken_by if foreign else None,
            foreign=foreign,
            keys=[key] if has_key else [],
        )
        return taken

    def second_message(self, taken: Taken) -> Taken:
        """Store a whole recording after what was saved of an interrupted one."""
        twin = Taken(
            taken.call_id,
            self._id(),
            taken.mailbox,
            taken.taken_by,
            taken.home,
            taken.custody,
            taken.versions,
        )
        self.taken.append(twin)
        self._commit([self._stored(twin, False, 9000)])
        return twin

    def ended_call(self, end: str, extension: str = "2001") -> UUID:
        """Take a call without a message: handled "normally", "abandoned" or "set-aside"."""
        taken = Taken(self._id(), self._id(), f"{extension}@default", self.server, "", self.server)
        personal, key = self._sealed(taken.call_id, e.Caller())
        told: list[e.DomainEvent] = [
            e.CallReceived(
                **self._next(taken, taken.call_id),
                called_extension=extension,
                context="default",
                status=e.CallStatus.ANSWERED if end == "normally" else e.CallStatus.BUSY,
                personal=personal,
            )
        ]
        if end == "normally":
            told.append(
                e.TransferDecided(
                    **self._next(taken, taken.call_id),
                    to_voicemail=False,
                    reason=e.DecisionReason.CALL_ANSWERED,
                )
            )
        if end == "abandoned":
            told.append(
                e.CallAbandoned(**self._next(taken, taken.call_id), reason="hung-up"),
            )
        if end == "set-aside":
            told.append(
                e.RecordingSetAside(
                    **self._next(taken, taken.call_id),
                    digest="ab" * 32,
                    size_bytes=10,
                    reason="not-audio",
                    place="aside/1",
                )
            )
        self._commit(told, keys=[key])
        return taken.call_id

    # --- messages -----------------------------------------------------------------------------

    def act(self, taken: Taken, deed: str, by: str = "owner") -> None:
        """Let somebody do something to a message that is in this server's custody."""
        stream = self._own_stream(taken) if taken.home == self.server else taken.call_id
        more = {"reason": "asked"} if deed == "erase" else {}
        event = DEEDS[deed](**self._next(taken, stream), message_id=taken.message_id, by=by, **more)
        self._commit([event])

    def destroy_key(self, taken: Taken) -> None:
        """Destroy the key of a message's call, as an erasure does."""
        self._commit([], keys=self.vault.destroy([taken.call_id]))

    def migrate(self, taken: Taken, safe_position: int = 0) -> None:
        """Record the home's receipt: at the server that took the call."""
        receipt = e.Receipt(
            origin=taken.taken_by,
            origin_incarnation=UUID(int=1),
            origin_position=self.position,
            origin_root="00" * 32,
            home=taken.home,
            home_incarnation=UUID(int=2),
            home_position=100 + self.position,
            home_root="11" * 32,
            safe_position=safe_position,
            issued_at=self.at,
            signature="",
        )
        taken.custody = taken.home
        migrated = e.MessageMigrated(
            **self._next(taken, taken.call_id, taken.taken_by),
            message_id=taken.message_id,
            home=taken.home,
            home_position=receipt.home_position,
            receipt=receipt,
        )
        is_foreign = taken.taken_by != self.server
        self._commit([migrated], taken.taken_by if is_foreign else None, int(is_foreign))

    def refuse(self, taken: Taken, reason: str = "not-my-mailbox") -> None:
        self._commit(
            [
                e.MigrationRefused(
                    **self._next(taken, taken.call_id),
                    message_id=taken.message_id,
                    home=taken.home,
                    reason=reason,
                    detail="so it said",
                )
            ]
        )

    def requeue(self, taken: Taken, home: str) -> None:
        """Send a message to another home; delivered at once where that is this server."""
        taken.home = home
        told: list[e.DomainEvent] = [
            e.MessageRequeued(
                **self._next(taken, taken.call_id),
                message_id=taken.message_id,
                home=home,
                reason="mailbox-moved",
            )
        ]
        if home == self.server:
            told.append(self._delivered(taken, 0))
        self._commit(told)

    # --- servers ------------------------------------------------------------------------------

    def start(self) -> None:
        self._own(e.ServerStarted, incarnation=UUID(int=1), software_version="0.1.0")

    def lose(self, peer: str) -> None:
        self._own(e.PeerLost, evidence=self._evidence(peer))

    def find(self, peer: str) -> None:
        self._own(e.PeerReturned, evidence=self._evidence(peer))

    def back_up(self, position: int) -> None:
        self._own(e.BackupVerified, position=position, place="tape 7")

    def go_back(self, incarnation: UUID) -> None:
        """Find out that the log went back."""
        self._own(
            e.IncarnationStarted,
            incarnation=incarnation,
            previous=UUID(int=1),
            position=self.position,
            reason="server bravo knows more",
        )

    def recall(self, peer: str, incarnation: UUID, **facts: Any) -> None:
        """Get back what a peer holds."""
        nothing = {"known_until": 0, "common_until": 0, "events": 0, "messages": 0, "not_taken": 0}
        self._own(
            e.LogRecalled,
            peer=peer,
            incarnation=incarnation,
            peer_incarnation=UUID(int=9),
            peer_position=70,
            **({"is_complete": True} | nothing | facts),
        )

    # --- what nobody should meet ----------------------------------------------------------------

    def opaque(self, topic: str = "mailbox-painted", v: int = 1) -> None:
        """Take in an event of a program that is newer than this one."""
        self.raw(topic, self._header(topic) | {"v": v, "colour": "blue"})

    def spoilt(self, topic: str) -> None:
        """Write an event of a known topic that breaks its own rules."""
        self.raw(topic, self._header(topic) | {"v": 1})

    def raw(self, topic: str, fields: dict[str, Any]) -> None:
        stored = StoredEvent(
            originator_id=fields["originator_id"],
            originator_version=fields["originator_version"],
            topic=topic,
            state=msgspec.json.encode(fields),
        )
        self._append(Append([stored]))

    def _header(self, topic: str) -> dict[str, Any]:
        return {
            "event": topic,
            "originator_id": self._id(),
            "originator_version": 1,
            "recorded_at": self.at,
            "recorded_by": self.server,
        }

    # --- by chance ------------------------------------------------------------------------------

    def step(self, action: str, pick: int) -> None:
        """Let something happen, as far as it can at this moment."""
        in_custody = [t for t in self.taken if t.custody == self.server]
        pending = [t for t in in_custody if t.home != self.server]
        if action in DEEDS:
            if in_custody:
                self.act(in_custody[pick % len(in_custody)], action)
        elif action in ("migrate", "refuse", "requeue", "again"):
            if pending:
                self._go_on(action, pending[pick % len(pending)], pick)
        else:
            self._begin(action, pick)

    def _go_on(self, action: str, taken: Taken, pick: int) -> None:
        match action:
            case "migrate":
                self.migrate(taken)
            case "refuse":
                self.refuse(taken)
            case "requeue":
                self.requeue(taken, ("alpha", "bravo", "charlie")[pick % 3])
            case _:
                self.second_message(taken)

    def _begin(self, action: str, pick: int) -> None:
        extension = str(2000 + pick % 3)
        match action:
            case "arrive":
                self.call(extension, taken_by="bravo")
            case "keep":
                self.call(extension, home=("bravo", "charlie")[pick % 2])
            case "local":
                self.call(extension)
            case "end":
                self.ended_call(("normally", "abandoned", "set-aside")[pick % 3], extension)
            case "opaque":
                self.opaque()
            case _:
                (self.lose if pick % 2 else self.find)(("bravo", "charlie")[pick % 2])

    # --- parts ----------------------------------------------------------------------------------

    def _stored(self, taken: Taken, is_recovered: bool, duration_ms: int) -> e.MessageStored:
        return e.MessageStored(
            **self._next(taken, taken.call_id, taken.taken_by),
            message_id=taken.message_id,
            mailbox=taken.mailbox,
            home=taken.home,
            blob=self._rng.randbytes(32).hex(),
            blob_size_bytes=1000,
            audio=e.AudioFacts(
                digest=self._rng.randbytes(32).hex(),
                size_bytes=2000,
                container="wav",
                codec="pcmu",
                sample_rate_hz=8000,
                channels=1,
                duration_ms=duration_ms,
            ),
            is_recovered=is_recovered,
        )

    def _delivered(self, taken: Taken, foreign: int) -> e.MessageDelivered:
        taken.custody = self.server
        return e.MessageDelivered(
            **self._next(taken, self._own_stream(taken)),
            message_id=taken.message_id,
            call_id=taken.call_id,
            mailbox=taken.mailbox,
            origin=taken.taken_by,
            origin_position=self._origin_position + foreign,
        )

    def _sealed(self, call_id: UUID, caller: e.Caller) -> tuple[e.Sealed, WrappedKey]:
        key, wrapped = self.vault.new_key(call_id)
        return seal_caller(caller, key, self._rng.randbytes), wrapped

    def _own_stream(self, taken: Taken) -> UUID:
        return message_stream_id(taken.message_id, self.server)

    def _evidence(self, peer: str) -> e.ReachabilityEvidence:
        return e.ReachabilityEvidence(
            peer=peer,
            state=e.PeerState.DOWN,
            last_success_at=None,
            last_failure_at=self.at,
            consecutive_failures=3,
        )

    def _next(self, taken: Taken, stream: UUID, by: str | None = None) -> dict[str, Any]:
        taken.versions[stream] = taken.versions.get(stream, 0) + 1
        return self._envelope(stream, taken.versions[stream], by or self.server)

    def _own(self, kind: Any, **fields: Any) -> None:
        self._own_version += 1
        envelope = self._envelope(UUID(int=99), self._own_version, self.server)
        self._commit([kind(**envelope, **fields)])

    def _envelope(self, stream: UUID, version: int, by: str) -> dict[str, Any]:
        # Many events share a moment: order must never rest on time alone.
        self.at += timedelta(seconds=self._rng.choice((0, 0, 1)), microseconds=1)
        # Another server's clock is behind: what it records carries an earlier time.
        behind = timedelta(minutes=5) if by != self.server else timedelta()
        return {
            "originator_id": stream,
            "originator_version": version,
            "recorded_at": self.at - behind,
            "recorded_by": by,
        }

    def _id(self) -> UUID:
        return uuid7(int(self.at.timestamp() * 1000), self._rng.randbytes(10))

    def _commit(
        self,
        told: list[e.DomainEvent],
        origin: str | None = None,
        foreign: int = 0,
        keys: Sequence[WrappedKey] = (),
    ) -> None:
        positions = [self._origin_position + 1 + place for place in range(foreign)]
        self._origin_position += foreign
        stored = [to_stored_event(event) for event in told]
        self._append(Append(stored, origin=origin, origin_positions=positions, keys=keys))

    def _append(self, append: Append) -> None:
        outcome = self.log.commit([append])[0]
        assert isinstance(outcome, Appended), outcome


ACTIONS = (
    *DEEDS,
    "arrive",
    "keep",
    "local",
    "end",
    "opaque",
    "peer",
    "migrate",
    "refuse",
    "requeue",
    "again",
)
