"""`lorahub import`: let the registry fetch an adapter from elsewhere."""

from __future__ import annotations

import sys

import click

from hub.refs import AdapterName

from .terminal.options import NAME, registry_option
from .terminal.output import Output, note, printing
from .terminal.progress import waiting


@click.command("import")
@click.argument("url")
@click.argument("name", type=NAME)
@click.option("-m", "--message", default="", help="What it is.")
@click.option("--token-stdin", is_flag=True, help="Read a token for URL from stdin.")
@registry_option
@printing
def import_(url: str, name: AdapterName, message: str, token_stdin: bool, registry: str | None, out: Output) -> None:
    """Have the registry fetch the adapter at URL and publish it as the next version of NAME.

    URL is an adapter of another lorahub or of the Hugging Face Hub; the registry fetches it, not this machine.
    """
    from hub.api import client_settings
    from hub.client.api import Client

    token = sys.stdin.readline(4096).strip() if token_stdin else None
    with Client(client_settings(registry)) as client, waiting(f"The registry fetches {url}"):
        version, created = client.import_version(name, url, message=message, token=token)
    if out.as_json:
        out.json(dict(version.raw) | {"created": created})
        return
    if not created:
        note(f"{version.ref} has this very content already: nothing was published.")
    out.line(str(version.ref))
