"""The log of one server, as a port: append durably, read in commit order, prove its tree.

`LogRecorder` is what an adapter (SQLite, PostgreSQL, memory) implements: the library's
`ProcessRecorder` plus what a voicemail server needs of its log. It is synchronous; `EventLog`
(``ledger.storage.group_commit``) puts a queue before it, so that all appends that wait at one
moment share a transaction.

Contracts that every adapter keeps, tested by one suite:

- Positions start at 1, have no gap, and are the order of commit.
- An append is durable when its call returns: a crash after that loses nothing. A crash before
  leaves either all of it or nothing.
- The Merkle tree (RFC 9162) over the plain bytes of the events advances in the same transaction.
- The database itself refuses UPDATE and DELETE of events.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import msgspec
from eventsourcing.persistence import IntegrityError, ProcessRecorder, StoredEvent, Tracking

from ledger.sealing import WrappedKey

if TYPE_CHECKING:
    from ledger.storage.group_commit import GroupCommit


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where a log ends."""

    incarnation: UUID
    """Changes whenever the log was restored or rolled back, so that no position is reused."""
    position: int
    """Number of events, and the position of the last one; 0 for an empty log."""
    root: bytes
    """Merkle tree hash of all events, 32 bytes (RFC 9162 section 2.1.1)."""


class LogEntry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One event as it stands in the log. (It can be in no cycle: the collector need not look.)"""

    position: int
    originator_id: UUID
    originator_version: int
    topic: str
    plain: bytes
    """The event's JSON, byte for byte as its recording server wrote it."""
    origin: str | None
    """The server that it came from; None for an event of this server."""
    origin_position: int | None
    """Its position in the origin's log; None for an event of this server."""


@dataclass(frozen=True, slots=True)
class PeerTracking(Tracking):
    """How far an origin's log has been taken in here: written in the transaction of its events.

    ``application_name`` is `tracking_name` of origin and incarnation, ``notification_id`` the
    origin's position that is now reached.
    """

    expected: int = 0
    """The position that must be tracked before (0: none yet); else: StaleTracking."""
    root: bytes = b""
    """The origin's Merkle root at the reached position, as the origin stated it."""


class BlobLocation(msgspec.Struct, frozen=True, gc=False):
    """Where a blob lies inside a pack file. Committed with the events that name the blob."""

    digest: str
    """SHA-256 of the stored form, hexadecimal."""
    pack: str
    """Name of the pack file."""
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Append:
    """What one caller wants committed, all or nothing."""

    events: Sequence[StoredEvent]
    """Their ``state`` is the plain JSON. Compression at rest is the adapter's own affair."""
    tracking: Tracking | None = None
    """A PeerTracking, or the library's plain one (which only has to grow)."""
    blob_locations: Sequence[BlobLocation] = ()
    origin: str | None = None
    """For events of another server: which. Applies to the first ``len(origin_positions)`` events;
    those after them are this server's own (deliveries that are committed with them)."""
    origin_positions: Sequence[int] = field(default=())
    keys: Sequence[WrappedKey] = ()
    """Keys to keep from now on, or (``wrapped`` is None) to destroy. The first one of a call is
    kept; one that was destroyed stays so, whatever comes later."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an append landed: its events got the positions first..last (first > last for none)."""

    first_position: int
    last_position: int
    head: LogHead
    """The head after the transaction that this append was part of, which may include others."""


@dataclass(frozen=True, slots=True)
class TrackedOrigin:
    """The home's word on how far it has taken in an origin's log: the only truth."""

    origin: str
    incarnation: UUID
    position: int
    root: bytes


class StaleTracking(IntegrityError):  # noqa: N818  (an answer that callers expect)
    """The origin's log is tracked at another position than the append expects."""


def tracking_name(origin: str, incarnation: UUID) -> str:
    """Name the tracking row of one incarnation of an origin's log."""
    return f"{origin}/{incarnation}"


class Readers(NamedTuple):
    """How many connections read a log."""

    busy: int
    """That read now."""
    most: int
    """That may read at a time; further ones wait. 0: there is no bound."""


class LogRecorder(ProcessRecorder):
    """What an adapter of the log implements. All methods may be called from any thread.

    ``insert_events`` (the library's) takes StoredEvents whose state is any bytes, and the keyword
    ``tracking``; it is `commit` with one append whose error is raised.
    """

    group: GroupCommit
    """Joins concurrent appends to this recorder."""

    @property
    def readers(self) -> Readers:
        """Say how many read this log now."""
        return Readers(0, 0)

    @abstractmethod
    def commit(self, appends: Sequence[Append]) -> list[Appended | Exception]:
        """Commit all appends in one transaction; a clash fails only its own append.

        Durable on return. A result is an Appended, or: the library's IntegrityError (an event of
        that stream and version exists), StaleTracking. Raises TransientError when nothing was
        committed and trying again may help (disk full, connection lost before the commit).
        """

    @abstractmethod
    def commit_whole(self, appends: Sequence[Append]) -> None:
        """Commit all appends in one transaction, or none of them; durable on return.

        Raises the library's IntegrityError when one of them clashes, and as `commit`.
        """

    @abstractmethod
    def head(self) -> LogHead:
        """Read the head of the committed log."""

    @abstractmethod
    def read(self, start: int, limit: int, stop: int | None = None) -> list[LogEntry]:
        """Read up to ``limit`` entries from ``start`` (1-based) to ``stop``, both inclusive.

        In commit order; empty past the end. Raises CorruptionError where an entry cannot be read.
        """

    @abstractmethod
    def read_streams(self, originator_ids: Sequence[UUID]) -> dict[UUID, list[LogEntry]]:
        """Read whole streams, each in the order of its versions; absent streams are left out."""

    @abstractmethod
    def read_topics(self, topics: Sequence[str], start: int, stop: int) -> list[LogEntry]:
        """Read the entries of these kinds from ``start`` to ``stop``, both inclusive.

        In commit order. Everything in between is passed over without being decompressed.
        """

    @abstractmethod
    def root_at(self, position: int) -> bytes:
        """Give the Merkle root over the first ``position`` events.

        Raises NotFoundError past the end of the log.
        """

    @abstractmethod
    def read_hashes(self, level: int, first: int, stop: int) -> Sequence[bytes]:
        """Give the hashes of the complete subtrees first..stop-1 of a level, 0 being the leaves.

        Levels are multiples of 8. What `ledger.storage.merkle_proofs` makes its proofs from; a few
        hundred hashes for any proof. Raises NotFoundError past the end of the log.
        """

    @abstractmethod
    def tracked(self, origin: str) -> list[TrackedOrigin]:
        """Give what is tracked of this origin, one row an incarnation, the newest first."""

    @abstractmethod
    def start_incarnation(self, incarnation: UUID) -> LogHead:
        """Go on under a new incarnation; events and positions stay. Durable on return."""

    @abstractmethod
    def locate_blobs(self, digests: Sequence[str]) -> dict[str, BlobLocation]:
        """Say where these blobs lie in packs; those that lie in no pack are left out."""

    @abstractmethod
    def read_keys(self, call_ids: Sequence[UUID]) -> dict[UUID, WrappedKey]:
        """Give the keys of these calls, destroyed ones too; unknown ones are left out."""

    @abstractmethod
    def close(self) -> None:
        """Release files and connections. No other call may be running or follow."""
