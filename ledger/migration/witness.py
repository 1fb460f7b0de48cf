"""The witness's side: sign a peer's checkpoint once it is shown to follow from those signed before.

For every log of every peer the newest checkpoint that was signed here is kept, with the log's own
signature. A newer one is signed only with a proof that the older tree is its beginning, and only
after it is on the disk itself. So two checkpoints with this server's signature never contradict
each other, and a peer that rewrites its log cannot get a signature under the new history.

A peer that shows one that does not follow has forked its log: it was restored and went on under the
same incarnation, there are two servers with one key, or somebody changed history. Both checkpoints
carry the peer's own signature, so the two are the evidence; they are recorded as an event.

A log that begins a new incarnation has to show the same against the one before. It may say that it
cannot, as after a restore; then that is recorded, and the new log is witnessed from there on. The
same holds for a log that goes back to an incarnation after another one: it would grow two branches,
each of which follows from what was signed before they parted.

Source: C2SP tlog-witness, tlog-cosignature; RFC 9162 section 2.1.4.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from ledger.checkpoint import (
    Checkpoint,
    cosign,
    cosigned_at,
    log_key,
    parse_checkpoint,
    read_log_name,
    with_cosignatures,
    witness_key,
)
from ledger.clock import Clock
from ledger.configuration import Directory
from ledger.errors import CallerError, CorruptionError, PeerError, TransientError
from ledger.events import ForkWitnessed, ServerId
from ledger.identity import ServerIdentity, Verifier, verify_signature
from ledger.migration.wire import Cosigned, Witnessed, WitnessRequest
from ledger.offload import Offload
from ledger.signed_note import SignedNote, parse_note
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint, CosignedCheckpoints
from ledger.storage.merkle_proofs import verify_consistency
from ledger.storage.server_stream import ServerStream

_LOG: Final = logging.getLogger(__name__)

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
MOST_LOGS: Final = 1000
"""Incarnations of one peer that are witnessed: one that has more is not well."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """A checkpoint that was signed here, and when."""

    row: CosignedCheckpoint
    at: datetime


class Witness:
    """Signs checkpoints of all peers. For one event loop; several processes may share a store."""

    def __init__(
        self,
        *,
        identity: ServerIdentity,
        directory: Directory,
        store: CosignedCheckpoints,
        server_stream: ServerStream,
        clock: Clock,
        offload: Offload,
        verify: Verifier = verify_signature,
    ) -> None:
        self._identity = identity
        self._directory = directory
        self._store = store
        self._server_stream = server_stream
        self._clock = clock
        self._offload = offload
        self._verify = verify
        self._told: set[str] = set()
        """Logs whose fork is recorded since this start: once is enough."""

    async def answer(self, sender: ServerId, request: WitnessRequest) -> Cosigned | Witnessed:
        """Sign the sender's checkpoint, or say which one was signed last.

        What is signed is durable here before. Raises PeerError for what is no checkpoint of the
        sender, and TransientError when the stores cannot work now.
        """
        note, new = self._read(sender, request.checkpoint)
        last = await self._signed_last(sender)
        if last is None:
            return Witnessed(note=None) if request.old_size else await self._sign(note, new, 0)
        last_note, old = self._read_own(sender, last.row)
        if old.log != new.log:
            newest = partial(self._store.newest, new.log, self._identity.server_id)
            known = await self._offload(newest)
            if known is None:
                return await self._answer_first(sender, request, note, new, last)
            return await self._answer_again(request, note, new, last, known)
        if not _contradicts(old, new, request):
            if request.old_size == old.size <= new.size:
                return await self._sign(note, new, old.size, last.at)
        else:
            await self._record_fork(sender, last_note, note)
        return Witnessed(note=last_note.to_text())

    async def _answer_first(
        self,
        sender: ServerId,
        request: WitnessRequest,
        note: SignedNote,
        new: Checkpoint,
        last: _Signed,
    ) -> Cosigned | Witnessed:
        """Answer the first request of an incarnation: the one before must be its beginning."""
        last_note, old = self._read_own(sender, last.row)
        if request.is_new_history:
            await self._record_fork(sender, last_note, note)
        elif request.old_size != old.size or not _follows(old, new, request):
            return Witnessed(note=last_note.to_text())
        return await self._sign(note, new, 0, last.at)

    async def _answer_again(
        self,
        request: WitnessRequest,
        note: SignedNote,
        new: Checkpoint,
        last: _Signed,
        known: CosignedCheckpoint,
    ) -> Cosigned | Witnessed:
        """Answer for an incarnation after another one followed it: a late frame, or two servers."""
        sender = request.origin
        last_note, _ = self._read_own(sender, last.row)
        if not request.is_new_history:
            return Witnessed(note=last_note.to_text())
        known_note, old = self._read_own(sender, known)
        if not (request.old_size == old.size <= new.size and _follows(old, new, request)):
            return Witnessed(note=known_note.to_text())
        await self._record_fork(sender, last_note, note)
        return await self._sign(note, new, old.size, last.at)

    async def _signed_last(self, sender: ServerId) -> _Signed | None:
        """Give what was signed last of any log of this peer."""
        newest: dict[str, CosignedCheckpoint] = {}
        for row in await self._offload(self._store.all):
            if row.witness == self._identity.server_id and read_log_name(row.log)[0] == sender:
                newest[row.log] = max(newest.get(row.log, row), row, key=lambda one: one.size)
        if len(newest) >= MOST_LOGS:
            raise PeerError(
                f"server {sender} had {MOST_LOGS} incarnations already; no further one is "
                "witnessed",
                peer=sender,
            )
        own = witness_key(self._identity.server_id, self._identity.public_key)
        signed = [
            _Signed(row, cosigned_at(parse_note(row.note), own, self._verify) or _NEVER)
            for row in newest.values()
        ]
        return max(signed, key=lambda one: one.at, default=None)

    def _read(self, sender: ServerId, text: str) -> tuple[SignedNote, Checkpoint]:
        """Read the sender's checkpoint, and keep of it only what the sender signed."""
        try:
            note, checkpoint = parse_checkpoint(text)
            server, incarnation = read_log_name(checkpoint.log)
        except CallerError as error:
            raise PeerError(error.message, peer=sender) from error
        key = log_key(server, incarnation, self._directory.servers[sender].public_key)
        if server != sender or not note.is_signed_by(key, self._verify):
            raise PeerError(f"the checkpoint is not signed by server {sender}", peer=sender)
        if not checkpoint.size or note.text != checkpoint.to_text():
            raise PeerError("the checkpoint covers nothing, or says more than one", peer=sender)
        line = note.of(key)
        assert line is not None, "its signature was checked"
        return SignedNote(note.text, (line,)), checkpoint

    def _read_own(
        self, sender: ServerId, known: CosignedCheckpoint
    ) -> tuple[SignedNote, Checkpoint]:
        try:
            return self._read(sender, known.note)
        except PeerError as error:
            raise CorruptionError(
                f"a checkpoint of server {sender} that was kept is not what it was: "
                f"{error.message}",
                place=f"checkpoint of {known.log} at {known.size}",
                advice="run 'vmledger log verify'",
            ) from error

    async def _sign(
        self, note: SignedNote, new: Checkpoint, after: int, last: datetime = _NEVER
    ) -> Cosigned:
        """Sign, later than what was signed last: so the times say in which order it was."""
        here = self._identity.server_id
        at = max(self._clock.now(), last + timedelta(seconds=1))
        line = cosign(note, here, self._identity, at)
        signed = with_cosignatures(note, [line]).to_text()
        row = CosignedCheckpoint(new.log, here, new.size, signed)
        # A crash before this leaves the older checkpoint, after it only the answer is lost.
        if not await self._offload(lambda: self._store.add(row, after)):
            raise TransientError("another checkpoint of this log is being signed")
        return Cosigned(note=signed)

    async def _record_fork(
        self, sender: ServerId, witnessed: SignedNote, conflicting: SignedNote
    ) -> None:
        _, checkpoint = parse_checkpoint(conflicting.to_text())
        if checkpoint.log in self._told:
            return
        _LOG.error("action=fork-witnessed peer=%s log=%s", sender, checkpoint.log)
        await self._server_stream.record(
            ForkWitnessed,
            peer=sender,
            incarnation=read_log_name(checkpoint.log)[1],
            witnessed=witnessed.to_text(),
            conflicting=conflicting.to_text(),
        )
        self._told.add(checkpoint.log)


def _contradicts(old: Checkpoint, new: Checkpoint, request: WitnessRequest) -> bool:
    """Do two checkpoints of a log not fit together, as far as this request shows?

    A smaller one than the newest may be a late frame: it shows nothing.
    """
    if new.size == old.size:
        return new.root != old.root
    is_about_both = new.size > old.size and request.old_size == old.size
    return is_about_both and not _follows(old, new, request)


def _follows(old: Checkpoint, new: Checkpoint, request: WitnessRequest) -> bool:
    proof = [bytes.fromhex(digest) for digest in request.proof]
    return verify_consistency(old.size, old.root, new.size, new.root, proof)
