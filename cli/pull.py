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
@click.option("--to", type=click.Path(path_type=Path), help="Copy the files to this new folder.")
@registry_option
@printing
def pull(ref: AdapterRef, to: Path | None, registry: str | None, out: Output) -> None:
    """Fetch the version REF, e.g. `task/qa@v3`, and print the folder with its files.

    Every byte is verified.  A pull that was interrupted goes on where it stopped.  LORAHUB_OFFLINE=1 asks the
    cache alone.
    """
    from hub.api import client_settings
    from hub.client.api import Client
    from hub.client.sync import copy_out, fetch, resolve

    settings, observer = client_settings(registry), CliObserver()
    with Client(settings) as client:
        info = resolve(ref, settings, observer, client)
        folder = fetch(info, settings, observer, client)
    if to is not None:
        folder = copy_out(folder, to, info.manifest.base if info.manifest else None)
    if out.as_json:
        out.json({key: value for key, value in info.raw.items() if key != "manifest"} | {"path": str(folder)})
    else:
        out.line(str(info.ref) if out.quiet else str(folder))
