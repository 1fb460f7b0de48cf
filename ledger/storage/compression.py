"""Compression of events at rest: zstd with a dictionary trained on events.

Each frame names its dictionary, and every dictionary that ever wrote one ships with this package
for ever. Contexts are per thread: two threads in one context crash the process.

Source: claim 10; RFC 8878 (zstd frames).
"""

from __future__ import annotations

import threading
from functools import cache
from importlib.resources import files
from typing import Final

import zstandard
from zstandard import frame_content_size

from ledger.errors import CorruptionError

NEWEST_DICTIONARY: Final = 1
"""Number of the dictionary that new frames are written with: ``dictionaries/<number>.zdict``."""
MOST_EVENT_BYTES: Final = 16 << 20
"""No event is larger: a frame that says otherwise is damaged."""
_LEVEL: Final = 1
"""With the dictionary, higher levels save 1 % and take half as long again (measured)."""


@cache
def _dictionary(number: int) -> zstandard.ZstdCompressionDict:
    data = files("ledger.storage").joinpath("dictionaries", f"{number}.zdict").read_bytes()
    return zstandard.ZstdCompressionDict(data)


@cache
def _dictionary_numbers() -> dict[int, int]:
    """Give the number of each shipped dictionary by the id that frames name it by."""
    folder = files("ledger.storage").joinpath("dictionaries")
    numbers = [
        int(entry.name.removesuffix(".zdict"))
        for entry in folder.iterdir()
        if entry.name.endswith(".zdict")
    ]
    return {_dictionary(number).dict_id(): number for number in numbers}


class _Contexts(threading.local):
    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(
            level=_LEVEL, dict_data=_dictionary(NEWEST_DICTIONARY), write_checksum=True
        )
        self.decompressors: dict[int, zstandard.ZstdDecompressor] = {
            NEWEST_DICTIONARY: zstandard.ZstdDecompressor(dict_data=_dictionary(NEWEST_DICTIONARY))
        }
        self.newest = self.decompressors[NEWEST_DICTIONARY]


_contexts = _Contexts()


def compress(plain: bytes) -> bytes:
    """Give the frame of these bytes, which may be any."""
    return _contexts.compressor.compress(plain)


def decompress(frame: bytes, place: object) -> bytes:
    """Give back what `compress` was given.

    Raises CorruptionError, naming ``place``, for a damaged frame or an unknown dictionary.
    """
    try:
        # Asked first: a damaged header may claim more than there is memory.
        if frame_content_size(frame) <= MOST_EVENT_BYTES:
            return _contexts.newest.decompress(frame, MOST_EVENT_BYTES)
    except zstandard.ZstdError as error:
        return _decompress_older(frame, place, error)
    raise _damaged(place, "it claims to be larger than any event")


def _decompress_older(frame: bytes, place: object, cause: Exception) -> bytes:
    try:
        number = _dictionary_numbers().get(zstandard.get_frame_parameters(frame).dict_id)
        if number is None:
            raise CorruptionError(
                "an event is compressed with a dictionary that this program does not have",
                place=f"position {place}",
                advice="run the newest version of the program",
            ) from cause
        if number == NEWEST_DICTIONARY:
            raise _damaged(place, cause) from cause
        older = _contexts.decompressors.get(number)
        if older is None:
            older = zstandard.ZstdDecompressor(dict_data=_dictionary(number))
            _contexts.decompressors[number] = older
        return older.decompress(frame, MOST_EVENT_BYTES)
    except zstandard.ZstdError as error:
        raise _damaged(place, error) from error


def _damaged(place: object, cause: object) -> CorruptionError:
    return CorruptionError(
        f"an event cannot be decompressed: {cause}",
        place=f"position {place}",
        advice="restore the log from a backup or a mirror",
    )
