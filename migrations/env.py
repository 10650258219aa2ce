"""Alembic's entry: runs on the connection, and inside the transaction, that hub.registry.schema hands over."""

from alembic import context

from hub.registry.db.models import Model

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Model.metadata, render_as_batch=True, transactional_ddl=True)
# The caller's transaction holds all steps together: a migration that fails leaves no half of it, on SQLite neither.
context.run_migrations()
