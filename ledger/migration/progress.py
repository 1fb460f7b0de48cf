"""How far an origin is with one peer, and when it tries again after a failure.

The position is a hint that survives restarts (`ledger.storage.peer_cursors`); so does the backoff,
lest a server that restarts again and again hammer a peer that is down.

Source: claim 5; RFC 5321 section 4.5.4.1 (retry with backoff, one queue a destination).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from ledger.clock import Clock
from ledger.configuration import Replication
from ledger.errors import LedgerError
from ledger.events import Receipt, ServerId
from ledger.offload import Offload
from ledger.storage.peer_cursors import CursorStore, HomeMark, PeerCursor

_LOG: Final = logging.getLogger(__name__)

_OLD_MARKS: Final = 8
"""Marks that are kept once the home was asked for them."""
_NEW_MARKS: Final = 64
"""Marks after which it must be asked: with those of what is in flight, less than `MAX_MARKS`."""
_SAVE_EVERY: Final = 16
"""Receipts between two saves: a lost hint only costs batches that are sent again."""


class Progress:
    """Positions and pauses of one worker."""

    def __init__(
        self,
        peer: ServerId,
        *,
        cursors: CursorStore,
        clock: Clock,
        offload: Offload,
        rng: random.Random,
        settings: Replication,
    ) -> None:
        self._peer = peer
        self._cursors = cursors
        self._clock = clock
        self._offload = offload
        self._rng = rng
        self._settings = settings
        self._incarnation: UUID | None = None
        self._unsaved = 0
        self.acknowledged = 0
        """Everything up to here that concerns the peer is settled in our log."""
        self.marks: tuple[HomeMark, ...] = ()
        """What must stand in the peer's log, the oldest first."""
        self._new_marks = 0
        """Those that the peer was not asked for yet."""
        self.known_until = 0
        """Up to here the peer had everything at some time."""
        self.safe = 0
        """Up to here a verified backup of the peer covers it too."""
        self.attempts = 0
        """Failures in a row."""
        self.pause_s = 0.0

    async def load(self) -> None:
        """Take up what was saved; without it everything is only sent again."""
        try:
            cursor = await self._offload(partial(self._cursors.load, self._peer))
        except LedgerError as error:
            _LOG.warning("action=cursor-not-read peer=%s error=%s", self._peer, error)
            return
        if cursor is None:
            return
        self.acknowledged, self._incarnation = cursor.position, cursor.incarnation
        self.marks = cursor.marks
        self.known_until = cursor.position
        self.attempts = cursor.attempts
        if cursor.next_attempt_at is not None:
            # The wall clock may have jumped: never longer than a pause can be.
            left_s = (cursor.next_attempt_at - self._clock.now()).total_seconds()
            self.pause_s = min(max(left_s, 0.0), self._settings.backoff_max_s)

    async def save(self) -> None:
        """Save hints. A full disk must not stop the shipping: what is lost is only a hint."""
        self._unsaved = 0
        if self._incarnation is None:
            return
        next_at = self._clock.now() + timedelta(seconds=self.pause_s)
        cursor = PeerCursor(
            peer=self._peer,
            incarnation=self._incarnation,
            position=self.acknowledged,
            attempts=self.attempts,
            next_attempt_at=next_at if self.attempts else None,
            marks=self.marks,
        )
        try:
            await self._offload(partial(self._cursors.save, cursor))
        except LedgerError as error:
            _LOG.warning("action=cursor-not-saved peer=%s error=%s", self._peer, error)

    def resume(self, incarnation: UUID, agreed: int, kept: int) -> int:
        """Give where to go on: the lower of the home's word and our own.

        ``kept`` is how many of the marks are still in the home's log. What the others stand for is
        lost there, even where its word says otherwise: late frames of ours may have reached a home
        that was restored, and what it refused then nobody heard.

        What the home has and we have no receipt for is sent again; the answer says which of it was
        taken and which was refused. A home that went back may refuse what it had acknowledged: a
        crash in between brings our old word back, and with it the marks that the home still lacks.
        """
        if self._incarnation != incarnation:
            self.acknowledged, self._incarnation, self.safe = 0, incarnation, 0
            self.marks, kept = (), 0
        self.known_until = max(self.known_until, self.acknowledged, agreed)
        self.acknowledged = min(self.acknowledged, agreed)
        if kept < len(self.marks):
            self.marks = self.marks[:kept]
            vouched = self.marks[-1].origin_position if self.marks else 0
            self.acknowledged = min(self.acknowledged, vouched)
        self.marks = _thinned(m for m in self.marks if m.origin_position <= self.acknowledged)
        self._new_marks = 0
        return self.acknowledged

    @property
    def must_ask(self) -> bool:
        """Did so many receipts come in that the peer must be asked whether it holds them all?"""
        return self._new_marks >= _NEW_MARKS

    async def settled(self, through: int, receipt: Receipt) -> None:
        """A batch is settled up to here."""
        mark = HomeMark(
            origin_position=through,
            home_position=receipt.home_position,
            home_root=receipt.home_root,
        )
        self.marks = (*self.marks, mark)
        self._new_marks += 1
        self.acknowledged = through
        self.attempts = 0
        self._unsaved += 1
        if self._unsaved >= _SAVE_EVERY:
            await self.save()

    def note_safe(self, position: int) -> None:
        """The peer said how far it is safe."""
        self.safe = max(self.safe, position)

    async def back_off(self) -> None:
        """Count a failure, draw the next pause (full jitter) and remember both."""
        self.attempts += 1
        # The exponent is bounded because a peer may be away for months.
        ceiling_s = self._settings.backoff_min_s * 2 ** min(self.attempts - 1, 30)
        self.pause_s = self._rng.uniform(0, min(ceiling_s, self._settings.backoff_max_s))
        await self.save()

    def wait_as_told(self, pause_s: float) -> None:
        """Take the pause that the peer asked for, and a random bit more: all were told the same."""
        extra_s = self._rng.uniform(0, self._settings.backoff_min_s)
        self.pause_s = min(pause_s, self._settings.backoff_max_s) + extra_s

    @property
    def least_pause_s(self) -> float:
        """Give how much of the pause is kept even when the peer calls.

        Otherwise two servers whose answers get lost would wake each other without end.
        """
        return min(self.pause_s, self._settings.backoff_min_s * min(self.attempts, 8) / 4)

    async def caught_up(self) -> None:
        """Nothing is left to send."""
        had_failed = self.attempts > 0
        self.attempts = 0
        if self._unsaved or had_failed:
            await self.save()


def _thinned(marks: Iterable[HomeMark]) -> tuple[HomeMark, ...]:
    """Keep the first, the newest, and in between the fewer the older."""
    kept = tuple(marks)
    while len(kept) > _OLD_MARKS:
        kept = kept[:-4][::2] + kept[-4:]
    return kept
