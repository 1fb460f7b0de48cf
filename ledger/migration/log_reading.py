"""Read a log, or a copy of one, for somebody who copies it: its state, its pages, its blobs.

The same for a server's own log and for a copy that it keeps, and for a directory that a recovery
reads without any server. Blocking: call off the event loop.

Source: claims 7 and 10; RFC 9162 section 2.1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec

from ledger.checkpoint import Checkpoint, log_name, sign_checkpoint
from ledger.errors import CorruptionError, NotFoundError, PeerError
from ledger.events import IncarnationStarted, ServerId, decode
from ledger.identity import ServerIdentity
from ledger.migration.travelling_keys import CALL_RECEIVED
from ledger.migration.wire import (
    MAX_COPIED,
    Blobs,
    CopiedEvent,
    CopyState,
    CosignedRow,
    KeptKey,
    LogPage,
    LogPageRequest,
    OriginRow,
)
from ledger.storage.blob_store import BlobBytes, BlobStore
from ledger.storage.cosigned_checkpoints import CosignedCheckpoints
from ledger.storage.event_log import BlobLocation, LogEntry, LogHead, LogRecorder
from ledger.storage.log_copy import CheckpointFile
from ledger.storage.merkle_proofs import consistency_proof

_PAGE_BYTES: Final = 8 * 1024 * 1024
_BLOBS_BYTES: Final = 8 * 1024 * 1024
"""After so much an answer ends; a single larger blob travels alone."""

_STARTED: Final = str(IncarnationStarted.__struct_config__.tag)

Vouch = Callable[[LogHead], str | None]
"""Gives the log's signed checkpoint for a head; None when there is none."""


def own_word(identity: ServerIdentity) -> Vouch:
    """Sign for a log as its own server: only a head that the log really had."""

    def sign(head: LogHead) -> str:
        log = log_name(identity.server_id, head.incarnation)
        checkpoint = Checkpoint(log, head.position, head.root)
        return sign_checkpoint(checkpoint, identity).to_text()

    return sign


def kept_word(file: CheckpointFile) -> Vouch:
    """Give what the log's server signed when it was copied."""
    return file.read


def read_state(recorder: LogRecorder, name: str, vouch: Vouch) -> CopyState:
    """Say where a log ends, with its checkpoint."""
    head = recorder.head()
    return CopyState(
        name=name,
        incarnation=head.incarnation,
        position=head.position,
        root=head.root.hex(),
        checkpoint=vouch(head) if head.position else None,
    )


def read_kept_state(
    of: ServerId, recorder: LogRecorder, name: str, file: CheckpointFile
) -> CopyState:
    """Say where a copy of this server's log ends, with its checkpoint and what it tells is over."""
    state = read_state(recorder, name, file.read)
    former = incarnations_in(of, recorder) - {state.incarnation}
    return msgspec.structs.replace(state, former=tuple(sorted(former)))


def incarnations_in(of: ServerId, recorder: LogRecorder, through: int | None = None) -> set[UUID]:
    """Give the incarnations that a log of this server itself tells of, in its events.

    ``through``: in those up to this position; None: in all.
    """
    last = recorder.head().position if through is None else through
    entries = recorder.read_topics([_STARTED], 1, last)
    events = [decode(entry.plain) for entry in entries]
    own = [e for e in events if isinstance(e, IncarnationStarted) and e.recorded_by == of]
    return {event.previous for event in own} | {event.incarnation for event in own}


def read_page(
    recorder: LogRecorder,
    request: LogPageRequest,
    vouch: Vouch,
    *,
    origins: Iterable[ServerId],
    cosigned: CosignedCheckpoints,
) -> LogPage:
    """Give the events after a position, if what stands before them is what the asker holds.

    The tracking is read before the head: it is given only with the page that ends at that head, so
    that nobody is ever told of more than the events he was given.
    """
    tracked = [
        OriginRow(
            origin=row.origin, incarnation=row.incarnation, position=row.position,
            root=row.root.hex(),
        )
        for origin in origins
        for row in reversed(recorder.tracked(origin))
    ]  # fmt: skip
    head = recorder.head()
    after, size = request.after_position, request.tree_size
    is_within = after <= size <= head.position
    if not is_within or recorder.root_at(after).hex() != request.after_root:
        return LogPage(
            after_position=after,
            through_position=after,
            root=request.after_root,
            is_other_history=True,
        )
    stop = min(request.through_position, size)
    entries = _bounded(recorder.read(after + 1, MAX_COPIED, stop)) if stop > after else []
    through = entries[-1].position if entries else after
    if through - after != len(entries):
        raise PeerError("the log has a gap; run 'vmledger log verify' there", peer="")
    reached = LogHead(head.incarnation, through, recorder.root_at(through))
    is_last = through == head.position
    return LogPage(
        after_position=after,
        through_position=through,
        root=reached.root.hex(),
        proof=tuple(
            digest.hex() for digest in consistency_proof(through, size, recorder.read_hashes)
        ),
        events=tuple(
            CopiedEvent(msgspec.Raw(entry.plain), entry.origin, entry.origin_position)
            for entry in entries
        ),
        keys=_keys_of(recorder, entries),
        checkpoint=vouch(reached) if through else None,
        origins=tuple(tracked) if is_last else (),
        cosigned=tuple(
            CosignedRow(log=row.log, witness=row.witness, size=row.size, note=row.note)
            for row in cosigned.all()
        )
        if is_last
        else (),
    )


def _keys_of(recorder: LogRecorder, entries: Sequence[LogEntry]) -> tuple[KeptKey, ...]:
    calls = [entry.originator_id for entry in entries if entry.topic == CALL_RECEIVED]
    keys = recorder.read_keys(calls) if calls else {}
    return tuple(KeptKey(key.key_id, key.wrapped) for key in keys.values())


def _bounded(entries: Sequence[LogEntry]) -> Sequence[LogEntry]:
    size_bytes = 0
    for count, entry in enumerate(entries):
        size_bytes += len(entry.plain)
        if count and size_bytes > _PAGE_BYTES:
            return entries[:count]
    return entries


def read_blobs(
    digests: Sequence[str],
    places: Sequence[tuple[LogRecorder, BlobStore]],
    *,
    is_verified: bool = True,
) -> Blobs:
    """Give blobs from the first place that has each, as many as an answer may hold.

    ``is_verified=False``: whoever gets them holds each against its address.
    """
    wanted = dict.fromkeys(digests)
    found: dict[str, BlobBytes] = {}
    for recorder, store in places:
        locations = recorder.locate_blobs([d for d in wanted if d not in found])
        wanted_here = _within(list(locations.values()), _size_of(found))
        found |= store.get_many(wanted_here, is_verified=is_verified)
        size_bytes = _size_of(found)
        for digest in wanted:
            if size_bytes >= _BLOBS_BYTES:
                return Blobs(found, ())
            if digest not in found:
                with contextlib.suppress(NotFoundError, CorruptionError):
                    found[digest] = store.get(digest, locations.get(digest))
                    size_bytes += len(found[digest])
    return Blobs(found, tuple(digest for digest in wanted if digest not in found))


def _within(locations: list[BlobLocation], size_bytes: int) -> list[BlobLocation]:
    """Give as many as an answer may still hold, those of one pack together."""
    chosen: list[BlobLocation] = []
    for location in sorted(locations, key=lambda one: (one.pack, one.offset_bytes)):
        if size_bytes >= _BLOBS_BYTES:
            break
        chosen.append(location)
        size_bytes += location.length_bytes
    return chosen


def _size_of(blobs: Mapping[str, BlobBytes]) -> int:
    return sum(len(data) for data in blobs.values())
