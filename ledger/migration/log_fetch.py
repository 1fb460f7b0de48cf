"""Copy a log from whoever has it: a mirror from its origin, a lost server from its mirrors.

Page by page, each shown *before* it is committed to be the beginning of the tree that the log's own
server signed. Blobs are durable before the commit of the events that name them. While one page is
committed the next one is on its way. Killed at any moment, the copy is a shorter beginning of the
same log, and the next run goes on from there.

Source: claims 5, 7 and 10; RFC 9162 section 2.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from eventsourcing.persistence import IntegrityError, StoredEvent

from ledger.checkpoint import (
    Checkpoint,
    cosigned_at,
    log_key,
    log_name,
    parse_checkpoint,
    read_log_name,
    witness_key,
)
from ledger.errors import CallerError, ConflictError, CorruptionError, PeerError
from ledger.events import DomainEvent, OpaqueEvent, PinChanged, ServerId, decode
from ledger.identity import Verifier, verify_signature
from ledger.migration.former_events import blob_of
from ledger.migration.link import PeerClient
from ledger.migration.travelling_keys import CALL_RECEIVED, destroyed_by
from ledger.migration.wire import (
    MAX_DIGESTS,
    Blobs,
    CopiedEvent,
    CopyState,
    CosignedRow,
    KeptKey,
    LogPage,
    LogPageRequest,
    LogState,
    LogStateRequest,
    OriginRow,
)
from ledger.offload import Offload
from ledger.sealing import WrappedKey
from ledger.storage.blob_store import BlobStore, NewBlob
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint, CosignedCheckpoints
from ledger.storage.event_log import (
    Append,
    BlobLocation,
    LogRecorder,
    PeerTracking,
    tracking_name,
)
from ledger.storage.log_copy import CheckpointFile
from ledger.storage.merkle import Frontier, frontier_at, leaf_hash
from ledger.storage.merkle_proofs import verify_consistency

_QUESTION_BLOBS: Final = 400
"""Blobs asked for in one question; the answer is bounded in bytes."""
_MANY: Final = 256
"""For so many blobs it is quicker to list all that are there than to ask for each."""
_QUESTIONS: Final = 2
"""Questions for blobs on their way at a time: one is read here while the next is read there."""

Progress = Callable[[int, int, int], None]
"""Called with the position that is reached, the one to reach, and the blobs copied so far."""


def no_progress(_position: int, _through: int, _blobs: int) -> None:
    """Show nothing."""


OnEvent = Callable[[DomainEvent | OpaqueEvent, int], None]
"""Called with an event and its position, in a thread."""


def ignore_event(_event: DomainEvent | OpaqueEvent, _position: int) -> None:
    """Do nothing with it."""


class LogSource(Protocol):
    """Who has a log, or a copy of one. Errors are those of `PeerClient`."""

    name: str
    """For people."""

    async def log_state(self, request: LogStateRequest) -> LogState:
        """Say how far the log is known there."""

    async def log_page(self, request: LogPageRequest) -> LogPage:
        """Give the next events."""

    async def blobs(self, of: ServerId, digests: Sequence[str]) -> Blobs:
        """Give blobs."""


class PeerSource:
    """A `LogSource` that is another server."""

    def __init__(self, client: PeerClient, offload: Offload) -> None:
        self.name = client.peer
        self._client = client
        self._offload = offload

    async def log_state(self, request: LogStateRequest) -> LogState:
        return await self._client.log_state(request)

    async def log_page(self, request: LogPageRequest) -> LogPage:
        return await self._client.log_page(request)

    async def blobs(self, of: ServerId, digests: Sequence[str]) -> Blobs:
        return await self._client.blobs(of, digests, self._offload)


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where a log is copied to. Nobody else writes there."""

    of: ServerId
    """Whose log."""
    public_key: bytes
    """By which its server signs."""
    recorder: LogRecorder
    blobs: BlobStore
    cosigned: CosignedCheckpoints
    checkpoint: CheckpointFile
    verify: Verifier = verify_signature


