"""Who is logged in where a command runs."""

from __future__ import annotations

import getpass


def local_user() -> str | None:
    """Say who is logged in; None when the system does not know."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
