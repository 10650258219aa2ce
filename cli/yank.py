"""`lorahub yank`, `unyank`, `deprecate`: tell people not to use a version, without taking it from those who do."""

from __future__ import annotations

import click

from hub.errors import InvalidRef
from hub.refs import LATEST, AdapterRef

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
@click.option("--reason", help="Shown to everyone who uses it.")
@click.option("--successor", type=REF, help="What to use instead, e.g. task/qa@v4.")
@click.option("--undo", is_flag=True, help="Take the advice back.")
@registry_option
def deprecate(
    ref: AdapterRef, reason: str | None, successor: AdapterRef | None, undo: bool, registry: str | None
) -> None:
    """Advise against REF, and point to something better.

    REF is a version (task/qa@v3), or a whole adapter (task/qa).
    """
    from hub.api import client_settings
    from hub.client.api import Client

    if undo == (reason is not None):
        raise click.UsageError("say why with --reason, or take the advice back with --undo")
    version = None if ref.selector == LATEST else exact_version(ref)
    with Client(client_settings(registry)) as client:
        if reason is None:
            client.undeprecate(ref.adapter, version)
        else:
            client.deprecate(ref.adapter, version, reason, successor)
    note(f"{ref} is not deprecated any more." if undo else f"{ref} is deprecated. Take it back with --undo.")


def exact_version(ref: AdapterRef) -> int:
    """Return N of `@vN`.  An alias may move while the command runs, so none is taken here."""
    if ref.version is None:
        raise InvalidRef(f"{ref} can mean another version tomorrow: name one, e.g. {ref.adapter}@v1.")
    return ref.version
