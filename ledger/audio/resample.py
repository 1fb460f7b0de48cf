"""Other sample rates, for encoders that know only some.

Exact in the frequency domain: everything below the lower of the two half rates stays, everything
above is gone. For whole recordings, not for streams.

Source: claim 11 (audio encoding/decoding module).
"""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

from ledger.audio.pcm import Pcm


def resample(pcm: Pcm, sample_rate_hz: int) -> Pcm:
    """Give the same sound at another rate."""
    if pcm.sample_rate_hz == sample_rate_hz or not len(pcm.samples):
        return Pcm(pcm.samples, sample_rate_hz)
    step = gcd(pcm.sample_rate_hz, sample_rate_hz)
    old, new = pcm.sample_rate_hz // step, sample_rate_hz // step
    wanted = -(-len(pcm.samples) * new // old)
    # Silence up to a multiple of both rates: the end does not wrap around into the beginning.
    blocks = -(-len(pcm.samples) // old) + 1
    channels = [_stretch(c, blocks * old, blocks * new)[:wanted] for c in pcm.samples.T]
    return Pcm(np.stack(channels, axis=1), sample_rate_hz)


def mono(pcm: Pcm) -> Pcm:
    """Mix all channels into one."""
    mixed = pcm.samples.mean(axis=1, keepdims=True)
    return Pcm(np.rint(mixed).astype(np.int16), pcm.sample_rate_hz)


def _stretch(channel: NDArray[np.int16], old: int, new: int) -> NDArray[np.int16]:
    spectrum = np.fft.rfft(channel, old)
    kept = np.zeros(new // 2 + 1, np.complex128)
    common = min(len(spectrum), len(kept))
    kept[:common] = spectrum[:common]
    samples = np.fft.irfft(kept, new) * (new / old)
    return np.clip(np.rint(samples), -32_768, 32_767).astype(np.int16)
