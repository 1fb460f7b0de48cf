"""The stream of a server's own events: started, lost a peer, verified a backup.

Several tasks of one server write it. They take turns here, because each needs the next version.

Source: claims 5 and 10.
"""

from __future__ import annotations

import asyncio
from typing import Any

from eventsourcing.persistence import IntegrityError

from ledger.clock import Clock
from ledger.errors import TransientError
from ledger.events import Event, ServerId
from ledger.ids import server_stream_id
from ledger.storage.event_log import Appended
from ledger.storage.group_commit import EventLog

_ATTEMPTS = 5


class ServerStream:
    """Appends this server's own events, one after the other."""

    def __init__(self, server: ServerId, log: EventLog, clock: Clock) -> None:
        self._server = server
        self._log = log
        self._clock = clock
        self._turn = asyncio.Lock()

    async def record(self, kind: type[Event], **fields: Any) -> Appended:
        """Append one event of this kind; durable on return.

        Raises TransientError when another process keeps writing the same stream.
        """
        async with self._turn:
            for _ in range(_ATTEMPTS):
                try:
                    return await self._log.append_events([await self._next(kind, fields)])
                except IntegrityError:
                    continue
        raise TransientError("another process writes this server's own stream; stop one of them")

    async def _next(self, kind: type[Event], fields: dict[str, Any]) -> Any:
        incarnation = (await self._log.head()).incarnation
        stream = server_stream_id(self._server, incarnation)
        entries = (await self._log.read_streams([stream])).get(stream, [])
        return kind(
            originator_id=stream,
            originator_version=len(entries) + 1,
            recorded_at=self._clock.now(),
            recorded_by=self._server,
            **fields,
        )
