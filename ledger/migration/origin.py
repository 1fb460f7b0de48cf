"""The origin's side: one worker a peer, so that a dead or slow home never delays another.

The worker runs the table of `ledger.migration.protocol`: in each state it does one thing and finds
out what happened; the table says what follows. It never ends by itself. Whatever goes wrong, with
the peer or with our own stores, leads to a pause that is drawn at random and grows with each
failure, and then to a new contact, in which the home says where it is.

What is in flight may arrive or not; it is recorded as arrived only by a receipt whose signature and
contents were checked.

Source: claims 4, 5 and 8; RFC 5321 section 4.5.4.1 (one queue a destination, retry with backoff).
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ledger.clock import Clock
from ledger.configuration import Homes, Replication, ServerEntry
from ledger.errors import LedgerError, PeerError
from ledger.events import Receipt, ServerId
from ledger.identity import ServerIdentity, Verifier, verify_signature
from ledger.migration.batch_builder import BatchBuilder, Delivery, Draft, LeftOut
from ledger.migration.incarnations import Incarnations
from ledger.migration.link import (
    BusyError,
    PeerClient,
    PeerLink,
    RefusedVersionError,
    RejectedError,
    UnreachableError,
)
from ledger.migration.pace import Pace
from ledger.migration.progress import Progress
from ledger.migration.protocol import (
    LIVE_FOR_S,
    Action,
    Judgement,
    OriginInput,
    OriginState,
    OwnLog,
    judge_contact,
    step,
    tracked_of,
)
from ledger.migration.reachability import ExchangeObserver
from ledger.migration.receipts import verify_receipt
from ledger.migration.refusal_reason import RefusalReason
from ledger.migration.settlement import Outcome, Settlement
from ledger.migration.wire import Accepted, ContactRequest, Gap, Refusal
from ledger.offload import Offload
from ledger.storage.blob_store import BlobStore
from ledger.storage.group_commit import EventLog
from ledger.storage.peer_cursors import CursorStore
from ledger.storage.vault import Vault

_LOG: Final = logging.getLogger(__name__)

_ONE_BY_ONE_AFTER: Final = 3
"""Batches rejected in a row after which parcels go one by one, to find the one at fault."""
_SET_ASIDE_AFTER: Final = 12
"""Rejections in a row after which that one is set aside."""
_I = OriginInput


@dataclass(frozen=True, slots=True)
class OriginParts:
    """What all workers of one server share."""

    identity: ServerIdentity
    homes: Homes
    log: EventLog
    blobs: BlobStore
    vault: Vault
    clock: Clock
    offload: Offload
    rng: random.Random
    settings: Replication
    incarnations: Incarnations
    settlement: Settlement
    cursors: CursorStore
    observer: ExchangeObserver
    verify: Verifier = verify_signature


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What operators see of the shipping to one peer."""

    peer: ServerId
    state: OriginState
    acknowledged_position: int
    """Everything of our log up to here that concerns the peer is settled."""
    safe_position: int
    """Up to here a verified backup of the peer covers it too."""
    attempts: int
    """Failures in a row."""
    problem: str
    """What the last failure was; empty when there was none."""


MigratedListener = Callable[[ServerId, Iterable[UUID]], None]


