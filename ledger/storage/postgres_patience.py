"""How long a connection to PostgreSQL may keep somebody waiting.

A server that was switched off, or whose network is gone, sends no word of it: without these
settings whoever waits for its answer waits for hours. What the operator gives in the URL goes
first.

Source: claim 10.
"""

from __future__ import annotations

from typing import Any, Final

_SETTINGS: Final[dict[str, Any]] = {
    "connect_timeout": 5,  # seconds, as all without a unit
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
}
STATEMENT_TIMEOUT_S: Final = 30
"""Of one statement on the log, which takes milliseconds: it waits for a lock then, or a disk."""


def patience(url: str, *, statement_timeout_s: int | None = None) -> dict[str, Any]:
    """Give the connection parameters to add to those of a PostgreSQL URL."""
    # Here, not above: servers whose stores are files need no driver, a tenth of their start.
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    given = conninfo_to_dict(url)
    settings = dict(_SETTINGS)
    if statement_timeout_s is not None:
        settings["options"] = f"-c statement_timeout={statement_timeout_s * 1000}"
    return {name: value for name, value in settings.items() if name not in given}
