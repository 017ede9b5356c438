"""Alembic's entry: runs migrations on the connection that `tagmill.store.database` hands in."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
