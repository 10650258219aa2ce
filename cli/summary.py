"""`lorahub summary`: PEFT's line, and where the parameters are."""

from __future__ import annotations

import click

from hub.client.sources import Source

from .terminal.options import SOURCE, registry_option
from .terminal.output import Output, note, printing_json
from .terminal.progress import CliObserver


@click.command()
@click.argument("ref", type=SOURCE, metavar="REF|FOLDER")
@click.option("--base", metavar="PATH_OR_ID", help="Count the base, too: its folder, config.json or Hugging Face id.")
@registry_option
@printing_json
def summary(ref: Source, base: str | None, registry: str | None, out: Output) -> None:
    """Count the parameters of REF, as PEFT's print_trainable_parameters does, and show where they are."""
    from hub import api

    found = api.summary(ref, base, registry=registry, observer=CliObserver())
    if out.as_json:
        out.json(found.to_json())
        return
    out.line(str(found))
    if base is None:
        note("Name the base for the total: --base PATH_OR_ID")
