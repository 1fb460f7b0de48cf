"""A log as static tiles: 256 hashes of one level each, and 256 events, at addresses of their own.

Whoever mirrors or monitors a log fetches tiles, which never change once they are full, and computes
every proof from them. The tree keeps just these levels, so a tile is one read.

Source: C2SP tlog-tiles; RFC 9162 section 2.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.errors import CallerError, NotFoundError
from ledger.ids import MAX_ASKED_POSITION
from ledger.storage.merkle import ReadHashes

WIDTH: Final = 256
"""Hashes of a full tile."""
_HEIGHT: Final = 8
"""A tile is a subtree of this height."""
_MOST_LEVELS: Final = 64
_LENGTH_BYTES: Final = 2
_PLACE: Final = re.compile(r"((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class TilePlace:
    """Which tile of a level: its number, and how many of its hashes are wanted."""

    index: int
    width: int = WIDTH

    @property
    def first(self) -> int:
        """The first hash of the level that is in it, 0-based."""
        return self.index * WIDTH

    @property
    def stop(self) -> int:
        """Behind its last one."""
        return self.first + self.width

    @property
    def is_full(self) -> bool:
        """Does it never change?"""
        return self.width == WIDTH


def parse_place(path: str) -> TilePlace:
    """Read ``x001/x234/067`` or ``x001/x234/067.p/42``; raises CallerError for anything else.

    Raises NotFoundError for a number so large that no store could look for it.
    """
    found = _PLACE.fullmatch(path)
    width = int(found[3] or WIDTH) if found is not None else 0
    is_shortest = found is not None and not found[1].startswith("x000/")
    if found is None or not is_shortest or (found[3] is not None and width >= WIDTH):
        raise CallerError(
            f"{path[:100]!r} is not the place of a tile; write it like x001/x234/067 or 067.p/42"
        )
    place = TilePlace(int(found[1].replace("x", "").replace("/", "") + found[2]), width)
    if place.stop > MAX_ASKED_POSITION:
        raise NotFoundError(f"no log reaches the tile {path}; the checkpoint says how far it is")
    return place


def read_tile(level: int, place: TilePlace, read: ReadHashes) -> bytes:
    """Give the hashes of a tile, end to end.

    Raises CallerError for a level that no log reaches, and what ``read`` raises past the end of the
    log: NotFoundError.
    """
    if not 0 <= level < _MOST_LEVELS // _HEIGHT:
        raise CallerError(f"there is no level {level}; levels go from 0 to 7")
    return b"".join(read(level * _HEIGHT, place.first, place.stop))


def bundle(events: Sequence[bytes]) -> bytes:
    """Join the plain bytes of a tile's events, each behind its length in two bytes.

    Raises CallerError for one that is longer than the format can say.
    """
    for event in events:
        if len(event) >= 1 << (8 * _LENGTH_BYTES):
            raise CallerError(
                f"an event of {len(event)} bytes does not fit this format; read it with /v1/log"
            )
    return b"".join(len(event).to_bytes(_LENGTH_BYTES, "big") + event for event in events)
