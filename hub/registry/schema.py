"""The schema's version: what the database has, what this release needs, and the way from one to the other.

The migrations are Alembic's, in the package `hub.migrations`.
"""

from __future__ import annotations

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.orm import Session

from hub.errors import InvalidRequest, Unavailable
from hub.registry.db.database import Database
from hub.registry.db.models import AdapterRow, TermRow
from hub.registry.search import facets

# Any number will do, as long as all servers of one database agree on it.
_LOCK = 0x6C68_7562


def needed() -> str:
    """Return the revision that this release works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "hub.migrations has no revision"  # noqa: S101
    return head


def current(database: Database) -> str | None:
    """Return the database's revision, or None if it is empty."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def prepare(database: Database) -> None:
    """Create the schema in an empty database.  Raises Unavailable for a schema of another release."""
    with database.read() as session:  # its errors are ours: a server that can't be reached, a file that can't be read
        # In this order: another server's migration that ends in between is seen by the second.
        has_tables = bool(inspect(session.connection()).get_table_names())
        found = MigrationContext.configure(session.connection()).get_current_revision()
        is_empty = found is None and not has_tables
    if is_empty:
        upgrade(database)
    elif found != needed():
        raise Unavailable(
            f"The database has the schema {found or 'of something else'}; this release needs {needed()}. "
            "Make a backup, then run: lorahub db upgrade"
        )


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up.  Servers that start at the same moment wait for each other."""
    _run(database, lambda config: command.upgrade(config, revision))
    if current(database) == needed():
        database.transact(_fill_index)


def _fill_index(session: Session) -> None:
    """Build the catalog's index where there are adapters from before it, or from a backup."""
    has_adapters = session.scalar(select(AdapterRow.id).where(AdapterRow.recent_id > 0).limit(1)) is not None
    if has_adapters and session.scalar(select(TermRow.id).limit(1)) is None:
        facets.rebuild(session)


def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down, to `base` or to a revision; what the older schema has no place for is lost."""
    try:
        _run(database, lambda config: command.downgrade(config, revision))
    except CommandError as error:
        raise InvalidRequest(f"There is no way down to {revision!r}: {error}.") from error


def history() -> tuple[tuple[str, str], ...]:
    """Return (revision, what it brought), oldest first."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return tuple(reversed([(script.revision, (script.doc or "").splitlines()[0]) for script in scripts]))


def _run(database: Database, step: Callable[[Config], None]) -> None:
    with database.write() as session:
        connection = session.connection()
        _lock(connection)
        config = _config()
        config.attributes["connection"] = connection
        step(config)


def _lock(connection: Connection) -> None:
    # SQLite's BEGIN IMMEDIATE is such a lock already.
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "hub.migrations:")  # alembic's spelling of a package's folder
    return config
