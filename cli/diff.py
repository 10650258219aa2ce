"""`lorahub diff`: two adapters side by side."""

from __future__ import annotations

import click

from hub.client.sources import Source

from .terminal.options import SOURCE, registry_option
from .terminal.output import Output, printing_json
from .terminal.progress import CliObserver


@click.command()
@click.argument("a", type=SOURCE, metavar="A")
@click.argument("b", type=SOURCE, metavar="B")
@registry_option
@printing_json
def diff(a: Source, b: Source, registry: str | None, out: Output) -> None:
    """Compare the adapters A and B: config, tensors, and per module how far the updates point the same way.

    Each is a ref or a folder.  Both are fetched; the base is not needed.
    """
    from hub import api

    found = api.diff(a, b, registry=registry, observer=CliObserver())
    if out.as_json:
        out.json(found.to_json())
    else:
        out.line(str(found))
