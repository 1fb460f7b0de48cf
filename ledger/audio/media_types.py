"""Media types: what a switch's ``Content-Type`` says, and what we say of what is stored.

Source: claim 11; RFC 2046 section 4.3 (audio/basic), RFC 4856 (audio/PCMU, audio/PCMA), RFC 2361
(audio/vnd.wave), RFC 7845 section 9 (audio/ogg).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from ledger.audio.errors import UnsupportedAudioError
from ledger.events import AudioFacts
from ledger.header_number import parse_number
from ledger.media_type import parse_media_type

WAV_TYPES: Final = ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave")
MP3_TYPES: Final = ("audio/mpeg", "audio/mp3", "audio/x-mp3")
OGG_TYPES: Final = ("audio/ogg", "application/ogg", "audio/opus", "audio/x-opus+ogg")
FLAC_TYPES: Final = ("audio/flac", "audio/x-flac")
RAW_TYPES: Final = {"audio/basic": "pcmu", "audio/pcmu": "pcmu", "audio/pcma": "pcma"}
SILENT_TYPES: Final = frozenset({"application/octet-stream", "binary/octet-stream", "audio/*"})
"""Types that say nothing about the bytes."""
MIN_RATE_HZ: Final = 1_000
MAX_RATE_HZ: Final = 192_000
"""Recordings of other sample rates are not taken, whether declared or stated in a file."""

_CONTAINERS: Final = {
    **dict.fromkeys(WAV_TYPES, "wav"),
    **dict.fromkeys(MP3_TYPES, "mp3"),
    **dict.fromkeys(OGG_TYPES, "ogg"),
    **dict.fromkeys(FLAC_TYPES, "flac"),
    **dict.fromkeys(RAW_TYPES, "raw"),
}
_EXTENSIONS: Final = {
    **dict.fromkeys((".wav", ".wave"), "audio/wav"),
    **dict.fromkeys((".ul", ".ulaw", ".mulaw", ".pcmu"), "audio/PCMU;rate=8000"),
    **dict.fromkeys((".al", ".alaw", ".pcma"), "audio/PCMA;rate=8000"),
    ".flac": "audio/flac",
    **dict.fromkeys((".ogg", ".opus", ".oga"), "audio/ogg"),
    ".mp3": "audio/mpeg",
}
_STORED_TYPES: Final = {"flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg"}


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """What a media type says about the bytes."""

    text: str
    container: str
    codec: str | None = None
    """Only for raw codes, which cannot say it themselves; so are the two below."""
    sample_rate_hz: int = 8_000
    channels: int = 1


def read_content_type(content_type: str | None) -> DeclaredType | None:
    """Read a ``Content-Type``; None when it says nothing about the bytes.

    Raises UnsupportedAudioError for types that no recording here can have.
    """
    name, parameters = parse_media_type(content_type or "")
    if not name or name in SILENT_TYPES:
        return None
    container = _CONTAINERS.get(name)
    if container is None:
        raise UnsupportedAudioError(
            f"recordings of type {content_type!r} are not taken; send audio/PCMU, audio/PCMA, "
            "audio/basic, audio/wav, audio/flac, audio/ogg (Opus) or audio/mpeg"
        )
    if container != "raw":
        return DeclaredType(str(content_type), container)
    return DeclaredType(
        text=str(content_type),
        container="raw",
        codec=RAW_TYPES[name],
        sample_rate_hz=_number(
            parameters.get("rate", "8000"), MIN_RATE_HZ, MAX_RATE_HZ, content_type
        ),
        channels=_number(parameters.get("channels", "1"), 1, 2, content_type),
    )


def content_type_of_file(name: str) -> str | None:
    """Give the media type that a file's extension stands for; None for unknown ones."""
    return _EXTENSIONS.get(PurePath(name).suffix.lower())


def stored_type(facts: AudioFacts) -> str:
    """Give the media type of the received bytes themselves."""
    if facts.container == "raw":
        if facts.codec == "pcmu" and (facts.sample_rate_hz, facts.channels) == (8_000, 1):
            return "audio/basic"
        channels = f";channels={facts.channels}" if facts.channels != 1 else ""
        return f"audio/{facts.codec.upper()};rate={facts.sample_rate_hz}{channels}"
    if facts.container == "wav":
        return "audio/vnd.wave;codec=31" if facts.codec == "gsm" else "audio/wav"
    return _STORED_TYPES.get(facts.container, "application/octet-stream")


def _number(text: str, least: int, most: int, content_type: str | None) -> int:
    number = parse_number(text)
    if number is None or not least <= number <= most:
        raise UnsupportedAudioError(
            f"in the type {content_type!r}, {text!r} is not between {least} and {most}"
        )
    return number
