"""The database schema's history, run by alembic from `hub.registry.schema`.  Imports: `hub.registry.db`."""
