"""The stored form of a recording: what was received, as zstd frames that any auditor can open.

A stored form is one skippable frame with a little JSON (which call, where, since when, what type),
then zstd frames in a row, each with its content size and a checksum. ``zstd -dc`` prints the
received bytes. Because every frame stands alone, the file can be written while the caller speaks,
and wherever a crash cuts it, the frames before the cut are an exact prefix of what was received.

Nothing here does I/O. Reading is strict and bounded: what a peer or a rotten disk hands over is
either exactly a stored form or a CorruptionError that names the frame.

Not in the metadata, on purpose: who called. Personal data stays in events, which can forget it.

Source: claim 11 (audio encoding/decoding module); RFC 8878 section 3.1 (frames).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID

import msgspec
import zstandard

from ledger.errors import CorruptionError

FRAME_BYTES: Final = 8_000
"""A frame is made as soon as this much was received: a second of G.711."""
MAX_FRAME_BYTES: Final = 64 * 1024
"""The most that one frame holds: fast uploads make frames of this size."""
MAX_RECEIVED_BYTES: Final = 1 << 30
"""What a reader accepts at most unless it is told otherwise."""

_SKIPPABLE_MAGIC: Final = b"\x50\x2a\x4d\x18"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_MAX_METADATA_BYTES: Final = 64 * 1024
_MAX_READ_FRAME_BYTES: Final = 8 * 1024 * 1024
_LEVEL: Final = 3
_CONTENT_SIZE_FIELD_BYTES: Final = (0, 2, 4, 8)
_DICTIONARY_FIELD_BYTES: Final = (0, 1, 2, 4)


class RecordingMetadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the first frame of a stored form says about the recording."""

    call_id: UUID
    server: str
    """The server that recorded it."""
    started_at: Annotated[datetime, msgspec.Meta(tz=True)]
    """When the first byte was expected, by that server's clock."""
    content_type: str | None = None
    """The media type as the switch declared it; None when it declared none."""
    format: Literal["vmledger-stored-form-1"] = "vmledger-stored-form-1"
    """Always written, so that a lone file explains itself."""


class Frame(NamedTuple):
    """Where one frame lies in a stored form."""

    number: int
    """0 is the metadata, audio starts at 1."""
    start: int
    end: int
    content_size_bytes: int


class IntactPrefix(NamedTuple):
    """What is whole of a stored form that may have been cut anywhere."""

    received: bytes
    length_bytes: int
    """Length of the whole frames in the stored form; 0 when not even the metadata is whole."""


class _Contexts(threading.local):
    """zstd contexts of one thread: two threads in one context crash the process."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(
            level=_LEVEL, write_checksum=True, write_content_size=True, write_dict_id=False
        )
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


class StoredFormWriter:
    """Turns received bytes into a stored form, piece by piece, and keeps both digests.

    What `header`, `add` and `flush` return, in order, is the stored form; each return value ends
    on a frame boundary. For one thread at a time.
    """

    def __init__(self, metadata: RecordingMetadata) -> None:
        self._metadata = metadata
        self._waiting = bytearray()
        self._received = hashlib.sha256()
        self._stored = hashlib.sha256()
        self.received_size_bytes = 0
        self.stored_size_bytes = 0

    def header(self) -> bytes:
        """Give the metadata frame. Call it once, first."""
        document = _with_format(self._metadata)
        size = len(document).to_bytes(4, "little")
        return self._emit(_SKIPPABLE_MAGIC + size + document)

    def add(self, data: bytes) -> bytes:
        """Take received bytes; give the frames that are complete by them, often none."""
        self._received.update(data)
        self.received_size_bytes += len(data)
        self._waiting += data
        return self.flush() if len(self._waiting) >= FRAME_BYTES else b""

    def flush(self) -> bytes:
        """Give frames for everything taken so far."""
        frames = b"".join(_compress_pieces(bytes(self._waiting)))
        self._waiting.clear()
        return self._emit(frames)

    def finish(self) -> bytes:
        """Give what ends the recording: frames for everything taken so far."""
        return self.flush()

    @property
    def waiting_bytes(self) -> int:
        """How much was taken and is in no frame yet."""
        return len(self._waiting)

    @property
    def received_digest(self) -> str:
        """SHA-256 of all bytes taken so far."""
        return self._received.hexdigest()

    @property
    def stored_digest(self) -> str:
        """SHA-256 of all bytes given so far: the blob's address once everything is flushed."""
        return self._stored.hexdigest()

    def _emit(self, frames: bytes) -> bytes:
        self._stored.update(frames)
        self.stored_size_bytes += len(frames)
        return frames


def encode(received: bytes, metadata: RecordingMetadata) -> bytes:
    """Give the stored form of a recording that is already there as a whole."""
    writer = StoredFormWriter(metadata)
    return writer.header() + writer.add(received) + writer.flush()


def decode(stored: bytes, *, max_bytes: int = MAX_RECEIVED_BYTES, place: str = "blob") -> bytes:
    """Give the received bytes of a stored form.

    Raises CorruptionError naming the frame when any byte is not as it was written, when something
    follows or is missing, or when more than ``max_bytes`` would come out; nothing of that size is
    ever allocated. ``place`` names the blob in the error.
    """
    read_metadata(stored, place=place)
    pieces: list[bytes] = []
    total_bytes = 0
    for frame in walk_frames(stored, place=place):
        total_bytes += frame.content_size_bytes
        if total_bytes > max_bytes:
            raise CorruptionError(
                f"frame {frame.number} brings the recording above {max_bytes} bytes",
                place=place,
                advice="raise the limit if recordings of this length are expected",
            )
        pieces.append(_decompress(stored, frame, place))
    return b"".join(pieces)


