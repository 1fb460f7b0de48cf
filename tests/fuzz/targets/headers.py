"""What HTTP headers and paths say: media types, Accept, ranges, entity tags, places of tiles.

A media type that makes no sense is refused with UnsupportedAudioError; an Accept that nothing fits,
with NotAcceptableError; a range behind the end, with UnsatisfiableRangeError. Readers that cannot
fail never do. Of what we say ourselves, all is understood.
"""

from __future__ import annotations

import msgspec

from ledger.audio.errors import NotAcceptableError, UnsupportedAudioError
from ledger.audio.media_types import read_content_type, stored_type
from ledger.audio.play_format import media_type, negotiate, offers
from ledger.errors import CallerError
from ledger.media_type import parse_media_type
from ledger.storage.tiles import parse_place
from tests.fuzz.target import Target
from tests.fuzz.values import FACTS
from vmledger.http.ranges import (
    UnsatisfiableRangeError,
    is_range_current,
    matches_etag,
    parse_range,
)

SIZE_BYTES = 1000
KINDS = tuple(
    msgspec.structs.replace(FACTS, container=container, codec=codec)
    for container, codec in (
        *(("wav", "pcmu"), ("wav", "gsm"), ("raw", "pcma"), ("flac", "flac"), ("ogg", "opus")),
        *(("mp3", "mp3"), ("unknown", "unknown")),
    )
)


def seeds() -> list[bytes]:
    types = ["audio/PCMU;rate=8000;channels=2", 'audio/wav; codecs="1"', "*/*;q=0.5, audio/ogg"]
    ranges = ["bytes=0-499", "bytes=-500", "bytes=500-", "bytes=0-1, 5-6"]
    places = ["x001/x234/067", "067.p/42", 'W/"abc"']
    own = {media_type(offer, facts) for facts in KINDS for offer in offers(facts)}
    return [text.encode("latin-1") for text in (*types, *ranges, *places, *sorted(own))]


def run(data: bytes) -> bool:
    text = data.decode("latin-1")
    name, parameters = parse_media_type(text)
    assert name == name.strip().lower()
    assert all(key == key.lower() for key in parameters)
    matches_etag(text, '"abc"')
    is_range_current(text, '"abc"')
    _read_type(text)
    _read_range(text)
    _read_place(text)
    for facts in KINDS:
        _negotiate(text, facts)
    return True


def _read_type(text: str) -> None:
    try:
        declared = read_content_type(text)
    except UnsupportedAudioError:
        return
    if declared is None or declared.codec is None:
        return
    facts = msgspec.structs.replace(
        FACTS,
        container=declared.container,
        codec=declared.codec,
        sample_rate_hz=declared.sample_rate_hz,
        channels=declared.channels,
    )
    again = read_content_type(stored_type(facts))
    assert again is not None
    assert (again.container, again.codec, again.sample_rate_hz, again.channels) == (
        *(declared.container, declared.codec),
        *(declared.sample_rate_hz, declared.channels),
    )


def _read_range(text: str) -> None:
    try:
        asked = parse_range(text, SIZE_BYTES)
    except UnsatisfiableRangeError:
        return
    assert asked is None or 0 <= asked.first <= asked.last < SIZE_BYTES


def _read_place(text: str) -> None:
    try:
        place = parse_place(text)
    except CallerError:
        return
    assert 0 <= place.first < place.stop <= place.first + 256


def _negotiate(text: str, facts) -> None:
    try:
        offer = negotiate(text, facts)
    except NotAcceptableError:
        return
    assert offer in offers(facts)
    assert media_type(offer, facts)


TARGET = Target(
    run,
    seeds,
    max_bytes=6000,
    words=("audio/", "PCMA", ";rate=", ";q=", "bytes=", ";channels=", ".p/", "x000/", "*/*"),
)
