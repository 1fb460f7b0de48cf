"""The protocol by which messages travel to their home, as tables: no I/O, no clock, no randomness.

Origin side: one table of state and input gives the next state and what to do on the way. The
worker of a peer only runs it. Home side: a batch stands in some relation to what the home has
tracked of its origin, and a second table says what that relation leads to. Because both are data,
the diagram in the documentation is drawn from them and a test walks all of their paths.

The rules of contact (`judge_contact`) rest on one fact: what the home has tracked was committed
together with the events, so it is the only truth; what the origin remembers is a hint.

- The home's tree hash equals ours at its position: go on from there. This includes a home that was
  restored from a backup: its position is simply lower.
- The home has a position that our log has not, or another hash: our own log went back in time. It
  goes on under a new incarnation, durable before anything else is sent, and sends everything again;
  the identifiers make that harmless.
- The home has an incarnation of ours that we do not know: our log went back to before it, and the
  rule is the same; but if somebody still speaks to the home under it, there are two servers with
  one identity. Then this one halts and raises an alarm.

Nothing is ever skipped: a gap always leads back to a contact.

Source: claims 4, 5, 7 and 8; RFC 5321 section 4.5.4.1 (queueing strategy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from uuid import UUID

from ledger.errors import LedgerError
from ledger.migration.wire import BatchHeader, TrackedRow


class OriginState(Enum):
    """What the worker of one peer is doing."""

    RESTING = "resting"
    """The last attempt failed: the next one comes after a random pause, or when the peer calls."""
    WAITING = "waiting"
    """The peer asked for a pause: it is kept, whatever happens."""
    CONTACTING = "contacting"
    """Asking the peer how far it has taken in our log."""
    STREAMING = "streaming"
    """Sending batches, some in flight at a time."""
    IDLE = "idle"
    """The peer has everything: waiting for something new, and asking now and then."""
    REINCARNATING = "reincarnating"
    """Our own log went back: starting a new incarnation."""
    HALTED = "halted"
    """Another server uses our identity. Nothing is sent until that has ended."""


class OriginInput(Enum):
    """What may happen to the worker of one peer."""

    TIMER = "timer"
    """The pause of the present state is over."""
    INBOUND = "inbound contact"
    """The peer contacted us, so it may be worth trying."""
    WANTED = "wanted"
    """A caller waits for a message to arrive at this peer."""
    NEW_EVENTS = "new events"
    """The log has grown."""
    AGREED = "agreed"
    """The peer's position and tree hash are in our log."""
    LOG_WENT_BACK = "log went back"
    """The peer knows something of our log that we do not."""
    CLONE_SEEN = "clone seen"
    """Somebody else speaks to the peer under our name."""
    ACKNOWLEDGED = "acknowledged"
    """A receipt for the oldest batch in flight, verified."""
    CAUGHT_UP = "caught up"
    """Nothing is left to send and nothing is in flight."""
    GAP = "gap"
    """The peer is not where the batch begins."""
    BUSY = "busy"
    """The peer asks to be left alone for a while."""
    REFUSED_VERSION = "refused version"
    """The peer speaks no version of the protocol that we speak."""
    REJECTED = "rejected"
    """One side could not accept what the other sent."""
    UNREACHABLE = "unreachable"
    """No answer, or not in time."""
    LOCAL_TROUBLE = "local trouble"
    """Our own stores cannot work now (disk full)."""
    REINCARNATED = "reincarnated"
    """The new incarnation is durable."""


SIGNALS: Final = frozenset({OriginInput.INBOUND, OriginInput.WANTED, OriginInput.NEW_EVENTS})
"""Inputs from outside, which may come in any state and mean nothing in some."""

PAUSES: Final = frozenset(
    {OriginState.RESTING, OriginState.WAITING, OriginState.IDLE, OriginState.HALTED}
)
"""States that are left by a signal or after some time: every circle but progress leads there."""


class Action(Enum):
    """What the worker does on the way to the next state."""

    RESUME = "resume"
    """Go on from the position that was agreed."""
    SETTLE = "settle"
    """Record the receipt, and what follows from refusals."""
    DROP_IN_FLIGHT = "drop in flight"
    """Forget the batches on their way; whether they arrived shows at the next contact."""
    BACK_OFF = "back off"
    """Count a failure and draw the pause before the next attempt."""
    WAIT_AS_TOLD = "wait as told"
    """Take the pause that the peer asked for."""
    RESET_BACKOFF = "reset backoff"
    """Forget the failures."""
    ALARM = "alarm"
    """Tell the operator."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where an input leads, and what is done on the way."""

    next: OriginState
    actions: tuple[Action, ...] = ()


