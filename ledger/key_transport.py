"""Keys of calls on their way to one server: sealed so that only that server can open them.

Each server is known to the others by its Ed25519 key. The same key pair, mapped to X25519, is what
keys are sealed for: with a fresh key pair for each message, a secret is agreed on that only the
receiver's private key, or the one that the sender throws away, gives. So no end of a TLS connection
that is not the server itself, and no dump of a request, holds a key that opens anything.

Source: claim 10; RFC 7748 sections 4.1 and 6.1 (X25519, and the map from Edwards form), RFC 8032
section 5.1.5 (the scalar of a private key), RFC 5869 (HKDF).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledger.ids import RandomBytes
from ledger.sealing import KEY_BYTES, NONCE_BYTES, TAG_BYTES, MessageKey

_INFO: Final = b"vmledger keys on their way 1\n"
_P: Final = 2**255 - 19
_POINT_BYTES: Final = 32
_ENTRY_BYTES: Final = 16 + KEY_BYTES


def sealed_bytes(keys: int) -> int:
    """Say how long so many keys are when they are sealed."""
    return _POINT_BYTES + keys * _ENTRY_BYTES + TAG_BYTES


def seal_keys(
    keys: Iterable[MessageKey], receiver: bytes, way: bytes, random_bytes: RandomBytes
) -> bytes:
    """Seal keys for the server with this Ed25519 public key; nothing for no keys.

    ``way`` says from whom to whom they go, and has to be said again to open them. Raises ValueError
    for what is no public key.
    """
    plain = b"".join(key.key_id.bytes + key.secret for key in keys)
    if not plain:
        return b""
    once = X25519PrivateKey.from_private_bytes(random_bytes(_POINT_BYTES))
    point = once.public_key().public_bytes_raw()
    target = _montgomery(receiver)
    shared = once.exchange(X25519PublicKey.from_public_bytes(target))
    cipher = AESGCM(_derive(shared, point + target))
    # The nonce may be fixed, since the key is used once.
    return point + cipher.encrypt(bytes(NONCE_BYTES), plain, _INFO + way)


def open_keys(sealed: bytes, private_key: Ed25519PrivateKey, way: bytes) -> list[MessageKey]:
    """Give the keys that were sealed for this server.

    Raises ValueError when they were sealed for another one, for another way, or are damaged.
    """
    if not sealed:
        return []
    point, rest = sealed[:_POINT_BYTES], sealed[_POINT_BYTES:]
    own = X25519PrivateKey.from_private_bytes(_scalar(private_key))
    target = own.public_key().public_bytes_raw()
    shared = own.exchange(X25519PublicKey.from_public_bytes(point))
    try:
        plain = AESGCM(_derive(shared, point + target)).decrypt(
            bytes(NONCE_BYTES), rest, _INFO + way
        )
    except InvalidTag as error:
        raise ValueError("they are not sealed for this server, or damaged") from error
    if len(plain) % _ENTRY_BYTES:
        raise ValueError("they are no keys")
    entries = (plain[at : at + _ENTRY_BYTES] for at in range(0, len(plain), _ENTRY_BYTES))
    return [MessageKey(UUID(bytes=entry[:16]), entry[16:]) for entry in entries]


def way_of(sender: str, receiver: str) -> bytes:
    """Name who sends keys to whom."""
    return f"{sender}\n{receiver}".encode()


@functools.lru_cache(maxsize=1024)
def _montgomery(public_key: bytes) -> bytes:
    """Map an Ed25519 public key to the X25519 one of the same secret: u = (1 + y) / (1 - y)."""
    if len(public_key) != _POINT_BYTES:
        raise ValueError("this is no Ed25519 public key")
    y = int.from_bytes(public_key, "little") & ((1 << 255) - 1)
    if y in (1, 0, _P - 1) or y >= _P:
        raise ValueError("this is no Ed25519 public key that anything can be sealed for")
    return ((1 + y) * pow(1 - y, -1, _P) % _P).to_bytes(_POINT_BYTES, "little")


@functools.lru_cache(maxsize=64)
def _scalar(private_key: Ed25519PrivateKey) -> bytes:
    return hashlib.sha512(private_key.private_bytes_raw()).digest()[:_POINT_BYTES]


def _derive(shared: bytes, points: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=points, info=_INFO).derive(shared)
