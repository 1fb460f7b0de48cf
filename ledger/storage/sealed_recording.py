"""A recording in its sealed form: the frames of its stored form, each batch of them encrypted.

`SealedRecordingWriter` stands where a `StoredFormWriter` stands: what it gives, in order, is what
lies on the disk and is shipped, and the address of the blob is the hash of that ciphertext. Nothing
here does I/O.

Source: claims 10 and 11.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple, TypeAlias
from uuid import UUID

from ledger.errors import ConflictError
from ledger.ids import RandomBytes
from ledger.sealing import MessageKey
from ledger.storage.sealed_form import (
    SealedFormWriter,
    is_sealed,
    read_key_id,
    seal,
    sealed_prefix,
    unseal,
)
from ledger.storage.stored_form import (
    MAX_RECEIVED_BYTES,
    RecordingMetadata,
    StoredFormWriter,
    decode,
    intact_prefix,
)

FindKey: TypeAlias = Callable[[UUID], MessageKey]
"""Gives the key of a call; raises NotFoundError (ErasedError) when there is none."""


class SealedRecordingWriter:
    """Turns received bytes into a sealed recording, piece by piece. For one thread at a time."""

    def __init__(
        self, metadata: RecordingMetadata, key: MessageKey, random_bytes: RandomBytes
    ) -> None:
        self._frames = StoredFormWriter(metadata)
        self._segments = SealedFormWriter(key, random_bytes)
        self._stored = hashlib.sha256()
        self._is_finished = False
        self.stored_size_bytes = 0

    def header(self) -> bytes:
        """Give what comes first, the metadata in it. Call it once, first."""
        return self._emit(self._segments.header() + self._segments.add(self._frames.header()))

    def add(self, data: bytes) -> bytes:
        """Take received bytes; give the segments that are complete by them, often none."""
        if self._is_finished:
            # Another segment after the last one would be lost on every reader.
            raise ConflictError("this recording is finished and takes no more audio")
        return self._emit(self._segments.add(self._frames.add(data)))

    def flush(self) -> bytes:
        """Give segments for everything taken so far."""
        return self._emit(self._segments.add(self._frames.flush()))

    def finish(self) -> bytes:
        """Give what ends the recording; nothing when that was given already."""
        if self._is_finished:
            return b""
        rest = self.flush()
        self._is_finished = True
        return rest + self._emit(self._segments.finish())

    @property
    def received_digest(self) -> str:
        """SHA-256 of all bytes taken so far."""
        return self._frames.received_digest

    @property
    def received_size_bytes(self) -> int:
        """How many bytes were taken so far."""
        return self._frames.received_size_bytes

    @property
    def stored_digest(self) -> str:
        """SHA-256 of all bytes given so far: the blob's address once it is finished."""
        return self._stored.hexdigest()

    def _emit(self, segments: bytes) -> bytes:
        self._stored.update(segments)
        self.stored_size_bytes += len(segments)
        return segments


class MendedRecording(NamedTuple):
    """What is whole of a sealed recording that a crash may have cut anywhere."""

    sealed: bytes
    """A finished sealed form of it."""
    stored: bytes
    """Its frames, readable."""
    received: bytes
    is_cut: bool
    """Was there anything that could not be opened, or was no whole frame?"""


def decode_sealed(
    sealed: bytes, key: MessageKey, *, max_bytes: int = MAX_RECEIVED_BYTES, place: str = "blob"
) -> bytes:
    """Give the received bytes of a sealed recording; raises what `unseal` and `decode` raise."""
    return decode(unseal(sealed, key, place=place), max_bytes=max_bytes, place=place)


def open_recording(
    data: bytes,
    find_key: FindKey,
    *,
    max_bytes: int = MAX_RECEIVED_BYTES,
    place: str = "blob",
) -> bytes:
    """Give the received bytes of a recording, whether it is sealed or from before there were keys.

    Raises what ``find_key`` raises, and CorruptionError as `decode_sealed` and `decode` do.
    """
    if not is_sealed(data):
        return decode(data, max_bytes=max_bytes, place=place)
    key = find_key(read_key_id(data, place=place))
    return decode_sealed(data, key, max_bytes=max_bytes, place=place)


def open_prefix(data: bytes, find_key: FindKey) -> tuple[bytes, bool]:
    """Give what is whole of a recording that may be cut anywhere, and whether it is cut.

    Raises what ``find_key`` raises; a file that is no recording gives nothing.
    """
    stored, length_bytes = data, len(data)
    if is_sealed(data):
        prefix = sealed_prefix(data, find_key(read_key_id(data)))
        stored = prefix.plain
        length_bytes = prefix.length_bytes if prefix.is_finished else 0
    intact = intact_prefix(stored)
    is_cut = length_bytes < len(data) or intact.length_bytes < len(stored)
    return intact.received, is_cut


def mend_sealed(sealed: bytes, key: MessageKey, random_bytes: RandomBytes) -> MendedRecording:
    """Make a left-over a finished sealed form again, and say what it holds. Never raises.

    One that is whole stays byte for byte what it is: a blob may have its address. Any other is
    sealed anew under a salt of its own. Going on under the old one would need proof that no byte of
    a torn segment, which the disk may still have, was sealed under the same nonce.
    """
    prefix = sealed_prefix(sealed, key)
    # A segment may end within a frame: the frames that are whole count.
    intact = intact_prefix(prefix.plain)
    stored = prefix.plain[: intact.length_bytes]
    is_cut = prefix.length_bytes < len(sealed) or len(stored) < len(prefix.plain)
    is_whole = prefix.is_finished and not is_cut
    whole = sealed if is_whole else seal(stored, key, random_bytes)
    return MendedRecording(whole, stored, intact.received, is_cut)
