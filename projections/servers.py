"""The servers as this one sees them: who is up since when, who acknowledged what, and itself.

Keeps one record for each peer that this log tells of, one for each start of this server, one for
this server, and one for each peer that gave back what this log had forgotten. What is known only
in memory (a peer that is suspect just now) is not here.

Source: claims 1, 4 and 5 (is the second server available?).
"""

from __future__ import annotations

from collections.abc import Iterable
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
    LogRecalled,
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
    went_back_position: int = 0
    """Where the log ended when that was found."""
    went_back_reason: str = ""
    recovered_at: datetime | None = None
    """When the log was last rebuilt from others."""


class RecallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer gave back of this log, after it went back last."""

    peer: str
    incarnation: UUID
    """Under which this log asked."""
    told_at: datetime
    """When it was told last."""
    is_complete: bool = False
    """The peer's log was gone through to its end."""
    known_until: int = 0
    """Up to here the peer had known this log; 0: no further than it still reaches."""
    common_until: int = 0
    """The last position at which the peer holds the very event that still stands there."""
    events: int = 0
    """Events that came back."""
    messages: int = 0
    """Of those: messages that were stored."""
    not_taken: int = 0
    """Events of the peer that were not taken, because others stand in their places by now."""


class WentBack(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a log that went back in time."""

    noticed_at: datetime
    position: int
    """Where the log ended then."""
    reason: str
    missing_after: int
    """Behind this position events are missing, at the earliest."""
    known_until: int
    """The last position that any peer is known to have seen; 0: none is known to be missing."""
    events_back: int
    """Events that peers gave back."""
    messages_back: int
    """Of those: messages that were stored."""
    not_taken: int
    """Events that peers hold and that were not taken: others stand in their places by now."""
    lost_events: int
    """At most so many of the missing events are known to nobody."""
    waiting_for: tuple[str, ...]
    """Peers that have not answered to the end: they may know more."""
    recalls: tuple[RecallRecord, ...]
    """Who gave back what."""


class ServersView(msgspec.Struct, frozen=True, kw_only=True):
    """All of it at one position."""

    own: OwnRecord
    peers: tuple[PeerRecord, ...]
    """By name."""
    starts: tuple[StartRecord, ...]
    """The newest first; the last ten."""
    recalls: tuple[RecallRecord, ...] = ()
    """By name, of the present incarnation of this log."""
    position: int

    def went_back(self, peers: Iterable[str]) -> WentBack | None:
        """Say what became of this log when it went back last; None when it never did.

        ``peers`` are the other servers of the configuration: all of them are asked.
        """
        own, recalls = self.own, self.recalls
        if own.went_back_at is None:
            return None
        known_until = max((one.known_until for one in recalls), default=0)
        missing_after = max((one.common_until for one in recalls), default=0)
        events, not_taken = sum(o.events for o in recalls), sum(o.not_taken for o in recalls)
        complete = {one.peer for one in recalls if one.is_complete}
        return WentBack(
            noticed_at=own.went_back_at,
            position=own.went_back_position,
            reason=own.went_back_reason,
            missing_after=missing_after,
            known_until=known_until,
            events_back=events,
            messages_back=sum(one.messages for one in recalls),
            not_taken=not_taken,
            lost_events=max(0, known_until - missing_after - events - not_taken),
            waiting_for=tuple(peer for peer in sorted(peers) if peer not in complete),
            recalls=recalls,
        )


PEER: Final = RecordTable("peer", PeerRecord, key="peer")
START: Final = RecordTable("start", StartRecord, key="position")
OWN: Final = RecordTable("own", OwnRecord, key="server")
RECALL: Final = RecordTable("recall", RecallRecord, key="peer")


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
        changes: dict[str, Any] = {"went_back_reason": event.reason}
        if event.position:  # Of an incarnation that the log had forgotten, none is told.
            changes["went_back_position"] = event.position
        _change_own(state, incarnation=event.incarnation, went_back_at=event.recorded_at, **changes)


def _recall(state: State, event: LogRecalled, _position: int) -> None:
    if event.recorded_by != state.this_server:
        return
    known = state.get(RECALL, event.peer)
    if known is None or known.incarnation != event.incarnation:
        known = RecallRecord(
            peer=event.peer, incarnation=event.incarnation, told_at=event.recorded_at
        )
    after = msgspec.structs.replace(
        known,
        told_at=event.recorded_at,
        is_complete=event.is_complete,
        known_until=max(known.known_until, event.known_until),
        common_until=max(known.common_until, event.common_until),
        events=known.events + event.events,
        messages=known.messages + event.messages,
        not_taken=known.not_taken + event.not_taken,
    )
    state.put(RECALL, after)


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
    version=3,
    tables=(PEER, START, OWN, RECALL),
    rules={
        PeerLost: Rule(_judge, reads=_JUDGED),
        PeerReturned: Rule(_judge, reads=_JUDGED),
        MessageMigrated: Rule(_migrate, reads=((PEER, attrgetter("home")),)),
        MessageDelivered: Rule(_deliver, reads=((PEER, attrgetter("origin")),)),
        ServerStarted: Rule(_start, reads=_OWN),
        IncarnationStarted: Rule(_reincarnate, reads=_OWN),
        LogRecalled: Rule(_recall, reads=((RECALL, attrgetter("peer")),)),
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
        tables = (PEER, START, OWN, RECALL)
        peers, starts, own, recalls = (asked.table(table) for table in tables)
        this_server = self._store.this_server
        found = asked.records(OWN, own.select().where(own.c.server == this_server))
        newest = starts.select().order_by(starts.c.position.desc()).limit(10)
        this_server_record = found[0] if found else OwnRecord(server=this_server)
        asked_for = asked.records(RECALL, recalls.select().order_by(recalls.c.peer))
        return ServersView(
            own=this_server_record,
            recalls=tuple(o for o in asked_for if o.incarnation == this_server_record.incarnation),
            peers=tuple(asked.records(PEER, peers.select().order_by(peers.c.peer))),
            starts=tuple(asked.records(START, newest)),
            position=asked.position,
        )
