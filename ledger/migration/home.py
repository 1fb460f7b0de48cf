"""The home's side: take in what other servers ship, once, whole and in order, and sign for it.

A batch is read and checked off the event loop, then taken in on its origin's turn
(`ledger.migration.intake`). After that the receipt is signed; so a receipt is given for what is on
disk, or not at all. A crash before the receipt leaves a batch whose answer was lost, and the next
try answers the same.

Source: claims 7 and 8.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.clock import Clock
from ledger.configuration import Homes, Limits
from ledger.errors import CorruptionError, NotFoundError, PeerError, TransientError
from ledger.events import BackupVerified, Receipt, ServerId, decode
from ledger.identity import ServerIdentity
from ledger.ids import server_stream_id
from ledger.migration.admission import Admission
from ledger.migration.examination import Examined, examine_all
from ledger.migration.former_events import blob_named_by, former_events
from ledger.migration.intake import Intake, TakenIn
from ledger.migration.link import Route
from ledger.migration.log_sharing import LogSharing
from ledger.migration.log_stretches import read_stretch
from ledger.migration.protocol import HOME_TABLE, LIVE_FOR_S, HomeAction, relate, tracked_of
from ledger.migration.receipts import sign_receipt
from ledger.migration.safe_positions import SafePositions
from ledger.migration.stories import FindCall, StoryTeller, knows_no_call
from ledger.migration.travelling_keys import find_keys, open_sent, seal_found
from ledger.migration.wire import (
    MAX_BLOB_ANSWER_BYTES,
    VERSION,
    Accepted,
    Answer,
    Batch,
    BatchHeader,
    BlobAnswer,
    BlobRequest,
    Blobs,
    BlobsRequest,
    Busy,
    ContactAnswer,
    ContactRequest,
    CopyingQuestion,
    Gap,
    LogAnswer,
    LogPageRequest,
    LogRequest,
    LogStateRequest,
    MissingAnswer,
    MissingRequest,
    Question,
    RecallAnswer,
    RecallRequest,
    Refusal,
    RefusedVersion,
    Rejected,
    StoryRequest,
    TrackedRow,
    WitnessRequest,
)
from ledger.migration.wire_bytes import decode_batch, decode_request, encode_answer, encode_blobs
from ledger.migration.witness import Witness
from ledger.offload import Offload
from ledger.sealing import MessageKey
from ledger.storage.blob_store import BlobStore
from ledger.storage.event_log import LogHead
from ledger.storage.group_commit import EventLog
from ledger.storage.peer_cursors import HomeMark
from ledger.storage.vault import Vault

_LOG: Final = logging.getLogger(__name__)

PREDECESSOR_WAIT_S: Final = 2.0
"""How long a batch waits for the one before it, which may still be on another connection."""
_CORRUPTION_PAUSE_S: Final = 60.0
_ATTEMPTS: Final = 5


@dataclass(slots=True)
class _Origin:
    """What this process knows of one origin."""

    turn: asyncio.Condition = field(default_factory=asyncio.Condition)
    """Held while a batch is taken in; notified after each."""
    seen_s: dict[UUID, float] = field(default_factory=dict)
    """When it last made contact under each incarnation, in monotonic time."""
    contact: str | None = None
    """The nonce of its last contact. What it sent before, however late it comes, is overtaken."""


def _nothing(_peer: ServerId) -> None:
    pass


def _unheard(_error: TransientError) -> None:
    pass


class Receiver:
    """Takes in batches of all origins: each origin's one by one, different origins' side by side.

    For one event loop, and one process a home: it remembers each origin's last contact.
    """

    def __init__(
        self,
        *,
        identity: ServerIdentity,
        homes: Homes,
        log: EventLog,
        blobs: BlobStore,
        vault: Vault,
        clock: Clock,
        offload: Offload,
        rng: random.Random,
        limits: Limits,
        witness: Witness,
        on_inbound: Callable[[ServerId], None] = _nothing,
        find_call: FindCall = knows_no_call,
        sharing: LogSharing | None = None,
    ) -> None:
        """Join the parts. ``on_inbound`` is told of every contact: the peer is there.

        ``sharing`` gives whole logs to those who may have them; without it nobody gets any.
        """
        self._identity = identity
        self._homes = homes
        self._log = log
        self._blobs = blobs
        self._vault = vault
        self._clock = clock
        self._offload = offload
        self._witness = witness
        self._on_inbound = on_inbound
        self._sharing = sharing
        self._origins: defaultdict[ServerId, _Origin] = defaultdict(_Origin)
        self._safe = SafePositions()
        self._intake = Intake(
            homes=homes, log=log, blobs=blobs, vault=vault, clock=clock, offload=offload
        )
        self.stories = StoryTeller(homes.this_server, log.recorder, offload, find_call)
        """What this server's own log tells of messages."""
        self.admission = Admission(limits.concurrent_batches, rng)
        """Whoever reads a body for `handle` from a network holds a place here first."""
        self.on_busy: Callable[[TransientError], None] = _unheard
        """Told of every request that is asked to come back later."""

    async def handle(self, sender: ServerId, route: Route, body: bytes) -> bytes:
        """Answer a message of a peer whose identity is proved. Never raises a LedgerError."""
        answer = await self._answer(sender, route, body)
        if isinstance(answer, Blobs):
            blobs = answer
            return await self._offload(lambda: encode_blobs(blobs))
        return encode_answer(answer)

    async def _answer(self, sender: ServerId, route: Route, body: bytes) -> Answer | Blobs:
        try:
            self._expect_peer(sender)
            if route is Route.BATCH:
                batch = await self._offload(lambda: decode_batch(body, sender))
                return await self.receive_batch(sender, batch)
            request = decode_request(body, sender)
            if isinstance(request, CopyingQuestion):
                return await self._share(sender, request)
            return await self._answer_question(sender, request)
        except PeerError as error:
            _LOG.warning("action=rejected peer=%s error=%s", sender, error)
            return Rejected(reason=error.message)
        except TransientError as error:
            self.on_busy(error)
            _LOG.warning("action=busy peer=%s error=%s", sender, error)
            return Busy(retry_after_s=error.retry_after_s)
        except CorruptionError:
            # Our own store is damaged. The origin keeps what it has and will try again.
            _LOG.exception("action=corruption peer=%s", sender)
            return Busy(retry_after_s=_CORRUPTION_PAUSE_S)

    async def _answer_question(  # noqa: PLR0911 - one for each question
        self, sender: ServerId, request: Question
    ) -> Answer:
        match request:
            case MissingRequest():
                return await self.missing(request)
            case RecallRequest():
                return await self.recall(sender, request)
            case BlobRequest():
                return await self.blob(sender, request)
            case ContactRequest():
                return await self.contact(sender, request)
            case WitnessRequest():
                self._expect_addressed(sender, request.origin, request.home)
                return await self._witness.answer(sender, request)
            case StoryRequest():
                return await self.stories.tell(request.message_id, request.call_id)
            case LogRequest():
                return await self.log_stretch(sender, request)

    async def _share(self, sender: ServerId, request: CopyingQuestion) -> Answer | Blobs:
        """Give of a whole log what the sender may have."""
        if self._sharing is None:
            raise PeerError("this server shares no logs", peer=sender)
        match request:
            case LogStateRequest():
                return await self._sharing.state(sender, request, await self._rows(sender))
            case LogPageRequest():
                return await self._sharing.page(sender, request)
            case BlobsRequest():
                return await self._sharing.blobs(sender, request)

    def _expect_peer(self, sender: ServerId) -> None:
        if all(entry.id != sender for entry in self._homes.directory.peers):
            raise PeerError(f"server {sender!r} is not in this configuration", peer=sender)

    async def contact(self, sender: ServerId, request: ContactRequest) -> Answer:
        """Say how far the sender's log is taken in here."""
        self._expect_addressed(sender, request.origin, request.home)
        if VERSION not in request.versions:
            return RefusedVersion(versions=(VERSION,))
        self._note_contact(sender, request.incarnation)
        origin = self._origins[sender]
        origin.contact = request.nonce
        async with origin.turn:  # what is being taken in counts, what waits does not
            origin.turn.notify_all()
            rows = await self._rows(sender)
        self._watch_for_clones(sender, request.incarnation, rows)
        head = await self._log.head()
        await self._note_backups(head)
        return ContactAnswer(
            nonce=request.nonce,
            home=self._homes.this_server,
            home_incarnation=head.incarnation,
            tracked=rows,
            receipt=self._receipt(sender, tracked_of(rows, request.incarnation), head),
            kept=await self._kept(request.marks, head),
        )

    async def _kept(self, marks: Sequence[HomeMark], head: LogHead) -> int:
        """Count the marks that are in our log, up to the first that is not.

        One behind it may be there all the same: a receipt that was signed since this log went back.
        """
        for count, mark in enumerate(marks):
            if mark.home_position > head.position:
                return count
            root = await self._log.root_at(mark.home_position)
            if root.hex() != mark.home_root:
                return count
        return len(marks)

    async def missing(self, request: MissingRequest) -> MissingAnswer:
        """Say which of these blobs are not here."""
        here = await self._intake.held_blobs(request.digests)
        return MissingAnswer(digests=tuple(d for d in request.digests if d not in here))

    async def recall(self, sender: ServerId, request: RecallRequest) -> RecallAnswer:
        """Give back what the sender recorded and is held here: its own log has forgotten it."""
        self._expect_addressed(sender, request.origin, request.home)
        rows = await self._rows(sender)
        find = partial(find_keys, self._vault, self._offload)
        seal = partial(
            seal_found,
            sender=self._homes.this_server,
            receiver=self._homes.directory.entry(sender),
            random_bytes=self._vault.random_bytes,
        )
        after = request.after_position
        return await former_events(self._log, sender, after, rows, find_keys=find, seal=seal)

    async def log_stretch(self, sender: ServerId, request: LogRequest) -> LogAnswer:
        """Give the hashes of a stretch of this log, for a peer that holds its own against it."""
        self._expect_addressed(sender, request.origin, request.home)
        recorder, this_server = self._log.recorder, self._homes.this_server
        return await self._offload(lambda: read_stretch(recorder, this_server, sender, request))

    async def blob(self, sender: ServerId, request: BlobRequest) -> BlobAnswer:
        """Give the blob that an event of the sender names; none for an event of anybody else."""
        named = await blob_named_by(self._log, sender, request.stream, request.version)
        if named is None or named[1] > MAX_BLOB_ANSWER_BYTES:
            return BlobAnswer(data=None)
        digest = named[0]
        location = (await self._log.locate_blobs([digest])).get(digest)
        try:
            return BlobAnswer(data=await self._offload(lambda: self._blobs.get(digest, location)))
        except (NotFoundError, CorruptionError):
            return BlobAnswer(data=None)

    async def receive_batch(self, sender: ServerId, batch: Batch) -> Accepted | Gap:
        """Take in a batch; what is not refused is durable when this returns.

        Raises PeerError for a batch that breaks the protocol, and TransientError when it cannot be
        taken in now; nothing was changed then.
        """
        header = batch.header
        _expect_order(header, sender)
        self._expect_addressed(sender, header.origin, header.home)
        origin = self._origins[sender]
        sent, examined = await self._offload(lambda: self._examine(sender, batch))
        deadline_s = asyncio.get_running_loop().time() + PREDECESSOR_WAIT_S

        def decide(rows: Sequence[TrackedRow]) -> HomeAction:
            return HOME_TABLE[relate(rows, header, is_overtaken=origin.contact != header.contact)]

        async with origin.turn:
            for _ in range(_ATTEMPTS):
                rows = await self._rows_in_turn(sender, decide, deadline_s)
                if decide(rows) not in (HomeAction.TAKE_IN, HomeAction.LOOK_AGAIN):
                    _LOG.warning("action=gap peer=%s after=%d", sender, header.after_position)
                    return Gap(tracked=rows)
                try:
                    taken = await self._intake.take_in(batch, sent, examined, rows)
                except IntegrityError:
                    continue  # Something of it came in meanwhile: look again at what is here.
                origin.turn.notify_all()
                return self._accept(header, taken)
        raise TransientError(f"the log of {sender} is being taken in by another process")

    def _examine(
        self, sender: ServerId, batch: Batch
    ) -> tuple[Mapping[UUID, MessageKey], Sequence[Examined | Refusal]]:
        """Open the keys of a batch, and look at its parcels."""
        sent = open_sent(batch.header.keys, sender, self._identity)
        return sent, examine_all(batch, sent, self._homes, self._own_key)

    def _own_key(self, call_id: UUID) -> MessageKey | None:
        key = self._vault.find([call_id]).get(call_id)
        return key if isinstance(key, MessageKey) else None

    async def _rows_in_turn(
        self,
        sender: ServerId,
        decide: Callable[[Sequence[TrackedRow]], HomeAction],
        deadline_s: float,
    ) -> tuple[TrackedRow, ...]:
        """Read what is tracked, waiting a little for the batch before this one."""
        rows = await self._rows(sender)
        try:
            async with asyncio.timeout_at(deadline_s):
                while decide(rows) is HomeAction.WAIT_FOR_PREDECESSOR:
                    await self._origins[sender].turn.wait()
                    rows = await self._rows(sender)
        except TimeoutError:
            pass  # The answer will be a gap.
        return rows

    def _accept(self, header: BatchHeader, taken: TakenIn) -> Accepted:
        """Sign for what is durable now."""
        position = taken.reached.position
        self._safe.note((header.origin, header.incarnation), taken.head.position, position)
        receipt = self._receipt(header.origin, taken.reached, taken.head)
        assert receipt is not None
        for refusal in taken.refusals:
            _LOG.warning(
                "action=refused peer=%s position=%d reason=%s detail=%s",
                header.origin,
                refusal.position,
                refusal.reason,
                refusal.detail,
            )
        return Accepted(receipt=receipt, refusals=taken.refusals)

    def _receipt(
        self, origin: ServerId, reached: TrackedRow | None, head: LogHead
    ) -> Receipt | None:
        if reached is None:
            return None
        unsigned = Receipt(
            origin=origin,
            origin_incarnation=reached.incarnation,
            origin_position=reached.position,
            origin_root=reached.root,
            home=self._homes.this_server,
            home_incarnation=head.incarnation,
            home_position=head.position,
            home_root=head.root.hex(),
            safe_position=self._safe.of((origin, reached.incarnation)),
            issued_at=self._clock.now(),
            signature="",
        )
        return sign_receipt(unsigned, self._identity)

    async def _rows(self, origin: ServerId) -> tuple[TrackedRow, ...]:
        """Read what is tracked of an origin, and note it for the next backup."""
        now_s = self._clock.monotonic_s()
        seen_s = self._origins[origin].seen_s
        tracked = await self._log.tracked(origin)
        for row in tracked:
            key = (origin, row.incarnation)
            if not self._safe.knows(key):
                # Read after the tracking: so by this head, at least that much was taken in.
                self._safe.note(key, (await self._log.head()).position, row.position)
        return tuple(
            TrackedRow(
                incarnation=row.incarnation,
                position=row.position,
                root=row.root.hex(),
                seen_s_ago=now_s - seen_s[row.incarnation] if row.incarnation in seen_s else None,
            )
            for row in tracked
        )

    async def _note_backups(self, head: LogHead) -> None:
        """Find the newest verified backup of our log under its present incarnation."""
        stream = server_stream_id(self._homes.this_server, head.incarnation)
        for entry in (await self._log.read_streams([stream])).get(stream, []):
            event = decode(entry.plain, f"position {entry.position}")
            if isinstance(event, BackupVerified):
                self._safe.backup_verified(event.position)

    def _note_contact(self, sender: ServerId, incarnation: UUID) -> None:
        self._origins[sender].seen_s[incarnation] = self._clock.monotonic_s()
        self._on_inbound(sender)

    def _watch_for_clones(
        self, sender: ServerId, incarnation: UUID, rows: Sequence[TrackedRow]
    ) -> None:
        if not rows or rows[0].incarnation == incarnation:
            return
        seen_s_ago = rows[0].seen_s_ago
        is_known = tracked_of(rows, incarnation) is not None
        if is_known and seen_s_ago is not None and seen_s_ago < LIVE_FOR_S:
            _LOG.error("action=clone-suspected peer=%s incarnation=%s", sender, incarnation)

    def _expect_addressed(self, sender: ServerId, origin: ServerId, home: ServerId) -> None:
        if origin != sender or home != self._homes.this_server:
            raise PeerError(
                f"a message from {origin} to {home} came from {sender} "
                f"to {self._homes.this_server}",
                peer=sender,
            )


def _expect_order(header: BatchHeader, peer: ServerId) -> None:
    """Parcels rise within the batch's bounds."""
    bounds = [header.after_position, *(p.position for p in header.parcels)]
    rises = all(a < b for a, b in itertools.pairwise(bounds))
    if not rises or bounds[-1] > header.through_position:
        raise PeerError("the parcels are not in order within the batch's bounds", peer=peer)
