"""A proof that a message stands in a log: one file that a third party checks without any server.

For each event of the message's story it holds the event's very bytes and a proof, in the format of
public logs, that they are in the log whose signed checkpoint is in there too, with the signatures
of the witnesses that saw that checkpoint. What it takes to check it is in the file, but for the
public keys: whoever checks must have those from elsewhere, else the file only vouches for itself.

Source: C2SP tlog-proof v1, tlog-checkpoint, tlog-cosignature; RFC 9162 section 2.1.3.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Final
from uuid import UUID

import msgspec

from ledger.base64_text import decode_base64
from ledger.checkpoint import (
    Checkpoint,
    cosigned_at,
    log_key,
    parse_checkpoint,
    read_checkpoint,
    read_log_name,
    witness_key,
)
from ledger.errors import CallerError, CorruptionError, LedgerError
from ledger.events import (
    DomainEvent,
    MessageDelivered,
    MessageMigrated,
    MessageStored,
    OpaqueEvent,
    ServerId,
    decode,
)
from ledger.migration.receipts import verify_receipt
from ledger.sealing import MessageKey, key_digest
from ledger.signed_note import SignedNote
from ledger.storage.event_log import LogEntry
from ledger.storage.merkle import ReadHashes, leaf_hash
from ledger.storage.merkle_proofs import inclusion_proof, verify_inclusion
from ledger.storage.vault import Vault

FORMAT: Final = "vmledger-message-proof@v1"
_TLOG_PROOF: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile("index (0|[1-9][0-9]{0,18})")
_HASH_BYTES: Final = 32


class ProvedEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event, and that it is in the log."""

    event: str
    """Its JSON, byte for byte as it was recorded: these bytes are what is hashed."""
    proof: str
    """A C2SP tlog-proof: its index, the hashes up to the root, the signed checkpoint."""


class MessageProof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    format: str
    message_id: UUID
    server: str
    """Whose log it is."""
    events: tuple[ProvedEvent, ...]
    """The story of the message in that log, in its order."""
    digest_key: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    """By which the recording's digest in the events was made, hexadecimal: it shows whether a sound
    is the one, and opens nothing. None for a message whose key is not here or is destroyed."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a proof that holds."""

    position: int
    event: str
    recorded_at: datetime
    recorded_by: str


class ProofReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a checked proof shows."""

    message_id: UUID
    server: str
    incarnation: UUID
    position: int
    """The checkpoint covers the log up to here."""
    root: str
    facts: tuple[Fact, ...]
    audio_digest: str | None
    """What the events hold for the SHA-256 of the recording as it was received."""
    digest_key: str | None
    """What that was made with; None when it is not in the file, or the recording is not sealed."""
    witnesses: Mapping[str, datetime]
    """Who else signed that checkpoint, and when: only those whose key was given."""
    receipts: int
    """Receipts of homes in it that are signed rightly and cover the message."""
    problems: tuple[str, ...]
    """Why it proves less than it should; empty when all is well."""

    @property
    def holds(self) -> bool:
        """Is all of it proved?"""
        return not self.problems

    def is_recording(self, data: bytes) -> bool:
        """Are these the received bytes of the message, as far as this file tells?"""
        digest = sha256(data).hexdigest()
        if self.digest_key is not None:
            digest = key_digest(bytes.fromhex(self.digest_key), digest)
        return digest == self.audio_digest


# --- Making one -------------------------------------------------------------------------------


def prove_message(
    message_id: UUID,
    server: str,
    entries: Sequence[LogEntry],
    note: SignedNote,
    read: ReadHashes,
    *,
    key: MessageKey | None = None,
) -> MessageProof:
    """Make the proof of these entries under a signed checkpoint of their log that covers them.

    ``key`` is that of the message's call, if there is one.
    """
    size = read_checkpoint(note).size
    return MessageProof(
        format=FORMAT,
        message_id=message_id,
        server=server,
        events=tuple(
            ProvedEvent(event=entry.plain.decode(), proof=_tlog_proof(entry, note, size, read))
            for entry in entries
        ),
        digest_key=key.digest_key.hex() if key is not None else None,
    )


def find_key(vault: Vault, call_id: UUID) -> MessageKey | None:
    """Give the key of a call for its proof; None when it is not here, destroyed or damaged."""
    key = vault.find([call_id]).get(call_id)
    return key if isinstance(key, MessageKey) else None


def prove_entry(entry: LogEntry, note: SignedNote, read: ReadHashes) -> str:
    """Give the C2SP tlog-proof of one entry under a signed checkpoint that covers it."""
    return _tlog_proof(entry, note, read_checkpoint(note).size, read)


def _tlog_proof(entry: LogEntry, note: SignedNote, size: int, read: ReadHashes) -> str:
    index = entry.position - 1
    hashes = (base64.b64encode(h).decode() for h in inclusion_proof(index, size, read))
    return "\n".join([_TLOG_PROOF, f"index {index}", *hashes, "", note.to_text()])


# --- Checking one -----------------------------------------------------------------------------


def read_proof(data: bytes) -> MessageProof:
    """Read a proof's file; raises CallerError for what is none."""
    try:
        proof = msgspec.json.decode(data, type=MessageProof)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallerError(f"this file is not the proof of a message: {error}") from error
    if proof.format != FORMAT:
        raise CallerError(f"this program checks {FORMAT}, and the file is {proof.format[:50]!r}")
    if not proof.events:
        raise CallerError("this proof holds no event")
    return proof


