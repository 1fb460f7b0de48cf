"""Text that others sent, as one line that is safe to show: on a terminal, in a log.

Source: claim 12 (what the switch says of a caller is shown as it is).
"""

from __future__ import annotations

import re
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def one_line(text: str) -> str:
    r"""Write control characters as ``\x1b``: none begins a line, moves the cursor or hides text."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
