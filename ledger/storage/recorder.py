"""What all log recorders share: the library's calls in terms of ours, and one commit's plan.

An adapter implements `_transact`: write planned rows and the new head in one transaction. What the
rows are, which Merkle nodes are kept and what every caller is told is decided here, once.

Source: claim 10.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias
from uuid import UUID

from eventsourcing.persistence import (
    IntegrityError,
    Notification,
    NotSupportedError,
    StoredEvent,
    Subscription,
    Tracking,
)

from ledger.errors import CorruptionError, NotFoundError
from ledger.storage.event_log import (
    Append,
    Appended,
    BlobLocation,
    LogEntry,
    LogHead,
    LogRecorder,
    PeerTracking,
    StaleTracking,
)
from ledger.storage.group_commit import GroupCommit
from ledger.storage.merkle import Frontier, TreeNode, frontier_at, leaf_hash
from ledger.storage.row_sums import arrival_sum, blob_location_sum

_MOST_FRUITLESS: Final = 3
"""Clashes without a culprit after which the log is held to be damaged."""


@dataclass(frozen=True)
class Head:
    """The head row: what an append is planned upon."""

    incarnation: UUID
    frontier: Frontier

    def to_log_head(self) -> LogHead:
        """Give what callers see of it."""
        return self._log_head

    @cached_property
    def _log_head(self) -> LogHead:
        return LogHead(self.incarnation, self.frontier.size, self.frontier.root())


Row: TypeAlias = tuple[int, UUID, int, str, bytes, bytes, str | None, int | None]
"""(position, stream, version, topic, plain, leaf hash, origin, origin position)."""


@dataclass(slots=True)
class Plan:
    """What one transaction writes, and what each of its callers is told afterwards."""

    before: Head
    after: Head
    rows: list[Row] = field(default_factory=list)
    nodes: list[TreeNode] = field(default_factory=list)
    tracking: list[Tracking] = field(default_factory=list)
    blob_locations: dict[str, BlobLocation] = field(default_factory=dict)
    """By digest: two origins may bring the same blob in one group."""
    sums: dict[str, bytes] = field(default_factory=dict)
    """By place: of the origins of events, and of where blobs lie."""
    keys: dict[UUID, bytes | None] = field(default_factory=dict)
    """Wrapped keys by call; None for those to destroy."""
    spans: list[tuple[int, int]] = field(default_factory=list)


def plan(before: Head, appends: Sequence[Append]) -> Plan:
    """Lay out the appends, in order, behind the head."""
    result = Plan(before, before)
    position = before.frontier.size
    for append in appends:
        first = position + 1
        foreign = len(append.origin_positions)
        for index, event in enumerate(append.events):
            position += 1
            is_foreign = index < foreign
            result.rows.append(
                (
                    position,
                    event.originator_id,  # type: ignore[arg-type]  # ours are UUIDs
                    event.originator_version,
                    event.topic,
                    event.state,
                    leaf_hash(event.state),
                    append.origin if is_foreign else None,
                    append.origin_positions[index] if is_foreign else None,
                )
            )
        if append.origin is not None and foreign:
            result.sums.update([arrival_sum(first, append.origin, append.origin_positions)])
        if append.tracking is not None:
            result.tracking.append(append.tracking)
        result.blob_locations.update((b.digest, b) for b in append.blob_locations)
        result.sums.update(
            blob_location_sum(b.digest, b.pack, b.offset_bytes, b.length_bytes)
            for b in append.blob_locations
        )
        for key in append.keys:
            if key.wrapped is None or key.key_id not in result.keys:
                result.keys[key.key_id] = key.wrapped
        result.spans.append((first, position))
    frontier = before.frontier.append((row[5] for row in result.rows), result.nodes.append)
    result.after = Head(before.incarnation, frontier)
    return result


def check_tracking(tracking: Tracking, current: int | None) -> None:
    """Raise when a tracking row may not move from ``current`` (None: no row) to this."""
    if isinstance(tracking, PeerTracking):
        if (current or 0) != tracking.expected:
            raise StaleTracking(
                f"{tracking.application_name} is tracked at {current or 0}, "
                f"not at {tracking.expected}"
            )
    elif current is not None and tracking.notification_id <= current:
        raise IntegrityError(
            f"{tracking.application_name} is tracked at {current} already, "
            f"{tracking.notification_id} does not follow"
        )


class Clash(Exception):  # noqa: N818  (it is an answer between two layers, not an error of ours)
    """Some rows of a plan exist already: find out whose."""


def _contradiction() -> CorruptionError:
    return CorruptionError(
        "the log refuses events that clash with nothing in it: its head is behind its events",
        place="log_head",
        advice="stop the server and restore the log from a backup or a mirror",
    )


class BaseLogRecorder(LogRecorder):
    """The adapter-independent half of a recorder."""

    def __init__(self) -> None:
        self.group = GroupCommit(self.commit)

    def commit(self, appends: Sequence[Append]) -> list[Appended | Exception]:
        results: list[Appended | Exception | None] = [None] * len(appends)
        wanted = list(range(len(appends)))
        fruitless = 0
        while wanted:
            try:
                done = self._transact([appends[index] for index in wanted])
            except Clash as clash:
                kept = self._sort_out(appends, wanted, results)
                # Another process may have removed the reason of a clash meanwhile, but not always.
                fruitless += len(kept) == len(wanted)
                if fruitless == _MOST_FRUITLESS:
                    raise _contradiction() from clash
                wanted = kept
                continue
            head = done.after.to_log_head()
            for index, (first, last) in zip(wanted, done.spans, strict=True):
                results[index] = Appended(first, last, head)
            break
        return [result for result in results if result is not None]

    def commit_whole(self, appends: Sequence[Append]) -> None:
        try:
            self._transact(appends)
        except Clash as clash:
            raise IntegrityError("some of the events or tracking rows are there already") from clash

    def _sort_out(
        self,
        appends: Sequence[Append],
        wanted: list[int],
        results: list[Appended | Exception | None],
    ) -> list[int]:
        """Fail the appends that clash with the log or with one before them; give the others."""
        taken = self._existing([appends[index] for index in wanted])
        tracked: dict[str, int] = {}
        kept = []
        for index in wanted:
            error = self._clash(appends[index], taken, tracked)
            if error is not None:
                results[index] = error
                continue
            kept.append(index)
            append = appends[index]
            taken.update((e.originator_id, e.originator_version) for e in append.events)
            if append.tracking is not None:
                tracked[append.tracking.application_name] = append.tracking.notification_id
        return kept

    def _clash(
        self, append: Append, taken: set[tuple[Any, int]], tracked: dict[str, int]
    ) -> Exception | None:
        own: set[tuple[Any, int]] = set()
        for event in append.events:
            key = (event.originator_id, event.originator_version)
            if key in taken or key in own:
                return IntegrityError(f"stream {key[0]} has a version {key[1]} already")
            own.add(key)
        if append.tracking is None:
            return None
        name = append.tracking.application_name
        try:
            check_tracking(append.tracking, tracked.get(name, self.max_tracking_id(name)))
        except IntegrityError as error:
            return error
        return None

    @abstractmethod
    def _transact(self, appends: Sequence[Append]) -> Plan:
        """Commit all of these, or raise Clash when not all can be."""

    @abstractmethod
    def _existing(self, appends: Sequence[Append]) -> set[tuple[Any, int]]:
        """Give those (stream, version) of the appends that the log has already."""

    def root_at(self, position: int) -> bytes:
        return frontier_at(position, self.read_hashes).root()

    def _check_hashes(self, found: int, level: int, first: int, stop: int) -> None:
        """Raise when a read of stored hashes did not find all it asked for."""
        if found == stop - first:
            return
        position = self.head().position
        if stop << level > position:
            raise NotFoundError(f"the log has {position} events, and none at {stop << level}")
        raise CorruptionError(
            f"the log's tree lacks hashes of level {level}",
            place=f"{first}..{stop - 1}",
            advice="stop the server and restore the log from a backup or a mirror",
        )

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        append = Append(list(stored_events), tracking=kwargs.get("tracking"))
        done = self.group.append(append)
        return list(range(done.first_position, done.last_position + 1))

    def insert_tracking(self, tracking: Tracking) -> None:
        self.group.append(Append([], tracking=tracking))

    def max_notification_id(self) -> int | None:
        return self.head().position or None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        stream = self.read_streams([originator_id]).get(originator_id, [])  # type: ignore[list-item, arg-type]  # ours are UUIDs
        chosen = [
            StoredEvent(e.originator_id, e.originator_version, e.topic, e.plain)
            for e in (reversed(stream) if desc else stream)
            if (gt is None or e.originator_version > gt)
            and (lte is None or e.originator_version <= lte)
        ]
        return chosen[:limit]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        first = 1 if start is None else start if inclusive_of_start else start + 1
        found = (
            Notification(
                id=e.position,
                originator_id=e.originator_id,
                originator_version=e.originator_version,
                topic=e.topic,
                state=e.plain,
            )
            for e in self._read_on(first, limit, stop)
            if not topics or e.topic in topics
        )
        return [notification for notification, _ in zip(found, range(limit), strict=False)]

    def _read_on(self, start: int, page: int, stop: int | None) -> Iterator[LogEntry]:
        while entries := self.read(start, max(page, 100), stop):
            yield from entries
            start = entries[-1].position + 1

    def subscribe(
        self,
        gt: int | None = None,  # noqa: ARG002  (the library's signature)
        topics: Sequence[str] = (),  # noqa: ARG002  (the library's signature)
    ) -> Subscription[LogRecorder]:
        raise NotSupportedError("read the log in pages instead, woken by a listener")
