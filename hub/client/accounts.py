"""Log in and out: a token is tried before it is stored, and stored where only its owner can read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from hub.client.api import Client
from hub.client.http_clients import is_this_machine
from hub.client.records import Identity
from hub.errors import InvalidRequest
from hub.settings import ClientSettings, UserConfig


def log_in(settings: ClientSettings, token: str, config_file: Path) -> Identity:
    """Ask the registry whom `token` stands for, then store it.  A token that doesn't work is not stored."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidRequest("That is no token: one starts with lhub_. Make one with: lorahub token create")
    with Client(replace(settings, token=token)) as client:
        identity = client.whoami()
    UserConfig.read(config_file).with_token(settings.endpoint, token).write(config_file)
    return identity


def log_out(endpoint: str, config_file: Path) -> bool:
    """Forget the stored token of `endpoint`; return whether there was one."""
    config = UserConfig.read(config_file)
    if endpoint not in config.tokens:
        return False
    config.with_token(endpoint, None).write(config_file)
    return True


def sends_in_the_clear(endpoint: str) -> bool:
    """Whether a token on its way to `endpoint` can be read by others."""
    parts = urlsplit(endpoint)
    return parts.scheme == "http" and not is_this_machine(parts.hostname or "")
