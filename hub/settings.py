"""Settings of the client and of the server: flag > environment > config file > default.

Only entry points (`hub.load`, `hub.pull`, …, and the command line) read the environment and the config file, through
`ClientSettings.from_env` and `ServerSettings.from_env`; everything below them takes the frozen value as an argument.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hub.errors import InvalidRequest
from hub.formats.atomic_files import write_atomically

DEFAULT_ENDPOINT = "http://127.0.0.1:8750"
DEFAULT_PORT = 8750
APP_NAME = "lorahub"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where the registry is, who we are there, and where fetched files are kept.

    token_is_for: the registry that LORAHUB_TOKEN belongs to, where there is such a token and this registry is another.
    """

    endpoint: str
    token: str | None
    cache: Path
    offline: bool = False
    token_is_for: str | None = None

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, config_file: Path | None = None) -> ClientSettings:
        """Read `LORAHUB_ENDPOINT`, `_TOKEN`, `_TOKEN_FOR`, `_CACHE` and `_OFFLINE`, then the config file.

        The token goes to the registry that `LORAHUB_TOKEN_FOR` names, else to the one that is used by default.
        """
        env = os.environ if environment is None else environment
        stored = UserConfig.read(config_file or config_path(env))
        endpoint = env.get("LORAHUB_ENDPOINT") or stored.endpoint or DEFAULT_ENDPOINT
        endpoint = parse_endpoint(endpoint)
        token, token_is_for = _token_for(endpoint, env, stored)
        return cls(
            endpoint=endpoint,
            token=token,
            token_is_for=token_is_for,
            cache=Path(env.get("LORAHUB_CACHE") or default_cache(env)).expanduser(),
            offline=parse_switch(env.get("LORAHUB_OFFLINE", ""), "LORAHUB_OFFLINE"),
        )

    def with_endpoint(self, endpoint: str, config_file: Path | None = None) -> ClientSettings:
        """Return these settings for another registry, with the token that is stored for that one, if any.

        LORAHUB_TOKEN is not sent there, unless LORAHUB_TOKEN_FOR says that it is for that one: to name a registry in a
        command is not to trust it with a token of another.
        """
        endpoint = parse_endpoint(endpoint)
        if endpoint == self.endpoint:
            return self
        stored = UserConfig.read(config_file or config_path(os.environ))
        token, token_is_for = _token_for(endpoint, os.environ, stored)
        return replace(self, endpoint=endpoint, token=token, token_is_for=token_is_for)


def _token_for(endpoint: str, env: Mapping[str, str], stored: UserConfig) -> tuple[str | None, str | None]:
    """Return the token to send to `endpoint`, and whose the environment's is when it is not sent there."""
    given = env.get("LORAHUB_TOKEN")
    if not given:
        return stored.tokens.get(endpoint), None
    owner = parse_endpoint(
        env.get("LORAHUB_TOKEN_FOR") or env.get("LORAHUB_ENDPOINT") or stored.endpoint or DEFAULT_ENDPOINT
    )
    if _comparable(owner) == _comparable(endpoint):
        return given, None
    return stored.tokens.get(endpoint), owner


def _comparable(endpoint: str) -> tuple[str, str, int | None, str]:
    from urllib.parse import urlsplit

    parts = urlsplit(endpoint)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme), parts.path


