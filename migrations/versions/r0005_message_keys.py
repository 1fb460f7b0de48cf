"""Keys of sealed messages."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.Uuid().with_variant(sa.LargeBinary(16), "sqlite")


def upgrade() -> None:
    op.create_table(
        "message_key",
        sa.Column("call_id", ID, primary_key=True),
        sa.Column("wrapped", sa.LargeBinary),
    )