class ProtocolDefectError(LedgerError):
    """The program gave an input that cannot happen in its state: a defect of the program."""


_S, _I, _A = OriginState, OriginInput, Action
_FAILED: Final = Step(_S.RESTING, (_A.DROP_IN_FLIGHT, _A.BACK_OFF))
_LOUD: Final = Step(_S.RESTING, (_A.DROP_IN_FLIGHT, _A.BACK_OFF, _A.ALARM))
_TOLD: Final = Step(_S.WAITING, (_A.DROP_IN_FLIGHT, _A.WAIT_AS_TOLD))
_TRY: Final = Step(_S.CONTACTING)

ORIGIN_TABLE: Final[dict[tuple[OriginState, OriginInput], Step]] = {
    (_S.RESTING, _I.TIMER): _TRY,
    (_S.RESTING, _I.INBOUND): _TRY,
    (_S.RESTING, _I.WANTED): _TRY,
    (_S.WAITING, _I.TIMER): _TRY,
    (_S.CONTACTING, _I.AGREED): Step(_S.STREAMING, (_A.RESUME,)),
    (_S.CONTACTING, _I.LOG_WENT_BACK): Step(_S.REINCARNATING, (_A.ALARM,)),
    (_S.CONTACTING, _I.CLONE_SEEN): Step(_S.HALTED, (_A.BACK_OFF, _A.ALARM)),
    (_S.CONTACTING, _I.BUSY): _TOLD,
    (_S.CONTACTING, _I.REFUSED_VERSION): _LOUD,
    (_S.CONTACTING, _I.REJECTED): _LOUD,
    (_S.CONTACTING, _I.UNREACHABLE): _FAILED,
    (_S.CONTACTING, _I.LOCAL_TROUBLE): _FAILED,
    (_S.STREAMING, _I.ACKNOWLEDGED): Step(_S.STREAMING, (_A.SETTLE,)),
    (_S.STREAMING, _I.CAUGHT_UP): Step(_S.IDLE, (_A.RESET_BACKOFF,)),
    # A gap is not retried at once: a home that answers so again and again must not be flooded.
    (_S.STREAMING, _I.GAP): _FAILED,
    (_S.STREAMING, _I.BUSY): _TOLD,
    (_S.STREAMING, _I.REFUSED_VERSION): _LOUD,
    (_S.STREAMING, _I.REJECTED): _LOUD,
    (_S.STREAMING, _I.UNREACHABLE): _FAILED,
    (_S.STREAMING, _I.LOCAL_TROUBLE): _FAILED,
    (_S.IDLE, _I.NEW_EVENTS): Step(_S.STREAMING),
    (_S.IDLE, _I.WANTED): Step(_S.STREAMING),
    # The probe of an idle peer is a contact: a home that was restored in the meantime shows.
    (_S.IDLE, _I.TIMER): _TRY,
    (_S.REINCARNATING, _I.REINCARNATED): Step(_S.RESTING, (_A.BACK_OFF,)),
    (_S.REINCARNATING, _I.LOCAL_TROUBLE): _FAILED,
    (_S.HALTED, _I.TIMER): _TRY,
}
"""Everything that an origin does. A signal that is not listed for a state changes nothing."""


def step(state: OriginState, given: OriginInput) -> Step:
    """Look up where an input leads; raises ProtocolDefectError for one that cannot happen."""
    found = ORIGIN_TABLE.get((state, given))
    if found is not None:
        return found
    if given in SIGNALS:
        return Step(state)
    raise ProtocolDefectError(f"input {given.value!r} cannot happen while {state.value}")


@dataclass(frozen=True, slots=True)
class OwnLog:
    """What an origin knows of its own log when it makes contact."""

    incarnation: UUID
    position: int
    incarnations: frozenset[UUID]
    """Those that this log ran under, the present one among them."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a contact led to."""

    verdict: OriginInput
    position: int = 0
    """Where to go on, when agreed."""
    strangers: tuple[UUID, ...] = ()
    """Incarnations that the home knows and we do not."""


