"""What this server's log knows of homes when the server starts.

Source: claims 6 and 13.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

from ledger.configuration import Directory, Homes
from ledger.events import DomainEvent, MailboxOpened, MailboxRehomed, OpaqueEvent, decode
from ledger.storage.event_log import LogEntry, LogRecorder
from ledger.storage.group_commit import EventLog

HOME_TOPICS: Final = tuple(
    str(kind.__struct_config__.tag) for kind in (MailboxOpened, MailboxRehomed)
)
"""Kinds of event that name a home."""

_SPAN: Final = 100_000


def load_homes(recorder: LogRecorder, directory: Directory) -> Homes:
    """Give the homes by configuration and log.

    Other events are passed over without being decompressed: 1 000 000 of them in about 0.1 s.
    Raises TransientError for a log that cannot be read now, CorruptionError for a damaged event.
    """
    return Homes(directory, _naming_events(recorder))


async def read_home_events(log: EventLog) -> AsyncIterator[LogEntry]:
    """Give all events that name a home, in commit order."""
    head = (await log.head()).position
    for start in range(1, head + 1, _SPAN):
        for entry in await log.read_topics(HOME_TOPICS, start, min(start + _SPAN - 1, head)):
            yield entry


def _naming_events(recorder: LogRecorder) -> Iterator[DomainEvent | OpaqueEvent]:
    head = recorder.head().position
    for start in range(1, head + 1, _SPAN):
        for entry in recorder.read_topics(HOME_TOPICS, start, min(start + _SPAN - 1, head)):
            yield decode(entry.plain, f"position {entry.position}")
