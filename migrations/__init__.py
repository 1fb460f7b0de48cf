"""Schema migrations of the durable tables (Alembic), for SQLite and PostgreSQL alike."""
