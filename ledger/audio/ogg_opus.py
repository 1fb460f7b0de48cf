"""Ogg Opus files: every page's checksum, the order of pages, and the length; nothing is decoded.

Source: claim 11; RFC 3533 (Ogg pages), RFC 7845 (Opus in Ogg).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ledger.audio.errors import BrokenAudioError, UnsupportedAudioError
from ledger.audio.shape import AudioShape

_CLOCK_HZ: Final = 48_000
_DECODER_RATES_HZ: Final = frozenset({8_000, 12_000, 16_000, 24_000, 48_000})
_LAST_PAGE: Final = 0x04
_NO_GRANULE: Final = (1 << 64) - 1
_REVERSED_BITS: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an Ogg file."""

    flags: int
    granule: int
    """Samples at 48 kHz up to the end of this page, the pre-skip among them."""
    serial: bytes
    sequence: int
    body: bytes


def shape(received: bytes) -> AudioShape:
    """Say what an Ogg Opus file holds, whole or cut.

    Raises BrokenAudioError at the first damaged page, UnsupportedAudioError for other contents.
    """
    pages = read_pages(received)
    head = next(pages, None)
    if head is None:
        raise BrokenAudioError("the Ogg file has no whole first page")
    if head.body[:8] != b"OpusHead" or len(head.body) < 19:
        raise UnsupportedAudioError("the Ogg file holds no Opus; send Ogg Opus")
    granule, flags, sequence = 0, 0, head.sequence
    for page in pages:
        sequence += 1
        if page.serial != head.serial or page.sequence != sequence:
            raise BrokenAudioError(f"the Ogg file has page {page.sequence} in place {sequence}")
        granule = granule if page.granule == _NO_GRANULE else page.granule
        flags = page.flags
    return _shape(head.body, granule, is_whole=bool(flags & _LAST_PAGE))


def read_pages(received: bytes) -> Iterator[Page]:
    """Walk the whole pages; a page that is cut by the end of the bytes ends the walk."""
    at = 0
    while at < len(received):
        if received[at : at + 4] != b"OggS"[: len(received) - at]:
            raise BrokenAudioError(f"the Ogg file has no page at byte {at}")
        segments = received[at + 26] if at + 26 < len(received) else 0
        body_at = at + 27 + segments
        end = body_at + sum(received[at + 27 : body_at])
        if at + 27 > len(received) or end > len(received):
            return
        header = received[at:body_at]
        _check_page(header, received[body_at:end], at)
        yield Page(
            flags=header[5],
            granule=int.from_bytes(header[6:14], "little"),
            serial=header[14:18],
            sequence=int.from_bytes(header[18:22], "little"),
            body=received[body_at:end],
        )
        at = end


def checksum(page: bytes) -> int:
    """Give the CRC of a page whose checksum field is zero (RFC 3533 section 6).

    Ogg shifts left where zlib shifts right, over the same polynomial: reversing the bits of what
    goes in and of what comes out makes the one of the other, at the speed of C.
    """
    reversed_crc = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_crc:032b}"[::-1], 2)


def _check_page(header: bytes, body: bytes, at: int) -> None:
    stated = int.from_bytes(header[22:26], "little")
    if checksum(header[:22] + bytes(4) + header[26:] + body) != stated:
        raise BrokenAudioError(f"the Ogg file has a damaged page at byte {at}")


def _shape(head: bytes, granule: int, *, is_whole: bool) -> AudioShape:
    """Read the identification header (RFC 7845 section 5.1)."""
    channels, pre_skip = head[9], int.from_bytes(head[10:12], "little")
    input_rate_hz = int.from_bytes(head[12:16], "little")
    if not channels:
        raise BrokenAudioError("the Ogg file states 0 channels")
    return AudioShape(
        container="ogg",
        codec="opus",
        sample_rate_hz=input_rate_hz if input_rate_hz in _DECODER_RATES_HZ else _CLOCK_HZ,
        channels=channels,
        frames=max(0, granule - pre_skip),
        clock_hz=_CLOCK_HZ,
        cut=None if is_whole else "the Ogg file has no last page",
    )
