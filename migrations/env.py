"""Alembic's entry: runs on the connection, and inside the transaction, that hub.registry.schema hands over."""

from alembic import context

from hub.registry.db.models import Model

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Model.metadata, render_as_batch=True, transactional_ddl=True)
# All steps run in the caller's transaction: a failed migration leaves nothing behind, on SQLite as well.
context.run_migrations()