LIVE_FOR_S: Final = 30.0
"""A peer that was heard of this recently is taken to be running: several times the interval of
idle probes."""


def tracked_of(rows: Sequence[TrackedRow], incarnation: UUID) -> TrackedRow | None:
    """Give the row of this incarnation, or None."""
    return next((row for row in rows if row.incarnation == incarnation), None)


def judge_contact(own: OwnLog, rows: Sequence[TrackedRow], own_root: str | None) -> Judgement:
    """Compare what the home has tracked with our own log.

    ``rows`` are the home's, the newest incarnation first; ``own_root`` is our tree hash at the
    position that it has of the present incarnation, None when our log does not reach it.
    """
    mine = tracked_of(rows, own.incarnation)
    newer = rows[: rows.index(mine)] if mine is not None else rows
    strangers = tuple(row for row in newer if row.incarnation not in own.incarnations)
    if strangers:
        is_live = any(r.seen_s_ago is not None and r.seen_s_ago < LIVE_FOR_S for r in strangers)
        verdict = _I.CLONE_SEEN if is_live else _I.LOG_WENT_BACK
        return Judgement(verdict, strangers=tuple(row.incarnation for row in strangers))
    if mine is None:
        return Judgement(_I.AGREED, 0)
    if newer or mine.position > own.position or mine.root != own_root:
        # Newer, and an incarnation that we left: a late frame of it reached a home that had been
        # restored. All batches of the present one would be taken for old frames now, for ever.
        return Judgement(_I.LOG_WENT_BACK)
    return Judgement(_I.AGREED, mine.position)


class BatchRelation(Enum):
    """How a batch stands to what the home has tracked of its origin."""

    NEXT = "next"
    """It begins at or before the tracked position and ends after it."""
    REPLAY = "replay"
    """It ends at or before the tracked position: an answer was lost, or a frame came late."""
    AHEAD = "ahead"
    """It begins after the tracked position: a batch before it is missing."""
    FORKED = "forked"
    """It claims another tree hash for the tracked position: it is of another history."""
    SUPERSEDED = "superseded"
    """A newer incarnation of its origin is tracked: an old frame, or a clone."""
    OVERTAKEN = "overtaken"
    """It was not sent after the last contact of its origin, which was told then that this is not
    here, and may have sent its messages elsewhere."""


class HomeAction(Enum):
    """What a home does with a batch."""

    TAKE_IN = "take in"
    """Check each parcel, append what is new, move the tracked position on."""
    LOOK_AGAIN = "look again"
    """Check each parcel, append what is missing; the tracked position stays."""
    WAIT_FOR_PREDECESSOR = "wait for predecessor"
    """Pipelined batches may overtake each other: wait a little, then answer with a gap."""
    ANSWER_GAP = "answer gap"
    """Say what is tracked; the origin makes contact and finds out what happened."""


HOME_TABLE: Final[dict[BatchRelation, HomeAction]] = {
    BatchRelation.NEXT: HomeAction.TAKE_IN,
    BatchRelation.REPLAY: HomeAction.LOOK_AGAIN,
    BatchRelation.AHEAD: HomeAction.WAIT_FOR_PREDECESSOR,
    BatchRelation.FORKED: HomeAction.ANSWER_GAP,
    BatchRelation.SUPERSEDED: HomeAction.ANSWER_GAP,
    BatchRelation.OVERTAKEN: HomeAction.ANSWER_GAP,
}


def relate(
    rows: Sequence[TrackedRow], header: BatchHeader, *, is_overtaken: bool = False
) -> BatchRelation:
    """Say how a batch stands to what is tracked (the newest incarnation first).

    ``is_overtaken``: it does not name its origin's last contact, or none is known since this
    server started.
    """
    if is_overtaken:
        return BatchRelation.OVERTAKEN
    known = tracked_of(rows, header.incarnation)
    if known is None:
        return BatchRelation.NEXT if header.after_position == 0 else BatchRelation.AHEAD
    if rows[0].incarnation != header.incarnation:
        return BatchRelation.SUPERSEDED
    if header.after_position > known.position:
        return BatchRelation.AHEAD
    stated = {
        header.after_position: header.after_root,
        header.through_position: header.through_root,
    }
    if stated.get(known.position, known.root) != known.root:
        return BatchRelation.FORKED
    is_new = header.through_position > known.position
    return BatchRelation.NEXT if is_new else BatchRelation.REPLAY