_SERVER_NUMBERS = (
    "max_upload_bytes",
    "threads",
    "connections",
    "drain_seconds",
    "reads_per_minute",
    "writes_per_minute",
    "trusted_proxies",
    "upstream_cache_bytes",
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What one registry service needs to start.  See `lorahub serve --help` for the flags of the same names.

    threads, connections: of each worker.  drain_seconds: how long a stopping server lets transfers finish.
    reads_per_minute, writes_per_minute: of each caller, over all workers; 0 is unlimited.
    trusted_proxies: how many reverse proxies stand in front, whose X-Forwarded-* headers are believed.
    trusted_hosts: hosts on private networks that imports, webhooks and the upstream may be at all the same.
    upstream_cache_bytes: how much of the upstream's files is kept; those not asked for the longest go first.
    """

    data: Path
    database: str
    store: str
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    workers: int = 1
    public_url: str | None = None
    upstream: str | None = None
    upstream_token: str | None = None
    secret_key: str | None = None
    max_upload_bytes: int = 64 * 1024**3
    threads: int = 32
    connections: int = 4000
    drain_seconds: int = 60
    reads_per_minute: int = 30_000
    writes_per_minute: int = 6_000
    trusted_proxies: int = 0
    trusted_hosts: tuple[str, ...] = ()
    upstream_cache_bytes: int = 200 * 1024**3

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, **flags: Any) -> ServerSettings:
        """Read `LORAHUB_DATA`, `LORAHUB_DATABASE`, `LORAHUB_STORE`, …; a flag that isn't None wins.

        Without a database or a store, both live in the data folder: `registry.sqlite3` and `blobs/`.
        """
        env = os.environ if environment is None else environment
        given = {name: value for name, value in flags.items() if value is not None}
        data = Path(given.pop("data", None) or env.get("LORAHUB_DATA") or default_data(env)).expanduser().absolute()
        defaults: dict[str, Any] = {
            "database": env.get("LORAHUB_DATABASE") or f"sqlite:///{data / 'registry.sqlite3'}",
            "store": env.get("LORAHUB_STORE") or str(data / "blobs"),
            "host": env.get("LORAHUB_HOST") or "127.0.0.1",
            "port": parse_number(env.get("LORAHUB_PORT") or DEFAULT_PORT, "LORAHUB_PORT"),
            "workers": parse_number(env.get("LORAHUB_WORKERS") or 1, "LORAHUB_WORKERS"),
            "public_url": env.get("LORAHUB_PUBLIC_URL"),
            "upstream": env.get("LORAHUB_UPSTREAM"),
            "upstream_token": env.get("LORAHUB_UPSTREAM_TOKEN"),
            "secret_key": env.get("LORAHUB_SECRET_KEY"),
            "trusted_hosts": tuple(env.get("LORAHUB_TRUSTED_HOSTS", "").replace(",", " ").split()),
        }
        for name in _SERVER_NUMBERS:
            variable = f"LORAHUB_{name.upper()}"
            if env.get(variable):
                defaults[name] = parse_number(env[variable], variable)
        return cls(data=data, **(defaults | given))

    def private_paths(self) -> tuple[Path, ...]:
        """Return what lies on this machine and nobody but the server may open: database files and folders of blobs."""
        found = [self.data / "xet", self.data / "upstream"]
        if self.database.startswith("sqlite:///"):
            file = self.database.removeprefix("sqlite:///").partition("?")[0]
            found += [Path(file + suffix) for suffix in ("", "-wal", "-shm")]
        if "://" not in self.store:
            found += [Path(self.store), Path(self.store) / "blobs", Path(self.store) / "uploads"]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class UserConfig:
    """The config file: the default endpoint, and one token per endpoint.  Written with mode 0600."""

    endpoint: str | None
    tokens: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> UserConfig:
        """Return what `path` says; nothing if it isn't there.  Raises InvalidRequest if it can't be read."""
        try:
            payload = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return cls(None, {})
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"The config file {path} can't be read: {error}. Mend or remove it.") from error
        endpoint, tokens = (payload.get("endpoint"), payload.get("tokens", {})) if isinstance(payload, dict) else (0, 0)
        if not isinstance(endpoint, str | None) or not isinstance(tokens, dict):
            raise InvalidRequest(f"The config file {path} is not an object with tokens. Mend or remove it.")
        if not all(isinstance(token, str) for token in tokens.values()):
            raise InvalidRequest(f"The config file {path} has a token that is not a text. Mend or remove it.")
        return cls(endpoint, dict(tokens))

    def with_token(self, endpoint: str, token: str | None) -> UserConfig:
        """Return a copy that knows `token` for `endpoint` and uses that endpoint by default; None forgets it."""
        kept = {known: value for known, value in self.tokens.items() if known != endpoint}
        if token is None:
            return UserConfig(self.endpoint, kept)
        return UserConfig(endpoint, kept | {endpoint: token})

    def write(self, path: Path) -> None:
        """Replace `path` atomically; only its owner may read it."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        payload = json.dumps({"endpoint": self.endpoint, "tokens": dict(self.tokens)}, indent=2, sort_keys=True)
        write_atomically(path, f"{payload}\n".encode(), sync=True)


def config_path(env: Mapping[str, str]) -> Path:
    """Return the config file's path: `LORAHUB_CONFIG`, else `config.json` in the platform's config folder."""
    import platformdirs

    explicit = env.get("LORAHUB_CONFIG")
    return Path(explicit).expanduser() if explicit else Path(platformdirs.user_config_dir(APP_NAME)) / "config.json"


def default_cache(env: Mapping[str, str]) -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir(APP_NAME))


def default_data(env: Mapping[str, str]) -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir(APP_NAME))


def parse_endpoint(text: str) -> str:
    """Return `http(s)://host[:port][/path]` without a trailing slash.  Raises InvalidRequest."""
    from urllib.parse import urlsplit

    fault = InvalidRequest(f"{text!r} is not a registry's address: write e.g. {DEFAULT_ENDPOINT}.")
    try:
        parts = urlsplit(text.strip())
        port_is_sound = parts.port is None or parts.port > 0
    except ValueError as error:
        raise fault from error
    has_more = parts.query or parts.fragment or parts.username or parts.password
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_sound or has_more:
        raise fault
    return text.strip().rstrip("/")


def parse_number(value: str | int, name: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise InvalidRequest(f"{name} is {value!r}; it takes a whole number.") from error


def parse_switch(text: str, name: str) -> bool:
    """Read an on/off environment variable.  Raises InvalidRequest for what is neither."""
    lowered = text.strip().lower()
    if lowered in {"", "0", "false", "no", "off"}:
        return False
    if lowered in {"1", "true", "yes", "on"}:
        return True
    raise InvalidRequest(f"{name} is {text!r}; it takes 1 or 0.")
