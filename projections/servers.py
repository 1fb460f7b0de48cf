"""The servers as this one sees them: who is up since when, who acknowledged what, and itself.

Keeps one record for each peer that this log tells of, one for each start of this server, and one
for this server. What is known only in memory (a peer that is suspect just now) is not here.

Source: claims 1, 4 and 5 (is the second server available?).
"""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.checkpoint import log_name
from ledger.events import (
    BackupVerified,
    ForkWitnessed,
    IncarnationStarted,
    LogRecovered,
    MessageDelivered,
    MessageMigrated,
    PeerLost,
    PeerReturned,
    PeerState,
    ReachabilityEvidence,
    ServerStarted,
)
from projections.projection import Projection, Rule
from projections.records import RecordTable, State
from projections.store import Asked, ProjectionStore


class PeerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Another server, as the log of this one tells of it."""

    peer: str
    state: PeerState = PeerState.UNKNOWN
    """As last recorded."""
    since: datetime | None = None
    """When that was recorded; None when it never was."""
    evidence: ReachabilityEvidence | None = None
    """What that rested on."""
    receipt_position: int = 0
    """Our log's position up to which the peer's newest receipt says it holds its messages."""
    receipt_at: datetime | None = None
    """When the peer issued that receipt."""
    receipt_safe_position: int = 0
    """How far of our log a verified backup of the peer covers too, as it said."""
    peer_position: int = 0
    """The peer's own log position as it last told."""
    migrated_count: int = 0
    """Messages handed over to it."""
    delivered_position: int = 0
    """The peer's log position of the newest message that it handed over to us."""
    delivered_at: datetime | None = None
    delivered_count: int = 0
    """Messages that it handed over to us."""
    fork_witnessed_at: datetime | None = None
    """When it last showed checkpoints of one log that contradict each other; None: never."""
    went_back_at: datetime | None = None
    """When its log last began a new incarnation without all of the history before."""


class StartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A start of this server."""

    position: int
    started_at: datetime
    incarnation: UUID
    software_version: str


class OwnRecord(msgspec.Struct, frozen=True, kw_only=True):
    """This server."""

    server: str
    safe_position: int = 0
    """How far a verified backup covers this log."""
    safe_place: str | None = None
    safe_at: datetime | None = None
    incarnation: UUID | None = None
    """The log's incarnation as last recorded."""
    went_back_at: datetime | None = None
    """When the log was last found to have gone back in time."""
    recovered_at: datetime | None = None
    """When the log was last rebuilt from others."""


class ServersView(msgspec.Struct, frozen=True, kw_only=True):
    """All of it at one position."""

    own: OwnRecord
    peers: tuple[PeerRecord, ...]
    """By name."""
    starts: tuple[StartRecord, ...]
    """The newest first; the last ten."""
    position: int


PEER: Final = RecordTable("peer", PeerRecord, key="peer")
START: Final = RecordTable("start", StartRecord, key="position")
OWN: Final = RecordTable("own", OwnRecord, key="server")


# --- The fold: only what this server itself recorded -------------------------------------------


def _judge(state: State, event: PeerLost | PeerReturned, _position: int) -> None:
    if event.recorded_by == state.this_server:
        judged = PeerState.DOWN if isinstance(event, PeerLost) else PeerState.UP
        _change_peer(
            state,
            event.evidence.peer,
            state=judged,
            since=event.recorded_at,
            evidence=event.evidence,
        )


def _migrate(state: State, event: MessageMigrated, _position: int) -> None:
    if event.recorded_by != state.this_server:
        return
    receipt = event.receipt
    known = _peer(state, event.home)
    changes: dict[str, Any] = {"migrated_count": known.migrated_count + 1}
    if known.receipt_at is None or receipt.issued_at >= known.receipt_at:
        changes |= {
            "receipt_position": receipt.origin_position,
            "receipt_at": receipt.issued_at,
            "receipt_safe_position": receipt.safe_position,
            "peer_position": receipt.home_position,
        }
    _change_peer(state, event.home, **changes)


