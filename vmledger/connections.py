"""Who may stay connected: how many, for how long without saying anything, and who goes first.

A listener of `vmledger.serving` has a doorkeeper. When all places are taken a new client still
comes in, and another goes: of the address that holds the most connections, the one that has been
silent the longest, unless it is in the middle of a request. So a flood of idle or slow clients
displaces itself, and a switch that connects and asks is served; no list of trusted addresses is
needed. Only when every place is taken by a running request is a new client turned away.

A client must also keep talking. The head of a request has a deadline; its body may pause only for
so long and keeps a slow average pace; an answer must be read. What an answered request still has
to say is listened to for a few seconds only.

Nothing here opens or closes a socket: connections report what happens on them.

Source: RFC 9110 sections 15.5.9 (408), RFC 6585 section 5 (431).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

LEAST_PACE: Final = 250
"""Bytes a second of a body, on average: a quarter of what the thriftiest telephone codec makes."""
LINGER_S: Final = 5.0
"""How long the rest of a body is read whose request is answered already: so the client sees why."""
_STALL_S: Final = 3.0
"""A sweep that comes this late says more about this machine than about any client."""
UNREAD_ANSWER_S: Final = 60.0
"""How long an answer may wait for its client to read on."""


class Reading(Enum):
    """What a connection is in the middle of receiving."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class Shed(Enum):
    """Why a connection was ended or turned away: stable words, also in the metrics."""

    SLOW_HEAD = "slow-head"
    """The head of a request did not arrive in time."""
    SLOW_BODY = "slow-body"
    """A body stood still for too long, or came slower than any recording is."""
    UNREAD_ANSWER = "unread-answer"
    """The client did not read its answer."""
    UNREAD_BODY = "unread-body"
    """A request was refused before its body was read, and the rest of it kept coming."""
    DISPLACED = "displaced"
    """All places were taken: it was silent, and made room for a new client."""
    NO_PLACE = "no-place"
    """All places were taken by running requests: the new client was turned away."""
    LARGE_HEAD = "large-head"
    """The head of a request was larger than any honest one."""


@dataclass(slots=True, eq=False)
class Guest:
    """One connection, as far as the doorkeeper cares. Times are monotonic seconds."""

    address: str
    end: Callable[[Shed], None]
    """Ends the connection, telling the client why where that is possible."""
    since_s: float
    """When what it is reading began."""
    heard_s: float
    """When something last arrived."""
    reading: Reading = Reading.HEAD
    is_answering: bool = False
    """Is a request on it being carried out?"""
    is_held_back: Callable[[], bool] = bool
    """Do we keep it from sending, because we are behind or have not asked for the body yet?"""
    body_bytes: int = 0
    answered_s: float = 0.0
    """When its last request was answered."""
    stuck_since_s: float | None = None
    """Since when the client does not read its answer."""


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """How many, and how slow, a listener's clients may be."""

    most: int
    head_timeout_s: float
    body_timeout_s: float


def _nothing(_why: Shed) -> None:
    pass


@dataclass(slots=True)
class Doorkeeper:
    """Watches the connections of one listener. For one event loop."""

    limits: DoorLimits
    on_shed: Callable[[Shed], None] = _nothing
    """Told of every client that is ended or turned away."""
    guests: set[Guest] = field(default_factory=set)
    _swept_s: float | None = None

    def admit(self, guest: Guest) -> None:
        """Take in a new connection; ends another one, or this one, when there is no place."""
        if len(self.guests) >= self.limits.most:
            victim = self._least_missed()
            if victim is None:
                self._end(guest, Shed.NO_PLACE)
                return
            self._end(victim, Shed.DISPLACED)
        self.guests.add(guest)

    def leave(self, guest: Guest) -> None:
        """Forget a connection that has ended."""
        self.guests.discard(guest)

    def sweep(self, now_s: float) -> None:
        """End whoever is too slow. To be called about every second."""
        passed_s = now_s - (self._swept_s if self._swept_s is not None else now_s)
        self._swept_s = now_s
        if passed_s > _STALL_S:
            return  # The whole process stood still: what has arrived meanwhile is read first.
        for guest in list(self.guests):
            if guest.is_held_back():
                # The time that we take is not the client's.
                guest.since_s += passed_s
                guest.heard_s = now_s
            why = self._why_end(guest, now_s)
            if why is not None:
                self._end(guest, why)

    def _why_end(self, guest: Guest, now_s: float) -> Shed | None:
        if guest.stuck_since_s is not None and now_s - guest.stuck_since_s > UNREAD_ANSWER_S:
            return Shed.UNREAD_ANSWER
        if guest.reading is Reading.HEAD and not guest.is_answering:
            return Shed.SLOW_HEAD if now_s - guest.since_s > self.limits.head_timeout_s else None
        if guest.reading is not Reading.BODY:
            return None
        if not guest.is_answering:
            return Shed.UNREAD_BODY if now_s - guest.answered_s > LINGER_S else None
        return Shed.SLOW_BODY if self._is_slow(guest, now_s) else None

    def _is_slow(self, guest: Guest, now_s: float) -> bool:
        allowed_s = self.limits.body_timeout_s
        lasts_s = now_s - guest.since_s
        is_silent = now_s - guest.heard_s > allowed_s
        return is_silent or (lasts_s > allowed_s and guest.body_bytes < lasts_s * LEAST_PACE)

    def _least_missed(self) -> Guest | None:
        """Choose who makes room: nobody in the middle of a request."""
        held = Counter(guest.address for guest in self.guests)
        silent = (guest for guest in self.guests if not guest.is_answering)
        return max(silent, key=lambda g: (held[g.address], -g.heard_s), default=None)

    def _end(self, guest: Guest, why: Shed) -> None:
        self.guests.discard(guest)
        self.on_shed(why)
        guest.end(why)
