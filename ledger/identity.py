"""Who a server is: its Ed25519 signing key, in a file that only its owner can read.

Receipts, checkpoints and requests between servers are signed with this key; the other servers know
the public half from their configuration. TLS has a key of its own, because it may end at a proxy.

Source: claim 14 (common functions); RFC 8032 (Ed25519), RFC 8410 (its PKCS #8 form).
"""

from __future__ import annotations

import base64
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.base64_text import decode_base64
from ledger.errors import CallerError, ConflictError, PeerError

PUBLIC_KEY_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """A server that can prove who it is. The private key is kept out of its ``repr``."""

    server_id: str
    private_key: Ed25519PrivateKey = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """The 32 raw bytes that verify what this server signs."""
        return self.private_key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """Give the 64 signature bytes over ``data``. The same data gives the same signature."""
        return self.private_key.sign(data)


def verify_signature(public_key: bytes, signature: bytes, data: bytes, *, peer: str) -> None:
    """Return if ``signature`` over ``data`` is by that key; raise PeerError naming the peer."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise PeerError(
            f"a signature of server {peer!r} does not fit its public key in the configuration; "
            "compare the key with the one that `vmledger config peers` prints there",
            peer=peer,
        ) from error


class Verifier(Protocol):
    """Checks signatures: `verify_signature`, or a simulation's cheap one."""

    def __call__(self, public_key: bytes, signature: bytes, data: bytes, *, peer: str) -> None:
        """Return if ``signature`` over ``data`` is by that key; raise PeerError naming the peer."""


def generate_identity(server_id: str) -> ServerIdentity:
    """Make a new signing key from the operating system's randomness."""
    return ServerIdentity(server_id, Ed25519PrivateKey.generate())


def load_identity(server_id: str, path: Path) -> ServerIdentity:
    """Read a server's signing key. Raises CallerError for a file that others can read."""
    try:
        key = serialization.load_pem_private_key(read_private_file(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CallerError(
            f"{path} is not an unencrypted PEM private key; restore it from your backup"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CallerError(f"{path} is not an Ed25519 key; name the server's signing key here")
    return ServerIdentity(server_id, key)


def save_identity(identity: ServerIdentity, path: Path) -> None:
    """Write the signing key to a new file that only its owner can read; durable on return."""
    pem = identity.private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_new_file(path, pem, mode=0o600)


def read_private_file(path: Path) -> bytes:
    """Read a file of secrets; raises CallerError when it is absent or others can read it."""
    try:
        with path.open("rb") as file:
            # Asked of the open file, so that nobody can swap it between the question and the read.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read()
    except OSError as error:
        raise CallerError(
            f"{path} cannot be read ({error.strerror}); restore it from your backup, or let "
            "`vmledger init` make a new server"
        ) from error
    if mode & _OTHERS:
        raise CallerError(
            f"{path} can be read or changed by others (mode {mode:04o}); run: chmod 600 {path}"
        )
    return data


def write_new_file(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file that must not exist yet; durable on return, raises ConflictError if it does."""
    try:
        # The mode is there from the first moment: a key is never readable by others, not even
        # for the time until a chmod.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ConflictError(
            f"{path} exists and is not overwritten; choose another place"
        ) from error
    with os.fdopen(descriptor, "wb") as file:
        # A crash before the sync leaves an empty or cut file, which the next start refuses.
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def public_key_text(public_key: bytes) -> str:
    """Write a public key as the configuration has it: base64 of its 32 bytes."""
    return base64.b64encode(public_key).decode("ascii")


def parse_public_key(text: str) -> bytes:
    """Read `public_key_text`; raises CallerError for anything else."""
    try:
        key = decode_base64(text)
    except ValueError:
        key = b""
    if len(key) != PUBLIC_KEY_BYTES:
        raise CallerError(
            "this is not the base64 of a 32-byte Ed25519 public key; "
            "copy what `vmledger config peers` prints on that server"
        )
    return key
