"""The log as projections see it: to be read, never written.

Every `ledger.storage.event_log.LogRecorder` is a `LogReader`; its contract is described there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol
from uuid import UUID

from ledger.storage.event_log import LogEntry, LogHead

PAGE_EVENTS: Final = 500
"""Events read at a time by who replays: they stay in a processor's cache until they are decoded."""


class LogReader(Protocol):
    """The reading half of a log. Positions have no gap and are the order of commit."""

    def head(self) -> LogHead:
        """Read where the committed log ends."""

    def read(self, start: int, limit: int, stop: int | None = None) -> list[LogEntry]:
        """Read up to ``limit`` entries from ``start`` to ``stop``, both inclusive."""

    def read_streams(self, originator_ids: Sequence[UUID]) -> dict[UUID, list[LogEntry]]:
        """Read whole streams; absent ones are left out."""

    def root_at(self, position: int) -> bytes:
        """Give the Merkle root over the first ``position`` events."""


def read_pages(reader: LogReader, stop: int) -> Iterator[list[LogEntry]]:
    """Read the log from its first event to ``stop``, inclusive, in its order; no page is empty."""
    start = 1
    while start <= stop and (page := reader.read(start, PAGE_EVENTS, stop)):
        yield page
        start = page[-1].position + 1
