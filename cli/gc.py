"""`lorahub gc`: free what no version uses."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from .terminal.operator import open_registry, server_options
from .terminal.output import Output, printing_json


@click.command("gc")
@click.option("--grace-hours", type=click.FloatRange(0), default=24.0, show_default=True, help="Spare what is younger.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@server_options
@printing_json
def gc(
    grace_hours: float, dry_run: bool, data: Path | None, database: str | None, store: str | None, out: Output
) -> None:
    """Remove blobs that no version uses, and uploads that nobody finished.

    Safe while the server runs: blobs that a push has just uploaded are kept for the grace period.
    """
    from datetime import timedelta

    with open_registry(data, database, store) as registry:
        report = registry.upkeep.collect(grace=timedelta(hours=grace_hours), dry_run=dry_run)
    if out.as_json:
        out.json(asdict(report))
    else:
        out.line(report.line())
