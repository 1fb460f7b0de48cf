"""What a listener gets: the forms that a recording can be played in, and which one to choose.

Source: claim 11; RFC 9110 section 12.5.1 (Accept).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from ledger.audio.errors import NotAcceptableError
from ledger.audio.g711 import LAWS
from ledger.audio.media_types import (
    MP3_TYPES,
    OGG_TYPES,
    WAV_TYPES,
    stored_type,
)
from ledger.events import AudioFacts
from ledger.media_type import parse_media_type

ORIGINAL_TYPE: Final = "audio/original"
"""What a listener accepts to get the received bytes, whatever they are."""


class PlayFormat(Enum):
    """A form to play a recording in."""

    WAV_LAW = "wav-law"
    """WAV of the received codes themselves; for recordings in µ-law or A-law. Costs nothing."""
    WAV_PCM16 = "wav-pcm16"
    """WAV of 16-bit samples."""
    MP3 = "mp3"
    """What every browser and telephone plays."""
    OGG_OPUS = "ogg-opus"
    """The smallest."""
    ORIGINAL = "original"
    """The received bytes, bit for bit."""


class _Range(NamedTuple):
    """One element of an ``Accept`` header."""

    name: str
    quality: float

    def matches(self, media_type: str) -> bool:
        return self.name in {"*/*", media_type, f"{media_type.partition('/')[0]}/*"}

    @property
    def specificity(self) -> int:
        return 0 if self.name == "*/*" else 1 if self.name.endswith("/*") else 2


_EVERYTHING: Final = _Range("*/*", 1.0)
_TYPES: Final = {
    PlayFormat.WAV_LAW: WAV_TYPES,
    PlayFormat.WAV_PCM16: WAV_TYPES,
    PlayFormat.MP3: MP3_TYPES,
    PlayFormat.OGG_OPUS: OGG_TYPES,
}


def offers(facts: AudioFacts) -> list[PlayFormat]:
    """List the forms that this recording can be played in, the best first."""
    if facts.container == "unknown":
        return [PlayFormat.ORIGINAL]
    law = [PlayFormat.WAV_LAW] if facts.codec in LAWS else []
    derived = [PlayFormat.WAV_PCM16, PlayFormat.MP3, PlayFormat.OGG_OPUS]
    return [*law, *derived, PlayFormat.ORIGINAL]


def media_type(play_format: PlayFormat, facts: AudioFacts) -> str:
    """Give the ``Content-Type`` of a recording in this form."""
    if play_format is PlayFormat.ORIGINAL:
        return stored_type(facts)
    return _TYPES[play_format][0]


def negotiate(accept_header: str | None, facts: AudioFacts) -> PlayFormat:
    """Choose the form that an ``Accept`` header asks for; without one, the best there is.

    ``audio/original``, or the recording's own type, gives the received bytes. (WAV of GSM is the
    exception: browsers cannot play it, so ``audio/wav`` gives samples.) Raises NotAcceptableError
    when nothing fits.
    """
    ranges = _parse_accept(accept_header)
    possible = offers(facts)
    if len(possible) > 1 and _own_quality(ranges, facts) >= max(_qualities(ranges, facts)):
        return PlayFormat.ORIGINAL
    best = max(possible, key=lambda offer: _quality(ranges, offer, facts))
    if _quality(ranges, best, facts) > 0:
        return best
    names = ", ".join(dict.fromkeys(media_type(offer, facts) for offer in possible))
    raise NotAcceptableError(
        f"nothing of {accept_header!r} can be made of this recording; there are {names} "
        f"and {ORIGINAL_TYPE}"
    )


def asks_for_original(accept_header: str | None) -> bool:
    """Does it name `ORIGINAL_TYPE`? A player that gets the received bytes names their own type."""
    return any(r.name == ORIGINAL_TYPE and r.quality > 0 for r in _parse_accept(accept_header))


def _parse_accept(header: str | None) -> list[_Range]:
    ranges = []
    for element in (header or "").split(","):
        name, parameters = parse_media_type(element)
        if name:
            ranges.append(_Range(name, _parse_quality(parameters.get("q", "1"))))
    return ranges or [_EVERYTHING]


def _parse_quality(text: str) -> float:
    """Read a weight between 0 and 1; what is none counts as 0, so that it is not chosen."""
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0


def _qualities(ranges: list[_Range], facts: AudioFacts) -> list[float]:
    derived = [offer for offer in offers(facts) if offer is not PlayFormat.ORIGINAL]
    return [_quality(ranges, offer, facts) for offer in derived]


def _quality(ranges: list[_Range], offer: PlayFormat, facts: AudioFacts) -> float:
    """Give the weight of an offer: that of the most specific range that fits one of its names."""
    if offer is PlayFormat.ORIGINAL:
        names: tuple[str, ...] = (ORIGINAL_TYPE, _own_name(facts))
    else:
        names = _TYPES[offer]
    fitting = [r for r in ranges if any(r.matches(name) for name in names)]
    best = max(fitting, key=lambda r: (r.specificity, r.quality), default=None)
    return best.quality if best else 0.0


def _own_quality(ranges: list[_Range], facts: AudioFacts) -> float:
    """Give the weight of the received bytes when they are asked for by name; else below any."""
    names = {ORIGINAL_TYPE, *_own_names(facts)}
    asked = [r.quality for r in ranges if r.name in names and r.quality > 0]
    return max(asked, default=-1.0)


def _own_name(facts: AudioFacts) -> str:
    return parse_media_type(stored_type(facts))[0]


def _own_names(facts: AudioFacts) -> tuple[str, ...]:
    """Give the names that the received bytes go by."""
    if facts.container == "wav":
        return () if facts.codec == "gsm" else WAV_TYPES
    if facts.codec == "pcmu":
        return ("audio/basic", "audio/pcmu") if facts.sample_rate_hz == 8_000 else ("audio/pcmu",)
    return {"mp3": MP3_TYPES, "ogg": OGG_TYPES}.get(facts.container, (_own_name(facts),))