def intact_prefix(data: bytes, *, max_bytes: int = MAX_RECEIVED_BYTES) -> IntactPrefix:
    """Give what is whole of a stored form that a crash may have cut. Never raises.

    It ends before the first frame that is cut, damaged, or would go above ``max_bytes``.
    """
    pieces: list[bytes] = []
    length_bytes = total_bytes = 0
    try:
        read_metadata(data)
        for frame in walk_frames(data):
            total_bytes += frame.content_size_bytes
            if total_bytes > max_bytes:
                break
            pieces.append(_decompress(data, frame, "spool"))
            length_bytes = frame.end
    except CorruptionError:
        pass  # The cut: what was read before it is the answer.
    return IntactPrefix(b"".join(pieces), length_bytes)


def read_metadata(stored: bytes, *, place: str = "blob") -> RecordingMetadata:
    """Read the metadata frame; raises CorruptionError when it is cut or is none."""
    frame = _metadata_frame(stored, place)
    try:
        return msgspec.json.decode(stored[frame.start + 8 : frame.end], type=RecordingMetadata)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptionError(
            f"frame 0 holds no recording metadata: {error}", place=place
        ) from error


def walk_frames(stored: bytes, *, place: str = "blob") -> Iterator[Frame]:
    """Find the frames of a stored form, the metadata first, without decompressing any.

    Raises CorruptionError at the first byte that cannot be part of a stored form.
    """
    frame = _metadata_frame(stored, place)
    yield frame
    while frame.end < len(stored):
        try:
            frame = _audio_frame(stored, frame.number + 1, frame.end)
        except ValueError as error:
            raise CorruptionError(
                f"frame {frame.number + 1} at byte {frame.end} {error}", place=place
            ) from error
        yield frame


def _with_format(metadata: RecordingMetadata) -> bytes:
    document: dict[str, object] = {"format": metadata.format}
    document.update(msgspec.to_builtins(metadata))
    return msgspec.json.encode(document)


def _compress_pieces(data: bytes) -> Iterator[bytes]:
    compress = _contexts.compressor.compress
    for start in range(0, len(data), MAX_FRAME_BYTES):
        yield compress(data[start : start + MAX_FRAME_BYTES])


def _decompress(stored: bytes, frame: Frame, place: str) -> bytes:
    """Give what a frame holds; zstd compares its checksum."""
    if frame.number == 0:
        return b""
    try:
        content = _contexts.decompressor.decompress(stored[frame.start : frame.end])
    except zstandard.ZstdError as error:
        raise CorruptionError(
            f"frame {frame.number} at byte {frame.start} is damaged: {error}", place=place
        ) from error
    if len(content) != frame.content_size_bytes:
        raise CorruptionError(
            f"frame {frame.number} at byte {frame.start} is not as long as it says", place=place
        )
    return content


def _metadata_frame(stored: bytes, place: str) -> Frame:
    """Find frame 0 (RFC 8878 section 3.1.2: magic, length, then anything)."""
    size_bytes = int.from_bytes(stored[4:8], "little")
    end = 8 + size_bytes
    if stored[:4] != _SKIPPABLE_MAGIC or size_bytes > _MAX_METADATA_BYTES or end > len(stored):
        raise CorruptionError(
            "frame 0 at byte 0 is not the metadata of a recording, or is cut", place=place
        )
    return Frame(0, 0, end, 0)


def _audio_frame(stored: bytes, number: int, start: int) -> Frame:
    """Find the end of a zstd frame from its headers; raises ValueError with what is wrong.

    RFC 8878 sections 3.1.1.1 (frame header) and 3.1.1.2 (blocks).
    """
    if stored[start : start + 4] != _ZSTD_MAGIC or start + 5 > len(stored):
        raise ValueError("does not start like a zstd frame, or is cut")
    descriptor = stored[start + 4]
    is_single_segment = bool(descriptor & 0x20)
    if not descriptor & 0x04:
        raise ValueError("carries no checksum")
    at = start + 5 + (not is_single_segment) + _DICTIONARY_FIELD_BYTES[descriptor & 3]
    size_field_bytes = _CONTENT_SIZE_FIELD_BYTES[descriptor >> 6] or int(is_single_segment)
    if not size_field_bytes:
        raise ValueError("does not say how much it holds")
    content_size = int.from_bytes(stored[at : at + size_field_bytes], "little")
    content_size += 256 if size_field_bytes == 2 else 0
    if not content_size:
        # The library answers b"" for such a frame without looking at its checksum.
        raise ValueError("claims to hold nothing")
    if content_size > _MAX_READ_FRAME_BYTES:
        raise ValueError(f"claims to hold {content_size} bytes")
    end = _skip_blocks(stored, at + size_field_bytes) + 4  # the checksum
    if end > len(stored):
        raise ValueError("is cut")
    return Frame(number, start, end, content_size)


def _skip_blocks(stored: bytes, at: int) -> int:
    """Give where the blocks end that start here."""
    while True:
        if at + 3 > len(stored):
            raise ValueError("is cut")
        header = int.from_bytes(stored[at : at + 3], "little")
        block_type, size_bytes = header >> 1 & 3, header >> 3
        if block_type == 3:
            raise ValueError("has a block of a reserved type")
        at += 3 + (1 if block_type == 1 else size_bytes)
        if header & 1:
            return at
