"""MP3 files: every frame's header, tags before and after, and whether the last frame is whole.

Source: claim 11; ISO/IEC 11172-3 and 13818-3 (frame header), id3.org (ID3v2 header).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.audio import soundfile_codec
from ledger.audio.errors import BrokenAudioError, UnsupportedAudioError
from ledger.audio.shape import AudioShape

_RATES_HZ: Final = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}
"""By the version bits: MPEG 1, 2 and 2.5."""
_KBITS: Final = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Layer III, by whether it is MPEG 1."""
_LAYER_III: Final = 1
_MONO: Final = 3
_FIRST_FRAME_WITHIN_BYTES: Final = 4_096
"""How much padding between tag and first frame is put up with."""


class FrameHeader(NamedTuple):
    """What the four bytes before a frame say."""

    version: int
    sample_rate_hz: int
    channels: int
    length_bytes: int
    samples: int


class Frames(NamedTuple):
    """What walking over all frames found."""

    first: FrameHeader
    frame_count: int
    samples: int
    is_cut: bool


def read_header(received: bytes, at: int) -> FrameHeader | None:
    """Read the header of a Layer III frame; None where there is none."""
    word = int.from_bytes(received[at : at + 4], "big")
    version, layer = word >> 19 & 3, word >> 17 & 3
    kbits_index, rate_index = word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or layer != _LAYER_III or version == 1:
        return None
    if kbits_index in {0, 15} or rate_index == 3:
        return None
    rate_hz = _RATES_HZ[version][rate_index]
    samples = 1152 if version == 3 else 576
    bits = _KBITS[version == 3][kbits_index] * 1000
    return FrameHeader(
        version=version,
        sample_rate_hz=rate_hz,
        channels=1 if word >> 6 & 3 == _MONO else 2,
        length_bytes=samples // 8 * bits // rate_hz + (word >> 9 & 1),
        samples=samples,
    )


def find_first_frame(received: bytes) -> int | None:
    """Find where the frames begin, behind any tags; None when these bytes are no MP3.

    Two headers in a row that agree are asked for: one alone may be chance.
    """
    start = _skip_tags(received)
    for at in range(start, min(start + _FIRST_FRAME_WITHIN_BYTES, len(received) - 3)):
        if received[at] == 0xFF and _begins_frames(received, at):
            return at
        if received[at] and start == 0:
            return None  # Without a tag, only zeros may come before.
    return None


def shape(received: bytes) -> AudioShape:
    """Say what an MP3 file holds, whole or cut.

    Raises BrokenAudioError where something that is no frame stands between frames.
    """
    start = find_first_frame(received)
    if start is None:
        raise UnsupportedAudioError("the bytes are no MPEG Layer III (MP3)")
    frames = _walk(received, start)
    played = frames.samples
    if not frames.is_cut:
        played = sum(len(block) for block in soundfile_codec.decode_blocks(received))
    return AudioShape(
        container="mp3",
        codec="mp3",
        sample_rate_hz=frames.first.sample_rate_hz,
        channels=frames.first.channels,
        frames=played,
        clock_hz=frames.first.sample_rate_hz,
        cut="the MP3 file ends within a frame, or before the last it declares"
        if frames.is_cut
        else None,
    )


def _walk(received: bytes, start: int) -> Frames:
    first = read_header(received, start)
    assert first is not None, "the caller found a frame here"
    declared = _declared_frames(received, start, first)
    at, frame_count, samples = start, 0, 0
    while (header := read_header(received, at)) is not None:
        if at + header.length_bytes > len(received):
            return Frames(first, frame_count, samples, is_cut=True)
        at += header.length_bytes
        samples += header.samples
        frame_count += 1
    if not _is_end(received, at):
        raise BrokenAudioError(f"the MP3 file has no frame at byte {at}, and no end")
    if declared is not None:
        samples -= first.samples  # The frame that declares is silent itself.
        return Frames(first, frame_count, samples, is_cut=frame_count - 1 < declared)
    return Frames(first, frame_count, samples, is_cut=0 < len(received) - at < 4)


def _declared_frames(received: bytes, start: int, first: FrameHeader) -> int | None:
    """Read the number of frames from a Xing or Info tag in the first frame; None without one."""
    frame = received[start : start + first.length_bytes]
    at = max(frame.find(b"Xing", 0, 48), frame.find(b"Info", 0, 48))
    if at < 0 or not frame[at + 7] & 1:
        return None
    return int.from_bytes(frame[at + 8 : at + 12], "big")


def _is_end(received: bytes, at: int) -> bool:
    """Is what follows the frames a tag or padding (or three stray bytes of a header)?"""
    rest = received[at:]
    return len(rest) < 4 or rest[:3] == b"TAG" or rest[:8] == b"APETAGEX" or not any(rest)


def _begins_frames(received: bytes, at: int) -> bool:
    first = read_header(received, at)
    if first is None:
        return False
    end = at + first.length_bytes
    if end + 4 > len(received):
        return end <= len(received)
    second = read_header(received, end)
    if second is None:
        return _is_end(received, end)
    return (second.version, second.sample_rate_hz) == (first.version, first.sample_rate_hz)


def _skip_tags(received: bytes) -> int:
    """Give where the ID3v2 tags before the frames end; their length is four times seven bits."""
    at = 0
    while received[at : at + 3] == b"ID3" and at + 10 <= len(received):
        a, b, c, d = received[at + 6 : at + 10]
        at += 10 + (a << 21 | b << 14 | c << 7 | d)
    return at
