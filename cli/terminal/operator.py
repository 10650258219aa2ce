"""What the operator's commands share: the options that name a server's data, and how to get at it.

`lorahub db`, `gc`, `fsck`, `backup` work on the database and the store themselves, beside a running server or without
one; `token`, `namespace`, `user` ask the server, like every other command.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from .options import registry_option

if TYPE_CHECKING:
    from hub.registry.service import Registry
    from hub.settings import ServerSettings

F = TypeVar("F", bound=Callable[..., Any])


def server_options(function: F) -> F:
    """Give a command --data, --database and --store, as `lorahub serve` has them."""
    folder = click.Path(file_okay=False, path_type=Path)
    options = (
        click.option("--data", type=folder, help="The server's data folder."),
        click.option("--database", help="The server's database.  [default: in the data folder]"),
        click.option("--store", help="The server's blob store.  [default: in the data folder]"),
    )
    for option in reversed(options):
        function = option(function)
    return function


def server_settings(
    data: Path | None, database: str | None, store: str | None, may_create: bool = False
) -> ServerSettings:
    """Return the settings of the server that is meant.  Raises NotFound where there is none, unless it may be made."""
    from hub.errors import NotFound
    from hub.settings import ServerSettings

    settings = ServerSettings.from_env(data=data, database=database, store=store)
    file = settings.database.removeprefix("sqlite:///")
    if not may_create and settings.database.startswith("sqlite:///") and not Path(file).exists():
        raise NotFound(f"There is no registry at {file}. Name its folder with --data, or start one: lorahub serve")
    return settings


@contextmanager
def open_registry(
    data: Path | None, database: str | None, store: str | None, may_create: bool = False
) -> Iterator[Registry]:
    """Open the database and the store of a server; close them afterwards."""
    from hub.errors import Unavailable

    settings = server_settings(data, database, store, may_create)
    try:
        from hub.registry.service import Registry
    except ImportError as error:
        raise Unavailable(
            f"The server's packages are not installed ({error.name} is missing). Install lorahub-registry[server]."
        ) from error
    registry = Registry.open(settings)
    try:
        yield registry
    finally:
        registry.close()


def asking(function: F) -> F:
    """Give a command --registry, and the registry that it names as its argument `admin`."""

    @registry_option
    @functools.wraps(function)
    def wrapper(*args: Any, registry: str | None, **kwargs: Any) -> Any:
        from hub.api import client_settings
        from hub.client.admin import AdminClient
        from hub.client.api import Client

        with Client(client_settings(registry)) as client:
            return function(*args, admin=AdminClient(client), **kwargs)

    return cast("F", wrapper)