def _deliver(state: State, event: MessageDelivered, _position: int) -> None:
    if event.recorded_by != state.this_server or event.origin == state.this_server:
        return
    known = _peer(state, event.origin)
    _change_peer(
        state,
        event.origin,
        delivered_position=event.origin_position,
        delivered_at=event.recorded_at,
        delivered_count=known.delivered_count + 1,
    )


def _peer(state: State, peer: str) -> PeerRecord:
    return state.get(PEER, peer) or PeerRecord(peer=peer)


def _change_peer(state: State, peer: str, /, **changes: Any) -> None:
    state.put(PEER, msgspec.structs.replace(_peer(state, peer), **changes))


def _start(state: State, event: ServerStarted, position: int) -> None:
    if event.recorded_by != state.this_server:
        return
    start = StartRecord(
        position=position,
        started_at=event.recorded_at,
        incarnation=event.incarnation,
        software_version=event.software_version,
    )
    state.put(START, start)
    _change_own(state, incarnation=event.incarnation)


def _reincarnate(state: State, event: IncarnationStarted, _position: int) -> None:
    if event.recorded_by == state.this_server:
        _change_own(state, incarnation=event.incarnation, went_back_at=event.recorded_at)


def _recover(state: State, event: LogRecovered, _position: int) -> None:
    if event.recorded_by == state.this_server:
        _change_own(state, recovered_at=event.recorded_at)


def _back_up(state: State, event: BackupVerified, _position: int) -> None:
    if event.recorded_by == state.this_server:
        _change_own(
            state,
            safe_position=event.position,
            safe_place=event.place,
            safe_at=event.recorded_at,
        )


def _witness_fork(state: State, event: ForkWitnessed, _position: int) -> None:
    if event.recorded_by == state.this_server:
        log = log_name(event.peer, event.incarnation)
        is_of_one_log = event.witnessed.startswith(f"{log}\n")
        change = "fork_witnessed_at" if is_of_one_log else "went_back_at"
        _change_peer(state, event.peer, **{change: event.recorded_at})


def _change_own(state: State, **changes: Any) -> None:
    own = state.get(OWN, state.this_server) or OwnRecord(server=state.this_server)
    state.put(OWN, msgspec.structs.replace(own, **changes))


_OWN: Final = ((OWN, attrgetter("recorded_by")),)
_JUDGED: Final = ((PEER, attrgetter("evidence.peer")),)

SERVERS: Final = Projection(
    name="servers",
    version=2,
    tables=(PEER, START, OWN),
    rules={
        PeerLost: Rule(_judge, reads=_JUDGED),
        PeerReturned: Rule(_judge, reads=_JUDGED),
        MessageMigrated: Rule(_migrate, reads=((PEER, attrgetter("home")),)),
        MessageDelivered: Rule(_deliver, reads=((PEER, attrgetter("origin")),)),
        ServerStarted: Rule(_start, reads=_OWN),
        IncarnationStarted: Rule(_reincarnate, reads=_OWN),
        LogRecovered: Rule(_recover, reads=_OWN),
        BackupVerified: Rule(_back_up, reads=_OWN),
        ForkWitnessed: Rule(_witness_fork, reads=((PEER, attrgetter("peer")),)),
    },
)


# --- The questions ---------------------------------------------------------------------------


class Servers:
    """Questions to the servers projection. Methods may be called from any thread."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store

    def view(self) -> ServersView:
        """Give all that the log tells of servers."""
        return self._store.ask(SERVERS, self._view)

    def _view(self, asked: Asked) -> ServersView:
        peers, starts, own = (asked.table(table) for table in (PEER, START, OWN))
        this_server = self._store.this_server
        found = asked.records(OWN, own.select().where(own.c.server == this_server))
        newest = starts.select().order_by(starts.c.position.desc()).limit(10)
        return ServersView(
            own=found[0] if found else OwnRecord(server=this_server),
            peers=tuple(asked.records(PEER, peers.select().order_by(peers.c.peer))),
            starts=tuple(asked.records(START, newest)),
            position=asked.position,
        )
