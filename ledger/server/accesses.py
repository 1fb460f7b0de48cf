"""Who got at what is personal: recorded before it is given.

A player asks for a sound in many ranges, and a screen for a mailbox every few seconds. One event
stands for all of the same kind by the same token from the same address to the same thing within a
minute (sound and exports) or ten (what is only shown), so that the log tells who looked, and is not
made of it.

Source: claim 10.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.clock import Clock
from ledger.events import AccessKind, ContentAccessed, ServerId
from ledger.ids import IdFactory, access_stream_id
from ledger.storage.group_commit import EventLog

WINDOWS_S: Final = {AccessKind.PLAYED: 60, AccessKind.EXPORTED: 60, AccessKind.VIEWED: 600}
_MOST_REMEMBERED: Final = 10_000
_MOST_A_STREAM: Final = 1000
"""Nobody should have to read a longer stream."""


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody is about to be given."""

    kind: AccessKind
    what: str
    by: str
    token_id: str | None = None
    address: str | None = None
    user: str | None = None
    mailbox: str | None = None
    message_id: UUID | None = None


class Accesses:
    """Records accesses of one server. For one event loop."""

    def __init__(self, server: ServerId, log: EventLog, clock: Clock, new_id: IdFactory) -> None:
        self._server = server
        self._log = log
        self._clock = clock
        self._new_id = new_id
        self._turn = asyncio.Lock()
        self._stream = access_stream_id(server, new_id())
        self._version = 0
        self._recorded_s: dict[Access, float] = {}
        """When each was recorded last, the oldest first."""

    async def record(self, access: Access) -> None:
        """Record an access, unless one like it was just now; durable on return.

        Raises what an append raises: then nothing may be given that must not be given unrecorded.
        """
        async with self._turn:
            now_s = self._clock.monotonic_s()
            recorded_s = self._recorded_s.get(access)
            if recorded_s is not None and now_s < recorded_s + WINDOWS_S[access.kind]:
                return
            try:
                await self._append(access)
            except IntegrityError:
                # Ours was committed although we were told otherwise: begin another stream.
                self._begin_stream()
                await self._append(access)
            self._remember(access, now_s)

    async def _append(self, access: Access) -> None:
        if self._version >= _MOST_A_STREAM:
            self._begin_stream()
        event = access_event(access, self._server, self._clock, self._stream, self._version + 1)
        await self._log.append_events([event])
        self._version += 1

    def _begin_stream(self) -> None:
        self._stream, self._version = access_stream_id(self._server, self._new_id()), 0

    def _remember(self, access: Access, now_s: float) -> None:
        self._recorded_s.pop(access, None)
        self._recorded_s[access] = now_s
        while len(self._recorded_s) > _MOST_REMEMBERED:
            del self._recorded_s[next(iter(self._recorded_s))]


def access_event(
    access: Access, server: ServerId, clock: Clock, stream: UUID, version: int
) -> ContentAccessed:
    """Make the event of an access."""
    return ContentAccessed(
        originator_id=stream,
        originator_version=version,
        recorded_at=clock.now(),
        recorded_by=server,
        kind=access.kind,
        what=access.what,
        by=access.by,
        token_id=access.token_id,
        address=access.address,
        user=access.user,
        mailbox=access.mailbox,
        message_id=access.message_id,
        window_s=WINDOWS_S[access.kind],
    )
