"""`lorahub metric`: say how good a version is."""

from __future__ import annotations

import click

from hub.refs import AdapterRef

from .terminal.options import REF, registry_option
from .terminal.output import note
from .yank import exact_version


@click.command()
@click.argument("ref", type=REF)
@click.argument("name")
@click.argument("value", type=float)
@click.option("--dataset", help="What it was measured on.")
@registry_option
def metric(ref: AdapterRef, name: str, value: float, dataset: str | None, registry: str | None) -> None:
    """Attach the result of an evaluation to the version REF, e.g. `lorahub metric task/qa@v3 accuracy 0.93`.

    The same NAME and dataset again replaces it.  The catalog and `lorahub show` tell it; searches can ask for it.
    """
    from hub.api import client_settings
    from hub.client.api import Client

    with Client(client_settings(registry)) as client:
        client.set_metric(ref.adapter, exact_version(ref), name, value, dataset)
    note(f"{ref}: {name} is {value:g}" + (f" on {dataset}" if dataset else ""))
