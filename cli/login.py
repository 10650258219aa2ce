"""`lorahub login`, `logout`, `whoami`.  A token is read from the terminal or stdin: a command line is no secret."""

from __future__ import annotations

import os
import sys

import click

from .terminal.options import registry_option
from .terminal.output import Output, note, printing_json, warn


@click.command()
@click.argument("endpoint", required=False, metavar="[URL]")
@printing_json
def login(endpoint: str | None, out: Output) -> None:
    """Store a token for the registry at URL, and use that registry from now on.

    On a terminal the token is asked for; else it is read from stdin:

    \b
        lorahub login https://lorahub.example < token.txt
    """
    from hub.client.accounts import log_in, sends_in_the_clear
    from hub.settings import ClientSettings, config_path

    settings = ClientSettings.from_env(os.environ)
    if endpoint:
        settings = settings.with_endpoint(endpoint)
    path = config_path(os.environ)
    if sends_in_the_clear(settings.endpoint):
        warn(f"{settings.endpoint} is not encrypted: everyone on the way can read the token. Use https:// if you can.")
    identity = log_in(settings, _read_token(settings.endpoint), path)
    if out.as_json:
        out.json(dict(identity.raw) | {"endpoint": settings.endpoint})
        return
    note(f"The token is stored in {path}, which only you can read.")
    if os.environ.get("LORAHUB_TOKEN"):
        note("LORAHUB_TOKEN is set too, and wins over the token that is stored for the registry that it is for.")
    out.line(f"{identity.user} at {settings.endpoint}")


@click.command()
@registry_option
def logout(registry: str | None) -> None:
    """Forget the stored token of the registry.  The token itself stays valid: revoke it with `lorahub token`."""
    from hub.client.accounts import log_out
    from hub.settings import ClientSettings, config_path

    settings = ClientSettings.from_env(os.environ)
    if registry:
        settings = settings.with_endpoint(registry)
    if log_out(settings.endpoint, config_path(os.environ)):
        note(f"The token of {settings.endpoint} is forgotten here.")
    else:
        note(f"No token of {settings.endpoint} was stored.")
    if os.environ.get("LORAHUB_TOKEN"):
        note("LORAHUB_TOKEN is still set: unset it to be logged out.")


@click.command()
@registry_option
@printing_json
def whoami(registry: str | None, out: Output) -> None:
    """Show the user, roles and scopes that the registry sees in your token."""
    from hub.client.api import Client
    from hub.settings import ClientSettings

    settings = ClientSettings.from_env(os.environ)
    if registry:
        settings = settings.with_endpoint(registry)
    with Client(settings) as client:
        identity = client.whoami()
    if out.as_json:
        out.json(dict(identity.raw) | {"endpoint": settings.endpoint})
        return
    out.fields(
        {
            "user": identity.user,
            "admin": "yes" if identity.is_admin else None,
            "registry": settings.endpoint,
            "token": identity.token_name,
            "scopes": identity.scopes,
            "namespaces": [f"{name} ({role})" for name, role in identity.namespaces],
        }
    )


def _read_token(endpoint: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"Token for {endpoint}", hide_input=True, err=True)).strip()
    return sys.stdin.readline(4096).strip()
