"""Signed notes: a text with lines of signatures under it, as transparency logs publish them.

The format is the one that the tools of public logs read, so that a third party can check what a
server signed without this program. A note is read in full before anything of it is believed; lines
of unknown signers are kept and mean nothing.

Source: C2SP signed-note v1.0.0; RFC 8032 (Ed25519), RFC 4648 section 4 (base64).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from ledger.base64_text import decode_base64
from ledger.errors import CallerError, PeerError
from ledger.identity import Verifier, verify_signature

ED25519: Final = 0x01
"""Type of a plain Ed25519 signature over the note's text."""
COSIGNATURE: Final = 0x04
"""Type of a witness's Ed25519 signature with its time (`ledger.checkpoint`)."""

_ID_BYTES: Final = 4
_MAX_BYTES: Final = 65_536
_MAX_SIGNATURES: Final = 100
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SPACE: Final = re.compile(r"\s")
_PREFIX: Final = "— "


class Signer(Protocol):
    """Whoever has an Ed25519 key: `ledger.identity.ServerIdentity`."""

    @property
    def public_key(self) -> bytes:
        """The 32 raw bytes."""

    def sign(self, data: bytes) -> bytes:
        """Give the 64 signature bytes."""


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key under the name by which it signs notes."""

    name: str
    kind: int
    public_key: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that, with the name, say which key a line is by."""
        data = self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key
        return sha256(data).digest()[:_ID_BYTES]

    def to_text(self) -> str:
        """Write the key as verifiers of notes want it: ``name+id+base64``."""
        key = base64.b64encode(bytes([self.kind]) + self.public_key).decode()
        return f"{self.name}+{self.id.hex()}+{key}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One line under a note."""

    name: str
    key_id: bytes
    data: bytes

    def to_line(self) -> str:
        """Write the line, with its end."""
        return f"{_PREFIX}{self.name} {base64.b64encode(self.key_id + self.data).decode()}\n"

    def is_by(self, key: NoteKey) -> bool:
        """Does the line say that it is by this key? Whether it is shows its signature."""
        return (self.name, self.key_id) == (key.name, key.id)


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text and what stands under it."""

    text: str
    """Ends with a line feed."""
    signatures: tuple[NoteSignature, ...]

    def to_text(self) -> str:
        """Write the whole note."""
        return self.text + "\n" + "".join(signature.to_line() for signature in self.signatures)

    def of(self, key: NoteKey) -> NoteSignature | None:
        """Find the line that says it is by this key."""
        return next((s for s in self.signatures if s.is_by(key)), None)

    def is_signed_by(self, key: NoteKey, verify: Verifier = verify_signature) -> bool:
        """Is there a line by this key, and is it right? For keys of the kind `ED25519`."""
        signature = self.of(key)
        return signature is not None and is_right(key, signature.data, self.text.encode(), verify)


def is_right(key: NoteKey, signature: bytes, data: bytes, verify: Verifier) -> bool:
    """Is this the key's signature over these bytes?"""
    try:
        verify(key.public_key, signature, data, peer=key.name)
    except PeerError:
        return False
    return True


def sign_note(text: str, name: str, signer: Signer) -> SignedNote:
    """Sign a text under a name."""
    key = NoteKey(name, ED25519, signer.public_key)
    return SignedNote(text, (NoteSignature(name, key.id, signer.sign(text.encode())),))


def parse_note(given: str) -> SignedNote:
    """Read a note. Raises CallerError for what is none, saying why."""
    if len(given.encode()) > _MAX_BYTES:
        raise CallerError(f"a signed note has at most {_MAX_BYTES} bytes")
    if _CONTROL.search(given):
        raise CallerError("a signed note holds no control characters")
    text, blank, lines = given.rpartition("\n\n")
    if not blank or not text or not lines.endswith("\n"):
        raise CallerError("a signed note is a text, an empty line, and lines of signatures")
    signatures = tuple(_parse_line(line) for line in lines[:-1].split("\n"))
    if len(signatures) > _MAX_SIGNATURES:
        raise CallerError(f"a signed note has at most {_MAX_SIGNATURES} signatures here")
    return SignedNote(text + "\n", signatures)


def _parse_line(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_PREFIX).partition(" ")
    is_name = name and "+" not in name and not _SPACE.search(name)
    try:
        data = decode_base64(encoded)
    except ValueError:
        data = b""
    if not line.startswith(_PREFIX) or not is_name or len(data) <= _ID_BYTES:
        raise CallerError(f"{line[:100]!r} is not '— NAME SIGNATURE' as under a signed note")
    return NoteSignature(name, data[:_ID_BYTES], data[_ID_BYTES:])


def parse_key(text: str) -> NoteKey:
    """Read a verifier's key, ``name+id+base64``; raises CallerError for anything else."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        data = decode_base64(encoded)
        key = NoteKey(name, data[0], data[1:])
        is_whole = key_id == key.id.hex() and bool(name)
    except (ValueError, IndexError):
        is_whole = False
    if not is_whole:
        raise CallerError(f"{text[:100]!r} is not a key of the form NAME+ID+BASE64")
    return key
