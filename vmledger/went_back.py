"""What operators have acknowledged of logs that went back in time, read from the log.

Source: claims 5 and 8.
"""

from __future__ import annotations

from typing import Final, TypeAlias
from uuid import UUID

from ledger.checkpoint import log_name
from ledger.events import ForkWitnessed, ServerId, WentBackAcknowledged, decode
from ledger.storage.event_log import LogRecorder

_ACKNOWLEDGED: Final = str(WentBackAcknowledged.__struct_config__.tag)
_FORK: Final = str(ForkWitnessed.__struct_config__.tag)

Acknowledged: TypeAlias = dict[tuple[ServerId, UUID], WentBackAcknowledged]
"""By whose log it is, and the incarnation under which that went on; the newest of each."""


def read_acknowledged(recorder: LogRecorder) -> Acknowledged:
    """Read what operators acknowledged at this server."""
    found = recorder.read_topics([_ACKNOWLEDGED], 1, recorder.head().position)
    events = (decode(entry.plain, f"position {entry.position}") for entry in found)
    return {(e.server, e.incarnation): e for e in events if isinstance(e, WentBackAcknowledged)}


def read_forks(recorder: LogRecorder) -> dict[ServerId, ForkWitnessed]:
    """Read the newest contradiction that was seen in each other server's log."""
    found = recorder.read_topics([_FORK], 1, recorder.head().position)
    events = (decode(entry.plain, f"position {entry.position}") for entry in found)
    return {event.peer: event for event in events if isinstance(event, ForkWitnessed)}


def is_of_one_log(event: ForkWitnessed) -> bool:
    """Are both histories of one incarnation, so that they contradict each other?"""
    return event.witnessed.startswith(log_name(event.peer, event.incarnation) + "\n")
