"""Take in one batch: whole, or not at all.

Blobs are first made durable, then everything else goes into *one* append: the origin's events, our
own deliveries, where the blobs lie and how far the origin's log is taken in now. A crash before the
append leaves a pack file that no event names and that garbage collection removes.

Source: claims 7 and 8.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from ledger.clock import Clock
from ledger.configuration import Homes
from ledger.events import MessageStored, decode
from ledger.ids import message_stream_id
from ledger.migration.assembly import Assembly
from ledger.migration.erased_messages import erase_what_came_meanwhile
from ledger.migration.examination import Examined
from ledger.migration.protocol import tracked_of
from ledger.migration.travelling_keys import keys_to_keep
from ledger.migration.wire import Batch, BatchHeader, Refusal, TrackedRow
from ledger.offload import Offload
from ledger.sealing import MessageKey, WrappedKey
from ledger.storage.blob_care import packed_here
from ledger.storage.blob_store import BlobStore, NewBlob
from ledger.storage.copy_blobs import keep_anew
from ledger.storage.event_log import (
    Append,
    BlobLocation,
    LogEntry,
    LogHead,
    PeerTracking,
    tracking_name,
)
from ledger.storage.group_commit import EventLog
from ledger.storage.vault import Vault


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What has become of a batch."""

    head: LogHead
    """Of our log, with all that was not refused."""
    reached: TrackedRow
    """How far the origin's log is taken in now."""
    refusals: tuple[Refusal, ...]


