"""Runs schema migrations on the connection that the program hands over: it holds the lock."""

from alembic import context

from ledger.storage.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
