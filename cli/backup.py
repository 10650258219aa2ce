"""`lorahub backup` and `lorahub restore`: everything in one folder, written while the server runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from .terminal.operator import open_registry, server_options
from .terminal.output import Output, printing_json


@click.command("backup")
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@server_options
@printing_json
def backup(target: Path, data: Path | None, database: str | None, store: str | None, out: Output) -> None:
    """Write everything into the new folder TARGET: all rows of one moment, and every blob that they name.

    The server may go on meanwhile.  The folder restores into SQLite and PostgreSQL, a folder and S3 alike.
    """
    with open_registry(data, database, store) as registry:
        report = registry.upkeep.backup(str(target))
    if out.as_json:
        out.json(asdict(report))
    else:
        out.line(f"{target}: {report.line()}")


@click.command("restore")
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@server_options
@printing_json
def restore(source: Path, data: Path | None, database: str | None, store: str | None, out: Output) -> None:
    """Fill an empty registry from the backup SOURCE.  Every byte is checked against the backup's hashes."""
    from hub.registry.upkeep.backup import restore as restore_into

    with open_registry(data, database, store, may_create=True) as registry:
        report = restore_into(registry.context, str(source))
    if out.as_json:
        out.json(asdict(report))
    else:
        out.line(f"Restored {report.line()}. Start it: lorahub serve")
