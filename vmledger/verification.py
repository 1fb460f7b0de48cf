"""Verify a log: read all of it, and hold it against what it says of itself.

Checked: positions have no gap, every event decodes and is the one its row says, the versions of
every stream follow each other, the Merkle root over all plain bytes is the one in the log's head.
Safe beside a running server: the head is read first, and the log only up to it.

Source: RFC 9162 section 2.1.1 (the tree).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID

import msgspec

from ledger.errors import CorruptionError
from ledger.events import OpaqueEvent, decode
from ledger.storage.event_log import LogEntry, LogRecorder
from ledger.storage.merkle import Frontier, leaf_hash

_PAGE: Final = 2000
_MAX_FINDINGS: Final = 1000
"""A log that is wrong in more places than this is beyond a list."""

Progress = Callable[[int, int], None]
"""Called with what is done and what there is."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it was written."""

    place: str
    what: str


class LogVerification(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a log."""

    position: int
    """The log was checked up to here."""
    root: str
    """The Merkle root that the log's head states, hexadecimal."""
    streams: int
    opaque_events: int
    """Events of a newer version or unknown topic: kept, not understood."""
    findings: list[Finding]

    @property
    def is_intact(self) -> bool:
        """Is everything as it was written?"""
        return not self.findings


def verify_log(
    recorder: LogRecorder, on_progress: Progress = lambda _done, _all: None
) -> LogVerification:
    """Verify a whole log. Raises only what keeps it from being read at all."""
    head = recorder.head()
    check = _Check()
    for entry in _entries(recorder, head.position, check):
        check.take(entry)
        if entry.position % _PAGE == 0 or entry.position == head.position:
            on_progress(entry.position, head.position)
    check.expect_end(head.position, head.root)
    return LogVerification(
        position=head.position,
        root=head.root.hex(),
        streams=len(check.versions),
        opaque_events=check.opaque_events,
        findings=check.findings,
    )


def _entries(recorder: LogRecorder, end: int, check: _Check) -> Iterator[LogEntry]:
    """Read the log in pages; what cannot be read is a finding, and ends it."""
    start = 1
    while start <= end:
        try:
            page = recorder.read(start, _PAGE, end)
        except CorruptionError as error:
            check.note(error.place, error.message)
            return
        if not page:
            return
        yield from page
        start = page[-1].position + 1


class _Check:
    """What must be remembered from one event to the next."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.versions: dict[UUID, int] = {}
        self.opaque_events = 0
        self._tree = Frontier()
        self._position = 0

    def note(self, place: str, what: str) -> None:
        """Note a finding."""
        if len(self.findings) < _MAX_FINDINGS:
            self.findings.append(Finding(place, what))

    def take(self, entry: LogEntry) -> None:
        """Check the next event."""
        place = f"position {entry.position}"
        if entry.position != self._position + 1:
            self.note(place, f"follows position {self._position}: the log has a gap")
        self._position = entry.position
        self._tree = self._tree.append((leaf_hash(entry.plain),))
        version = self.versions.get(entry.originator_id, 0)
        if entry.originator_version != version + 1:
            self.note(
                place,
                f"version {entry.originator_version} of stream {entry.originator_id} "
                f"follows version {version}",
            )
        self.versions[entry.originator_id] = entry.originator_version
        self._read(entry, place)

    def _read(self, entry: LogEntry, place: str) -> None:
        try:
            event = decode(entry.plain, place)
        except CorruptionError as error:
            self.note(place, error.message)
            return
        said = (event.originator_id, event.originator_version, event.topic)
        if said != (entry.originator_id, entry.originator_version, entry.topic):
            self.note(place, "the row's stream, version or topic is not that of the event in it")
        if isinstance(event, OpaqueEvent):
            self.opaque_events += 1

    def expect_end(self, position: int, root: bytes) -> None:
        """Hold what was read against the head."""
        if self._position != position:
            self.note(
                f"position {self._position + 1}",
                f"the log ends at {self._position}; its head says {position}",
            )
        elif self._tree.root() != root:
            self.note(
                "log head",
                f"the Merkle root over all events is {self._tree.root().hex()}, the head says "
                f"{root.hex()}: an event was changed after it was written",
            )
