"""Sealing: what is personal is readable with a key of its own, and gone when that key is.

Each call has a `MessageKey`, which seals the personal fields of its events and the audio of its
message. It never lies anywhere as it is: the server's `MasterKey`, a file that only its owner can
read, wraps it. Whoever holds the sealed bytes, in a log, a replica or a backup, has nothing once
the key is destroyed.

Nothing here keeps keys or draws randomness: random bytes come in as an argument, so that a
simulation owns them. Where keys are kept is `ledger.storage.vault`.

Source: NIST SP 800-38D (AES-GCM; section 8.3 for the number of random nonces a key may see); RFC
2104 (HMAC); RFC 5869 section 2.3 (HKDF-Expand).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ledger.base64_text import decode_base64
from ledger.errors import CallerError, CorruptionError
from ledger.identity import read_private_file, write_new_file
from ledger.ids import RandomBytes

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
SEALED_OVERHEAD_BYTES: Final = 1 + NONCE_BYTES + TAG_BYTES
"""By how much `MessageKey.seal` makes its input longer."""
WRAPPED_BYTES: Final = 1 + 8 + NONCE_BYTES + KEY_BYTES + TAG_BYTES
"""Length of what `MasterKey.wrap` gives."""

_SEALED: Final = b"\x01"
"""First byte of what is sealed: the version of its form."""
_WRAPPED: Final = b"\x01"
_NAME_BYTES: Final = 8
_MASTER_KEY_FORM: Final = "vmledger-master-key-1 "


@dataclass(frozen=True, slots=True)
class MessageKey:
    """The key of one call and its message. The secret is kept out of its ``repr``."""

    key_id: UUID
    """The call that it belongs to."""
    secret: bytes = field(repr=False)
    """32 random bytes."""

    def seal(self, plain: bytes, purpose: str, random_bytes: RandomBytes) -> bytes:
        """Encrypt a few bytes; the same input gives another output each time.

        ``purpose`` says what the bytes are, and has to be said again to open them, so that what is
        sealed in one place cannot be moved to another. For the handful of fields of one call: their
        nonces are random.
        """
        nonce = random_bytes(NONCE_BYTES)
        return _SEALED + nonce + AESGCM(self.secret).encrypt(nonce, plain, self._bound(purpose))

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Give what was sealed; raises CorruptionError when any byte or the purpose is another."""
        nonce, rest = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        if sealed[:1] != _SEALED or len(rest) < TAG_BYTES:
            raise self._damaged(purpose, "is not in the form of sealed bytes")
        try:
            return AESGCM(self.secret).decrypt(nonce, rest, self._bound(purpose))
        except InvalidTag as error:
            raise self._damaged(purpose, "does not open with its key") from error

    @property
    def digest_key(self) -> bytes:
        """What `keyed_digest` is made with: it tells which sound it was, and opens nothing."""
        info = b"vmledger digest key 1\n" + self.key_id.bytes
        return HKDFExpand(SHA256(), KEY_BYTES, info).derive(self.secret)

    def keyed_digest(self, digest: str) -> str:
        """Give what stands in events for the SHA-256 of received bytes, both hexadecimal.

        Equal for equal bytes of one call. Without the key nobody can tell from it whether a sound
        that he has is the one.
        """
        return key_digest(self.digest_key, digest)

    def _bound(self, purpose: str) -> bytes:
        return b"vmledger sealed 1\n" + self.key_id.bytes + purpose.encode()

    def _damaged(self, purpose: str, what: str) -> CorruptionError:
        return CorruptionError(
            f"the {purpose} {what}",
            place=f"call {self.key_id}",
            advice="compare with another server that holds this call",
        )


class WrappedKey(msgspec.Struct, frozen=True, gc=False):
    """A message's key as it is kept: readable with the master key only, or destroyed."""

    key_id: UUID
    wrapped: bytes | None
    """None: the key was destroyed. That is kept, so that the key does not come back with a late
    copy of its message."""