@dataclass(frozen=True, slots=True)
class _Opened:
    """The parts of one tlog-proof."""

    index: int
    hashes: tuple[bytes, ...]
    note: SignedNote
    checkpoint: Checkpoint


def check_proof(proof: MessageProof, keys: Mapping[str, bytes]) -> ProofReport:
    """Check a proof against the public keys of servers, by their ids.

    Raises CallerError for a file that cannot be understood; what is understood and wrong is among
    the report's problems.
    """
    opened = [_open(event.proof, number) for number, event in enumerate(proof.events, 1)]
    newest = max(opened, key=lambda one: one.checkpoint.size)
    server, incarnation = read_log_name(newest.checkpoint.log)
    check = _Check(proof.message_id, keys, (server, incarnation))
    check.expect_one_log(opened)
    check.expect_signed(newest.note, server, incarnation, proof.server)
    for event, one in zip(proof.events, opened, strict=True):
        check.take(event.event.encode(), one)
    check.expect_story()
    return ProofReport(
        message_id=proof.message_id,
        server=server,
        incarnation=incarnation,
        position=newest.checkpoint.size,
        root=newest.checkpoint.root.hex(),
        facts=tuple(check.facts),
        audio_digest=check.audio_digest,
        digest_key=proof.digest_key if check.is_sealed else None,
        witnesses=_witnesses(newest.note, server, keys),
        receipts=check.receipts,
        problems=tuple(check.problems),
    )


def check_entry(
    plain: bytes, proof: str, server: str, keys: Mapping[str, bytes]
) -> tuple[str, ...]:
    """Check that one event stands in a server's log; gives why not.

    Raises CallerError for a proof that cannot be understood.
    """
    opened = _open(proof, 1)
    named, incarnation = read_log_name(opened.checkpoint.log)
    check = _Check(UUID(int=0), keys, (named, incarnation))
    check.expect_signed(opened.note, named, incarnation, server)
    check.expect_in_log(plain, opened)
    return tuple(check.problems)


def _open(text: str, number: int) -> _Opened:
    head, _, note = text.partition("\n\n")
    first, *lines = head.split("\n")
    if lines and lines[0].startswith("extra "):
        lines = lines[1:]
    found = _INDEX.fullmatch(lines[0]) if lines else None
    if first != _TLOG_PROOF or found is None:
        raise CallerError(f"event {number} of the file has no {_TLOG_PROOF} proof")
    try:
        hashes = tuple(decode_base64(line) for line in lines[1:])
    except ValueError as error:
        raise CallerError(f"event {number} of the file: a hash is not base64") from error
    if any(len(digest) != _HASH_BYTES for digest in hashes):
        raise CallerError(f"event {number} of the file: a hash has not {_HASH_BYTES} bytes")
    return _Opened(int(found[1]), hashes, *parse_checkpoint(note))


def _witnesses(note: SignedNote, server: str, keys: Mapping[str, bytes]) -> dict[str, datetime]:
    found = {
        witness: cosigned_at(note, witness_key(witness, key))
        for witness, key in keys.items()
        if witness != server
    }
    return {witness: at for witness, at in found.items() if at is not None}


