"""From any stored recording to samples.

Source: claim 11 (audio encoding/decoding module).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ledger.audio import flac, g711, soundfile_codec, wav
from ledger.audio.errors import UnsupportedAudioError
from ledger.audio.media_types import MAX_RATE_HZ, MIN_RATE_HZ
from ledger.events import AudioFacts

MAX_CHANNELS: Final = 8
_READABLE: Final = {"wav": wav.rebuild, "flac": flac.readable}
"""How to mend the lengths that a pipe or a crash left in a header, for libsndfile."""


@dataclass(frozen=True, slots=True)
class Pcm:
    """Samples for listening. Derived, never evidence."""

    samples: NDArray[np.int16]
    """Shape (n, channels)."""
    sample_rate_hz: int


def law_codes(received: bytes, facts: AudioFacts) -> bytes | None:
    """Give the bare µ-law or A-law codes of a recording; None for other codecs.

    Raises UnsupportedAudioError as `decode`.
    """
    if facts.codec not in g711.LAWS:
        return None
    _expect_sense(facts.sample_rate_hz, facts.channels)
    if facts.container == "wav":
        layout = wav.read_layout(received)
        if (layout.codec, layout.channels) != (facts.codec, facts.channels):
            raise UnsupportedAudioError(
                f"the WAV file holds {layout.codec} of {layout.channels} channels, and recorded of "
                f"it is {facts.codec} of {facts.channels}; fetch it as it is"
            )
        return layout.sound(received)
    return received[: len(received) // facts.channels * facts.channels]


def decode(received: bytes, facts: AudioFacts) -> Pcm:
    """Decode a recording, as far as it goes when it is what a crash left.

    Raises UnsupportedAudioError for a fragment that nothing can decode, and for facts that make no
    sense: they may be another server's word, and nothing is reserved on the strength of it.
    """
    codes = law_codes(received, facts)
    if codes is not None:
        flat = g711.decode(codes, facts.codec)
        return Pcm(flat.reshape(-1, facts.channels), facts.sample_rate_hz)
    if facts.container == "unknown":
        raise UnsupportedAudioError("nothing here can decode this fragment; fetch it as it is")
    pcm = _decode_file(received, facts)
    _expect_sense(pcm.sample_rate_hz, pcm.samples.shape[1])
    return pcm


def _decode_file(received: bytes, facts: AudioFacts) -> Pcm:
    if facts.container == "wav" and facts.codec != "gsm":
        return Pcm(wav.samples(received), facts.sample_rate_hz)
    if facts.container in _READABLE:
        received = _READABLE[facts.container](received)
    return Pcm(*soundfile_codec.decode(received))


def _expect_sense(sample_rate_hz: int, channels: int) -> None:
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ or not 1 <= channels <= MAX_CHANNELS:
        raise UnsupportedAudioError(
            f"{channels} channels at {sample_rate_hz} Hz cannot be played; fetch it as it is"
        )
