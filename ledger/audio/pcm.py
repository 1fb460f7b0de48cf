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
from ledger.events import AudioFacts

_READABLE: Final = {"wav": wav.rebuild, "flac": flac.readable}
"""How to mend the lengths that a pipe or a crash left in a header, for libsndfile."""


@dataclass(frozen=True, slots=True)
class Pcm:
    """Samples for listening. Derived, never evidence."""

    samples: NDArray[np.int16]
    """Shape (n, channels)."""
    sample_rate_hz: int


def law_codes(received: bytes, facts: AudioFacts) -> bytes | None:
    """Give the bare µ-law or A-law codes of a recording; None for other codecs."""
    if facts.codec not in g711.LAWS:
        return None
    if facts.container == "wav":
        return wav.read_layout(received).sound(received)
    return received[: len(received) // facts.channels * facts.channels]


def decode(received: bytes, facts: AudioFacts) -> Pcm:
    """Decode a recording, as far as it goes when it is what a crash left.

    Raises UnsupportedAudioError for a fragment that nothing can decode.
    """
    codes = law_codes(received, facts)
    if codes is not None:
        flat = g711.decode(codes, facts.codec)
        return Pcm(flat.reshape(-1, facts.channels), facts.sample_rate_hz)
    if facts.container == "wav" and facts.codec != "gsm":
        return Pcm(wav.samples(received), facts.sample_rate_hz)
    if facts.container == "unknown":
        raise UnsupportedAudioError("nothing here can decode this fragment; fetch it as it is")
    if facts.container in _READABLE:
        received = _READABLE[facts.container](received)
    return Pcm(*soundfile_codec.decode(received))
