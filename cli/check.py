"""`lorahub check`: does the adapter fit the base?"""

from __future__ import annotations

import click

from hub.client.sources import Source

from .terminal.options import SOURCE, registry_option
from .terminal.output import Output, printing_json
from .terminal.progress import CliObserver


@click.command()
@click.argument("base")
@click.argument("ref", type=SOURCE, metavar="REF|FOLDER")
@registry_option
@printing_json
def check(base: str, ref: Source, registry: str | None, out: Output) -> int:
    """Say whether the adapter REF fits the model BASE, and why not, before any weights are fetched.

    BASE is a model folder or a Hugging Face id; only its config and headers are read.  Exits 7 if the adapter
    does not fit.
    """
    from hub import api
    from hub.errors import Incompatible

    report = api.check(base, ref, registry=registry, observer=CliObserver())
    if out.as_json:
        out.json(report.to_json())
    else:
        out.lines(report.lines())
    return 0 if report.ok else Incompatible.exit_code