@dataclass(frozen=True)
class MasterKey:
    """Wraps the keys of all messages of one server. The secret is kept out of its ``repr``."""

    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """Tells master keys apart without telling anything of them: 16 hexadecimal digits."""
        return self._name.hex()

    def wrap(self, key: MessageKey, random_bytes: RandomBytes) -> WrappedKey:
        """Make a key fit to be kept. Good for 2**32 keys (SP 800-38D section 8.3)."""
        nonce = random_bytes(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, key.secret, _wrapping_of(key.key_id))
        return WrappedKey(key.key_id, _WRAPPED + self._name + nonce + sealed)

    def unwrap(self, key: WrappedKey) -> MessageKey:
        """Give the key that was wrapped; it must not be destroyed.

        Raises CallerError when another master key wrapped it, CorruptionError when it is damaged.
        """
        wrapped, head = key.wrapped or b"", 1 + _NAME_BYTES
        if wrapped[:1] != _WRAPPED or len(wrapped) != WRAPPED_BYTES:
            raise _damaged_key(key.key_id)
        if wrapped[1:head] != self._name:
            raise CallerError(
                f"the key of call {key.key_id} was wrapped by master key {wrapped[1:head].hex()}, "
                f"and this server has {self.name}; give it the master key that it had before"
            )
        nonce, sealed = wrapped[head : head + NONCE_BYTES], wrapped[head + NONCE_BYTES :]
        try:
            secret = self._cipher.decrypt(nonce, sealed, _wrapping_of(key.key_id))
        except InvalidTag as error:
            raise _damaged_key(key.key_id) from error
        return MessageKey(key.key_id, secret)

    @cached_property
    def _cipher(self) -> AESGCM:
        return AESGCM(self.secret)

    @cached_property
    def _name(self) -> bytes:
        return hashlib.sha256(b"vmledger master key\n" + self.secret).digest()[:_NAME_BYTES]


def key_digest(digest_key: bytes, digest: str) -> str:
    """Make the `MessageKey.keyed_digest` of a SHA-256, by what a proof holds of the key."""
    return hmac.digest(digest_key, bytes.fromhex(digest), "sha256").hex()


def new_message_key(key_id: UUID, random_bytes: RandomBytes) -> MessageKey:
    """Make the key of a call. Without its wrapped form kept, nobody can ever open what it seals."""
    return MessageKey(key_id, random_bytes(KEY_BYTES))


def new_master_key(path: Path, random_bytes: RandomBytes) -> MasterKey:
    """Make a master key in a new file that only its owner can read; durable on return.

    Raises ConflictError when the file exists.
    """
    key = MasterKey(random_bytes(KEY_BYTES))
    text = _MASTER_KEY_FORM + base64.b64encode(key.secret).decode("ascii") + "\n"
    write_new_file(path, text.encode("ascii"), mode=0o600)
    return key


def load_master_key(path: Path) -> MasterKey:
    """Read a master key; raises CallerError for a file that is absent, open to others or other."""
    try:
        return parse_master_key(read_private_file(path))
    except ValueError as error:
        problem = f"{path} holds no master key; restore it from where you keep its copy"
        raise CallerError(problem) from error


def parse_master_key(content: bytes) -> MasterKey:
    """Read what stands in the file of a master key; raises ValueError for anything else."""
    text = content.decode("ascii", errors="replace").removesuffix("\n")
    encoded = text.removeprefix(_MASTER_KEY_FORM)
    secret = decode_base64(encoded)
    if encoded == text or len(secret) != KEY_BYTES:
        raise ValueError("not in the form of a master key")
    return MasterKey(secret)


def _wrapping_of(key_id: UUID) -> bytes:
    return b"vmledger wrapped key 1\n" + key_id.bytes


def _damaged_key(key_id: UUID) -> CorruptionError:
    return CorruptionError(
        "the kept key of a call does not open with the master key",
        place=f"key of call {key_id}",
        advice="restore the keys from a backup, or fetch the message again from its other server",
    )
