"""`lorahub fsck`: hold the registry's rows against its blobs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from .terminal.operator import open_registry, server_options
from .terminal.output import Output, printing_json

DAMAGED = 6


@click.command("fsck")
@click.option("--fast", is_flag=True, help="Compare sizes only; don't read every byte again.")
@click.option("--repair", is_flag=True, help="Remove blobs that no row names.  Nothing else is ever changed.")
@server_options
@printing_json
def fsck(fast: bool, repair: bool, data: Path | None, database: str | None, store: str | None, out: Output) -> int:
    """Check every blob against its hash and every version against its blobs.

    Exits with 6 if something is wrong, and names the affected versions.
    """
    with open_registry(data, database, store) as registry:
        report = registry.upkeep.check(rehash=not fast, repair=repair)
    if out.as_json:
        out.json(asdict(report) | {"ok": report.ok})
    else:
        out.lines(report.lines())
    return 0 if report.ok else DAMAGED