@dataclass(slots=True)
class Fetched:
    """What a run has brought."""

    events: int = 0
    blobs: int = 0
    bytes: int = 0
    """Of the blobs."""
    absent: list[str] = field(default_factory=list)
    """Blobs that the events name and the source has not, or not any more."""


@dataclass(slots=True)
class _Prepared:
    """A page whose blobs are durable, ready to be committed."""

    appends: list[Append]
    through: int
    checkpoint: str | None
    cosigned: tuple[CosignedRow, ...]
    is_cut: bool


class OtherHistoryError(ConflictError):
    """What is held is not the beginning of the log that is offered."""


class LogFetch:
    """One run from one source into one target. For one event loop."""

    def __init__(
        self,
        source: LogSource,
        copy: CopyState,
        target: LogTarget,
        *,
        offload: Offload,
        until: int | datetime | None = None,
        on_progress: Progress = no_progress,
        on_event: OnEvent = ignore_event,
    ) -> None:
        """Join the parts.

        ``until`` is the last position wanted, or the time of the last own event wanted.
        ``on_event`` is told of each event, in order, before it is committed.
        """
        self._source = source
        self._copy = copy
        self._target = target
        self._offload = offload
        self._until = until
        self._on_progress = on_progress
        self._on_event = on_event
        self.done = Fetched()

    @property
    def through(self) -> int:
        """The position to reach."""
        until = self._until if isinstance(self._until, int) else self._copy.position
        return min(until, self._copy.position)

    async def run(self) -> Fetched:
        """Copy what is missing; durable on return.

        Raises OtherHistoryError, and nothing was changed, when the target holds another history;
        PeerError for a source whose log is not what it says; TransientError when it, or a store,
        cannot work now: run again.
        """
        expect_signed(self._copy, self._target)
        head = await self._offload(self._target.recorder.head)
        if head.position > self.through and self._until is None:
            raise _other_history(self._target, head.position, self._copy)
        read = self._target.recorder.read_hashes
        frontier = await self._offload(lambda: frontier_at(head.position, read))
        if head.position >= self.through and head.incarnation == self._copy.incarnation:
            if head.position == self._copy.position and head.root.hex() != self._copy.root:
                raise _other_history(self._target, head.position, self._copy)
            if await self._offload(partial(self._target.checkpoint.read, head)) is not None:
                return self.done
        through = self.through
        if head.position and head.incarnation != self._copy.incarnation:
            # The incarnation changes alone: else a crash before the events would leave a head that
            # nobody signed.
            through = head.position
        page, frontier = await self._prepare(head.position, frontier, through)
        while page.through < self.through and not page.is_cut:
            ahead = asyncio.create_task(self._prepare(page.through, frontier, self.through))
            try:
                await self._offload(partial(self._commit, page))
                page, frontier = await ahead
            finally:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
        await self._offload(partial(self._commit, page))
        return self.done

    async def _prepare(
        self, after: int, frontier: Frontier, through: int
    ) -> tuple[_Prepared, Frontier]:
        """Get the next page and its blobs, and hold the page against its root."""
        request = LogPageRequest(
            of=self._target.of,
            copy=self._copy.name,
            after_position=after,
            after_root=frontier.root().hex(),
            through_position=through,
            tree_size=self._copy.position,
        )
        page = await self._source.log_page(request)
        if page.is_other_history and after == 0:
            # Nothing is held that could be another history: it must not be set aside for that.
            raise self._broken("it does not begin with the events that it was said to have")
        if page.is_other_history:
            raise _other_history(self._target, after, self._copy)
        if not page.events and after < through:
            raise self._broken(f"it gives no event behind position {after}")
        frontier, stored, digests, kept = await self._offload(partial(self._read, page, frontier))
        locations = await fetch_blobs(self._source, self._target, digests, self._offload, self.done)
        is_cut = kept < len(page.events)
        prepared = _Prepared(
            appends=list(_runs(page.events[:kept], stored, locations, page.keys)),
            through=after + kept,
            checkpoint=page.checkpoint if not is_cut else None,
            cosigned=page.cosigned if not is_cut else (),
            is_cut=is_cut,
        )
        if not is_cut:
            prepared.appends += self._trackings(page.origins)
        return prepared, frontier

    def _read(
        self, page: LogPage, frontier: Frontier
    ) -> tuple[Frontier, list[StoredEvent], dict[str, bool], int]:
        """Check a page and give its events and the blobs that they name: digest -> is it secret?"""
        plains = [bytes(copied.plain) for copied in page.events]
        grown = frontier.append(map(leaf_hash, plains))
        if grown.root().hex() != page.root:
            raise self._broken(f"events up to position {page.through_position} are not its tree")
        proof = [bytes.fromhex(digest) for digest in page.proof]
        size, root = self._copy.position, bytes.fromhex(self._copy.root)
        if not verify_consistency(grown.size, grown.root(), size, root, proof):
            what = f"they are not the beginning of the {size} events that were signed"
            raise self._broken(what)
        self._expect_right(page)
        stored: list[StoredEvent] = []
        digests: dict[str, bool] = {}
        for copied, plain in zip(page.events, plains, strict=True):
            event = self._decode(plain, page.after_position + len(stored) + 1)
            self._expect_origin(copied, event)
            if self._is_too_late(event.recorded_at, copied):
                break
            stored.append(
                StoredEvent(event.originator_id, event.originator_version, event.topic, plain)
            )
            self._on_event(event, page.after_position + len(stored))
            if (named := blob_of(event)) is not None:
                digests[named[0]] = isinstance(event, PinChanged)
        if len(stored) < len(page.events):
            leaves = (leaf_hash(one.state) for one in stored)
            return frontier.append(leaves), stored, digests, len(stored)
        return grown, stored, digests, len(stored)

    def _decode(self, plain: bytes, position: int) -> DomainEvent | OpaqueEvent:
        try:
            return decode(plain, f"position {position}")
        except CorruptionError as error:
            # Its server signed that, or the source could not have shown it: nothing rotted here.
            raise self._broken(str(error)) from error

    def _expect_origin(self, copied: CopiedEvent, event: DomainEvent | OpaqueEvent) -> None:
        """See that it can have come from there: that is told beside the tree, and unsigned.

        What another server recorded came from a peer. What the log's own server recorded may have
        come back from one, after its log went back: so the converse cannot be demanded.
        """
        of = self._target.of
        if copied.origin == of:
            raise self._broken(f"{of} took in an event from itself")
        if copied.origin is None and event.recorded_by != of:
            raise self._broken(f"an event of {event.recorded_by} came from nowhere")

    def _is_too_late(self, recorded_at: datetime, copied: CopiedEvent) -> bool:
        """Only the log's own events tell its time: others' clocks are others'."""
        is_own = copied.origin is None
        return isinstance(self._until, datetime) and is_own and recorded_at > self._until

    def _expect_right(self, page: LogPage) -> None:
        """Hold what the log's server signed for the end of this page against the page."""
        if page.checkpoint is None:
            return
        expected = Checkpoint(
            log_name(self._target.of, self._copy.incarnation),
            page.through_position,
            bytes.fromhex(page.root),
        )
        if not _is_signed(page.checkpoint, expected, self._target):
            what = f"{self._target.of} did not sign its events up to {page.through_position}"
            raise self._broken(what)

    def _trackings(self, origins: Sequence[OriginRow]) -> Iterator[Append]:
        """Move the tracking to what the log has: it ends where these events do, or before."""
        tracked: dict[tuple[ServerId, UUID], int] = {}
        for origin in {row.origin for row in origins}:
            for known in self._target.recorder.tracked(origin):
                tracked[origin, known.incarnation] = known.position
        for row in origins:
            before = tracked.get((row.origin, row.incarnation), 0)
            if row.position > before:
                yield Append(
                    [],
                    tracking=PeerTracking(
                        application_name=tracking_name(row.origin, row.incarnation),
                        notification_id=row.position,
                        expected=before,
                        root=bytes.fromhex(row.root),
                    ),
                )

    def _commit(self, page: _Prepared) -> None:
        """Commit a page in one transaction, with its checkpoint staged before."""
        target = self._target
        head = target.recorder.head()
        if page.checkpoint is not None:
            target.checkpoint.stage(page.checkpoint, head)
        if head.incarnation != self._copy.incarnation:
            # What stands here is a beginning of that incarnation's log: the page goes on from it.
            target.recorder.start_incarnation(self._copy.incarnation)
        # A crash before this leaves blobs that no event names; the same page is fetched again.
        # All or nothing: what stood behind a run that was left out would be at other positions.
        try:
            if page.appends:
                target.recorder.commit_whole(page.appends)
        except IntegrityError as error:
            raise self._broken(f"up to position {page.through}, {error}") from error
        if page.checkpoint is not None:
            target.checkpoint.settle(page.checkpoint)
        self.done.events += sum(len(append.events) for append in page.appends)
        self._on_progress(page.through, self.through, self.done.blobs)
        for row in page.cosigned:
            newest = target.cosigned.newest(row.log, row.witness)
            known = newest.size if newest is not None else 0
            if row.size > known and _is_cosigned(row, target):
                kept = CosignedCheckpoint(row.log, row.witness, row.size, row.note)
                target.cosigned.add(kept, known)

    def _broken(self, what: str) -> PeerError:
        return PeerError(
            f"the log of {self._target.of} at {self._source.name} is not what it says: {what}",
            peer=self._source.name,
        )


