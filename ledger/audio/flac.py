"""FLAC files: what they hold, and whether they decode to what their maker heard.

The header carries an MD5 of the samples, so a whole file can be told from a damaged one.

Source: claim 11; RFC 9639 section 8.2 (STREAMINFO).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from ledger.audio import soundfile_codec
from ledger.audio.errors import BrokenAudioError
from ledger.audio.shape import AudioShape

_NO_MD5: Final = bytes(16)
_UNKNOWN_FRAMES: Final = (1 << 36) - 1


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """The first metadata block of a FLAC file."""

    sample_rate_hz: int
    channels: int
    bits: int
    frames: int
    """0 when the maker did not know."""
    md5: bytes
    """Of the samples, little endian; all zero when the maker did not say."""


def read_stream_info(received: bytes) -> StreamInfo:
    """Read the header; raises BrokenAudioError when it is cut or makes no sense."""
    block = received[8:42]
    if len(block) < 34 or received[4] & 0x7F != 0:
        raise BrokenAudioError("the FLAC file has no whole header")
    packed = int.from_bytes(block[10:18], "big")
    info = StreamInfo(
        sample_rate_hz=packed >> 44,
        channels=(packed >> 41 & 7) + 1,
        bits=(packed >> 36 & 31) + 1,
        frames=packed & (1 << 36) - 1,
        md5=block[18:34],
    )
    if not info.sample_rate_hz:
        raise BrokenAudioError("the FLAC file states a sample rate of 0 Hz")
    return info


def shape(received: bytes, max_duration_ms: int | None) -> AudioShape:
    """Say what a FLAC file holds, after decoding all of it; one that is too long, before that.

    Raises BrokenAudioError when the samples are not those that were encoded.
    """
    info = read_stream_info(received)
    most = _UNKNOWN_FRAMES
    if max_duration_ms is not None:
        most = max_duration_ms * info.sample_rate_hz // 1000
    if info.frames > most:
        return _shape(info, info.frames, None)
    decoded = _decode(received, most)
    if info.bits == 16 and info.md5 not in {_NO_MD5, decoded.md5} and decoded.is_whole(info):
        raise BrokenAudioError("the FLAC file decodes to other samples than were encoded")
    cut = None
    if decoded.is_damaged or decoded.frames < info.frames:
        cut = f"of the FLAC file only {decoded.frames} samples can be decoded"
        cut += f", and it declares {info.frames}" if info.frames else ""
    return _shape(info, decoded.frames, cut)


def readable(received: bytes) -> bytes:
    """Give the file with a length that libsndfile can work with.

    A file that was written to a pipe states 0; with the greatest length there is instead, it is
    decoded up to its end.
    """
    if read_stream_info(received).frames:
        return received
    packed = int.from_bytes(received[18:26], "big") | _UNKNOWN_FRAMES
    return received[:18] + packed.to_bytes(8, "big") + received[26:]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What came out of decoding everything, or up to the limit."""

    frames: int
    md5: bytes
    is_damaged: bool
    is_stopped: bool
    """The limit came before the end."""

    def is_whole(self, info: StreamInfo) -> bool:
        return not self.is_damaged and not self.is_stopped and self.frames >= info.frames


def _decode(received: bytes, most: int) -> _Decoded:
    md5 = hashlib.md5(usedforsecurity=False)  # as FLAC does it; our own evidence is SHA-256
    frames, is_damaged = 0, False
    try:
        for block in soundfile_codec.decode_blocks(readable(received)):
            frames += len(block)
            md5.update(block.astype("<i2", copy=False).tobytes())
            if frames > most:
                break
    except BrokenAudioError:
        is_damaged = True
    return _Decoded(frames, md5.digest(), is_damaged, is_stopped=frames > most)


def _shape(info: StreamInfo, frames: int, cut: str | None) -> AudioShape:
    return AudioShape(
        container="flac",
        codec="flac",
        sample_rate_hz=info.sample_rate_hz,
        channels=info.channels,
        frames=frames,
        clock_hz=info.sample_rate_hz,
        cut=cut,
    )
