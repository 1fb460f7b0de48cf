"""What this server's log tells of a message, for other servers that ask.

A message leaves its traces in the logs of several servers: who took the call knows how it was
decided and every attempt to ship, each home knows what was done to the message there. Any server
of the configuration may ask for that; who they are is proved before.

Source: claims 5, 7 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from ledger.events import (
    AttemptsFailed,
    MessageMigrated,
    MessageRehomed,
    MessageRequeued,
    MessageStored,
    PeerLost,
    PeerReturned,
    ServerId,
    decode,
)
from ledger.migration.wire import MAX_STORY_EVENTS, StoryAnswer, WireEvent
from ledger.offload import Offload
from ledger.storage.event_log import LogEntry, LogRecorder
from ledger.storage.message_streams import read_story

FindCall: TypeAlias = Callable[[UUID], UUID | None]
"""Gives the call of a message that this log tells of; None when it tells of none. May block."""

_ON_THE_WAY: Final = {
    str(kind.__struct_config__.tag): kind for kind in (AttemptsFailed, PeerLost, PeerReturned)
}
_SENDS: Final = (MessageStored, MessageRehomed, MessageRequeued)


def knows_no_call(_message_id: UUID) -> None:
    """Find no call: for a server without an index of its messages."""


class StoryTeller:
    """Answers for one server. Safe to ask from any task of one event loop."""

    def __init__(
        self, this_server: ServerId, recorder: LogRecorder, offload: Offload, find_call: FindCall
    ) -> None:
        self._this_server = this_server
        self._recorder = recorder
        self._offload = offload
        self._find_call = find_call

    async def tell(self, message_id: UUID, call_id: UUID | None) -> StoryAnswer:
        """Read what the log tells of a message; raises TransientError, CorruptionError."""
        return await self._offload(lambda: self._tell(message_id, call_id))

    def _tell(self, message_id: UUID, call_id: UUID | None) -> StoryAnswer:
        call_id = call_id or self._find_call(message_id)
        head = self._recorder.head().position
        told = read_story(self._recorder.read_streams, self._this_server, call_id, message_id)
        around = self._around(told, message_id, head) if told else []
        return StoryAnswer(
            server=self._this_server,
            position=head,
            events=_on_wire(told[:MAX_STORY_EVENTS]),
            around=_on_wire(around[:MAX_STORY_EVENTS]),
            left_out=max(0, len(told) - MAX_STORY_EVENTS) + max(0, len(around) - MAX_STORY_EVENTS),
        )

    def _around(self, told: Sequence[LogEntry], message_id: UUID, head: int) -> list[LogEntry]:
        """Read what this server found out about the homes that it was to ship the message to."""
        homes: set[ServerId] = set()
        sent: list[int] = []
        acknowledged = 0
        for entry in told:
            event = decode(entry.plain, f"position {entry.position}") if not entry.origin else None
            if getattr(event, "message_id", None) != message_id:
                continue
            if isinstance(event, _SENDS) and event.home != self._this_server:
                homes.add(event.home)
                sent.append(entry.position)
            elif isinstance(event, MessageMigrated):
                acknowledged = entry.position
        if not sent:
            return []
        is_waiting = acknowledged < sent[-1]
        found = self._recorder.read_topics(
            list(_ON_THE_WAY), sent[0], head if is_waiting else acknowledged
        )
        return [entry for entry in found if not entry.origin and _peer_of(entry) in homes]


def _peer_of(entry: LogEntry) -> ServerId | None:
    event = decode(entry.plain, f"position {entry.position}")
    if isinstance(event, AttemptsFailed):
        return event.home
    return event.evidence.peer if isinstance(event, PeerLost | PeerReturned) else None


def _on_wire(entries: Iterable[LogEntry]) -> tuple[WireEvent, ...]:
    return tuple(WireEvent(entry.position, msgspec.Raw(entry.plain)) for entry in entries)
