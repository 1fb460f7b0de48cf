"""Recordings for listening: made from the received bytes on demand, never kept as evidence.

Source: claim 11 (audio encoding/decoding module).
"""

from __future__ import annotations

from typing import Final

from ledger.audio import soundfile_codec, wav
from ledger.audio.errors import UnsupportedAudioError
from ledger.audio.pcm import Pcm, decode, law_codes
from ledger.audio.play_format import PlayFormat, media_type, negotiate
from ledger.audio.resample import mono, resample
from ledger.events import AudioFacts

__all__ = ["PlayFormat", "media_type", "negotiate", "render"]

_MP3_RATES_HZ: Final = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OPUS_RATES_HZ: Final = (8_000, 12_000, 16_000, 24_000, 48_000)
_MP3_COMPRESSION: Final = 0.714
"""Of 0 (largest) to 1: a constant 24 kbit/s at 8 kHz, near to G.711 to the ear."""


def render(received: bytes, facts: AudioFacts, play_format: PlayFormat) -> bytes:
    """Give a recording in a form to play.

    Raises UnsupportedAudioError for a form that `negotiate` does not offer for this recording.
    """
    match play_format:
        case PlayFormat.ORIGINAL:
            return received
        case PlayFormat.WAV_LAW:
            return _wav_law(received, facts)
        case PlayFormat.WAV_PCM16:
            pcm = decode(received, facts)
            return wav.write_pcm16(pcm.samples, pcm.sample_rate_hz)
        case PlayFormat.MP3:
            pcm = _fitted(decode(received, facts), _MP3_RATES_HZ)
            return soundfile_codec.encode_mp3(pcm.samples, pcm.sample_rate_hz, _MP3_COMPRESSION)
        case PlayFormat.OGG_OPUS:
            pcm = _fitted(decode(received, facts), _OPUS_RATES_HZ)
            return soundfile_codec.encode_ogg_opus(pcm.samples, pcm.sample_rate_hz)


def _wav_law(received: bytes, facts: AudioFacts) -> bytes:
    codes = law_codes(received, facts)
    if codes is None:
        raise UnsupportedAudioError(f"a recording in {facts.codec} has no µ-law or A-law codes")
    return wav.write_law(codes, facts.codec, facts.sample_rate_hz, facts.channels)


def _fitted(pcm: Pcm, rates_hz: tuple[int, ...]) -> Pcm:
    """Bring the sound to a rate and number of channels that an encoder takes."""
    if pcm.samples.shape[1] > 2:
        pcm = mono(pcm)
    rate_hz = next((r for r in rates_hz if r >= pcm.sample_rate_hz), rates_hz[-1])
    return resample(pcm, rate_hz)
