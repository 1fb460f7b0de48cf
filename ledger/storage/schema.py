"""The durable tables of one server, declared once for SQLite and PostgreSQL.

The schema migrations build exactly this, from nothing and from every earlier version; a test
compares the two. What cannot be declared here (triggers that refuse to change history) is in
`PROTECTION`, which the migrations execute too.

Source: claim 10.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)

NEWEST_REVISION: Final = "0005"
"""The schema migration that builds these tables. A database that has it needs no other."""

METADATA: Final = MetaData()

_BIG = BigInteger().with_variant(Integer(), "sqlite")
_STREAM = Uuid().with_variant(LargeBinary(16), "sqlite")

EVENTS: Final = Table(
    "events",
    METADATA,
    Column("position", _BIG, primary_key=True, autoincrement=False),
    Column("originator_id", _STREAM, nullable=False),
    Column("originator_version", _BIG, nullable=False),
    Column("topic", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("origin", Text),
    Column("origin_position", _BIG),
    Index("events_stream", "originator_id", "originator_version", unique=True),
)
"""The log. ``state`` is the event's JSON, compressed; ``leaf_hash`` that of the plain JSON."""

LOG_HEAD: Final = Table(
    "log_head",
    METADATA,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("incarnation", _STREAM, nullable=False),
    Column("position", _BIG, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
)
"""One row, advanced in the transaction of the events it counts."""

TREE_NODE: Final = Table(
    "tree_node",
    METADATA,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("idx", _BIG, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
"""Roots of complete subtrees of 256, 65 536, … leaves, so that old roots cost few reads."""

TRACKING: Final = Table(
    "tracking",
    METADATA,
    Column("application_name", Text, primary_key=True),
    Column("notification_id", _BIG, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("updated", _BIG, nullable=False),
)
"""How far each origin's log was taken in. ``updated`` grows: the newest row has the highest."""

BLOB_LOCATION: Final = Table(
    "blob_location",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("pack", Text, nullable=False),
    Column("offset_bytes", _BIG, nullable=False),
    Column("length_bytes", _BIG, nullable=False),
    Index("blob_location_pack", "pack"),
)
"""Where blobs that came from peers lie inside packs."""

PEER_CURSOR: Final = Table(
    "peer_cursor",
    METADATA,
    Column("peer", Text, primary_key=True),
    Column("incarnation", _STREAM, nullable=False),
    Column("position", _BIG, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Text),
    Column("marks", Text, nullable=False, server_default="[]"),
)
"""An origin's hints about its peers: never trusted, only a better guess than nothing."""

COSIGNED_CHECKPOINT: Final = Table(
    "cosigned_checkpoint",
    METADATA,
    Column("log", Text, primary_key=True),
    Column("witness", Text, primary_key=True),
    Column("size", _BIG, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)
"""What others co-signed of this log, and what this server co-signed of theirs. ``note`` is the
signed checkpoint; the other columns repeat what it says, to find it by."""

ACCESS_TOKEN: Final = Table(
    "access_token",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("mailboxes", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text),
    Column("revoked_at", Text),
)
"""Who may use the HTTP API: digests of bearer tokens, never the tokens."""

ROW_SUM: Final = Table(
    "row_sum",
    METADATA,
    Column("place", Text, primary_key=True),
    Column("sum", LargeBinary, nullable=False),
)
"""Checksums of what no hash of the tree and no signature covers: `ledger.storage.row_sums`."""

MESSAGE_KEY: Final = Table(
    "message_key",
    METADATA,
    Column("call_id", _STREAM, primary_key=True),
    Column("wrapped", LargeBinary),
)
"""The keys of sealed messages, wrapped by the server's master key; NULL where one was destroyed.
What is wrapped is authenticated, so that a row needs no sum. Copies of the log are without them."""

APPEND_ONLY: Final = ("events", "tree_node")

PROTECTION: Final[dict[str, tuple[str, ...]]] = {
    "sqlite": tuple(
        f"CREATE TRIGGER {table}_refuse_{action.lower()} BEFORE {action} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for table in APPEND_ONLY
        for action in ("UPDATE", "DELETE")
    ),
    "postgresql": (
        (
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        ),
        *(
            f"CREATE TRIGGER {table}_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            for table in APPEND_ONLY
        ),
        *(f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM PUBLIC" for table in APPEND_ONLY),
    ),
}
"""Statements by which the database itself refuses to change history."""