async def fetch_blobs(
    source: LogSource,
    target: LogTarget,
    digests: dict[str, bool],
    offload: Offload,
    done: Fetched,
) -> list[BlobLocation]:
    """Get those of these blobs that are not held; durable on return. Gives where the packs lie.

    What PINs are checked against (``True``) is kept each alone: it must go when a PIN is changed.
    """
    missing = await offload(partial(_missing, target, list(digests)))
    gate = asyncio.Semaphore(_QUESTIONS)
    locations: list[BlobLocation] = []

    async def get(part: Sequence[str]) -> None:
        left = list(part)
        async with gate:
            while left:
                answer = await source.blobs(target.of, left)
                if not answer.blobs and not answer.absent:
                    raise PeerError("it answers for none of the blobs", peer=source.name)
                packed = [NewBlob(d, b) for d, b in answer.blobs.items() if not digests[d]]
                locations.extend(await offload(partial(target.blobs.put_pack, packed)))
                for digest in answer.blobs.keys() - {blob.digest for blob in packed}:
                    await offload(partial(target.blobs.put, digest, answer.blobs[digest]))
                done.blobs += len(answer.blobs)
                done.bytes += sum(len(data) for data in answer.blobs.values())
                done.absent.extend(answer.absent)
                left = [d for d in left if d not in answer.blobs and d not in answer.absent]

    size = min(_QUESTION_BLOBS, MAX_DIGESTS)
    parts = [missing[at : at + size] for at in range(0, len(missing), size)]
    tasks = [asyncio.create_task(get(part)) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return locations


def _missing(target: LogTarget, digests: Sequence[str]) -> list[str]:
    packed = target.recorder.locate_blobs(digests)
    unpacked = [d for d in digests if d not in packed]
    seen = set(unpacked)
    if len(digests) >= _MANY:
        seen &= {blob.digest for blob in target.blobs.list_loose()}
    # What is only seen may be gone after a power cut; what the store has is durable.
    return [d for d in unpacked if d not in seen or not target.blobs.has(d)]


def lay_out(
    events: Sequence[CopiedEvent], locations: Iterable[BlobLocation], keys: Iterable[KeptKey]
) -> Iterator[Append]:
    """Make of a log's events what puts them into a copy of it, just as they are.

    Raises CorruptionError for what is no event.
    """
    read = (decode(bytes(copied.plain)) for copied in events)
    stored = [
        StoredEvent(e.originator_id, e.originator_version, e.topic, bytes(copied.plain))
        for e, copied in zip(read, events, strict=True)
    ]
    return _runs(events, stored, locations, keys)


def _runs(
    events: Sequence[CopiedEvent],
    stored: Sequence[StoredEvent],
    locations: Iterable[BlobLocation],
    keys: Iterable[KeptKey],
) -> Iterator[Append]:
    """Lay out events in runs of one origin each, as the log keeps them."""
    begun = {e.originator_id for e in stored if e.topic == CALL_RECEIVED}
    left = list(locations)
    left_keys = [WrappedKey(key.call_id, key.wrapped) for key in keys if key.call_id in begun]
    left_keys += destroyed_by((e.topic, e.state) for e in stored)
    start = 0
    while start < len(events):
        origin = events[start].origin
        stop = start
        while stop < len(events) and events[stop].origin == origin:
            stop += 1
        positions = [e.origin_position or 0 for e in events[start:stop]] if origin else []
        yield Append(
            stored[start:stop],
            blob_locations=left,
            origin=origin,
            origin_positions=positions,
            keys=left_keys,
        )
        left, left_keys, start = [], [], stop
    if left:
        yield Append([], blob_locations=left)


def expect_signed(copy: CopyState, target: LogTarget) -> None:
    """Raise PeerError unless the log's own server signed for this copy's end."""
    if copy.position == 0:
        return
    expected = Checkpoint(
        log_name(target.of, copy.incarnation), copy.position, bytes.fromhex(copy.root)
    )
    if copy.checkpoint is None or not _is_signed(copy.checkpoint, expected, target):
        raise PeerError(
            f"no checkpoint that {target.of} signed vouches for the {copy.position} events of "
            f"{copy.name or 'its log'}",
            peer=target.of,
        )


def _is_signed(text: str, expected: Checkpoint, target: LogTarget) -> bool:
    try:
        note, checkpoint = parse_checkpoint(text)
        _, incarnation = read_log_name(checkpoint.log)
    except CallerError:
        return False
    key = log_key(target.of, incarnation, target.public_key)
    return checkpoint == expected and note.is_signed_by(key, target.verify)


def _is_cosigned(row: CosignedRow, target: LogTarget) -> bool:
    """Is this what it says, as far as the key of the log's server tells?

    Of its own checkpoints it tells that the server signed them, but not what witnesses did; of
    others' checkpoints, that the server signed as their witness. One that is not right is not kept:
    it would prove nothing, and stand in the way of the next.
    """
    try:
        note, checkpoint = parse_checkpoint(row.note)
        server, incarnation = read_log_name(row.log)
    except CallerError:
        return False
    if (checkpoint.log, checkpoint.size) != (row.log, row.size):
        return False
    if server == target.of:
        return note.is_signed_by(log_key(server, incarnation, target.public_key), target.verify)
    key = witness_key(target.of, target.public_key)
    return row.witness == target.of and cosigned_at(note, key, target.verify) is not None


def _other_history(target: LogTarget, position: int, copy: CopyState) -> OtherHistoryError:
    return OtherHistoryError(
        f"the {position} events that are held of {target.of}'s log are not the beginning of the "
        f"{copy.position} events that it has under incarnation {copy.incarnation}"
    )


async def complete(
    source: LogSource, target: LogTarget, needed: Iterable[str], offload: Offload
) -> list[str]:
    """Get needed blobs that are not held, each kept alone; gives those that are still missing."""
    wanted = await offload(partial(_missing, target, sorted(needed)))
    done = Fetched()
    await fetch_blobs(source, target, dict.fromkeys(wanted, True), offload, done)
    return done.absent
