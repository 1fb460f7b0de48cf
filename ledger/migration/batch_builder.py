"""An origin reads its log and makes batches for one peer.

Reading goes page by page from the agreed position; what does not concern the peer is passed over.
At most one page of parcels waits in memory, and audio is read only for the batch that is being
made. A message whose audio cannot be read is left out and reported, so that it never holds up the
ones behind it.

Source: claims 5 and 8 (retrieve and send).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from ledger.configuration import Homes, Replication
from ledger.errors import CorruptionError, NotFoundError
from ledger.events import MessageDelivered, ServerId, decode
from ledger.ids import message_stream_id
from ledger.migration.audience import (
    SENDS,
    TRIGGERS,
    AnyEvent,
    Shipment,
    build_shipment,
    may_be_for,
)
from ledger.migration.refusal_reason import RefusalReason
from ledger.migration.travelling_keys import find_keys, seal_found
from ledger.migration.wire import (
    MAX_BODY_BYTES,
    MAX_DIGESTS,
    MAX_HEADER_BYTES,
    BatchHeader,
    BlobEntry,
)
from ledger.migration.wire_bytes import encode_batch
from ledger.offload import Offload
from ledger.storage.blob_store import BlobStore
from ledger.storage.event_log import BlobLocation, LogEntry
from ledger.storage.group_commit import EventLog
from ledger.storage.vault import FoundKey, Vault

_PAGE: Final = 500
ADVANCE_EVERY: Final = 5000
"""After so many positions without anything for the peer it is told so, lest the next contact reads
them all again."""
_MAX_AUDIO_BYTES: Final = MAX_BODY_BYTES - MAX_HEADER_BYTES
_MAX_TOLD_BYTES: Final = MAX_HEADER_BYTES // 4
"""Of the events in a batch that holds several parcels. Each parcel tells its stream from the
beginning, so those of a long stream are much more than what is new in them."""

Stream: TypeAlias = list[tuple[LogEntry, AnyEvent]]
AskMissing: TypeAlias = Callable[[Sequence[str]], Awaitable[frozenset[str]]]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that a batch delivers."""

    position: int
    """Of its parcel."""
    stream: UUID
    """In which its journey is told here: its call's, or its own where it was at home."""
    message_id: UUID
    version: int
    """Of the event that sends it, in that stream."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A message that cannot be sent."""

    delivery: Delivery
    reason: str
    """A word of `RefusalReason`."""
    detail: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A batch that is ready to be sent, and what it means to us."""

    incarnation: UUID
    after: int
    through: int
    through_root: str
    body: bytes
    positions: tuple[int, ...]
    """Of its parcels."""
    deliveries: tuple[Delivery, ...]
    erasures: Mapping[int, UUID]
    """Position of a parcel → the call whose key it asks the peer to destroy."""
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class _Unreadable:
    reason: str
    detail: str


class BatchBuilder:
    """Makes the batches for one peer, in order. For one task."""

    def __init__(
        self,
        *,
        homes: Homes,
        peer: ServerId,
        log: EventLog,
        blobs: BlobStore,
        vault: Vault,
        offload: Offload,
        settings: Replication,
        ask_missing: AskMissing,
    ) -> None:
        self._homes = homes
        self._peer = peer
        self._log = log
        self._blobs = blobs
        self._vault = vault
        self._offload = offload
        self._settings = settings
        self._ask_missing = ask_missing
        self._waiting: deque[Shipment] = deque()
        self.max_parcels = settings.batch_max_messages
        """Lowered to find out which message a peer cannot bear."""
        self.max_bytes = settings.batch_max_bytes
        """Lowered where no more may be sent at once."""
        self.incarnation = UUID(int=0)
        """Whose batches are made; of no log before the first `restart`."""
        self._contact = ""
        self._made = self._scanned = self._known_until = self._seen_until = 0
        self._skipped: set[int] = set()
        self._last_root = (-1, "")

    def restart(
        self, incarnation: UUID, *, contact: str, after: int, known_until: int, seen_until: int
    ) -> None:
        """Begin anew behind a position, after a contact, which its nonce names.

        Behind ``seen_until`` the peer certainly has nothing. Up to ``known_until`` the peer
        probably has the audio already: it is asked before any is sent.
        """
        is_where_it_was = incarnation == self.incarnation and after == self._made
        if not is_where_it_was or self._waiting:
            # Else what was passed over need not be read again at every probe.
            self._scanned = after
            self._waiting.clear()
        self.incarnation = incarnation
        self._contact = contact
        self._made = after
        self._known_until = known_until
        self._seen_until = seen_until

    def skip(self, position: int) -> None:
        """Leave the parcel at this position out until the next start of the server."""
        self._skipped.add(position)

    async def next(self, head: int) -> Draft | None:
        """Make the next batch from the log up to ``head``; None when nothing is left for the peer.

        Raises TransientError when our stores cannot work, and what ``ask_missing`` raises; then
        `restart` before the next call.
        """
        while not self._is_full() and self._scanned < head:
            await self._scan_page(head)
        if not self._waiting and self._scanned - self._made < ADVANCE_EVERY:
            return None
        shipments = self._take()
        after = self._made
        self._made = self._waiting[0].parcel.position - 1 if self._waiting else self._scanned
        return await self._draft(shipments, after, self._made)

    def _is_full(self) -> bool:
        size_bytes = sum(_size(shipment) for shipment in self._waiting)
        told_bytes = sum(shipment.told_bytes for shipment in self._waiting)
        is_long = len(self._waiting) >= self.max_parcels or told_bytes >= _MAX_TOLD_BYTES
        return is_long or size_bytes >= self.max_bytes

    async def _scan_page(self, head: int) -> None:
        page = await self._log.read(self._scanned + 1, _PAGE, head)
        own = [(e, _decode(e)) for e in page if e.origin is None and e.topic in TRIGGERS]
        # With fifty peers almost all is for others: their streams need not be read.
        triggers = [(e, event) for e, event in own if may_be_for(event, self._peer)]
        streams = await self._streams([event for _, event in triggers])
        for trigger, event in triggers:
            if trigger.position in self._skipped or self._is_over(event, streams):
                continue
            stream = streams[trigger.originator_id]
            others = _earlier(stream, streams)
            shipment = build_shipment(trigger, stream, self._peer, others)
            if shipment is not None:
                self._waiting.append(shipment)
        self._scanned = page[-1].position if page else head

    async def _streams(self, triggers: Sequence[AnyEvent]) -> dict[UUID, Stream]:
        """Read the triggers' streams, and all that tell of messages that leave this server."""
        if not triggers:
            return {}
        ids = {trigger.originator_id: None for trigger in triggers}
        ids |= dict.fromkeys(own for t in triggers if (own := self._own_stream(t)) is not None)
        streams = _decoded(await self._log.read_streams(list(ids)))
        leaving = [stream for stream, told in streams.items() if _is_left(told)]
        if leaving:
            streams |= _decoded(await self._log.read_with_earlier(leaving))
        return streams

    def _own_stream(self, trigger: AnyEvent) -> UUID | None:
        message_id = getattr(trigger, "message_id", None)
        return message_stream_id(message_id, self._homes.this_server) if message_id else None

    def _is_over(self, trigger: AnyEvent, streams: Mapping[UUID, Stream]) -> bool:
        """Is this of a call whose message came to this server as its home, since or at once?

        What is to be said of it from then on stands in the message's own stream.
        """
        own = self._own_stream(trigger)
        return own is not None and own != trigger.originator_id and own in streams

    def _take(self) -> list[Shipment]:
        """Take from what waits, up to the bounds of a batch but at least one."""
        taken: list[Shipment] = []
        size_bytes = told_bytes = 0
        while self._waiting and len(taken) < self.max_parcels:
            size_bytes += _size(self._waiting[0])
            told_bytes += self._waiting[0].told_bytes
            if taken and (size_bytes > self.max_bytes or told_bytes > _MAX_TOLD_BYTES):
                break
            taken.append(self._waiting.popleft())
        return taken

    async def _draft(self, shipments: Sequence[Shipment], after: int, through: int) -> Draft:
        calls = {call for shipment in shipments for call in shipment.calls}
        keys = await find_keys(self._vault, self._offload, calls)
        shipments = [s for s in shipments if not _is_erased(s, keys)]
        audio = await self._load(shipments)
        moved = [left for s in shipments if (left := self._moved(s)) is not None]
        sent, left_out = _sort_out(shipments, audio, moved)
        root = await self._root(through)
        wanted = {digest for s in sent for digest, _ in s.blobs}
        blobs = {d: data for d, data in audio.items() if d in wanted and isinstance(data, bytes)}
        header = BatchHeader(
            origin=self._homes.this_server,
            home=self._peer,
            incarnation=self.incarnation,
            contact=self._contact,
            after_position=after,
            after_root=await self._root(after),
            through_position=through,
            through_root=root,
            parcels=tuple(shipment.parcel for shipment in sent),
            blobs=tuple(BlobEntry(d, len(data)) for d, data in blobs.items()),
            keys=self._seal({c: keys[c] for s in sent for c in s.calls if c in keys}),
        )
        body = await self._offload(lambda: encode_batch(header, list(blobs.values())))
        return Draft(
            incarnation=self.incarnation,
            after=after,
            through=through,
            through_root=root,
            body=body,
            positions=tuple(shipment.parcel.position for shipment in sent),
            deliveries=tuple(d for d in map(_delivery, sent) if d is not None),
            erasures={s.parcel.position: s.erased for s in sent if s.erased is not None},
            left_out=tuple(left_out),
        )

    def _seal(self, keys: Mapping[UUID, FoundKey]) -> bytes:
        homes = self._homes
        peer = homes.directory.entry(self._peer)
        return seal_found(keys, homes.this_server, peer, self._vault.random_bytes)

    def _moved(self, shipment: Shipment) -> LeftOut | None:
        """Does the mailbox of a message live elsewhere now, and has the peer never seen it?

        What the peer may have taken in already is sent all the same: its answer says whether the
        message is there, and only if it is not may the message go to its new home.
        """
        delivery, message = _delivery(shipment), shipment.message
        if delivery is None or message is None or delivery.position <= self._seen_until:
            return None
        home = self._homes.name_of_home(message.mailbox)
        if home in (None, self._peer):
            return None
        detail = f"mailbox {message.mailbox} lives on {home} as far as this server knows"
        return LeftOut(delivery, RefusalReason.NOT_MY_MAILBOX, detail)

    async def _root(self, position: int) -> str:
        """Give the root at a position; mostly it is asked for as the end of the batch before."""
        if self._last_root[0] != position:
            self._last_root = (position, (await self._log.root_at(position)).hex())
        return self._last_root[1]

    async def _load(self, shipments: Sequence[Shipment]) -> dict[str, bytes | _Unreadable]:
        """Read the audio that the peer may lack; what it has already is left out of the result."""
        known = [s for s in shipments if s.parcel.position <= self._known_until]
        asked = dict.fromkeys(digest for s in known for digest, _ in s.blobs)
        there = await self._held_by_peer(list(asked))
        wanted = {d: size for s in shipments for d, size in s.blobs if d not in there}
        locations = await self._log.locate_blobs(list(wanted))
        audio = await self._offload(lambda: self._read_all(wanted, locations))
        unreadable = [d for d, data in audio.items() if isinstance(data, _Unreadable)]
        for digest in await self._held_by_peer(unreadable):
            del audio[digest]
        return audio

    async def _held_by_peer(self, digests: Sequence[str]) -> frozenset[str]:
        there: set[str] = set()
        for start in range(0, len(digests), MAX_DIGESTS):
            asked = digests[start : start + MAX_DIGESTS]
            there |= set(asked) - await self._ask_missing(asked)
        return frozenset(there)

    def _read_all(
        self, wanted: Mapping[str, int], locations: Mapping[str, BlobLocation]
    ) -> dict[str, bytes | _Unreadable]:
        return {d: self._read(d, size, locations.get(d)) for d, size in wanted.items()}

    def _read(
        self, digest: str, size_bytes: int, location: BlobLocation | None
    ) -> bytes | _Unreadable:
        if size_bytes > _MAX_AUDIO_BYTES:
            return _Unreadable(RefusalReason.TOO_LARGE, f"blob {digest} has {size_bytes} bytes")
        try:
            return self._blobs.get(digest, location)
        except NotFoundError as error:
            return _Unreadable(RefusalReason.AUDIO_MISSING, error.message)
        except CorruptionError as error:
            return _Unreadable(RefusalReason.AUDIO_CORRUPT, error.message)


