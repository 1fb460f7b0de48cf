"""What a format's reader says of a recording, before anything is decoded for listening.

Source: claim 11 (audio encoding/decoding module).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudioShape:
    """Form and length of a recording."""

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    frames: int
    """Samples a channel at ``clock_hz``, as far as they are there."""
    clock_hz: int
    """What ``frames`` are counted at; the sample rate except for Opus."""
    cut: str | None = None
    """Says what is missing when the bytes end before the end they declare; None when whole."""

    @property
    def duration_ms(self) -> int:
        """Length, rounded to the millisecond."""
        return round(self.frames * 1000 / self.clock_hz)
