"""The log as projections see it: to be read, never written.

Every `ledger.storage.event_log.LogRecorder` is a `LogReader`; its contract is described there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from ledger.storage.event_log import LogEntry, LogHead


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
