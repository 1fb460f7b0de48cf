"""What a recording is: sniffed from its bytes, checked against what was declared, measured.

The bytes decide what they are. Only raw G.711 cannot say it, so there the declared type counts. A
declared type that contradicts the bytes is an error, never a guess: one of the two is a mistake of
the switch's configuration, and playing it the wrong way would be noise.

Source: claim 11 (audio encoding/decoding module).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ledger.audio import flac, mp3, ogg_opus, wav
from ledger.audio.errors import (
    AudioError,
    ContradictoryTypeError,
    EmptyAudioError,
    TooLongError,
    TooShortError,
    TruncatedAudioError,
    UnsupportedAudioError,
)
from ledger.audio.media_types import (
    MAX_RATE_HZ,
    MIN_RATE_HZ,
    DeclaredType,
    content_type_of_file,
    read_content_type,
)
from ledger.audio.shape import AudioShape
from ledger.events import AudioFacts

__all__ = ["AudioError", "AudioLimits", "content_type_of_file", "probe", "sniff"]


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """How long a recording may be to count as a message."""

    min_duration_ms: int = 0
    max_duration_ms: int | None = None


NO_LIMITS = AudioLimits()


def probe(
    data: bytes,
    content_type: str | None,
    *,
    limits: AudioLimits = NO_LIMITS,
    tolerate_truncation: bool = False,
) -> AudioFacts:
    """Say what the received bytes are.

    Raises an AudioError: the recording is empty, broken, cut, too short or too long, of a format
    that nothing here reads, or contradicts its declared type. With ``tolerate_truncation`` (for
    what a crash left) it never raises: what can be measured is, else the container is ``unknown``
    and the duration 0.
    """
    if tolerate_truncation:
        return _facts(data, _shape_of_remains(data, content_type))
    if not data:
        raise EmptyAudioError("the recording is empty: not one byte was received")
    shape = _shape(data, read_content_type(content_type), limits)
    _check(shape, limits)
    return _facts(data, shape)


def sniff(data: bytes) -> str | None:
    """Recognise the container by the bytes; None when they could be anything (raw codes, too)."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"fLaC":
        return "flac"
    if data[:4] == b"OggS":
        return "ogg"
    if data[:4] == b".snd" and data[4:6] == b"\0\0":
        return "au"
    return "mp3" if mp3.find_first_frame(data) is not None else None


def _shape(data: bytes, declared: DeclaredType | None, limits: AudioLimits) -> AudioShape:
    container = sniff(data)
    if declared is not None and container is not None and declared.container != container:
        raise ContradictoryTypeError(
            f"the recording was declared as {declared.text} but its bytes are {_NAMES[container]}; "
            "correct the type that the switch sends"
        )
    if container is None:
        return _shape_of_raw(data, declared)
    return _shape_of_container(data, container, limits.max_duration_ms)


def _shape_of_container(data: bytes, container: str, max_duration_ms: int | None) -> AudioShape:
    """Say what a file holds. One whose rate nothing here could play is not taken.

    A header can state any rate, and to bring a second of it to another takes room for both.
    """
    shape = _stated_shape(data, container, max_duration_ms)
    if not MIN_RATE_HZ <= shape.sample_rate_hz <= MAX_RATE_HZ:
        raise UnsupportedAudioError(
            f"{_NAMES[container]} of {shape.sample_rate_hz} Hz is not taken; "
            f"send {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
        )
    return shape


def _stated_shape(data: bytes, container: str, max_duration_ms: int | None) -> AudioShape:
    match container:
        case "wav":
            return wav.shape(data)
        case "flac":
            return flac.shape(data, max_duration_ms)
        case "ogg":
            return ogg_opus.shape(data)
        case "mp3":
            return mp3.shape(data)
    raise UnsupportedAudioError(
        f"{_NAMES[container]} is not taken; send raw codes, WAV, FLAC, Ogg Opus or MP3"
    )


def _shape_of_raw(data: bytes, declared: DeclaredType | None) -> AudioShape:
    if declared is None:
        raise UnsupportedAudioError(
            f"bytes that begin with {data[:4].hex()} are of no format known here; "
            "raw telephone audio must be declared, as audio/PCMU or audio/PCMA"
        )
    if declared.codec is None:
        raise ContradictoryTypeError(
            f"the recording was declared as {declared.text} but its bytes, which begin with "
            f"{data[:4].hex()}, are not of that format"
        )
    return AudioShape(
        container="raw",
        codec=declared.codec,
        sample_rate_hz=declared.sample_rate_hz,
        channels=declared.channels,
        frames=len(data) // declared.channels,
        clock_hz=declared.sample_rate_hz,
    )


def _shape_of_remains(data: bytes, content_type: str | None) -> AudioShape | None:
    """Say what a crash left; the bytes are believed more than the type. None: nobody knows."""
    container = sniff(data)
    try:
        if container is not None:
            return _shape_of_container(data, container, None)
        return _shape_of_raw(data, read_content_type(content_type))
    except AudioError:
        return None


def _check(shape: AudioShape, limits: AudioLimits) -> None:
    if shape.cut is not None:
        raise TruncatedAudioError(f"the recording is cut: {shape.cut}")
    if shape.frames <= 0:
        raise EmptyAudioError(f"the recording is empty: {_NAMES[shape.container]} without sound")
    if shape.duration_ms < limits.min_duration_ms:
        raise TooShortError(
            f"the recording lasts {shape.duration_ms} ms; "
            f"messages begin at {limits.min_duration_ms} ms"
        )
    if limits.max_duration_ms is not None and shape.duration_ms > limits.max_duration_ms:
        raise TooLongError(
            f"the recording lasts {shape.duration_ms} ms; "
            f"at most {limits.max_duration_ms} ms are taken"
        )


def _facts(data: bytes, shape: AudioShape | None) -> AudioFacts:
    return AudioFacts(
        digest=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        container=shape.container if shape else "unknown",
        codec=shape.codec if shape else "unknown",
        sample_rate_hz=shape.sample_rate_hz if shape else 0,
        channels=shape.channels if shape else 0,
        duration_ms=shape.duration_ms if shape else 0,
    )


_NAMES = {
    "raw": "raw codes",
    "wav": "a WAV file",
    "flac": "a FLAC file",
    "ogg": "an Ogg file",
    "mp3": "an MP3 file",
    "au": "a Sun AU file",
}