def _decode(entry: LogEntry) -> AnyEvent:
    return decode(entry.plain, f"position {entry.position}")


def _decoded(streams: Mapping[UUID, Sequence[LogEntry]]) -> dict[UUID, Stream]:
    return {
        stream: [(entry, _decode(entry)) for entry in entries]
        for stream, entries in streams.items()
    }


def _is_left(stream: Stream) -> bool:
    """Is this a home's stream of a message that was sent away from it?"""
    events = [event for _, event in stream]
    return isinstance(events[0], MessageDelivered) and any(isinstance(e, SENDS) for e in events)


def _earlier(stream: Stream, streams: Mapping[UUID, Stream]) -> Stream:
    """Give the other streams that tell of a message that was at home here."""
    found: dict[UUID, Stream] = {stream[0][0].originator_id: stream}
    queue = [stream]
    while queue:
        for _, event in queue.pop():
            named = event.earlier_streams if isinstance(event, MessageDelivered) else ()
            for other in named:
                if other in streams and other not in found:
                    found[other] = streams[other]
                    queue.append(streams[other])
    return [told for other in list(found.values())[1:] for told in other]


def _size(shipment: Shipment) -> int:
    return sum(size_bytes for _, size_bytes in shipment.blobs)


def _is_erased(shipment: Shipment, keys: Mapping[UUID, FoundKey]) -> bool:
    """Does it bring a message of which nobody can read anything any more? It need not go."""
    gone = (call for call in shipment.calls if call in keys and keys[call] is None)
    return shipment.message is not None and any(gone)


def _delivery(shipment: Shipment) -> Delivery | None:
    message = shipment.message
    if message is None:
        return None
    return Delivery(shipment.parcel.position, shipment.stream, message.message_id, shipment.version)


def _sort_out(
    shipments: Sequence[Shipment],
    audio: Mapping[str, bytes | _Unreadable],
    moved: Sequence[LeftOut],
) -> tuple[list[Shipment], list[LeftOut]]:
    """Part messages that can be sent from those that moved or whose audio cannot be read."""
    sent: list[Shipment] = []
    left_out = list(moved)
    elsewhere = {left.delivery.position for left in moved}
    for shipment in shipments:
        if shipment.parcel.position in elsewhere:
            continue
        delivery = _delivery(shipment)
        problems = (audio.get(digest) for digest, _ in shipment.blobs)
        problem = next((p for p in problems if isinstance(p, _Unreadable)), None)
        if delivery is not None and problem is not None:
            left_out.append(LeftOut(delivery, problem.reason, problem.detail))
        else:
            # A greeting without its audio still goes: the home refuses it and says why.
            sent.append(shipment)
    return sent, left_out
