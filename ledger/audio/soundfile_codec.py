"""libsndfile, as we use it: decoding in blocks up to the first error, encoding in blocks.

In blocks, because libsndfile crashed on large buffers of some codecs, and because a damaged file
should still give what comes before the damage. Forwards only: after each read the wrapper would
seek to where it is already, which fails in cut files and takes time in whole ones.

Source: claim 11 (audio encoding/decoding module).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from ledger.audio.errors import BrokenAudioError, TooLongError

_BLOCK_FRAMES: Final = 4_096
MOST_SAMPLES: Final = 1 << 28
"""Of all channels together: half a gigabyte. A few kilobytes of silence may decode to more."""


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc] # the library is not typed
    """A sound file that is only read from beginning to end."""

    def seekable(self) -> bool:
        return False


def decode_blocks(received: bytes) -> Iterator[NDArray[np.int16]]:
    """Decode a file block by block, int16 of shape (n, channels).

    Raises BrokenAudioError when it cannot be opened, and where the damage is; TooLongError behind
    `MOST_SAMPLES`.
    """
    left = MOST_SAMPLES
    with _open(received) as file:
        while True:
            try:
                block = file.read(_BLOCK_FRAMES, dtype="int16", always_2d=True)
            except soundfile.SoundFileError as error:
                raise BrokenAudioError("the recording is damaged within") from error
            if not len(block):
                return
            left -= block.size
            if left < 0:
                raise TooLongError(f"the recording decodes to more than {MOST_SAMPLES} samples")
            yield block


def decode(received: bytes) -> tuple[NDArray[np.int16], int]:
    """Decode a file as far as it goes: int16 of shape (n, channels), and the sample rate.

    Raises BrokenAudioError when it cannot be opened, TooLongError behind `MOST_SAMPLES`.
    """
    with _open(received) as file:
        rate_hz, channels = int(file.samplerate), int(file.channels)
    blocks = [np.zeros((0, channels), np.int16)]
    with contextlib.suppress(BrokenAudioError):
        blocks.extend(decode_blocks(received))
    return np.concatenate(blocks), rate_hz


def encode_mp3(pcm: NDArray[np.int16], sample_rate_hz: int, compression_level: float) -> bytes:
    """Encode int16 of shape (n, channels) with a constant bit rate."""
    return _encode(
        pcm,
        sample_rate_hz,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=compression_level,
    )


def encode_ogg_opus(pcm: NDArray[np.int16], sample_rate_hz: int) -> bytes:
    """Encode int16 of shape (n, channels) as Ogg Opus."""
    return _encode(pcm, sample_rate_hz, format="OGG", subtype="OPUS")


def _open(received: bytes) -> soundfile.SoundFile:
    try:
        return _ForwardFile(io.BytesIO(received))
    except soundfile.SoundFileError as error:
        raise BrokenAudioError("the recording cannot be decoded: its header is damaged") from error


def _encode(pcm: NDArray[np.int16], sample_rate_hz: int, **form: str | float) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", sample_rate_hz, pcm.shape[1], **form) as file:
        for start in range(0, len(pcm), _BLOCK_FRAMES):
            file.write(pcm[start : start + _BLOCK_FRAMES])
    return buffer.getvalue()
