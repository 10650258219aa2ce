"""Start the service: the schema, the first admin, the socket, the workers.

    lorahub serve -> prepare (schema, admin) -> listen (the port is known now) -> gunicorn: one arbiter, N workers
                     each worker: Registry.open -> create_app -> the first one says `lorahub is ready: URL` on stdout

Nothing is opened before the fork: forked processes must not share database connections and client sockets.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Flask

from hub.errors import InvalidRequest, Unavailable
from hub.formats.private_files import make_private_folder
from hub.registry.service import Registry
from hub.settings import ServerSettings, UserConfig

from ..http.metrics import forget_worker, prepare_metrics

READY_LINE = "lorahub is ready: {url}"
BACKLOG = 1024
WORKER_TIMEOUT_SECONDS = 120


def serve(settings: ServerSettings, config_file: Path, say: Callable[[str], None]) -> None:
    """Run the service until it is told to stop.

    config_file: this machine's CLI config, which gets the first admin's token.  say: prints a line for the operator.
    Raises Unavailable when the port is taken or the database can't be reached.
    """
    listener = listen(settings.host, settings.port)
    try:
        settings = replace(settings, port=listener.getsockname()[1])
        if settings.public_url is None:
            settings = replace(settings, public_url=local_url(settings))
        prepare(settings, config_file, say)
        run = run_waitress if sys.platform == "win32" else run_gunicorn
        run(settings, listener)
    finally:
        listener.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a bound, listening socket; port 0 takes any free one.  Raises Unavailable, InvalidRequest."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OverflowError as error:
        raise InvalidRequest(f"--port is {port}; ports go from 0 to 65535.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(
            f"lorahub can't listen on {host}:{port}: {reason}. Choose another with --port; 0 takes any free one."
        ) from error
    return listener


def local_url(settings: ServerSettings) -> str:
    """Return the URL of the server on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104  # reads, binds nothing
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{host}:{settings.port}"


def prepare(settings: ServerSettings, config_file: Path, say: Callable[[str], None]) -> None:
    """Migrate the schema and, on the first start, create the admin and show the token once."""
    make_private_folder(settings.data)
    registry = Registry.open(settings)
    try:
        for warning in registry.warnings():
            say(f"warning: {warning}")
        made = registry.users.first_start()
    finally:
        registry.close()
    if made is not None:
        say(f"Created the user {made.token.user}. Its token, shown this once: {made.secret}")
        say(remember_token(config_file, local_url(settings), made.secret))


def remember_token(config_file: Path, endpoint: str, secret: str) -> str:
    """Store the token for this machine's command line; return what to tell the operator about it."""
    try:
        UserConfig.read(config_file).with_token(endpoint, secret).write(config_file)
    except (OSError, InvalidRequest) as error:
        return f"The token could not be stored in {config_file} ({error}). Keep it: lorahub login {endpoint}"
    return f"Stored in {config_file}: `lorahub push` works on this machine at once."


def run_gunicorn(settings: ServerSettings, listener: socket.socket) -> None:
    from gunicorn.app.base import BaseApplication

    folder, arbiter = prepare_metrics(), os.getpid()
    options = gunicorn_options(settings, listener)

    class Service(BaseApplication):
        def load_config(self) -> None:
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Flask:
            return open_app(settings)

    try:
        Service().run()
    finally:
        if os.getpid() == arbiter:  # a worker runs this too when it exits
            shutil.rmtree(folder, ignore_errors=True)


def gunicorn_options(settings: ServerSettings, listener: socket.socket) -> dict[str, Any]:
    """Return gunicorn's configuration for this service."""
    url = local_url(settings)

    def say_ready(worker: Any) -> None:
        if worker.age == 1:  # one worker is enough: all share the socket
            print(READY_LINE.format(url=url), flush=True)

    os.set_inheritable(listener.fileno(), True)
    return {
        "bind": f"fd://{listener.detach()}",  # gunicorn closes it: here and in each worker
        "workers": settings.workers,
        "threads": settings.threads,
        "worker_class": "hub.web.server.worker.FrontWorker",
        "worker_connections": settings.connections,
        "timeout": WORKER_TIMEOUT_SECONDS,
        "graceful_timeout": settings.drain_seconds,
        "logger_class": "hub.web.server.gunicorn_log.ServerLogger",
        "accesslog": "-",
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 16_384,
        "control_socket_disable": True,
        "proc_name": "lorahub",
        # The application decides which proxies to trust (trusted_proxies); the server itself trusts none.
        "forwarded_allow_ips": "",
        "post_worker_init": say_ready,
        "child_exit": lambda _server, worker: forget_worker(worker.pid),
    }


def open_app(settings: ServerSettings) -> Flask:
    """Open the registry in this process and return the application on it."""
    from ..app import create_app
    from .deriving import derive_in_background
    from .outbox import deliver_in_background

    registry = Registry.open(settings)
    deliver_in_background(registry)
    derive_in_background(registry)
    return create_app(registry, settings)


def run_waitress(settings: ServerSettings, listener: socket.socket) -> None:
    """Serve on Windows, where there is no fork: one process with threads.

    waitress buffers a request's body in a temporary file until it is complete.
    """
    from waitress.server import create_server

    from .log import LoggedRequests

    server = create_server(
        LoggedRequests(open_app(settings)),
        sockets=[listener],
        threads=settings.threads,
        backlog=BACKLOG,
        max_request_body_size=settings.max_upload_bytes,
        # The application decides which proxies to trust (trusted_proxies).
        clear_untrusted_proxy_headers=settings.trusted_proxies == 0,
        ident=None,
    )
    print(READY_LINE.format(url=local_url(settings)), flush=True)
    server.run()
