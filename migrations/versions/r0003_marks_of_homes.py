"""What each peer's log ended with when it signed its receipts."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("peer_cursor", sa.Column("marks", sa.Text, nullable=False, server_default="[]"))
