"""All shipping of one server: a worker a peer, what wakes them, and what follows them.

Source: claims 4, 5 and 8.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from ledger.errors import CallerError, ConflictError, CorruptionError, LedgerError
from ledger.events import ServerId, decode
from ledger.migration.audience import SENDS, TRIGGERS, stored_of
from ledger.migration.link import PeerLink
from ledger.migration.mailbox_follower import MailboxFollower
from ledger.migration.origin import OriginParts, PeerStatus, PeerWorker
from ledger.migration.protocol import OriginInput
from ledger.migration.recall import Recall
from ledger.migration.settlement import OPERATOR
from ledger.storage.event_log import LogEntry, LogHead

_LOG: Final = logging.getLogger(__name__)

_REMEMBERED: Final = 10_000
"""Messages that arrived lately, for callers that ask a moment too late."""
_PAGE: Final = 500
_RETRY_S: Final = 5.0


class Deliveries:
    """Ships messages to their homes. For one event loop."""

    def __init__(self, parts: OriginParts, links: Mapping[ServerId, PeerLink]) -> None:
        """Make a worker for each peer of the configuration; ``links`` has a link for each."""
        self._parts = parts
        self._links = links
        self._workers = {
            peer.id: PeerWorker(peer, links[peer.id], parts, self._note_migrated)
            for peer in parts.homes.directory.peers
        }
        self._follower = MailboxFollower(
            homes=parts.homes,
            log=parts.log,
            clock=parts.clock,
            settlement=parts.settlement,
            is_asked=self._workers.__contains__,
        )
        self._recall = Recall(parts, links)
        parts.incarnations.on_started = self._recall.signal
        self._tasks: list[asyncio.Task[None]] = []
        self._waiters: dict[tuple[ServerId, UUID], asyncio.Event] = {}
        self._arrived: OrderedDict[tuple[ServerId, UUID], None] = OrderedDict()
        self._grown = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Begin to ship."""
        self._loop = asyncio.get_running_loop()
        self._parts.log.add_listener(self._log_grew)
        head = await self._parts.log.head()
        self._tasks = [
            asyncio.create_task(worker.run(), name=f"ship-to-{worker.peer}")
            for worker in self._workers.values()
        ]
        self._tasks.append(asyncio.create_task(self._wake_workers(head.position), name="wake"))
        for name, work in (("follow", self._follower.run()), ("again", self._follower.run_again())):
            self._tasks.append(asyncio.create_task(work, name=f"mailboxes-{name}"))
        self._tasks.append(asyncio.create_task(self._recall.run(), name="recall"))

    async def stop(self) -> None:
        """End all shipping; what is in flight arrives or is sent again after the next start."""
        self._loop = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for link in self._links.values():
            await link.close()

    def inbound(self, peer: ServerId) -> None:
        """The peer contacted us: it is worth trying at once."""
        worker = self._workers.get(peer)
        if worker is not None:
            worker.signal(OriginInput.INBOUND)

    def statuses(self) -> list[PeerStatus]:
        """Say how the shipping to each peer is going."""
        return [worker.status for worker in self._workers.values()]

    def release_position(self, peer: ServerId) -> int:
        """Give the position of our log up to which a verified backup of the peer covers it."""
        worker = self._workers.get(peer)
        return worker.status.safe_position if worker is not None else 0

    async def deliver_now(self, message_id: UUID, home: ServerId, deadline_s: float) -> bool:
        """Wake the shipping to this home; True when its receipt for the message is recorded here.

        False after the deadline: the message stays here and is shipped later, by itself.
        """
        worker = self._workers.get(home)
        if worker is None:
            return False
        key = (home, message_id)
        if key in self._arrived:
            return True
        waiter = self._waiters.setdefault(key, asyncio.Event())
        worker.signal(OriginInput.WANTED)
        try:
            async with asyncio.timeout(deadline_s):
                await waiter.wait()
        except TimeoutError:
            return key in self._arrived
        finally:
            self._waiters.pop(key, None)
        return True

    async def requeue(self, call_id: UUID, message_id: UUID) -> None:
        """Ship a held or refused message again, to the home that the configuration names now.

        Raises NotFoundError or ConflictError as `Settlement.requeue`; also ConflictError when this
        server is that home and has not got the recording.
        """
        await self._expect_sound(call_id, message_id)
        home = await self._parts.settlement.requeue(call_id, message_id, OPERATOR)
        _LOG.info("action=requeued message=%s home=%s", message_id, home)

    async def _expect_sound(self, call_id: UUID, message_id: UUID) -> None:
        """Deliver nothing here that nobody can play; what goes elsewhere is looked at there."""
        parts = self._parts
        entries = (await parts.log.read_streams([call_id])).get(call_id, [])
        events = [decode(entry.plain, f"position {entry.position}") for entry in entries]
        stored = stored_of(message_id, events)
        if stored is None or parts.homes.name_of_home(stored.mailbox) != parts.homes.this_server:
            return
        location = (await parts.log.locate_blobs([stored.blob])).get(stored.blob)
        try:
            await parts.offload(partial(parts.blobs.get, stored.blob, location))
            if stored.is_sealed:
                await parts.offload(partial(parts.vault.key, call_id))
        except (CallerError, CorruptionError) as error:
            raise ConflictError(
                f"message {message_id} is to be delivered on this server, and its recording or key "
                f"is not here as it was ({error}); restore that from a backup, then try again"
            ) from error

    def _note_migrated(self, home: ServerId, messages: Iterable[UUID]) -> None:
        for message_id in messages:
            key = (home, message_id)
            self._arrived[key] = None
            waiter = self._waiters.get(key)
            if waiter is not None:
                waiter.set()
        while len(self._arrived) > _REMEMBERED:
            self._arrived.popitem(last=False)

    def _log_grew(self, _head: LogHead) -> None:
        """Called after each commit, in whatever thread made it."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed in this very moment
                loop.call_soon_threadsafe(self._grown.set)

    async def _wake_workers(self, position: int) -> None:
        """Read what is new once, and wake only those whom it concerns."""
        while True:
            await self._grown.wait()
            self._grown.clear()
            try:
                while page := await self._parts.log.read(position + 1, _PAGE):
                    position = page[-1].position
                    self._follower.note(page)
                    self._signal(self._concerned(page))
            except LedgerError as error:
                _LOG.warning("action=log-not-read error=%s", error)
                self._signal(self._workers)
                await self._parts.clock.sleep(_RETRY_S)
                self._grown.set()

    def _concerned(self, page: Sequence[LogEntry]) -> set[ServerId]:
        peers: set[ServerId] = set()
        for entry in page:
            if entry.origin is not None or entry.topic not in TRIGGERS:
                continue
            event = decode(entry.plain, f"position {entry.position}")
            if isinstance(event, SENDS):
                peers.add(event.home)
            else:
                return set(self._workers)
        return peers

    def _signal(self, peers: Iterable[ServerId]) -> None:
        for peer in sorted(peers):
            if peer in self._workers:
                self._workers[peer].signal(OriginInput.NEW_EVENTS)


def is_releasable(
    *,
    position: int,
    migrated_at: datetime | None,
    safe_position: int,
    now: datetime,
    keep_for: timedelta,
) -> bool:
    """May the origin free its copy of a migrated message's audio?

    Yes when a verified backup of the home covers it, and in any case ``keep_for`` after the home
    acknowledged it; never before that acknowledgement (``migrated_at`` None). ``position`` is the
    one in our log under which the message was shipped.
    """
    if migrated_at is None:
        return False
    return position <= safe_position or now - migrated_at >= keep_for
