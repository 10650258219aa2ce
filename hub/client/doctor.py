"""Has this machine what lorahub needs?  Each finding says what was looked at, what was found, and what to do."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from hub.client.api import Client
from hub.errors import AuthError, HubError
from hub.formats.private_files import is_open_to_others
from hub.settings import ClientSettings, ServerSettings

LEAST_PYTHON = (3, 11)
LOW_SPACE_BYTES = 5 * 10**9
OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.  `level` is ok, warning (something will not work) or error (nothing will)."""

    name: str
    level: str
    found: str
    next_step: str = ""

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "level": self.level, "found": self.found, "next_step": self.next_step}


def diagnose(settings: ClientSettings, config_file: Path, server: ServerSettings) -> Iterator[Check]:
    """Look at everything, one thing after the other.  server: the one that would start here."""
    yield _python()
    yield _package("torch", "load", "hub.load runs adapters with it")
    yield _package("transformers", "load", "hub.load reads base models with it")
    yield _package("bitsandbytes", "load", "4-bit bases need it")
    yield _accelerator()
    yield _package("peft", "train", "training needs it")
    yield _package("flask", "server", "lorahub serve needs it")
    yield _config(config_file)
    yield from _server_files(server)
    yield from _registry(settings)
    yield _writable(settings.cache)
    yield _space(settings.cache)


def _python() -> Check:
    found = f"Python {sys.version.split()[0]}"
    if sys.version_info[:2] >= LEAST_PYTHON:
        return Check("python", OK, found)
    return Check("python", ERROR, found, f"Install Python {'.'.join(map(str, LEAST_PYTHON))} or newer.")


def _package(name: str, extra: str, why: str) -> Check:
    try:
        return Check(name, OK, f"{name} {version(name)}")
    except PackageNotFoundError:
        return Check(name, WARNING, f"not installed; {why}", f"pip install 'lorahub-registry[{extra}]'")


def _accelerator() -> Check:
    if find_spec("torch") is None:
        return Check("device", WARNING, "unknown without torch", "pip install 'lorahub-registry[load]'")
    try:
        import torch

        if torch.cuda.is_available():
            return Check("device", OK, torch.cuda.get_device_name(0))
        return Check("device", OK, f"CPU, {torch.get_num_threads()} threads")
    except (ImportError, OSError, RuntimeError) as error:
        return Check("device", ERROR, f"torch can't be imported: {error}", "Install torch again, for this Python.")


def _config(path: Path) -> Check:
    if not path.exists():
        return Check("config", OK, f"{path} (not there yet)")
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        return Check("config", WARNING, f"others can read {path} ({mode:o})", f"chmod 600 {path}")
    return Check("config", OK, str(path))


def _server_files(server: ServerSettings) -> Iterator[Check]:
    """Look whether others may open the files of a server of this machine; nothing is said where there is none."""
    there = [path for path in server.private_paths() if path.exists()]
    for path in there:
        if is_open_to_others(path):
            found = f"others on this machine can open {path}"
            yield Check("server files", ERROR, found, f"chmod go= {path}, as the server's user")
            return
    if there:
        yield Check("server files", OK, f"{server.data}: for its owner alone")


def _registry(settings: ClientSettings) -> Iterator[Check]:
    if settings.offline:
        yield Check("registry", WARNING, "LORAHUB_OFFLINE is set: nothing is asked", "unset LORAHUB_OFFLINE")
        return
    with Client(settings) as client:
        try:
            client.connection.get_json("/api/v1/adapters", {"limit": 1, "facets": "false"})
        except AuthError as error:
            yield Check("token", ERROR, error.message, f"lorahub login {settings.endpoint}")
            return
        except HubError as error:
            yield Check("registry", ERROR, error.message, "lorahub serve, or set LORAHUB_ENDPOINT")
            return
        yield Check("registry", OK, settings.endpoint)
        yield _token(client)


def _token(client: Client) -> Check:
    login = f"lorahub login {client.settings.endpoint}"
    if client.settings.token is None:
        return Check("token", WARNING, "none: you can read what is public, not push", login)
    try:
        identity = client.whoami()
    except HubError as error:
        return Check("token", ERROR, error.message, login)
    return Check("token", OK, f"{identity.user}: {', '.join(identity.scopes)}")


def _writable(folder: Path) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return Check(
            "cache", ERROR, f"{folder} can't be written: {error.strerror}", "Set LORAHUB_CACHE to a folder that can."
        )
    return Check("cache", OK, str(folder))


def _space(folder: Path) -> Check:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / 1e9:.1f} GB free for the cache"
    if free >= LOW_SPACE_BYTES:
        return Check("disk", OK, found)
    return Check("disk", WARNING, found, "lorahub cache prune, or set LORAHUB_CACHE to another disk")
