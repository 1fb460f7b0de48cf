"""Checksums of the rows that no hash of the tree and no signature covers."""

import hashlib
from collections.abc import Iterable
from itertools import groupby
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "row_sum",
        sa.Column("place", sa.Text, primary_key=True),
        sa.Column("sum", sa.LargeBinary, nullable=False),
    )
    rows = [*_arrivals(), *_tracking(), *_blob_locations(), *_incarnation(), *_access_tokens()]
    if rows:
        op.bulk_insert(table, [_row(*row) for row in rows])


def _row(place: str, *fields: object) -> dict[str, object]:
    hashed = hashlib.sha256(place.encode())
    for value in fields:
        data = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        hashed.update(b"\0%d\0" % len(data) + data)
    return {"place": place, "sum": hashed.digest()}


def _select(query: str) -> Iterable[Any]:
    return op.get_bind().execute(sa.text(query)).all()


def _arrivals() -> Iterable[tuple[Any, ...]]:
    """Give each run of consecutive events of one origin."""
    found = _select(
        "SELECT position, origin, origin_position FROM events "
        "WHERE origin IS NOT NULL ORDER BY position"
    )
    runs = groupby(enumerate(found), key=lambda one: (one[1][1], one[1][0] - one[0]))
    for (origin, _), numbered in runs:
        run = [row for _, row in numbered]
        place = f"origin of positions {run[0][0]} to {run[-1][0]}"
        yield place, origin, *(row[2] for row in run)


def _tracking() -> Iterable[tuple[Any, ...]]:
    rows = _select("SELECT application_name, notification_id, root, updated FROM tracking")
    return [(f"tracking of {name}", *rest) for name, *rest in rows]


def _blob_locations() -> Iterable[tuple[Any, ...]]:
    rows = _select("SELECT digest, pack, offset_bytes, length_bytes FROM blob_location")
    return [(f"place of blob {digest}", *rest) for digest, *rest in rows]


def _incarnation() -> Iterable[tuple[Any, ...]]:
    rows = _select("SELECT incarnation FROM log_head")
    return [("log_head", i.bytes if isinstance(i, UUID) else i) for (i,) in rows]


def _access_tokens() -> Iterable[tuple[Any, ...]]:
    rows = _select(
        "SELECT id, name, digest, scopes, mailboxes, created_at, expires_at, revoked_at "
        "FROM access_token"
    )
    return [(f"access token {token_id}", *rest) for token_id, *rest in rows]
