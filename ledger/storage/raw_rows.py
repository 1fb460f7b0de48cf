"""Read a database that may be damaged: whatever stands in a row is given, nothing is refused.

SQLite keeps the kind of each value beside it, and a flipped bit can make something else of a text
or a number. Whoever looks for damage must see such a row, to say which it is.

Source: claim 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from ledger.storage.copy_log import snapshot


@contextmanager
def raw_snapshot(url: str) -> Iterator[sa.Connection]:
    """Read everything as it is at one moment; bytes that are no UTF-8 are spelled out in text."""
    with snapshot(url) as connection:
        if connection.dialect.name == "sqlite":
            driver: Any = connection.connection.driver_connection
            driver.text_factory = _spelled_out
        yield connection


def raw(table: sa.Table) -> sa.Select[*tuple[Any, ...]]:
    """Select whole rows, each value as the driver gives it."""
    return sa.select(*(sa.type_coerce(c, sa.types.NullType()).label(c.name) for c in table.c))


def _spelled_out(text: bytes) -> str:
    return text.decode(errors="backslashreplace")
