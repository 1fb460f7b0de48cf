"""The log's side of witnessing: ask every peer to sign where this log is now.

One checkpoint is offered to all peers, and stays the one that is offered for some seconds, so that
their signatures come together under the same one. After every exchange with a peer it is asked,
at most once in that time; nothing waits for it, and what fails is tried after the next exchange.

A peer that will not sign answers with the checkpoint that it signed before. If that is part of this
log, the proof begins there. If not, and it carries this server's own signature, this log went back
in time and others have seen what it forgot: it goes on under a new incarnation, and says so.

Source: C2SP tlog-witness; RFC 9162 section 2.1.4.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from ledger.checkpoint import (
    Checkpoint,
    cosigned_at,
    log_key,
    log_name,
    parse_checkpoint,
    read_log_name,
    sign_checkpoint,
    witness_key,
)
from ledger.clock import Clock
from ledger.configuration import Directory
from ledger.errors import CallerError, LedgerError, PeerError
from ledger.events import ServerId
from ledger.identity import ServerIdentity, Verifier, verify_signature
from ledger.migration.incarnations import Incarnations
from ledger.migration.link import PeerClient, PeerLink
from ledger.migration.protocol import OwnLog
from ledger.migration.wire import Cosigned, WitnessRequest
from ledger.offload import Offload
from ledger.signed_note import SignedNote
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint, CosignedCheckpoints
from ledger.storage.group_commit import EventLog
from ledger.storage.merkle_proofs import consistency_proof

_LOG: Final = logging.getLogger(__name__)

OFFERED_FOR_S: Final = 5.0
"""How long one checkpoint is offered, and the least time between two questions to a peer."""
_ROUNDS: Final = 3
"""Questions until a proof must begin where the peer is."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A checkpoint of this log that peers are asked to sign."""

    incarnation: UUID
    checkpoint: Checkpoint
    note: SignedNote


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a proof begins."""

    size: int
    is_new_history: bool = False
    """The log goes on from something else than the peer saw before."""


class Cosigning:
    """Collects the signatures of all peers. For one event loop.

    Tell it of every exchange with a peer (it is an `ExchangeObserver`).
    """

    def __init__(
        self,
        links: Mapping[ServerId, PeerLink],
        *,
        identity: ServerIdentity,
        directory: Directory,
        log: EventLog,
        store: CosignedCheckpoints,
        incarnations: Incarnations,
        clock: Clock,
        offload: Offload,
        verify: Verifier = verify_signature,
    ) -> None:
        self._identity = identity
        self._log = log
        self._clock = clock
        self._turn = asyncio.Lock()
        self._offer: Offer | None = None
        self._offered_s = 0.0
        self._askers = {
            peer: _Asker(
                PeerClient(link),
                public_key=directory.servers[peer].public_key,
                offer=self._current,
                identity=identity,
                log=log,
                store=store,
                incarnations=incarnations,
                clock=clock,
                offload=offload,
                verify=verify,
            )
            for peer, link in links.items()
            if peer in directory.servers
        }
        self._tasks: list[asyncio.Task[None]] = []

    def note_success(self, peer: ServerId) -> None:
        """A peer answered: it may be asked."""
        if (asker := self._askers.get(peer)) is not None:
            asker.is_there = True
            asker.wake.set()

    def note_failure(self, peer: ServerId, problem: str) -> None:  # noqa: ARG002 - not kept here
        """A peer did not answer: it is not asked until it does."""
        if (asker := self._askers.get(peer)) is not None:
            asker.is_there = False

    async def start(self) -> None:
        """Begin to ask."""
        self._tasks = [
            asyncio.create_task(asker.run(), name=f"cosign-{peer}")
            for peer, asker in self._askers.items()
        ]

    async def stop(self) -> None:
        """End; what was asked is asked again after the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _current(self) -> Offer | None:
        """Give the checkpoint that is offered now; None for an empty log."""
        async with self._turn:
            head = await self._log.head()
            old = self._offer
            is_same_log = old is not None and old.incarnation == head.incarnation
            if is_same_log and self._clock.monotonic_s() - self._offered_s < OFFERED_FOR_S:
                return old
            if is_same_log and old is not None and old.checkpoint.size == head.position:
                return old
            if not head.position:
                return None
            log = log_name(self._identity.server_id, head.incarnation)
            checkpoint = Checkpoint(log, head.position, head.root)
            note = sign_checkpoint(checkpoint, self._identity)
            self._offer = Offer(head.incarnation, checkpoint, note)
            self._offered_s = self._clock.monotonic_s()
            for asker in self._askers.values():
                if asker.is_there:
                    asker.wake.set()
            return self._offer


