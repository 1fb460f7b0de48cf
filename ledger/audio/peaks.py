"""The outline of a recording, for drawing its waveform.

Source: claim 11 (audio encoding/decoding module).
"""

from __future__ import annotations

import numpy as np

from ledger.audio.pcm import decode
from ledger.errors import CallerError
from ledger.events import AudioFacts


def peaks(received: bytes, facts: AudioFacts, buckets: int) -> list[tuple[int, int]]:
    """Give the least and the greatest sample of each of ``buckets`` equal parts, -128 to 127.

    All channels together. Parts of a recording shorter than that repeat its samples; without any
    sound all are (0, 0).
    """
    if not 1 <= buckets <= 100_000:
        raise CallerError(f"a waveform of {buckets} parts cannot be drawn; ask for 1 to 100000")
    samples = decode(received, facts).samples
    if not len(samples):
        return [(0, 0)] * buckets
    starts = np.arange(buckets, dtype=np.int64) * len(samples) // buckets
    least = np.minimum.reduceat(samples.min(axis=1), starts) >> 8
    greatest = np.maximum.reduceat(samples.max(axis=1), starts) >> 8
    return list(zip(least.tolist(), greatest.tolist(), strict=True))
