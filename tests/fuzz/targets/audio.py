"""Recordings: sound files and raw codes as switches and other servers hand them over.

The first line of an input is the declared type; behind a bar may stand what another server says of
the recording (container, codec, rate, channels), which need not be true. The rest is the recording.
It is measured and played, or an AudioError says why not; what a crash left is measured always.
"""

from __future__ import annotations

import io

import msgspec
import numpy as np
import soundfile

from ledger.audio import wav
from ledger.audio.errors import AudioError
from ledger.audio.peaks import peaks
from ledger.audio.play_format import offers
from ledger.audio.probe import AudioLimits, probe
from ledger.audio.render import render
from ledger.events import AudioFacts
from tests.fuzz.target import Target
from tests.fuzz.values import FACTS

LIMITS = AudioLimits(max_duration_ms=2000)
"""Longer sound is not decoded here: it would only take more time."""
PCM = np.array([[n * 37 % 2000 - 1000] for n in range(240)], np.int16)
CODES = bytes(n * 7 % 256 for n in range(160))


def _file(container: str, subtype: str, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    sound = np.repeat(PCM, channels, axis=1)
    with soundfile.SoundFile(buffer, "w", 8000, channels, format=container, subtype=subtype) as out:
        out.write(sound)
    return buffer.getvalue()


def seeds() -> list[bytes]:
    subtypes = ("PCM_U8", "PCM_16", "PCM_24", "ULAW", "ALAW", "GSM610")
    waves = [b"audio/wav\n" + _file("WAV", subtype) for subtype in subtypes]
    return [
        *waves,
        b"\n" + _file("WAVEX", "PCM_16", channels=2),
        b"audio/x-wav\n" + wav.write_law(CODES, "pcma", 8000, 2),
        b"audio/flac\n" + _file("FLAC", "PCM_16"),
        b"\n" + _file("FLAC", "PCM_16", channels=2),
        b"audio/ogg\n" + _file("OGG", "OPUS"),
        b"audio/mpeg\n" + _file("MP3", "MPEG_LAYER_III"),
        b"audio/PCMU;rate=8000\n" + CODES,
        b"audio/PCMA;channels=2\n" + CODES,
        b"|wav,pcmu,8000,1\n" + wav.write_law(CODES, "pcmu", 8000),
        b"|flac,flac,8000,1\n" + _file("FLAC", "PCM_16"),
        b"|raw,pcma,16000,2\n" + CODES,
    ]


def run(data: bytes) -> bool:
    line, _, received = data.partition(b"\n")
    declared, bar, told = line.decode("latin-1").partition("|")
    facts = probe(received, declared, tolerate_truncation=True)
    assert facts.size_bytes == len(received)
    if bar:
        return _play_as_told(received, facts, told)
    try:
        facts = probe(received, declared, limits=LIMITS)
    except AudioError:
        return False
    assert facts.duration_ms <= 2000
    assert facts == probe(received, declared, tolerate_truncation=True)
    for play_format in offers(facts):
        _try(lambda play_format=play_format: render(received, facts, play_format))
    return True


def _play_as_told(received: bytes, facts: AudioFacts, told: str) -> bool:
    """Play it as another server says that it is. That is believed within limits only."""
    container, codec, rate, channels = (told + ",,,").split(",")[:4]
    if container not in {"wav", "flac", "ogg", "mp3", "raw"}:
        return False
    facts = msgspec.structs.replace(
        FACTS,
        container=container,
        codec=codec,
        sample_rate_hz=int(rate) if rate.isascii() and rate.isdigit() and len(rate) < 9 else 8000,
        channels=int(channels) if channels.isascii() and channels.isdigit() else 1,
    )
    return _try(lambda: peaks(received, facts, 100))


def _try(work) -> bool:
    try:
        work()
    except AudioError:
        return False
    return True


TARGET = Target(
    run,
    seeds,
    max_bytes=4096,
    words=(
        *("RIFF", "WAVEfmt ", "data", "fact", "fLaC", "OggS", "OpusHead", "Xing", "Info", "ID3"),
        *("TAG", ".snd", "|wav,pcmu,8000,2\n", "|flac,flac,8000,1\n", "|mp3,mp3,8000,1\n"),
    ),
)