class _Asker:
    """Asks one peer."""

    def __init__(
        self,
        client: PeerClient,
        *,
        public_key: bytes,
        offer: Callable[[], Awaitable[Offer | None]],
        identity: ServerIdentity,
        log: EventLog,
        store: CosignedCheckpoints,
        incarnations: Incarnations,
        clock: Clock,
        offload: Offload,
        verify: Verifier,
    ) -> None:
        self._client = client
        self._key = witness_key(client.peer, public_key)
        self._offer = offer
        self._identity = identity
        self._log = log
        self._store = store
        self._incarnations = incarnations
        self._clock = clock
        self._offload = offload
        self._verify = verify
        self.wake = asyncio.Event()
        self.is_there = False
        self._has_heard = False
        """Was it asked since this start? A log that was restored is told then what it forgot."""

    async def run(self) -> None:
        """Ask for ever; ends only when cancelled."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            try:
                has_asked = await self._ask()
            except LedgerError as error:
                _LOG.info("action=not-cosigned peer=%s error=%s", self._client.peer, error)
                has_asked = True
            except Exception:  # noqa: BLE001 - else nobody would ask this peer again
                _LOG.exception("action=cosigning-failed peer=%s", self._client.peer)
                has_asked = True
            if has_asked:
                await self._clock.sleep(OFFERED_FOR_S)

    async def _ask(self) -> bool:
        """Ask for a signature under what is offered; False when there was nothing to ask."""
        offer = await self._offer()
        if offer is None:
            return False
        newest = partial(self._store.newest, offer.checkpoint.log, self._client.peer)
        last = await self._offload(newest)
        kept_size = last.size if last is not None else 0
        if kept_size >= offer.checkpoint.size and self._has_heard:
            return False
        start: _Start | None = _Start(min(kept_size, offer.checkpoint.size))
        for _ in range(_ROUNDS):
            if start is not None:
                start = await self._ask_from(start, offer, kept_size)
        self._has_heard = True
        return True

    async def _ask_from(self, start: _Start, offer: Offer, kept_size: int) -> _Start | None:
        """Ask with a proof from one size on; give another size to ask again, None at the end."""
        size, read = offer.checkpoint.size, self._log.recorder.read_hashes
        proof = await self._offload(lambda: consistency_proof(start.size, size, read))
        answer = await self._client.witness(
            WitnessRequest(
                origin=self._identity.server_id,
                home=self._client.peer,
                checkpoint=offer.note.to_text(),
                old_size=start.size,
                proof=tuple(digest.hex() for digest in proof),
                is_new_history=start.is_new_history,
            )
        )
        if isinstance(answer, Cosigned):
            await self._keep(answer.note, offer, kept_size)
            return None
        return await self._start_after(answer.note, start, offer, kept_size)

    async def _start_after(
        self, text: str | None, start: _Start, offer: Offer, kept_size: int
    ) -> _Start | None:
        """Judge what the peer signed last: where must the next proof begin?"""
        known = self._read_known(text)
        if known is not None:
            is_ours, is_same_log = await self._is_ours(known), known.log == offer.checkpoint.log
            if not is_ours and is_same_log:
                await self._begin_again(offer)
                return None
            if not is_same_log and (not is_ours or start.size == known.size):
                # It saw this log go on otherwise, under an incarnation that is no more, or that
                # only a clone of this server had.
                return _Start(min(kept_size, offer.checkpoint.size), is_new_history=True)
        known_size = known.size if known is not None else 0
        if known_size == start.size:
            raise self._broken("it does not sign, and does not say why")
        # Another process of this server may have asked with a later one.
        is_within = known_size <= offer.checkpoint.size
        return _Start(known_size, start.is_new_history) if is_within else None

    async def _keep(self, text: str, offer: Offer, after: int) -> None:
        note, _ = self._read(text)
        if note.text != offer.note.text or cosigned_at(note, self._key, self._verify) is None:
            raise self._broken("what it sent is not its signature under what it was asked for")
        line = note.of(self._key)
        assert line is not None, "it was checked"
        kept = SignedNote(note.text, (*offer.note.signatures, line))
        checkpoint = offer.checkpoint
        row = CosignedCheckpoint(checkpoint.log, self._client.peer, checkpoint.size, kept.to_text())
        await self._offload(lambda: self._store.add(row, after))

    def _read_known(self, text: str | None) -> Checkpoint | None:
        """Read which checkpoint the peer signed last: only one of this server's own counts."""
        if text is None:
            return None
        note, known = self._read(text)
        server, incarnation = read_log_name(known.log)
        key = log_key(server, incarnation, self._identity.public_key)
        if server != self._identity.server_id or not note.is_signed_by(key, self._verify):
            raise self._broken("the checkpoint that it knows is not of this server")
        return known

    async def _is_ours(self, known: Checkpoint) -> bool:
        head = await self._log.head()
        if known.size > head.position:
            return False
        return await self._log.root_at(known.size) == known.root

    async def _begin_again(self, offer: Offer) -> None:
        peer = self._client.peer
        _LOG.error("action=alarm peer=%s problem=it signed what this log does not hold", peer)
        reason = f"server {peer} co-signed a checkpoint of this log that it does not hold"
        own = await self._incarnations.own_log()
        judged = OwnLog(offer.incarnation, own.position, own.incarnations)
        await self._incarnations.start_after(judged, (), reason)

    def _read(self, text: str) -> tuple[SignedNote, Checkpoint]:
        try:
            note, checkpoint = parse_checkpoint(text)
            read_log_name(checkpoint.log)
        except CallerError as error:
            raise self._broken(error.message) from error
        return note, checkpoint

    def _broken(self, what: str) -> PeerError:
        peer = self._client.peer
        return PeerError(f"server {peer} as witness: {what}", peer=peer)