class _Check:
    """What is found out while the events are gone through."""

    def __init__(
        self, message_id: UUID, keys: Mapping[str, bytes], log: tuple[ServerId, UUID]
    ) -> None:
        """``log``: the server and the incarnation whose log it is."""
        self._message_id = message_id
        self._keys = keys
        self._log = log
        self._stored_at: int | None = None
        self._events: list[DomainEvent | OpaqueEvent] = []
        self.problems: list[str] = []
        self.facts: list[Fact] = []
        self.audio_digest: str | None = None
        self.is_sealed = False
        self.receipts = 0

    def expect_one_log(self, opened: Sequence[_Opened]) -> None:
        """All events are proved under one and the same checkpoint."""
        if len({one.note for one in opened}) > 1:
            self.problems.append("its events are proved under different checkpoints")

    def expect_signed(self, note: SignedNote, server: str, incarnation: UUID, named: str) -> None:
        """The checkpoint is signed by the server whose log it is."""
        if named != server:
            self.problems.append(f"the file names server {named}, its checkpoint is of {server}")
        key = self._keys.get(server)
        if key is None:
            self.problems.append(
                f"the public key of server {server} was not given: the file only vouches for itself"
            )
        elif not note.is_signed_by(log_key(server, incarnation, key)):
            self.problems.append(f"the checkpoint is not signed with the key of server {server}")
        for witness, witness_public_key in self._keys.items():
            line_key = witness_key(witness, witness_public_key)
            if note.of(line_key) is not None and cosigned_at(note, line_key) is None:
                self.problems.append(f"server {witness} did not co-sign the checkpoint as it is")

    def take(self, plain: bytes, opened: _Opened) -> None:
        """Check one event."""
        position = opened.index + 1
        if not self.expect_in_log(plain, opened):
            return
        try:
            event = decode(plain, f"position {position}")
        except CorruptionError as error:
            self.problems.append(str(error))
            return
        self._events.append(event)
        self.facts.append(
            Fact(
                position=position,
                event=event.topic,
                recorded_at=event.recorded_at,
                recorded_by=event.recorded_by,
            )
        )
        self._look_into(event, position)

    def expect_in_log(self, plain: bytes, opened: _Opened) -> bool:
        """These bytes stand at the place that the proof says."""
        checkpoint = opened.checkpoint
        is_in_log = verify_inclusion(
            leaf_hash(plain), opened.index, checkpoint.size, opened.hashes, checkpoint.root
        )
        if not is_in_log:
            self.problems.append(f"position {opened.index + 1} of the log is not this event")
        return is_in_log

    def _look_into(self, event: DomainEvent | OpaqueEvent, position: int) -> None:
        if getattr(event, "message_id", self._message_id) != self._message_id:
            self.problems.append(f"position {position} is about another message")
        elif isinstance(event, MessageStored):
            self.audio_digest, self.is_sealed = event.audio.digest, event.is_sealed
            self._stored_at = position
        elif isinstance(event, MessageMigrated) and (key := self._keys.get(event.home)):
            try:
                verify_receipt(event.receipt, key)
            except LedgerError as error:
                self.problems.append(f"position {position}: {error}")
                return
            if self._covers_message(event):
                self.receipts += 1
            else:
                self.problems.append(f"position {position}: its receipt does not cover the message")

    def _covers_message(self, event: MessageMigrated) -> bool:
        """Is it for the message, as far as this log tells? A home signs one for each batch."""
        receipt = event.receipt
        if (receipt.origin, receipt.home) != (event.recorded_by, event.home):
            return False
        if (receipt.origin, receipt.origin_incarnation) != self._log:
            return True  # its positions are those of another log
        return self._stored_at is not None and receipt.origin_position >= self._stored_at

    def expect_story(self) -> None:
        """The events tell of the message: stored, and all of its own call."""
        stored = [e for e in self._events if isinstance(e, MessageStored)]
        if not stored:
            self.problems.append("no event in it tells that the message was stored")
            return
        call = stored[0].originator_id
        for event in self._events:
            named = getattr(event, "message_id", None)
            is_of_call = event.originator_id == call
            is_delivery_of_another = isinstance(event, MessageDelivered) and event.call_id != call
            if (named is None and not is_of_call) or is_delivery_of_another:
                self.problems.append(f"{event.topic} in it belongs to another call")
