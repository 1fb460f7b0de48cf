"""A media type with its parameters, as HTTP headers write it.

Never fails: these bytes come from anybody, and whoever reads them says what a type that makes no
sense means. (The standard library's reader of mail headers raises errors of many kinds on bad ones,
and joins parameters in a way that HTTP does not know.)

Source: claim 14 (common functions); RFC 9110 sections 5.6.6 and 8.3.1.
"""

from __future__ import annotations

import re
from typing import Final

_PARAMETER: Final = re.compile(
    r""";[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))"""
)
_QUOTED: Final = re.compile(r"\\(.)")


def parse_media_type(text: str) -> tuple[str, dict[str, str]]:
    """Split a media type into its name and parameters, all in lower case.

    The name of an empty text is empty. Parameters that break the rules are left out.
    """
    name, semicolon, rest = text.partition(";")
    parameters = {
        found[1].lower(): (found[3] if found[2] is None else _QUOTED.sub(r"\1", found[2])).lower()
        for found in _PARAMETER.finditer(semicolon + rest)
    }
    return name.strip().lower(), parameters
