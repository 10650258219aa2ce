"""`lorahub pull`: a ref in, a folder out."""

from __future__ import annotations

from pathlib import Path

import click

from hub.refs import AdapterRef

from .terminal.options import REF, registry_option
from .terminal.output import Output, printing
from .terminal.progress import CliObserver


@click.command()
@click.argument("ref", type=REF)
@click.option("--to", type=click.Path(path_type=Path), help="Keep this folder at what REF means.")
@registry_option
@printing
def pull(ref: AdapterRef, to: Path | None, registry: str | None, out: Output) -> None:
    """Fetch the version REF, e.g. `task/qa@v3`, and print the folder with its files.

    Every byte is verified.  An interrupted pull resumes where it stopped.  LORAHUB_OFFLINE=1 reads the cache
    alone.  With --to, a folder that is new, empty, or from an earlier pull gets the files; where REF is an alias
    that has moved since, it is replaced whole, in one step.
    """
    from hub.api import client_settings
    from hub.client.api import Client
    from hub.client.placing import place
    from hub.client.sync import fetch, resolve

    settings, observer = client_settings(registry), CliObserver()
    with Client(settings) as client:
        info = resolve(ref, settings, observer, client)
        folder = fetch(info, settings, observer, client)
    if to is not None:
        folder = place(info, folder, to)
    if out.as_json:
        out.json({key: value for key, value in info.raw.items() if key != "manifest"} | {"path": str(folder)})
    else:
        out.line(str(info.ref) if out.quiet else str(folder))
