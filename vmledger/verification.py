"""Verify a log: read all of it, and hold it against what it says of itself.

Checked: positions have no gap, every event decodes and is the one its row says, the versions of
every stream follow each other, the Merkle root over all plain bytes is the one in the log's head.
Asked for: the blob of every message that this server answers for is there and whole.

Safe beside a running server: the head is read first, and the log only up to it.

Source: RFC 9162 section 2.1.1 (the tree).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID

import msgspec

from ledger.errors import CorruptionError, LedgerError
from ledger.events import (
    DomainEvent,
    MessageErased,
    MessageMigrated,
    MessageStored,
    OpaqueEvent,
    decode,
)
from ledger.storage.blob_store import BlobStore
from ledger.storage.event_log import LogEntry, LogRecorder
from ledger.storage.merkle import Frontier
from ledger.storage.stored_form import decode as decode_stored_form

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
    blobs: int | None
    """How many blobs were read; None when they were not asked for."""
    findings: list[Finding]

    @property
    def is_intact(self) -> bool:
        """Is everything as it was written?"""
        return not self.findings


def verify_log(
    recorder: LogRecorder,
    *,
    blobs: BlobStore | None = None,
    this_server: str = "",
    on_progress: Progress = lambda _done, _all: None,
) -> LogVerification:
    """Verify a log, and with ``blobs`` also the audio of the messages that it answers for."""
    head = recorder.head()
    check = _Check(this_server)
    for entry in _entries(recorder, head.position, check):
        check.take(entry)
        if entry.position % _PAGE == 0 or entry.position == head.position:
            on_progress(entry.position, head.position)
    check.expect_end(head.position, head.root)
    checked = check.verify_blobs(recorder, blobs, on_progress) if blobs is not None else None
    return LogVerification(
        position=head.position,
        root=head.root.hex(),
        streams=len(check.versions),
        opaque_events=check.opaque_events,
        blobs=checked,
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

    def __init__(self, this_server: str) -> None:
        self.findings: list[Finding] = []
        self.versions: dict[UUID, int] = {}
        self.opaque_events = 0
        self._this_server = this_server
        self._tree = Frontier()
        self._position = 0
        self._held: dict[UUID, MessageStored] = {}

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
        self._tree.append(entry.plain)
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
        self._remember_blob(event, entry)

    def _remember_blob(self, event: DomainEvent | OpaqueEvent, entry: LogEntry) -> None:
        """Keep in mind whose audio this server must have."""
        match event:
            case OpaqueEvent():
                self.opaque_events += 1
            case MessageStored() if entry.origin is None or event.home == self._this_server:
                self._held[event.message_id] = event
            case MessageMigrated() if entry.origin is None:
                # From the receipt on the home answers; the copy here may be freed in time.
                self._held.pop(event.message_id, None)
            case MessageErased():
                self._held.pop(event.message_id, None)
            case _:
                pass

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

    def verify_blobs(
        self, recorder: LogRecorder, blobs: BlobStore, on_progress: Progress
    ) -> int:
        """Read the audio of every message that this server answers for."""
        wanted = list(self._held.values())
        for number, message in enumerate(wanted, 1):
            try:
                location = recorder.locate_blobs([message.blob]).get(message.blob)
                decode_stored_form(blobs.get(message.blob, location))
            except LedgerError as error:
                self.note(f"message {message.message_id}", str(error))
            on_progress(number, len(wanted))
        return len(wanted)
