"""Base64 of which every value has one text only.

The usual reader ignores the bits that are left over in the last character, so that several texts
give the same bytes; then two copies of one signed thing could differ and both be right.

Source: claim 14 (common functions); RFC 4648 sections 3.5 (canonical encoding) and 4.
"""

from __future__ import annotations

import base64
import binascii


def decode_base64(text: str) -> bytes:
    """Give the bytes that stand in a text as `base64.b64encode` writes it.

    Raises ValueError for any other text.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("this is not base64") from error
    if base64.b64encode(data).decode("ascii") != text:
        raise ValueError("this is not base64 as it is written: bits are left over at its end")
    return data
