"""`lorahub rm`: delete from the registry, while the rules allow it."""

from __future__ import annotations

import sys

import click

from hub.refs import AdapterRef

from .terminal.options import registry_option
from .terminal.output import note
from .yank import exact_version


@click.command("rm")
@click.argument("ref", metavar="NAME[@vN]")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@registry_option
def rm(ref: str, yes: bool, registry: str | None) -> None:
    """Delete a version, or with a bare NAME a whole adapter, within 72 hours of its publication.

    Its number or name is never used again.  To stop people from choosing an older version: lorahub yank.
    """
    from hub.api import client_settings
    from hub.client.api import Client

    parsed = AdapterRef.parse(ref)
    version = exact_version(parsed) if "@" in ref else None
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"deleting {ref} can't be undone: say --yes")
        click.confirm(f"Delete {ref} for good?", abort=True, err=True)
    with Client(client_settings(registry)) as client:
        if version is None:
            client.delete_adapter(parsed.adapter)
        else:
            client.delete_version(parsed.adapter, version)
    note(f"{ref} is deleted. Copies in caches stay there: lorahub cache rm {ref}")
