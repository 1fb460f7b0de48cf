"""Real speech in every format that the audio module reads."""

import functools
import io
from pathlib import Path

import numpy as np
import soundfile

from ledger.audio import g711, wav

SPEECH = Path(__file__).parents[2] / "vmledger" / "speech"


@functools.cache
def speech(name: str = "0880") -> bytes:
    """A µ-law WAV file of one sentence, three seconds."""
    return (SPEECH / f"sense-and-sensibility-{name}.wav").read_bytes()


@functools.cache
def speech_codes(codec: str = "pcmu", name: str = "0880") -> bytes:
    """The same sentence as raw codes."""
    received = speech(name)
    codes = wav.read_layout(received).sound(received)
    return codes if codec == "pcmu" else codes.translate(g711.ULAW_TO_ALAW)


@functools.cache
def speech_pcm(name: str = "0880") -> np.ndarray:
    """The same sentence as int16 samples at 8 000 Hz, shape (n,)."""
    return g711.decode(speech_codes("pcmu", name), "pcmu")


@functools.cache
def encoded(container: str, subtype: str, *, channels: int = 1, rate_hz: int = 8_000) -> bytes:
    """The same sentence as libsndfile writes it."""
    pcm = np.repeat(speech_pcm()[:, None], channels, axis=1)
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", rate_hz, channels, format=container, subtype=subtype
    ) as file:
        file.write(pcm)
    return buffer.getvalue()


def sndfile_samples(data: bytes) -> tuple[np.ndarray, int]:
    """What libsndfile hears in a file: int16 of shape (n, channels), and the rate."""
    samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    return samples, rate_hz
