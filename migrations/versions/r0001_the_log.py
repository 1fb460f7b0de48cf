"""The log, its Merkle tree, tracking of origins, places of blobs, hints on peers, access tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STREAM = sa.Uuid().with_variant(sa.LargeBinary(16), "sqlite")

APPEND_ONLY = ("events", "tree_node")


def upgrade() -> None:
    _create_log()
    _create_replication()
    _create_access()
    for statement in _protection(op.get_bind().dialect.name):
        op.execute(statement)


def _create_log() -> None:
    op.create_table(
        "events",
        sa.Column("position", BIG, primary_key=True, autoincrement=False),
        sa.Column("originator_id", STREAM, nullable=False),
        sa.Column("originator_version", BIG, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.Column("origin", sa.Text),
        sa.Column("origin_position", BIG),
    )
    op.create_index("events_stream", "events", ["originator_id", "originator_version"], unique=True)
    op.create_table(
        "log_head",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("incarnation", STREAM, nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.Column("frontier", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "tree_node",
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("idx", BIG, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )


def _create_replication() -> None:
    op.create_table(
        "tracking",
        sa.Column("application_name", sa.Text, primary_key=True),
        sa.Column("notification_id", BIG, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("updated", BIG, nullable=False),
    )
    op.create_table(
        "blob_location",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("pack", sa.Text, nullable=False),
        sa.Column("offset_bytes", BIG, nullable=False),
        sa.Column("length_bytes", BIG, nullable=False),
    )
    op.create_index("blob_location_pack", "blob_location", ["pack"])
    op.create_table(
        "peer_cursor",
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("incarnation", STREAM, nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.Text),
    )


def _create_access() -> None:
    op.create_table(
        "access_token",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("mailboxes", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text),
        sa.Column("revoked_at", sa.Text),
    )


def _protection(dialect: str) -> list[str]:
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_refuse_{action.lower()} BEFORE {action} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for table in APPEND_ONLY
            for action in ("UPDATE", "DELETE")
        ]
    return [
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
    ]
