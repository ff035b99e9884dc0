"""Run by Alembic for every command; `directory.schema` brings the connection, so there is no alembic.ini."""

from alembic import context

from directory.tables import metadata

context.configure(connection=context.config.attributes["db"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
