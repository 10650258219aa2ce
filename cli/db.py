"""`lorahub db`: which schema the database has, and the way up or down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .terminal.operator import server_options, server_settings
from .terminal.output import Output, printing_json

if TYPE_CHECKING:
    from hub.registry.db.database import Database


@click.group("db")
def db() -> None:
    """Upgrade the registry's database.

    A release that needs a newer schema says so at start and changes nothing by itself.  Make a backup, stop the
    servers, upgrade, start the new release.
    """


@db.command("status")
@server_options
@printing_json
def status(data: Path | None, database: str | None, store: str | None, out: Output) -> None:
    """Show the database's schema and the one that this release needs."""
    from hub.registry import schema

    with _open(data, database, store) as opened:
        current, needed = schema.current(opened), schema.needed()
    if out.as_json:
        out.json({"current": current, "needed": needed, "history": [list(step) for step in schema.history()]})
        return
    for revision, words in schema.history():
        marks = [name for name, found in (("this database", current), ("this release", needed)) if found == revision]
        out.line(f"{revision}  {words}" + (f"   <- {', '.join(marks)}" if marks else ""))
    if current is None:
        out.line("The database is empty: lorahub serve fills it.")


@db.command("upgrade")
@click.option("--revision", default="head", show_default=True, help="The schema to stop at.")
@server_options
def upgrade(revision: str, data: Path | None, database: str | None, store: str | None) -> None:
    """Bring the schema up.  Servers that start meanwhile wait."""
    from hub.registry import schema

    with _open(data, database, store) as opened:
        before = schema.current(opened)
        schema.upgrade(opened, revision)
        click.echo(_moved(before, schema.current(opened)))


@db.command("reindex")
@server_options
def reindex(data: Path | None, database: str | None, store: str | None) -> None:
    """Build the catalog's index anew from the rows.  Reads go on, publishing waits.

    For when `lorahub fsck` says that an adapter is not found by what it has.
    """
    from hub.registry.search import facets

    with _open(data, database, store) as opened:
        click.echo(f"{opened.transact(facets.rebuild):,} adapters are in the index.")


@db.command("downgrade")
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Don't ask.")
@server_options
def downgrade(revision: str, yes: bool, data: Path | None, database: str | None, store: str | None) -> None:
    """Bring the schema down to REVISION, or to `base`.

    What the older schema has no place for is lost: make a backup first.
    """
    from hub.registry import schema

    with _open(data, database, store) as opened:
        before = schema.current(opened)
        if not yes:
            click.confirm(
                f"Go down from {before} to {revision}? What has no place there is lost.", abort=True, err=True
            )
        schema.downgrade(opened, revision)
        click.echo(_moved(before, schema.current(opened)))


def _moved(before: str | None, after: str | None) -> str:
    if before == after:
        return f"The schema is {after or 'empty'} already."
    return f"The schema went from {before or 'empty'} to {after or 'empty'}."


@contextmanager
def _open(data: Path | None, database: str | None, store: str | None) -> Iterator[Database]:
    """Open the database alone: its schema may be of another release, which a Registry refuses."""
    from hub.registry.db.database import Database

    opened = Database(server_settings(data, database, store).database)
    try:
        yield opened
    finally:
        opened.close()
