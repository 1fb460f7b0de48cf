"""What a third party checks: the proof of a message, signed notes, checkpoints, their keys.

An input that begins with a brace is a proof; anything else a note, or a key. Only CallerError may
come out. A note and a key that were read are written again to the same characters, so that there is
one way to write each. A proof that holds tells nothing that the log never held.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import (
    Checkpoint,
    cosign,
    cosigned_at,
    log_key,
    log_name,
    parse_checkpoint,
    sign_checkpoint,
    witness_key,
)
from ledger.errors import CallerError
from ledger.events import Caller, CallReceived, CallStatus, MessageStored
from ledger.identity import ServerIdentity
from ledger.signed_note import SignedNote, parse_key, parse_note
from ledger.storage.mapper import to_stored_event
from ledger.storage.memory import MemoryLogRecorder
from tests.fuzz.target import Target
from tests.fuzz.values import FACTS, NOW
from vmledger.message_proof import check_proof, prove_message, read_proof

ALPHA, BRAVO = (
    ServerIdentity(server, Ed25519PrivateKey.from_private_bytes(server[:1].encode() * 32))
    for server in ("alpha", "bravo")
)
KEYS = {"alpha": ALPHA.public_key, "bravo": BRAVO.public_key}
CALL, MESSAGE = UUID(int=1), UUID(int=2)
COMMON = {"originator_id": CALL, "recorded_at": NOW, "recorded_by": "alpha"}
EVENTS = (
    CallReceived(
        **COMMON,
        originator_version=1,
        called_extension="2001",
        context="default",
        status=CallStatus.BUSY,
        personal=Caller(number="100"),
    ),
    MessageStored(
        **COMMON,
        originator_version=2,
        message_id=MESSAGE,
        mailbox="2001@default",
        home="bravo",
        blob="b" * 64,
        blob_size_bytes=9,
        audio=FACTS,
    ),
)


def _log() -> MemoryLogRecorder:
    recorder = MemoryLogRecorder(UUID(int=5))
    recorder.insert_events([to_stored_event(event) for event in EVENTS])
    return recorder


LOG = _log()
HEAD = LOG.head()
PLAINS = {entry.plain.decode() for entry in LOG.read(1, 10)}


def _note() -> SignedNote:
    said = Checkpoint(log_name("alpha", HEAD.incarnation), HEAD.position, HEAD.root)
    note = sign_checkpoint(said, ALPHA)
    return SignedNote(note.text, (*note.signatures, cosign(note, "bravo", BRAVO, NOW)))


def seeds() -> list[bytes]:
    note = _note()
    proof = prove_message(MESSAGE, "alpha", LOG.read(1, 10), note, LOG.read_hashes)
    keys = (
        log_key("alpha", HEAD.incarnation, ALPHA.public_key),
        witness_key("bravo", KEYS["bravo"]),
    )
    texts = (note.to_text(), *(key.to_text() for key in keys))
    return [msgspec.json.encode(proof), *(text.encode() for text in texts)]


def run(data: bytes) -> bool:
    if data.startswith(b"{"):
        return _is_read(_proof, data)
    text = data.decode("utf-8", "replace")
    readers = (_any_note, _checkpoint, _key)
    return sum(_is_read(reader, text) for reader in readers) > 0  # each of them is tried


def _is_read(reader, given) -> bool:
    try:
        reader(given)
    except CallerError:
        return False
    return True


def _proof(data: bytes) -> None:
    proof = read_proof(data)
    report = check_proof(proof, KEYS)
    if report.holds:
        assert {event.event for event in proof.events} <= PLAINS
        assert (report.message_id, report.server) == (MESSAGE, "alpha")


def _any_note(text: str) -> None:
    assert parse_note(text).to_text() == text


def _checkpoint(text: str) -> None:
    note, checkpoint = parse_checkpoint(text)
    if note.is_signed_by(log_key("alpha", HEAD.incarnation, KEYS["alpha"])):
        assert checkpoint.root == HEAD.root
    at = cosigned_at(note, witness_key("bravo", KEYS["bravo"]))
    assert at is None or at == datetime(2026, 3, 1, tzinfo=UTC)


def _key(text: str) -> None:
    assert parse_key(text).to_text() == text


TARGET = Target(
    run, seeds, is_document=True, words=("\n\n", "— ", "vmledger/", "index ", "extra ", "\\n\\n")
)
