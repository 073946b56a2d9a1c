"""Runs revisions over the connection that Alembic's caller gives, in the caller's own transaction.

Without a connection, Alembic prints them, as the dialect that the caller names has them.
"""

from alembic import context

if context.is_offline_mode():
    context.configure(dialect_name=context.config.attributes["dialect"], literal_binds=True)
else:
    context.configure(
        connection=context.config.attributes["connection"], transactional_ddl=True, transaction_per_migration=False
    )
with context.begin_transaction():
    context.run_migrations()