class Intake:
    """Puts batches into the stores, one at a time of each origin."""

    def __init__(
        self,
        *,
        homes: Homes,
        log: EventLog,
        blobs: BlobStore,
        vault: Vault,
        clock: Clock,
        offload: Offload,
    ) -> None:
        self._homes = homes
        self._log = log
        self._blobs = blobs
        self._vault = vault
        self._clock = clock
        self._offload = offload

    async def take_in(
        self,
        batch: Batch,
        sent: Mapping[UUID, MessageKey],
        examined: Sequence[Examined | Refusal],
        rows: Sequence[TrackedRow],
    ) -> TakenIn:
        """Take in a batch whose keys were opened and whose parcels were examined.

        ``rows``: what is tracked of its origin. Durable on return. Raises IntegrityError when
        something of it came in meanwhile, TransientError; nothing was changed then.
        """
        header = batch.header
        assembly, here, known = await self._assemble(batch, sent, examined)
        new = [
            NewBlob(digest, data)
            for digest, data in batch.blobs.items()
            if digest in assembly.needed_blobs and digest not in here
        ]
        secret = {d for p in examined if isinstance(p, Examined) and p.is_secret for d in p.blobs}
        await self._keep_secrets([blob for blob in new if blob.digest in secret])
        locations = await self._keep_blobs([blob for blob in new if blob.digest not in secret])
        again = sorted(assembly.blobs_needed_anew & here)
        locations = [*locations, *await self._keep_anew(again, secret)]
        # A crash before this commit leaves an orphan pack; after it, only the answer is lost.
        keys = [
            *keys_to_keep(self._vault, sent.values(), assembly.calls - known),
            *self._vault.destroy(assembly.erased_calls),
        ]
        head = await self._commit(header, assembly, locations, keys, rows)
        # The commit is done: if this cannot be recorded now, the same batch comes again.
        await erase_what_came_meanwhile(
            self._log, self._homes.this_server, self._clock, assembly.erased_calls
        )
        for event in assembly.foreign_events:
            self._homes.learn(event)
        reached = _reached(header, tracked_of(rows, header.incarnation))
        return TakenIn(head, reached, tuple(assembly.refusals))

    async def _assemble(
        self,
        batch: Batch,
        sent: Collection[UUID],
        examined: Sequence[Examined | Refusal],
    ) -> tuple[Assembly, frozenset[str], frozenset[UUID]]:
        """Compare with what is held; say which blobs and keys are here already."""
        parcels = [parcel for parcel in examined if isinstance(parcel, Examined)]
        here = self._homes.this_server
        own = {message_stream_id(p.message_id, here) for p in parcels if p.message_id}
        told = {foreign.event.originator_id for p in parcels for foreign in p.events}
        held = await self._log.read_streams(list(told | own))
        held |= await self._read_erased([p.erasure.call_id for p in parcels if p.erasure])
        blobs = await self.held_blobs(dict.fromkeys(d for p in parcels for d in p.blobs))
        keys = await self._log.read_keys({c for p in parcels for c in (*p.calls, *p.sealed_calls)})
        assembly = Assembly(
            this_server=self._homes.this_server,
            origin=batch.header.origin,
            held=held,
            reachable_blobs=blobs | batch.blobs.keys(),
            reachable_keys=keys.keys() | set(sent),
            destroyed_keys={call for call, key in keys.items() if key.wrapped is None},
            now=self._clock.now(),
        )
        for parcel in examined:
            assembly.add(parcel)
        return assembly, blobs, frozenset(keys)

    async def _read_erased(self, calls: Sequence[UUID]) -> dict[UUID, list[LogEntry]]:
        """Read what is held of calls that are to be erased, and of their messages."""
        held = await self._log.read_streams(calls) if calls else {}
        events = (decode(entry.plain) for entries in held.values() for entry in entries)
        here = self._homes.this_server
        own = [
            message_stream_id(e.message_id, here) for e in events if isinstance(e, MessageStored)
        ]
        return held | (await self._log.read_streams(own) if own else {})

    async def _keep_anew(
        self, digests: Sequence[str], secret: Collection[str]
    ) -> Sequence[BlobLocation]:
        """Keep from garbage collection what is here and comes to be needed with this batch."""
        if not digests:
            return ()
        located = await self._log.locate_blobs(digests)
        return await self._offload(partial(keep_anew, digests, self._blobs, located, alone=secret))

    async def _keep_blobs(self, blobs: Sequence[NewBlob]) -> Sequence[BlobLocation]:
        return await self._offload(lambda: self._blobs.put_pack(blobs)) if blobs else ()

    async def _keep_secrets(self, blobs: Sequence[NewBlob]) -> None:
        """Keep what PINs are checked against, each alone: it must go when a PIN is changed.

        A pack goes only as a whole, which may be years later. A crash before the commit that
        follows leaves blobs that no event names.
        """
        for blob in blobs:
            await self._offload(partial(self._blobs.put, blob.digest, bytes(blob.data)))

    async def _commit(
        self,
        header: BatchHeader,
        assembly: Assembly,
        locations: Sequence[BlobLocation],
        keys: Sequence[WrappedKey],
        rows: Sequence[TrackedRow],
    ) -> LogHead:
        known = tracked_of(rows, header.incarnation)
        tracking: PeerTracking | None = None
        if known is None or header.through_position > known.position:
            tracking = PeerTracking(
                application_name=tracking_name(header.origin, header.incarnation),
                notification_id=header.through_position,
                expected=known.position if known is not None else 0,
                root=bytes.fromhex(header.through_root),
            )
        events = assembly.stored_events
        if not (events or keys) and tracking is None:
            return await self._log.head()
        appended = await self._log.append(
            Append(
                events=events,
                tracking=tracking,
                blob_locations=locations,
                origin=header.origin,
                origin_positions=assembly.origin_positions,
                keys=keys,
            )
        )
        return appended.head

    async def held_blobs(self, digests: Iterable[str]) -> frozenset[str]:
        """Give those of these blobs that are here."""
        digests = list(digests)
        located = await self._log.locate_blobs(digests)
        packed = await self._offload(partial(packed_here, self._blobs, located)) if located else ()
        rest = [digest for digest in digests if digest not in packed]
        loose = await self._offload(lambda: [d for d in rest if self._blobs.has(d)]) if rest else []
        return frozenset(packed) | frozenset(loose)


def _reached(header: BatchHeader, known: TrackedRow | None) -> TrackedRow:
    """Say what is tracked after this batch: what was tracked before, if that is further."""
    if known is not None and known.position >= header.through_position:
        return known
    return TrackedRow(
        incarnation=header.incarnation,
        position=header.through_position,
        root=header.through_root,
    )