class PeerWorker:
    """Ships to one peer. For one event loop; `run` it in a task and cancel that to stop."""

    def __init__(
        self, peer: ServerEntry, link: PeerLink, parts: OriginParts, on_migrated: MigratedListener
    ) -> None:
        """``on_migrated`` is told of messages whose receipt is recorded; it must not block."""
        self.peer = peer.id
        self.state = OriginState.CONTACTING
        self._public_key = peer.public_key
        self._client = PeerClient(link)
        self._parts = parts
        self._on_migrated = on_migrated
        self._pace = Pace(peer.bandwidth, parts.clock)
        self._builder = BatchBuilder(
            homes=parts.homes,
            peer=peer.id,
            log=parts.log,
            blobs=parts.blobs,
            vault=parts.vault,
            offload=parts.offload,
            settings=parts.settings,
            ask_missing=self._client.missing,
        )
        self._in_flight: deque[tuple[Draft, asyncio.Task[Accepted | Gap]]] = deque()
        self._signals: set[OriginInput] = set()
        self._wake = asyncio.Event()
        self._own: OwnLog | None = None
        self._judgement = Judgement(_I.AGREED)
        self._kept = 0
        self._seen_until = 0
        self._nonce = ""
        self._answered: tuple[Draft, Accepted] | None = None
        self._progress = Progress(
            peer.id,
            cursors=parts.cursors,
            clock=parts.clock,
            offload=parts.offload,
            rng=parts.rng,
            settings=parts.settings,
        )
        self._rejections = 0
        self._told_pause_s = 0.0
        self._problem = ""

    @property
    def status(self) -> PeerStatus:
        """Say how the shipping to this peer is going."""
        return PeerStatus(
            peer=self.peer,
            state=self.state,
            acknowledged_position=self._progress.acknowledged,
            safe_position=self._progress.safe,
            attempts=self._progress.attempts,
            problem=self._problem,
        )

    def signal(self, given: OriginInput) -> None:
        """Tell the worker of something outside: INBOUND, WANTED or NEW_EVENTS."""
        self._signals.add(given)
        self._wake.set()

    async def run(self) -> None:
        """Ship for ever; ends only when cancelled."""
        try:
            await self._progress.load()
            if self._progress.pause_s > 0:
                self.state = OriginState.RESTING
            while True:
                await self._follow(await self._find_out())
        finally:
            await self._drop_in_flight()

    async def _follow(self, given: OriginInput) -> None:
        found = step(self.state, given)
        try:
            await self._perform(found.actions)
        except Exception as error:  # noqa: BLE001  (as above: the worker goes on)
            self._classify(error)
            found = step(self.state, _I.LOCAL_TROUBLE)
            await self._perform(found.actions)
        self.state = found.next

    async def _find_out(self) -> OriginInput:
        """Do what the state asks for; every failure becomes an input."""
        try:
            return await self._activities[self.state](self)
        except Exception as error:  # noqa: BLE001  (a worker that ends ships nothing)
            return self._classify(error)

    def _classify(self, error: Exception) -> OriginInput:
        self._note_problem(error)
        if isinstance(error, BusyError):
            # A peer that says so is there.
            self._parts.observer.note_success(self.peer)
            self._told_pause_s = error.retry_after_s
        elif isinstance(error, UnreachableError | PeerError):
            self._parts.observer.note_failure(self.peer, self._problem)
        elif not isinstance(error, LedgerError):
            _LOG.error("action=worker-failed peer=%s", self.peer, exc_info=error)
        return next(given for kind, given in _INPUT_OF if isinstance(error, kind))

    def _note_problem(self, error: Exception) -> None:
        self._problem = str(error) or type(error).__name__
        _LOG.info("action=ship-failed peer=%s state=%s error=%s", self.peer, self.state, error)

    # --- what is done in each state -------------------------------------------------------

    async def _rest(self) -> OriginInput:
        """Wait for the pause to end; a signal shortens it, but not to nothing."""
        least_s = self._progress.least_pause_s
        await self._parts.clock.sleep(least_s)
        left_s = self._progress.pause_s - least_s
        return await self._signalled({_I.INBOUND, _I.WANTED}, left_s)

    async def _wait(self) -> OriginInput:
        await self._parts.clock.sleep(self._progress.pause_s)
        return _I.TIMER

    async def _idle(self) -> OriginInput:
        wanted = {_I.NEW_EVENTS, _I.WANTED}
        if self._progress.must_ask:
            return _I.TIMER
        return await self._signalled(wanted, self._parts.settings.probe_interval_s)

    async def _contact(self) -> OriginInput:
        self._signals.clear()
        own = await self._parts.incarnations.own_log()
        request = ContactRequest(
            origin=self._parts.homes.this_server,
            home=self.peer,
            incarnation=own.incarnation,
            position=own.position,
            nonce=f"{self._parts.rng.getrandbits(64):016x}",
            marks=self._progress.marks,
        )
        answer = await self._client.contact(request)
        self._parts.observer.note_success(self.peer)
        mine = tracked_of(answer.tracked, own.incarnation)
        root = await self._root(mine.position) if mine and mine.position <= own.position else None
        self._own, self._nonce = own, request.nonce
        self._judgement = judge_contact(own, answer.tracked, root)
        self._kept = answer.kept
        # What it took in of an older incarnation may stand anywhere in our log: it was recalled.
        is_older = any(row.incarnation != own.incarnation for row in answer.tracked)
        self._seen_until = sys.maxsize if is_older else self._judgement.position
        if self._judgement.verdict is _I.AGREED and answer.receipt is not None:
            self._check_signature(answer.receipt, own.incarnation)
            self._progress.note_safe(answer.receipt.safe_position)
        return self._judgement.verdict

    async def _stream(self) -> OriginInput:
        if not await self._fill_window():
            return _I.GAP  # Our log runs under a new incarnation: make contact again.
        if not self._in_flight:
            return _I.CAUGHT_UP
        draft, task = self._in_flight[0]
        try:
            answer = await task
        except RejectedError as error:
            await self._suspect(draft, error)
            raise
        self._in_flight.popleft()
        self._parts.observer.note_success(self.peer)
        if isinstance(answer, Gap):
            self._problem = "the peer is not where the batch begins"
            return _I.GAP
        await self._check_receipt(answer.receipt, draft)
        self._answered = (draft, answer)
        return _I.ACKNOWLEDGED

    async def _reincarnate(self) -> OriginInput:
        assert self._own is not None
        reason = f"server {self.peer} knows more of this log than it holds"
        await self._parts.incarnations.start_after(self._own, self._judgement.strangers, reason)
        return _I.REINCARNATED

    async def _halt(self) -> OriginInput:
        await self._parts.clock.sleep(LIVE_FOR_S + self._progress.pause_s)
        return _I.TIMER

    _activities: Final[dict[OriginState, Callable[[PeerWorker], Awaitable[OriginInput]]]] = {
        OriginState.RESTING: _rest,
        OriginState.WAITING: _wait,
        OriginState.CONTACTING: _contact,
        OriginState.STREAMING: _stream,
        OriginState.IDLE: _idle,
        OriginState.REINCARNATING: _reincarnate,
        OriginState.HALTED: _halt,
    }

    async def _signalled(self, wanted: set[OriginInput], timeout_s: float) -> OriginInput:
        """Wait for one of these signals; TIMER when none came in time."""
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                while not self._signals & wanted:
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            return _I.TIMER
        given = min(self._signals & wanted, key=lambda one: one.value)
        self._signals.clear()
        return given

    async def _fill_window(self) -> bool:
        """Put batches on their way; False when the log runs under another incarnation now."""
        while len(self._in_flight) < self._parts.settings.in_flight:
            if self._progress.must_ask:
                break  # What is in flight is waited for, then the peer is asked.
            self._signals.clear()
            head = await self._parts.log.head()
            if head.incarnation != self._builder.incarnation:
                return False
            self._builder.max_bytes = self._pace.batch_bytes(self._parts.settings.batch_max_bytes)
            draft = await self._builder.next(head.position)
            if draft is None:
                break
            await self._report_left_out(draft.left_out)
            task = asyncio.create_task(self._send(draft.body), name=f"ship-{self.peer}")
            self._in_flight.append((draft, task))
        return True

    async def _send(self, body: bytes) -> Accepted | Gap:
        await self._pace.wait_for(len(body))
        return await self._client.send(body)

    async def _suspect(self, draft: Draft, error: RejectedError) -> None:
        """Find the parcel that the peer cannot bear, and let the others go on without it."""
        self._rejections += 1
        if self._rejections >= _ONE_BY_ONE_AFTER:
            self._builder.max_parcels = 1
        if self._rejections < _SET_ASIDE_AFTER or len(draft.positions) != 1:
            return
        self._rejections = 0
        self._builder.skip(draft.positions[0])
        left_out = [
            LeftOut(delivery, RefusalReason.REJECTED, error.message)
            for delivery in draft.deliveries
        ]
        await self._report_left_out(left_out)
        for position, call_id in draft.erasures.items():
            reason, detail = RefusalReason.REJECTED, error.message
            refusal = Refusal(position=position, reason=reason, detail=detail, new_home=None)
            self._log_refusal(refusal)
            await self._parts.settlement.record_erasures(self.peer, {call_id: refusal})

    async def _report_left_out(self, left_out: Sequence[LeftOut]) -> None:
        for left in left_out:
            _LOG.error(
                "action=set-aside peer=%s message=%s reason=%s detail=%s",
                self.peer,
                left.delivery.message_id,
                left.reason,
                left.detail,
            )
        await self._parts.settlement.record(
            [
                Outcome(left.delivery, self.peer, reason=left.reason, detail=left.detail)
                for left in left_out
            ]
        )

    async def _check_receipt(self, receipt: Receipt, draft: Draft) -> None:
        """Is this the peer's word for this batch? Raises PeerError if not."""
        self._check_signature(receipt, draft.incarnation)
        is_far_enough = receipt.origin_position >= draft.through
        root = await self._root(receipt.origin_position) if is_far_enough else None
        if root is None or root != receipt.origin_root:
            raise PeerError(
                f"the receipt of server {self.peer} is not for the batch that was sent",
                peer=self.peer,
            )

    def _check_signature(self, receipt: Receipt, incarnation: UUID) -> None:
        verify_receipt(receipt, self._public_key, self._parts.verify)
        named = (receipt.origin, receipt.origin_incarnation, receipt.home)
        if named != (self._parts.homes.this_server, incarnation, self.peer):
            raise PeerError(f"the receipt of server {self.peer} names others", peer=self.peer)

    async def _root(self, position: int) -> str | None:
        head = await self._parts.log.head()
        if position > head.position:
            return None
        return (await self._parts.log.root_at(position)).hex()

    # --- what the table asks for ----------------------------------------------------------

    async def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            await self._deeds[action](self)

    async def _resume(self) -> None:
        assert self._own is not None
        incarnation = self._own.incarnation
        after = self._progress.resume(incarnation, self._judgement.position, self._kept)
        known_until = self._progress.known_until
        self._builder.restart(
            incarnation,
            contact=self._nonce,
            after=after,
            known_until=known_until,
            seen_until=self._seen_until,
        )

    async def _settle(self) -> None:
        assert self._answered is not None
        (draft, answer), self._answered = self._answered, None
        refusals = {refusal.position: refusal for refusal in answer.refusals}
        outcomes = [
            _outcome(delivery, self.peer, answer.receipt, refusals.pop(delivery.position, None))
            for delivery in draft.deliveries
        ]
        await self._parts.settlement.record(outcomes)
        erasures = {call: refusals.get(at) for at, call in draft.erasures.items()}
        await self._parts.settlement.record_erasures(self.peer, erasures)
        for refusal in refusals.values():
            # It was not about a message. Of a mailbox, no event tells of it.
            self._log_refusal(refusal)
        self._rejections = 0
        self._builder.max_parcels = self._parts.settings.batch_max_messages
        self._progress.note_safe(answer.receipt.safe_position)
        await self._progress.settled(draft.through, answer.receipt)
        self._on_migrated(self.peer, [o.delivery.message_id for o in outcomes if o.receipt])

    def _log_refusal(self, refusal: Refusal) -> None:
        _LOG.error(
            "action=refused-by-home peer=%s position=%d reason=%s detail=%s",
            self.peer,
            refusal.position,
            refusal.reason,
            refusal.detail,
        )

    async def _drop_in_flight(self) -> None:
        tasks = [task for _, task in self._in_flight]
        self._in_flight.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _back_off(self) -> None:
        await self._progress.back_off()

    async def _wait_as_told(self) -> None:
        self._progress.wait_as_told(self._told_pause_s)

    async def _reset_backoff(self) -> None:
        self._problem = ""
        await self._progress.caught_up()

    async def _alarm(self) -> None:
        _LOG.error(
            "action=alarm peer=%s state=%s verdict=%s problem=%s",
            self.peer,
            self.state.value,
            self._judgement.verdict.value,
            self._problem,
        )

    _deeds: Final[dict[Action, Callable[[PeerWorker], Awaitable[None]]]] = {
        Action.RESUME: _resume,
        Action.SETTLE: _settle,
        Action.DROP_IN_FLIGHT: _drop_in_flight,
        Action.BACK_OFF: _back_off,
        Action.WAIT_AS_TOLD: _wait_as_told,
        Action.RESET_BACKOFF: _reset_backoff,
        Action.ALARM: _alarm,
    }


_INPUT_OF: Final = (
    (BusyError, _I.BUSY),
    (RefusedVersionError, _I.REFUSED_VERSION),
    (UnreachableError, _I.UNREACHABLE),
    (PeerError, _I.REJECTED),
    (Exception, _I.LOCAL_TROUBLE),
)
"""What a failure means; the first that fits."""


def _outcome(
    delivery: Delivery, peer: ServerId, receipt: Receipt, refusal: Refusal | None
) -> Outcome:
    if refusal is None:
        return Outcome(delivery, peer, receipt=receipt)
    return Outcome(delivery, peer, reason=refusal.reason, detail=refusal.detail)
