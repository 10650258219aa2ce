"""`lorahub access`: who may read an adapter."""

from __future__ import annotations

import click

from hub.refs import AdapterName

from .terminal.options import NAME, registry_option
from .terminal.output import Output, printing


@click.command()
@click.argument("name", type=NAME)
@click.option("--private/--public", default=None, help="Whether only members of the namespace see it.")
@click.option("--gated/--open", default=None, help="Whether all see it and its card, and only members its files.")
@registry_option
@printing
def access(name: AdapterName, private: bool | None, gated: bool | None, registry: str | None, out: Output) -> None:
    """Show or change who may read the adapter NAME.  Changes are for owners of its namespace."""
    from hub.api import client_settings
    from hub.client.api import Client

    with Client(client_settings(registry)) as client:
        unchanged = private is None and gated is None
        found = client.adapter(name) if unchanged else client.update_adapter(name, private=private, gated=gated)
    state = ("private" if found.private else "public") + (", gated" if found.gated else "")
    if out.as_json:
        out.json({"adapter": str(found.name), "private": found.private, "gated": found.gated})
    else:
        out.line(state if out.quiet else f"{found.name} is {state}")
