"""`lorahub yank`, `unyank`, `deprecate`: tell people not to use a version, without taking it from those who do."""

from __future__ import annotations

import click

from hub.errors import InvalidRef
from hub.refs import AdapterRef

from .terminal.options import REF, registry_option
from .terminal.output import note


@click.command()
@click.argument("ref", type=REF)
@click.option("--reason", required=True, help="Shown to everyone who uses the version.")
@registry_option
def yank(ref: AdapterRef, reason: str, registry: str | None) -> None:
    """Mark the version REF as one that nobody should choose.

    It can still be pulled by its exact ref, with a warning that gives the reason; @latest passes it over.
    """
    from hub.api import client_settings
    from hub.client.api import Client

    with Client(client_settings(registry)) as client:
        client.yank(ref.adapter, exact_version(ref), reason)
    note(f"{ref} is yanked. Take it back with: lorahub unyank {ref}")


@click.command()
@click.argument("ref", type=REF)
@registry_option
def unyank(ref: AdapterRef, registry: str | None) -> None:
    """Take a yank back."""
    from hub.api import client_settings
    from hub.client.api import Client

    with Client(client_settings(registry)) as client:
        client.unyank(ref.adapter, exact_version(ref))
    note(f"{ref} is not yanked any more.")


@click.command()
@click.argument("ref", type=REF)
@click.option("--reason", required=True, help="Shown to everyone who uses the version.")
@click.option("--successor", type=REF, help="What to use instead, e.g. task/qa@v4.")
@registry_option
def deprecate(ref: AdapterRef, reason: str, successor: AdapterRef | None, registry: str | None) -> None:
    """Advise against the version REF, and point to a better one."""
    from hub.api import client_settings
    from hub.client.api import Client

    with Client(client_settings(registry)) as client:
        client.deprecate(ref.adapter, exact_version(ref), reason, successor)
    note(f"{ref} is deprecated.")


def exact_version(ref: AdapterRef) -> int:
    """Return N of `@vN`.  An alias may move while the command runs, so none is taken here."""
    if ref.version is None:
        raise InvalidRef(f"{ref} can mean another version tomorrow: name one, e.g. {ref.adapter}@v1.")
    return ref.version
