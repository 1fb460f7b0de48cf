"""What a log holds of another server's log, in the order of that one.

Source: claims 7 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from ledger.errors import CorruptionError
from ledger.storage.compression import decompress
from ledger.storage.copy_log import snapshot
from ledger.storage.merkle import leaf_hash
from ledger.storage.schema import EVENTS

_PAGE: Final = 2000


class Arrival(NamedTuple):
    """An event that came from another server."""

    origin_position: int
    position: int
    """Where it stands here."""
    stream: UUID
    version: int
    topic: str
    digest: bytes
    """The leaf hash of its bytes as they are now; empty when they cannot be read."""


def read_arrivals(url: str, origin: str) -> Iterator[Arrival]:
    """Give all events that came from ``origin``, by their positions there.

    In one snapshot of the database, a page at a time.
    """
    c = EVENTS.c
    query = (
        sa.select(
            c.origin_position,
            c.position,
            c.originator_id,
            c.originator_version,
            c.topic,
            c.state,
        )
        .where(c.origin == origin)
        .order_by(c.origin_position, c.position)
    )
    with snapshot(url) as connection:
        for row in connection.execution_options(yield_per=_PAGE).execute(query):
            origin_position, position, stream, version, topic, state = row
            known = stream if isinstance(stream, UUID) else UUID(bytes=stream)
            yield Arrival(
                origin_position, position, known, version, topic, _digest(bytes(state), position)
            )


def _digest(state: bytes, position: int) -> bytes:
    try:
        return leaf_hash(decompress(state, position))
    except CorruptionError:
        return b""
