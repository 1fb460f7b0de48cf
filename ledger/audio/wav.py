"""WAV files: what is in them, and how to write them.

Reading finds format and sound by walking the chunks, decodes nothing, and knows the files of
programs that could not go back to fill in the lengths (they stand as 0 or as all ones). Writing
puts a header before codes or samples.

Source: claim 11; the RIFF/WAVE definition (IBM and Microsoft, 1991), RFC 2361 (codec numbers).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ledger.audio.errors import BrokenAudioError, UnsupportedAudioError
from ledger.audio.shape import AudioShape

_CODECS: Final = {
    (1, 8): "pcm_u8",
    (1, 16): "pcm_s16le",
    (1, 24): "pcm_s24le",
    (6, 8): "pcma",
    (7, 8): "pcmu",
    (0x31, 0): "gsm",
}
_LAW_NUMBERS: Final = {"pcma": 6, "pcmu": 7}
_EXTENSIBLE: Final = 0xFFFE
_GSM: Final = 0x31
_GSM_BLOCK: Final = (65, 320)
"""Bytes and samples of a block of GSM 06.10 as WAV files hold it."""
_UNKNOWN_LENGTH: Final = 0xFFFFFFFF
_MAX_CHANNELS: Final = 8


@dataclass(frozen=True, slots=True)
class WavLayout:
    """Where the sound of a WAV file lies, and of what form it is."""

    codec: str
    sample_rate_hz: int
    channels: int
    block_bytes: int
    """Bytes of one sample of all channels; of one block of GSM."""
    format_chunk: bytes
    data_start: int
    data_bytes: int
    """What is really there."""
    missing_bytes: int
    """How much more the file declares."""

    def sound(self, received: bytes) -> bytes:
        """Cut the bytes of the sound out of the file, whole blocks only."""
        whole = self.data_bytes // self.block_bytes * self.block_bytes
        return received[self.data_start : self.data_start + whole]


def read_layout(received: bytes) -> WavLayout:
    """Find the sound in a WAV file, whole or cut.

    Raises BrokenAudioError where no sound can be found, UnsupportedAudioError for other codecs.
    """
    format_chunk, at = b"", 12
    while at + 8 <= len(received):
        name, size = received[at : at + 4], int.from_bytes(received[at + 4 : at + 8], "little")
        at += 8
        if name == b"data":
            return _layout(format_chunk, received, at, size)
        if name == b"fmt ":
            format_chunk = received[at : at + size]
        at += size + size % 2
    raise BrokenAudioError("the WAV file has no data chunk: it is cut or was never finished")


def shape(received: bytes) -> AudioShape:
    """Say what a WAV file holds."""
    layout = read_layout(received)
    blocks = layout.data_bytes // layout.block_bytes
    cut = None
    if layout.missing_bytes:
        declared = layout.data_bytes + layout.missing_bytes
        cut = f"the WAV file declares {declared} bytes of sound and holds {layout.data_bytes}"
    return AudioShape(
        container="wav",
        codec=layout.codec,
        sample_rate_hz=layout.sample_rate_hz,
        channels=layout.channels,
        frames=blocks * (_GSM_BLOCK[1] if layout.codec == "gsm" else 1),
        clock_hz=layout.sample_rate_hz,
        cut=cut,
    )


def samples(received: bytes) -> NDArray[np.int16]:
    """Give the samples of a PCM file, int16, shape (n, channels); other depths are scaled."""
    layout = read_layout(received)
    sound = layout.sound(received)
    match layout.codec:
        case "pcm_u8":
            flat = (np.frombuffer(sound, np.uint8).astype(np.int16) - 128) << 8
        case "pcm_s16le":
            flat = np.frombuffer(sound, "<i2").astype(np.int16, copy=False)
        case "pcm_s24le":
            high_bytes = np.frombuffer(sound, np.uint8).reshape(-1, 3)[:, 1:]
            flat = np.ascontiguousarray(high_bytes).view("<i2").reshape(-1)
        case codec:
            raise UnsupportedAudioError(f"a WAV file of {codec} holds no plain samples")
    return flat.astype(np.int16, copy=False).reshape(-1, layout.channels)


def rebuild(received: bytes) -> bytes:
    """Give a file with a correct header around the sound that is there, in the same form."""
    layout = read_layout(received)
    sound = layout.sound(received)
    blocks = len(sound) // layout.block_bytes
    frames = blocks * (_GSM_BLOCK[1] if layout.codec == "gsm" else 1)
    return _file(layout.format_chunk, frames, sound)


def write_law(codes: bytes, codec: str, sample_rate_hz: int, channels: int = 1) -> bytes:
    """Put the 58 bytes of header before µ-law (``pcmu``) or A-law (``pcma``) codes."""
    form = struct.pack(
        "<HHIIHHH",
        *(_LAW_NUMBERS[codec], channels, sample_rate_hz),
        *(sample_rate_hz * channels, channels, 8, 0),
    )
    return _file(form, len(codes) // channels, codes)


def write_pcm16(pcm: NDArray[np.int16], sample_rate_hz: int) -> bytes:
    """Write int16 samples of shape (n, channels) as a WAV file."""
    channels = pcm.shape[1]
    form = struct.pack(
        "<HHIIHH", 1, channels, sample_rate_hz, sample_rate_hz * channels * 2, channels * 2, 16
    )
    return _file(form, None, pcm.astype("<i2", copy=False).tobytes())


def _layout(form: bytes, received: bytes, start: int, declared: int) -> WavLayout:
    if len(form) < 16:
        raise BrokenAudioError("the WAV file does not say what its sound is made of")
    number, channels, rate_hz, _, block_bytes, bits = struct.unpack("<HHIIHH", form[:16])
    if number == _EXTENSIBLE and len(form) >= 26:
        number = int.from_bytes(form[24:26], "little")
    codec = _CODECS.get((number, 0 if number == _GSM else bits))
    if codec is None:
        raise UnsupportedAudioError(
            f"the WAV file holds codec {number:#x} with {bits} bits; "
            "send PCM of 8, 16 or 24 bits, µ-law, A-law or GSM 06.10"
        )
    expected_block = _GSM_BLOCK[0] if codec == "gsm" else channels * bits // 8
    if not 1 <= channels <= _MAX_CHANNELS or not rate_hz or block_bytes != expected_block:
        raise BrokenAudioError(
            f"the WAV file contradicts itself: {channels} channels of {bits} bits "
            f"at {rate_hz} Hz in blocks of {block_bytes} bytes"
        )
    available = len(received) - start
    if _is_streamed(received, declared):
        declared = available
    return WavLayout(
        codec=codec,
        sample_rate_hz=rate_hz,
        channels=channels,
        block_bytes=block_bytes,
        format_chunk=form,
        data_start=start,
        data_bytes=min(declared, available),
        missing_bytes=max(0, declared - available),
    )


def _is_streamed(received: bytes, declared: int) -> bool:
    """Was the header written before the length was known? Then the sound goes to the end.

    An honest length of 0 stands in a file whose whole length is honest, too.
    """
    whole = int.from_bytes(received[4:8], "little")
    return declared == _UNKNOWN_LENGTH or (declared == 0 and whole + 8 != len(received))


def _file(form: bytes, frames: int | None, sound: bytes) -> bytes:
    """Join chunks; compressed forms carry a ``fact`` chunk with the number of samples."""
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    if frames is not None:
        head += b"fact" + struct.pack("<II", 4, frames)
    head += b"data" + struct.pack("<I", len(sound))
    padding = bytes(len(sound) % 2)
    whole = len(head) + len(sound) + len(padding)
    return b"".join((b"RIFF", struct.pack("<I", whole), head, sound, padding))
