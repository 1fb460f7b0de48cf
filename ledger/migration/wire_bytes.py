"""The bytes of what two servers say to each other.

A message is ``VML``, one letter for its kind, one byte for the version, the length of a zstd frame
(4 bytes, big-endian), that frame, and for a batch the blobs it announces, end to end. The frame
carries its content size and a checksum, so a damaged message is noticed on any transport. Inside is
JSON; the events in it are the very bytes that their server recorded.

Reading is strict: an unknown field, a size above its bound, a blob that is not what its digest
says, or one byte too few or too many is a PeerError that says what is wrong. Nothing is allocated
because a length field asks for it.

Source: claims 4, 7 and 8; RFC 8878 (zstd frames).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
import zstandard

from ledger.errors import PeerError
from ledger.migration.wire import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    VERSION,
    Answer,
    Batch,
    BatchHeader,
    BlobEntry,
    Blobs,
    BlobsHeader,
    Message,
    Request,
)
from ledger.storage.blob_store import BlobBytes

_MAGIC: Final = b"VML"
_PREFIX_BYTES: Final = 9
_LEVEL: Final = 1
"""For what is mostly sealed, 3 gives more bytes and takes twice as long (measured)."""

_REQUEST: Final = b"r"
_ANSWER: Final = b"a"
_BATCH: Final = b"b"
_BLOBS: Final = b"d"
_ENCODER: Final = msgspec.json.Encoder()
_REQUESTS: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)
_ANSWERS: Final[msgspec.json.Decoder[Answer]] = msgspec.json.Decoder(Answer)
_HEADERS: Final = msgspec.json.Decoder(BatchHeader)
_BLOBS_HEADERS: Final = msgspec.json.Decoder(BlobsHeader)
_T = TypeVar("_T")


def encode_request(request: Request) -> bytes:
    """Give the bytes of a question."""
    return _seal(_REQUEST, request)


def encode_answer(answer: Answer) -> bytes:
    """Give the bytes of an answer."""
    return _seal(_ANSWER, answer)


def encode_batch(header: BatchHeader, blobs: Sequence[bytes]) -> bytes:
    """Give the bytes of a batch; ``blobs`` are in the order of ``header.blobs``."""
    assert [entry.size_bytes for entry in header.blobs] == [len(blob) for blob in blobs]
    return b"".join((_seal(_BATCH, header), *blobs))


def decode_request(data: bytes, peer: str) -> Request:
    """Read a question; raises PeerError."""
    return _read_alone(_REQUEST, data, _REQUESTS, peer)


def decode_answer(data: bytes, peer: str) -> Answer:
    """Read an answer; raises PeerError."""
    return _read_alone(_ANSWER, data, _ANSWERS, peer)


def decode_batch(data: bytes, peer: str) -> Batch:
    """Read a batch and check its blobs against their digests; raises PeerError.

    Takes time in proportion to the size: call it off the event loop.
    """
    header, at = _read_frame(_BATCH, data, _HEADERS, peer)
    blobs, damaged = _read_blobs(header.blobs, data, at, peer)
    if damaged:
        raise damaged_blob(damaged[0], peer)
    return Batch(header, {digest: bytes(blob) for digest, blob in blobs.items()})


def encode_blobs(blobs: Blobs) -> bytes:
    """Give the bytes of an answer that carries blobs."""
    entries = tuple(BlobEntry(digest, len(data)) for digest, data in blobs.blobs.items())
    header = BlobsHeader(blobs=entries, absent=blobs.absent)
    return b"".join((_seal(_BLOBS, header), *blobs.blobs.values()))


def decode_blobs(data: bytes, peer: str) -> Blobs | Answer:
    """Read an answer that may carry blobs, and check them against their digests.

    Raises PeerError; not for damaged ones, which are named. Takes time in proportion to the size:
    call it off the event loop.
    """
    if data[:4] != _MAGIC + _BLOBS:
        return decode_answer(data, peer)
    header, at = _read_frame(_BLOBS, data, _BLOBS_HEADERS, peer)
    blobs, damaged = _read_blobs(header.blobs, data, at, peer)
    return Blobs(blobs, header.absent, tuple(damaged))


def damaged_blob(digest: str, peer: str) -> PeerError:
    """Make the error for a blob that came and is not what its digest says."""
    return PeerError(f"blob {digest} was damaged on its way", peer=peer)


def _read_blobs(
    entries: Sequence[BlobEntry], data: bytes, at: int, peer: str
) -> tuple[dict[str, BlobBytes], list[str]]:
    """Give those that are what their digests say, and name the others."""
    if sum(entry.size_bytes for entry in entries) != len(data) - at:
        raise PeerError("the message is not as long as its blobs", peer=peer)
    view = memoryview(data)
    blobs: dict[str, BlobBytes] = {}
    damaged: list[str] = []
    for entry in entries:
        blob = view[at : at + entry.size_bytes]
        at += entry.size_bytes
        if hashlib.sha256(blob).hexdigest() != entry.digest:
            damaged.append(entry.digest)
        elif entry.digest in blobs:
            raise PeerError(f"blob {entry.digest} is in the message twice", peer=peer)
        else:
            blobs[entry.digest] = blob
    return blobs, damaged


class _Contexts(threading.local):
    """zstd contexts of one thread: two threads in one context crash the process.

    Kept, because to make one costs ten times as much as to compress a question with it.
    """

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts: Final = _Contexts()


def _seal(kind: bytes, message: Message) -> bytes:
    frame = _contexts.compressor.compress(_ENCODER.encode(message))
    return b"".join((_MAGIC, kind, bytes([VERSION]), len(frame).to_bytes(4, "big"), frame))


def _read_alone(kind: bytes, data: bytes, decoder: msgspec.json.Decoder[_T], peer: str) -> _T:
    message, end = _read_frame(kind, data, decoder, peer)
    if end != len(data):
        raise PeerError(f"{len(data) - end} bytes follow the message", peer=peer)
    return message


def _read_frame(
    kind: bytes, data: bytes, decoder: msgspec.json.Decoder[_T], peer: str
) -> tuple[_T, int]:
    if len(data) > MAX_BODY_BYTES:
        raise PeerError(f"the message is longer than {MAX_BODY_BYTES} bytes", peer=peer)
    if len(data) < _PREFIX_BYTES or data[:4] != _MAGIC + kind:
        raise PeerError("this is no message of the expected kind", peer=peer)
    if data[4] != VERSION:
        raise PeerError(
            f"the message is of version {data[4]}, this server speaks {VERSION}; "
            "bring both servers to the same release",
            peer=peer,
        )
    end = _PREFIX_BYTES + int.from_bytes(data[5:_PREFIX_BYTES], "big")
    if end > len(data):
        raise PeerError("the message is cut", peer=peer)
    try:
        return decoder.decode(_decompress(data[_PREFIX_BYTES:end])), end
    except (zstandard.ZstdError, ValueError, RecursionError) as error:
        raise PeerError(f"the message cannot be read: {error}", peer=peer) from error


def _decompress(frame: bytes) -> bytes:
    """Give what the frame holds; ZstdError or ValueError for anything but one whole frame."""
    parameters = zstandard.get_frame_parameters(frame)
    if parameters.content_size > MAX_HEADER_BYTES or not parameters.has_checksum:
        raise ValueError("its frame is too large, of no stated size or has no checksum")
    content = _contexts.decompressor.decompress(frame, allow_extra_data=False)
    if len(content) != parameters.content_size:
        raise ValueError("its frame is not as long as it says")
    return content
