"""The incarnations of this server's log: which there were, and how a new one begins.

A log that went back in time must never reuse a position that others have seen. It goes on under a
new incarnation, whose stream begins with one `IncarnationStarted` for each incarnation that it
follows: the one it ran under, and those that a peer knew of and the log itself had forgotten.

Source: claims 5 and 8.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from ledger.clock import Clock
from ledger.events import IncarnationStarted, ServerId, decode
from ledger.ids import IdFactory, server_stream_id
from ledger.migration.protocol import OwnLog
from ledger.storage.group_commit import EventLog

_LOG: Final = logging.getLogger(__name__)


def _nobody() -> None:
    pass


class Incarnations:
    """What is known of the incarnations of our own log. One for all peers, for one event loop."""

    def __init__(self, server: ServerId, log: EventLog, clock: Clock, new_id: IdFactory) -> None:
        self._server = server
        self._log = log
        self._clock = clock
        self._new_id = new_id
        self._turn = asyncio.Lock()
        self._known: dict[UUID, frozenset[UUID]] = {}
        self.on_started: Callable[[], None] = _nobody
        """Told when a new incarnation has begun; must not block."""

    async def own_log(self) -> OwnLog:
        """Say where our log ends and under which incarnations it ran."""
        head = await self._log.head()
        if head.incarnation not in self._known:
            self._known[head.incarnation] = await self._ancestors(head.incarnation)
        return OwnLog(head.incarnation, head.position, self._known[head.incarnation])

    async def start_after(self, judged: OwnLog, forgotten: Sequence[UUID], reason: str) -> None:
        """Begin a new incarnation; durable on return.

        Does nothing when another one began since ``judged`` was read: two peers may find out the
        same thing at the same time.
        """
        async with self._turn:
            head = await self._log.head()
            if head.incarnation != judged.incarnation:
                return
            new = self._new_id()
            stream = server_stream_id(self._server, new)
            events = [
                IncarnationStarted(
                    originator_id=stream,
                    originator_version=version,
                    recorded_at=self._clock.now(),
                    recorded_by=self._server,
                    incarnation=new,
                    previous=previous,
                    position=head.position if previous == head.incarnation else 0,
                    reason=reason,
                )
                for version, previous in enumerate((head.incarnation, *forgotten), 1)
            ]
            # First the events, then the switch: a crash between them leaves events of an
            # incarnation that nobody has heard of, and the next contact begins another one.
            await self._log.append_events(events)
            await self._log.start_incarnation(new)
            _LOG.error("action=incarnation-started incarnation=%s reason=%s", new, reason)
            self.on_started()

    async def _ancestors(self, incarnation: UUID) -> frozenset[UUID]:
        found: set[UUID] = set()
        ahead = {incarnation}
        while ahead:
            found |= ahead
            streams = [server_stream_id(self._server, each) for each in sorted(ahead)]
            entries = (await self._log.read_streams(streams)).values()
            events = (decode(entry.plain) for stream in entries for entry in stream)
            started = [event for event in events if isinstance(event, IncarnationStarted)]
            ahead = {event.previous for event in started} - found
        return frozenset(found)
