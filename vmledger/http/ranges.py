"""Byte ranges of an answer, as pure functions: what players ask for when people skip.

One range is served as it is; several at once are answered with the whole, which the standard
allows.

Source: RFC 9110 sections 13.1.2, 13.1.5 and 14.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_MOST_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from first to last, both inclusive."""

    first: int
    last: int


class UnsatisfiableRangeError(ValueError):
    """The range begins after the end."""


def parse_range(header: str | None, size_bytes: int) -> ByteRange | None:
    """Read a Range header; None means: answer with the whole.

    A header that is not understood is ignored, as the standard wants it. Raises
    UnsatisfiableRangeError when none of the bytes asked for exists.
    """
    found = _RANGE.fullmatch((header or "").replace(" ", ""))
    if found is None or not any(found.groups()) or max(map(len, found.groups())) > _MOST_DIGITS:
        return None
    first_text, last_text = found.groups()
    if not first_text:
        length = int(last_text)
        if length == 0 or size_bytes == 0:
            raise UnsatisfiableRangeError
        return ByteRange(max(0, size_bytes - length), size_bytes - 1)
    first = int(first_text)
    last = min(int(last_text), size_bytes - 1) if last_text else size_bytes - 1
    if last_text and int(last_text) < first:
        return None
    if first >= size_bytes:
        raise UnsatisfiableRangeError
    return ByteRange(first, last)


def matches_etag(header: str | None, etag: str) -> bool:
    """Does an If-None-Match header name this entity tag? (Weak comparison, section 8.8.3.2.)"""
    if header is None:
        return False
    return header.strip() == "*" or etag in [
        item.strip().removeprefix("W/") for item in header.split(",")
    ]


def is_range_current(if_range: str | None, etag: str) -> bool:
    """May the range be served, or is it of an older representation? (Section 13.1.5.)"""
    return if_range is None or if_range.strip() == etag
