"""The sealed form of a recording: its stored form, encrypted piece by piece while it is written.

A sealed form is a header (whose key, a salt), then segments: a length and AES-256-GCM ciphertext.
Each is sealed with a key derived from the message's own and the salt, under a nonce that holds its
number and whether it is the last one, so that no segment can be changed, moved, left out or cut off
unseen. Segments are as large as what is written at a time, a second of a call: what a crash leaves
is an exact prefix of what was written, and no byte of a call lies on the disk readable, not even
while the caller speaks.

Nothing here does I/O. Reading is strict: exactly what was written, or a CorruptionError that names
the segment.

Source: claim 11; Hoang, Reyhanitabar, Rogaway, Vizár, *Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance* (the STREAM construction); RFC 5869 (HKDF).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledger.errors import CorruptionError
from ledger.ids import RandomBytes
from ledger.sealing import KEY_BYTES, NONCE_BYTES, TAG_BYTES, MessageKey

SEGMENT_BYTES: Final = 64 * 1024
"""The most that one segment holds."""
HEADER_BYTES: Final = 8 + 16 + 32
SEGMENT_OVERHEAD_BYTES: Final = 4 + TAG_BYTES

_MAGIC: Final = b"vmseal1\n"
_SALT_BYTES: Final = 32
_LENGTH_BYTES: Final = 4


class SealedPrefix(NamedTuple):
    """What is whole of a sealed form that a crash may have cut anywhere."""

    plain: bytes
    length_bytes: int
    """Length of the whole segments in the sealed form; 0 when not even the header is whole."""
    is_finished: bool
    """Was the last segment among them?"""


class SealedFormWriter:
    """Seals what is written, piece by piece. For one thread at a time.

    What `header`, `add` and `finish` return, in order, is the sealed form; each return value ends
    with a whole segment.
    """

    def __init__(self, key: MessageKey, random_bytes: RandomBytes) -> None:
        """Start a sealed form; one message may have several (a repeated upload): each is salted."""
        self._header = _MAGIC + key.key_id.bytes + random_bytes(_SALT_BYTES)
        self._cipher = _cipher(key, self._header)
        self._number = 0

    def header(self) -> bytes:
        """Give what comes first. Call it once, first."""
        return self._header

    def add(self, plain: bytes) -> bytes:
        """Seal these bytes, now."""
        starts = range(0, len(plain), SEGMENT_BYTES)
        return b"".join(self._segment(plain[at : at + SEGMENT_BYTES]) for at in starts)

    def finish(self) -> bytes:
        """Give the last segment, which is empty: without it the form counts as cut."""
        return self._segment(b"", is_last=True)

    def _segment(self, plain: bytes, *, is_last: bool = False) -> bytes:
        sealed = self._cipher.encrypt(_nonce(self._number, is_last=is_last), plain, None)
        self._number += 1
        return len(sealed).to_bytes(_LENGTH_BYTES, "big") + sealed


def seal(plain: bytes, key: MessageKey, random_bytes: RandomBytes) -> bytes:
    """Give the sealed form of bytes that are already there as a whole."""
    writer = SealedFormWriter(key, random_bytes)
    return writer.header() + writer.add(plain) + writer.finish()


def unseal(sealed: bytes, key: MessageKey, *, place: str = "blob") -> bytes:
    """Give what was sealed.

    Raises CorruptionError naming the segment when any byte is not as it was written, when something
    follows or is missing, or when it is another message's. Nothing larger than the input is ever
    allocated. ``place`` names the blob in the error.
    """
    if read_key_id(sealed, place=place) != key.key_id:
        raise CorruptionError(f"this is not sealed with the key of call {key.key_id}", place=place)
    cipher, pieces = _cipher(key, sealed[:HEADER_BYTES]), []
    end, number = HEADER_BYTES, 0
    for number, (start, end) in enumerate(_segments(sealed)):
        try:
            nonce = _nonce(number, is_last=end == len(sealed))
            pieces.append(cipher.decrypt(nonce, sealed[start:end], None))
        except InvalidTag as error:
            raise CorruptionError(
                f"segment {number} at byte {start} is damaged, or the end is cut off", place=place
            ) from error
    if end != len(sealed) or not pieces:
        raise CorruptionError(f"the segment at byte {end} is cut", place=place)
    return b"".join(pieces)


def sealed_prefix(sealed: bytes, key: MessageKey) -> SealedPrefix:
    """Give what is whole of a sealed form that a crash may have cut. Never raises.

    It ends before the first segment that is cut or damaged.
    """
    if not sealed.startswith(_MAGIC + key.key_id.bytes) or len(sealed) < HEADER_BYTES:
        return SealedPrefix(b"", 0, is_finished=False)
    cipher, pieces, length_bytes = _cipher(key, sealed[:HEADER_BYTES]), [], HEADER_BYTES
    for number, (start, end) in enumerate(_segments(sealed)):
        for is_last in (False, True):
            try:
                nonce = _nonce(number, is_last=is_last)
                pieces.append(cipher.decrypt(nonce, sealed[start:end], None))
            except InvalidTag:
                continue
            length_bytes = end
            break
        else:
            break
        if is_last:
            return SealedPrefix(b"".join(pieces), length_bytes, is_finished=True)
    return SealedPrefix(b"".join(pieces), length_bytes, is_finished=False)


def is_sealed(data: bytes) -> bool:
    """Does this start like a sealed form, with a whole header?"""
    return data.startswith(_MAGIC) and len(data) >= HEADER_BYTES


def read_key_id(sealed: bytes, *, place: str = "blob") -> UUID:
    """Say whose key this is sealed with; raises CorruptionError when it is no sealed form."""
    if not is_sealed(sealed):
        raise CorruptionError("this does not start like a sealed recording", place=place)
    return UUID(bytes=sealed[len(_MAGIC) : len(_MAGIC) + 16])


def _cipher(key: MessageKey, header: bytes) -> AESGCM:
    """Derive the key of one sealed form: its header is bound to every segment by that."""
    salt, info = header[-_SALT_BYTES:], header[:-_SALT_BYTES]
    derive = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info)
    return AESGCM(derive.derive(key.secret))


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(NONCE_BYTES - 1, "big") + (b"\x01" if is_last else b"\x00")


def _segments(sealed: bytes) -> Iterator[tuple[int, int]]:
    """Find where the ciphertexts of whole segments lie, up to one that is cut or cannot be."""
    at = HEADER_BYTES
    while at + _LENGTH_BYTES <= len(sealed):
        start = at + _LENGTH_BYTES
        length_bytes = int.from_bytes(sealed[at:start], "big")
        at = start + length_bytes
        if not TAG_BYTES <= length_bytes <= SEGMENT_BYTES + TAG_BYTES or at > len(sealed):
            return
        yield start, at
