"""Checkpoints: a server's signed word on how long its log is and what its Merkle root is there.

Two checkpoints of one log must fit together: the smaller tree is the beginning of the larger. So
whoever keeps one can notice, for ever, that the log was rewritten. A *witness* is another server
that has checked that a checkpoint follows from all those that it saw before, and puts its own
signature with the time under it; a server that shows different histories to different people would
need all its witnesses to play along.

A log that went back in time goes on under a new incarnation and may hold other events at old
positions. So each incarnation is a log of its own here, with the incarnation in its name.

Source: C2SP tlog-checkpoint v1.0.0, tlog-cosignature v1.0.0 (Ed25519); RFC 9162 section 2.1.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

from ledger.base64_text import decode_base64
from ledger.errors import CallerError
from ledger.identity import Verifier, verify_signature
from ledger.signed_note import (
    COSIGNATURE,
    ED25519,
    NoteKey,
    NoteSignature,
    SignedNote,
    Signer,
    is_right,
    parse_note,
    sign_note,
)

_SIZE: Final = re.compile("0|[1-9][0-9]{0,18}")
_HASH_BYTES: Final = 32
_TIME_BYTES: Final = 8
_NAMESPACE: Final = "vmledger"
_LOG_NAME_PARTS: Final = 3
_REMEMBERED: Final = 64
"""A server that is asked every second, and copies every second, reads the same notes again."""


def log_name(server: str, incarnation: UUID) -> str:
    """Name the log of a server's incarnation: a checkpoint's first line, and its key's name."""
    return f"{_NAMESPACE}/{server}/{incarnation}"


@lru_cache(maxsize=_REMEMBERED)
def read_log_name(log: str) -> tuple[str, UUID]:
    """Read `log_name`: the server and the incarnation; raises CallerError for anything else."""
    parts = log.split("/")
    try:
        server, incarnation = parts[-2], UUID(parts[-1])
    except (ValueError, IndexError):
        server, incarnation = "", UUID(int=0)
    if len(parts) != _LOG_NAME_PARTS or log != log_name(server, incarnation):
        raise CallerError(f"{log[:100]!r} names no log of a server here")
    return server, incarnation


def witness_name(server: str) -> str:
    """Name a server as witness of other logs."""
    return f"{_NAMESPACE}/{server}"


def log_key(server: str, incarnation: UUID, public_key: bytes) -> NoteKey:
    """Give the key by which a server signs its own checkpoints."""
    return NoteKey(log_name(server, incarnation), ED25519, public_key)


def witness_key(server: str, public_key: bytes) -> NoteKey:
    """Give the key by which a server signs others' checkpoints."""
    return NoteKey(witness_name(server), COSIGNATURE, public_key)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says."""

    log: str
    """`log_name`."""
    size: int
    """Number of events, and so the position of the last one."""
    root: bytes
    """The Merkle tree hash over them."""

    def to_text(self) -> str:
        """Write the three lines that are signed."""
        return f"{self.log}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> SignedNote:
    """Sign a checkpoint as its log. Sign only what follows from all that was signed before."""
    return sign_note(checkpoint.to_text(), checkpoint.log, signer)


def read_checkpoint(note: SignedNote) -> Checkpoint:
    """Read what a note says of a log; its signatures are not looked at.

    Raises CallerError when the note is no checkpoint.
    """
    log, size, root, *_more = [*note.text.removesuffix("\n").split("\n"), "", ""]
    try:
        digest = decode_base64(root)
    except ValueError:
        digest = b""
    if not log or not _SIZE.fullmatch(size) or len(digest) != _HASH_BYTES:
        raise CallerError("a checkpoint has three lines: the log's name, its size, its root")
    return Checkpoint(log, int(size), digest)


@lru_cache(maxsize=_REMEMBERED)
def parse_checkpoint(text: str) -> tuple[SignedNote, Checkpoint]:
    """Read a checkpoint with its signatures, unchecked; raises CallerError for anything else."""
    note = parse_note(text)
    return note, read_checkpoint(note)


def cosign(note: SignedNote, server: str, signer: Signer, at: datetime) -> NoteSignature:
    """Sign a checkpoint as a witness that has checked it."""
    time_s = int(at.timestamp())
    key = witness_key(server, signer.public_key)
    signature = signer.sign(_cosigned(note.text, time_s))
    return NoteSignature(key.name, key.id, time_s.to_bytes(_TIME_BYTES, "big") + signature)


def cosigned_at(
    note: SignedNote, key: NoteKey, verify: Verifier = verify_signature
) -> datetime | None:
    """Say when the witness with this key signed the note; None when it did not, or not rightly."""
    signature = note.of(key)
    if signature is None or len(signature.data) <= _TIME_BYTES:
        return None
    time_s = int.from_bytes(signature.data[:_TIME_BYTES], "big")
    signed = _cosigned(note.text, time_s)
    if not is_right(key, signature.data[_TIME_BYTES:], signed, verify):
        return None
    try:
        return datetime.fromtimestamp(time_s, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def with_cosignatures(note: SignedNote, lines: Iterable[NoteSignature]) -> SignedNote:
    """Put witnesses' signatures under a checkpoint that has only its log's."""
    return SignedNote(note.text, (*note.signatures, *lines))


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()
