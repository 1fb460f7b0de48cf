"""A log that went back asks every peer for what it has forgotten.

Begins with the new incarnation (`ledger.migration.incarnations`), and is over for a peer when that
one's log was gone through to its end; what came back and how far that is, is in the log, so that a
crash costs at most one answer, and every further start knows whom to ask still. A peer that is away
is asked when it is back.

What comes back are this server's own events, byte for byte: a message of them that its home has is
shipped once more, as after any restore, and acknowledged; it is never delivered twice. Its sound
comes along, so that this server names no message that it cannot play. What no peer holds stays
lost; `LogRecalled` tells how far the log was known to others and what came back, so that it shows
what is missing.

Source: claims 5 and 8.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.errors import CorruptionError, LedgerError, NotFoundError, PeerError, TransientError
from ledger.events import (
    DomainEvent,
    IncarnationStarted,
    LogRecalled,
    MessageStored,
    OpaqueEvent,
    PinChanged,
    ServerId,
    Stamp,
    decode,
)
from ledger.ids import server_stream_id
from ledger.migration.erased_messages import erase_what_came_meanwhile
from ledger.migration.examination import ForeignEvent
from ledger.migration.former_events import blob_of
from ledger.migration.link import PeerClient, PeerLink
from ledger.migration.origin import OriginParts
from ledger.migration.protocol import OwnLog
from ledger.migration.recalled_streams import (
    erase,
    find_forgotten,
    read_recalled,
    restate,
    streams_to_read,
    take,
)
from ledger.migration.travelling_keys import destroyed_by, keys_to_keep, open_sent
from ledger.migration.wire import RecallAnswer, TrackedRow
from ledger.storage.event_log import Append, BlobLocation
from ledger.storage.mapper import to_stored_event

_LOG: Final = logging.getLogger(__name__)

_ATTEMPTS: Final = 10


class Recall:
    """Asks the peers of one server, one after the other. For one event loop."""

    def __init__(self, parts: OriginParts, links: Mapping[ServerId, PeerLink]) -> None:
        self._parts = parts
        self._clients = {peer: PeerClient(link) for peer, link in links.items()}
        self._wake = asyncio.Event()

    def signal(self) -> None:
        """A new incarnation has begun."""
        self._wake.set()

    async def run(self) -> None:
        """Ask whoever was not asked to the end yet; ends only when cancelled."""
        attempts = 0
        while True:
            self._wake.clear()
            if await self._ask_all():
                attempts = 0
                await self._wake.wait()
                continue
            attempts += 1
            settings = self._parts.settings
            ceiling_s = settings.backoff_min_s * 2 ** min(attempts, 30)
            pause_s = self._parts.rng.uniform(0.5, 1.0) * min(ceiling_s, settings.backoff_max_s)
            await self._parts.clock.sleep(pause_s)

    async def _ask_all(self) -> bool:
        """Ask all whose answer is not complete; False when one could not be asked to the end."""
        try:
            own = await self._parts.incarnations.own_log()
            story = await self._story(own)
        except LedgerError as error:
            _LOG.warning("action=recall-not-begun error=%s", error)
            return False
        if not _forgotten(story):
            return True
        is_done = True
        for peer in sorted(self._clients):
            last = _last_of(story, peer)
            if last is not None and last.is_complete:
                continue
            try:
                await self._ask(peer, own, last, _forgotten(story))
            except (LedgerError, IntegrityError) as error:
                _LOG.warning("action=recall-failed peer=%s error=%s", peer, error)
                is_done = False
        return is_done

    async def _story(self, own: OwnLog) -> list[DomainEvent | OpaqueEvent]:
        """Give what this server recorded of itself under the present incarnation."""
        stream = server_stream_id(self._parts.homes.this_server, own.incarnation)
        entries = (await self._parts.log.read_streams([stream])).get(stream, [])
        return [decode(entry.plain, f"position {entry.position}") for entry in entries]

    async def _ask(
        self, peer: ServerId, own: OwnLog, last: LogRecalled | None, forgotten: Sequence[UUID]
    ) -> None:
        """Go through the peer's log to its end."""
        client = self._clients[peer]
        after = last.peer_position if last is not None else 0
        known = last.peer_incarnation if last is not None else None
        counted: set[UUID] = set()
        while True:
            answer = await client.recall(self._parts.homes.this_server, after)
            if known not in (None, answer.incarnation):
                # The peer's own log went back meanwhile: what it holds is to be looked at anew.
                after, known = 0, None
                continue
            known = answer.incarnation
            await self._take(peer, own, answer, forgotten, counted)
            if answer.is_last:
                return
            after = answer.through_position

    async def _take(
        self,
        peer: ServerId,
        own: OwnLog,
        answer: RecallAnswer,
        forgotten: Sequence[UUID],
        counted: set[UUID],
    ) -> None:
        """Append what is new of an answer, and that it was asked for, in one commit.

        ``counted`` are streams that were not taken and are counted already: several answers may
        hold the same one.
        """
        this_server = self._parts.homes.this_server
        streams = read_recalled(answer.events, this_server, peer)
        identity = self._parts.identity
        sent = await self._parts.offload(lambda: open_sent(answer.keys, peer, identity))
        known_until = await self._known_until(own, answer.tracked, forgotten)
        wanted = streams_to_read(streams, this_server, own.incarnations)
        server_stream = server_stream_id(this_server, own.incarnation)
        for _ in range(_ATTEMPTS):
            if (await self._parts.log.head()).incarnation != own.incarnation:
                raise TransientError("the log runs under another incarnation now")
            held = await self._parts.log.read_streams([*wanted, server_stream])
            taken = take(streams, held)
            unsaid = find_forgotten(taken, streams, held, own, this_server)
            words = [foreign for told in unsaid.values() for foreign in told]
            taken.leave(await self._fetch(peer, [*taken.new, *words]))
            left = {s: count for s, count in taken.not_taken.items() if s not in counted}
            if not (taken.new or words or left or answer.is_last):
                return
            stamp = Stamp(at=self._parts.clock.now(), by=this_server)
            gone = taken.calls.intersection(answer.destroyed)
            restated = [
                *restate(taken, streams, held, own, stamp, forgotten=unsaid),
                *erase(taken, held, stamp, gone, peer),
            ]
            recalled = LogRecalled(
                originator_id=server_stream,
                originator_version=len(held.get(server_stream, ())) + 1,
                recorded_at=stamp.at,
                recorded_by=stamp.by,
                peer=peer,
                incarnation=own.incarnation,
                peer_incarnation=answer.incarnation,
                peer_position=answer.through_position,
                is_complete=answer.is_last,
                known_until=known_until,
                common_until=taken.common_until,
                events=len(taken.new),
                messages=sum(isinstance(one.event, MessageStored) for one in taken.new),
                not_taken=sum(left.values()),
            )
            own_events = [to_stored_event(event) for event in (*restated, recalled)]
            try:
                # A crash before this commit leaves blobs that no event names; the same answer is
                # asked for again. After it, the next stretch is.
                await self._parts.log.append(
                    Append(
                        [*(one.stored for one in taken.new), *own_events],
                        keys=[
                            *keys_to_keep(self._parts.vault, sent.values(), taken.calls),
                            *self._parts.vault.destroy(gone),
                            *destroyed_by((one.event.topic, one.plain) for one in taken.new),
                        ],
                    )
                )
            except IntegrityError:
                continue  # Somebody else wrote to one of the streams: look again.
            counted |= left.keys()
            _tell(recalled)
            await erase_what_came_meanwhile(
                self._parts.log, this_server, self._parts.clock, taken.calls
            )
            return
        raise TransientError("what came back is being changed by others; this is asked for again")

    async def _known_until(
        self, own: OwnLog, rows: Sequence[TrackedRow], forgotten: Sequence[UUID]
    ) -> int:
        """Give how far the peer had known this log, where that is more than it still holds."""
        known_until = 0
        for row in rows:
            if row.incarnation in forgotten and row.position > known_until:
                is_held = row.position <= own.position
                if not is_held or (await self._root(row.position)) != row.root:
                    known_until = row.position
        return known_until

    async def _root(self, position: int) -> str:
        return (await self._parts.log.root_at(position)).hex()

    async def _fetch(self, peer: ServerId, new: Sequence[ForeignEvent]) -> set[UUID]:
        """Get the sounds that come with events; give the calls of messages whose sound is gone."""
        soundless: set[UUID] = set()
        last_pin = {
            one.event.mailbox: one.event for one in new if isinstance(one.event, PinChanged)
        }
        for one in new:
            event, named = one.event, blob_of(one.event)
            if isinstance(event, PinChanged) and last_pin[event.mailbox] is not event:
                continue  # What an older PIN was checked against is thrown away.
            if named is None or await self._hold(named[0]):
                continue
            if not await self._fetch_one(peer, event, named[0]) and isinstance(
                event, MessageStored
            ):
                soundless.add(event.originator_id)
        return soundless

    async def _fetch_one(
        self, peer: ServerId, event: DomainEvent | OpaqueEvent, digest: str
    ) -> bool:
        data = await self._clients[peer].blob(event.originator_id, event.originator_version)
        if data is None:
            _LOG.warning("action=blob-not-recalled peer=%s blob=%s", peer, digest)
            return False
        if hashlib.sha256(data).hexdigest() != digest:
            raise PeerError(f"blob {digest} came back damaged from {peer}", peer=peer)
        await self._parts.offload(partial(self._parts.blobs.put, digest, data))
        return True

    async def _hold(self, digest: str) -> bool:
        """Is it here? Then it counts as written now: nothing here may have needed it so far."""
        located = await self._parts.log.locate_blobs([digest])
        return await self._parts.offload(partial(self._keep_loose, digest, located.get(digest)))

    def _keep_loose(self, digest: str, location: BlobLocation | None) -> bool:
        blobs = self._parts.blobs
        # A crash after this leaves a loose copy that no event names yet: it is found again.
        try:
            blobs.put(digest, blobs.get(digest, location))
        except (NotFoundError, CorruptionError):
            return False
        return True


def _forgotten(story: Sequence[DomainEvent | OpaqueEvent]) -> list[UUID]:
    """Give the incarnations that the present one follows; none when the log never went back."""
    return [event.previous for event in story if isinstance(event, IncarnationStarted)]


def _last_of(story: Sequence[DomainEvent | OpaqueEvent], peer: ServerId) -> LogRecalled | None:
    told = (event for event in story if isinstance(event, LogRecalled) and event.peer == peer)
    return max(told, key=lambda event: event.originator_version, default=None)


def _tell(recalled: LogRecalled) -> None:
    _LOG.warning(
        "action=log-recalled peer=%s complete=%s known_until=%d events=%d messages=%d not_taken=%d",
        recalled.peer,
        recalled.is_complete,
        recalled.known_until,
        recalled.events,
        recalled.messages,
        recalled.not_taken,
    )
