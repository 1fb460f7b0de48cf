"""Checksums of stored rows that neither the tree nor a signature covers.

The Merkle tree covers the bytes of events, and signatures cover receipts and checkpoints. Beside
them stand a few columns that the server relies on and that are no part of any event: from where
events came, how far each origin's log was taken in, in which pack a blob lies, whose access token
may do what, under which incarnation the log runs. Each such row, and the origins of each batch, has
a sum of its own, written in the transaction of what it covers, so that a changed byte is found.

A sum shows damage, not forgery: who can write the database can write the sum too. Against that
stand the signatures of other servers.

Source: claim 10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, TypeAlias
from uuid import UUID

_LOG_HEAD: Final = "log_head"
_ARRIVAL: Final = "origin of positions"
_ARRIVAL_PLACE: Final = re.compile(rf"{_ARRIVAL} ([0-9]{{1,19}}) to ([0-9]{{1,19}})")
_TRACKING: Final = "tracking of"
BLOB_LOCATION_PLACE: Final = "place of blob "
_ACCESS_TOKEN: Final = "access token"  # noqa: S105 - the word, not a token

Sum: TypeAlias = tuple[str, bytes]
"""The place that it covers, and the sum."""


def _sum(place: str, *fields: object) -> Sum:
    hashed = sha256(place.encode())
    for value in fields:
        raw = value.bytes if isinstance(value, UUID) else value
        data = raw if isinstance(raw, bytes) else str(raw).encode()
        hashed.update(b"\0%d\0" % len(data) + data)
    return place, hashed.digest()


def arrival_sum(first: int, origin: str, origin_positions: Iterable[int]) -> Sum:
    """Give the sum of where a run of events, the first at position ``first``, came from."""
    positions = list(origin_positions)
    place = f"{_ARRIVAL} {first} to {first + len(positions) - 1}"
    return _sum(place, origin, *positions)


def read_arrival(place: str) -> tuple[int, int] | None:
    """Give first and last position of a place that `arrival_sum` gave; None for another."""
    found = _ARRIVAL_PLACE.fullmatch(place)
    return (int(found[1]), int(found[2])) if found else None


def tracking_sum(name: str, position: int, root: bytes, updated: int) -> Sum:
    """Give the sum of a tracking row."""
    return _sum(f"{_TRACKING} {name}", position, root, updated)


def blob_location_sum(digest: str, pack: str, offset_bytes: int, length_bytes: int) -> Sum:
    """Give the sum of where a blob lies."""
    return _sum(f"{BLOB_LOCATION_PLACE}{digest}", pack, offset_bytes, length_bytes)


def incarnation_sum(incarnation: UUID | bytes) -> Sum:
    """Give the sum of the log's incarnation, or of its bytes, as SQLite has it.

    (The log's length and tree are those of its events.)
    """
    return _sum(_LOG_HEAD, incarnation)


def access_token_sum(row: Mapping[Any, Any]) -> Sum:
    """Give the sum of an access token's row, by its columns."""
    names = ("name", "digest", "scopes", "mailboxes", "created_at", "expires_at", "revoked_at")
    return _sum(f"{_ACCESS_TOKEN} {row['id']}", *(row[name] for name in names))
