"""A log in memory: the small sibling of the real ones, for tests and simulations.

What survives a simulated crash is `LogImage`; a recorder is made anew over it.

Source: claim 10.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ledger.sealing import WrappedKey
from ledger.storage.event_log import Append, BlobLocation, LogEntry, LogHead, TrackedOrigin
from ledger.storage.event_log import PeerTracking as _PeerTracking
from ledger.storage.merkle import Frontier, leaf_hash
from ledger.storage.recorder import BaseLogRecorder, Clash, Head, Plan, check_tracking, plan


@dataclass
class LogImage:
    """What is on the disk of an in-memory log."""

    head: Head
    entries: list[LogEntry] = field(default_factory=list)
    streams: dict[UUID, list[LogEntry]] = field(default_factory=dict)
    frontiers: list[Frontier] = field(default_factory=lambda: [Frontier()])
    tracking: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    blob_locations: dict[str, BlobLocation] = field(default_factory=dict)
    keys: dict[UUID, bytes | None] = field(default_factory=dict)

    def copy(self) -> LogImage:
        """Give an image that goes its own way from here: a backup."""
        twin = copy.copy(self)
        twin.entries = list(self.entries)
        twin.streams = {stream: list(entries) for stream, entries in self.streams.items()}
        twin.frontiers = list(self.frontiers)
        twin.tracking = dict(self.tracking)
        twin.blob_locations = dict(self.blob_locations)
        twin.keys = dict(self.keys)
        return twin


class MemoryLogRecorder(BaseLogRecorder):
    """The log contract over a `LogImage`."""

    def __init__(self, incarnation: UUID | None = None, image: LogImage | None = None) -> None:
        super().__init__()
        self.image = image or LogImage(Head(incarnation or UUID(int=0), Frontier()))
        self._lock = threading.RLock()

    def _transact(self, appends: Sequence[Append]) -> Plan:
        with self._lock:
            image = self.image
            result = plan(image.head, appends)
            self._check(result)
            frontier = result.before.frontier
            for row in result.rows:
                entry = LogEntry(row[0], row[1], row[2], row[3], row[4], row[6], row[7])
                image.entries.append(entry)
                image.streams.setdefault(row[1], []).append(entry)
                frontier = frontier.append([row[5]])
                image.frontiers.append(frontier)
            for tracking in result.tracking:
                root = tracking.root if isinstance(tracking, _PeerTracking) else b""
                # Taken out first: the newest row is the last.
                image.tracking.pop(tracking.application_name, None)
                image.tracking[tracking.application_name] = (tracking.notification_id, root)
            image.blob_locations.update(result.blob_locations)
            for call_id, wrapped in result.keys.items():
                if wrapped is None or call_id not in image.keys:
                    image.keys[call_id] = wrapped
            image.head = result.after
            return result

    def _check(self, result: Plan) -> None:
        keys = [(row[1], row[2]) for row in result.rows]
        if len(set(keys)) < len(keys) or any(self._has(*key) for key in keys):
            raise Clash
        tracked: dict[str, int] = {}
        for tracking in result.tracking:
            name = tracking.application_name
            try:
                check_tracking(tracking, tracked.get(name, self.max_tracking_id(name)))
            except Exception as error:
                raise Clash from error
            tracked[name] = tracking.notification_id

    def _has(self, stream: UUID, version: int) -> bool:
        return any(e.originator_version == version for e in self.image.streams.get(stream, ()))

    def _existing(self, appends: Sequence[Append]) -> set[tuple[Any, int]]:
        with self._lock:
            keys = ((e.originator_id, e.originator_version) for a in appends for e in a.events)
            return {key for key in keys if self._has(*key)}  # type: ignore[arg-type]

    def head(self) -> LogHead:
        return self.image.head.to_log_head()

    def read(self, start: int, limit: int, stop: int | None = None) -> list[LogEntry]:
        with self._lock:
            first = max(start, 1) - 1
            last = first + limit if stop is None else min(first + limit, stop)
            return self.image.entries[first:last]

    def read_streams(self, originator_ids: Sequence[UUID]) -> dict[UUID, list[LogEntry]]:
        with self._lock:
            streams = self.image.streams
            return {
                stream: sorted(streams[stream], key=lambda e: e.originator_version)
                for stream in originator_ids
                if stream in streams
            }

    def read_topics(self, topics: Sequence[str], start: int, stop: int) -> list[LogEntry]:
        with self._lock:
            some = self.image.entries[max(start, 1) - 1 : stop]
        return [entry for entry in some if entry.topic in topics]

    def root_at(self, position: int) -> bytes:
        with self._lock:
            if position >= len(self.image.frontiers):
                return super().root_at(position)
            return self.image.frontiers[position].root()

    def read_hashes(self, level: int, first: int, stop: int) -> Sequence[bytes]:
        with self._lock:
            entries = self.image.entries[first << level : stop << level]
        self._check_hashes(len(entries) >> level, level, first, stop)
        leaves = [leaf_hash(entry.plain) for entry in entries]
        width = 1 << level
        starts = range(0, len(leaves), width)
        return [Frontier().append(leaves[start : start + width]).root() for start in starts]

    def tracked(self, origin: str) -> list[TrackedOrigin]:
        with self._lock:
            rows = [
                TrackedOrigin(origin, UUID(name.partition("/")[2]), position, root)
                for name, (position, root) in self.image.tracking.items()
                if name.partition("/")[0] == origin
            ]
            return rows[::-1]

    def start_incarnation(self, incarnation: UUID) -> LogHead:
        with self._lock:
            self.image.head = Head(incarnation, self.image.head.frontier)
            return self.head()

    def locate_blobs(self, digests: Sequence[str]) -> dict[str, BlobLocation]:
        with self._lock:
            known = self.image.blob_locations
            return {digest: known[digest] for digest in digests if digest in known}

    def read_keys(self, call_ids: Sequence[UUID]) -> dict[UUID, WrappedKey]:
        with self._lock:
            known = self.image.keys
            return {call: WrappedKey(call, known[call]) for call in call_ids if call in known}

    def max_tracking_id(self, application_name: str) -> int | None:
        return self.image.tracking.get(application_name, (None, b""))[0]

    def close(self) -> None:
        """Nothing to release."""
