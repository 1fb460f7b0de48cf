"""Whole numbers as HTTP headers write them.

The usual reader raises an error on thousands of digits, and takes digits of other scripts.

Source: claim 14 (common functions); RFC 9110 section 8.6 (Content-Length: digits, to be guarded
against more than fit).
"""

from __future__ import annotations

from typing import Final

LARGEST: Final = 10**18
"""No number here needs to be larger: larger ones count as this one."""
_DIGITS: Final = len(str(LARGEST)) - 1


def parse_number(text: str) -> int | None:
    """Read decimal digits; None for anything else."""
    if not text.isascii() or not text.isdigit():
        return None
    digits = text.lstrip("0")
    return int(digits or "0") if len(digits) <= _DIGITS else LARGEST
