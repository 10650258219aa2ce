"""The whole application in this process, on a real socket: a server that starts in a moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from hub.registry.service import Registry
from hub.settings import ServerSettings
from hub.web.app import create_app


@dataclass(frozen=True)
class ThreadedApp:
    url: str
    token: str
    registry: Registry


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *args: Any) -> None:
        pass


@contextmanager
def threaded_app(data: Path, **settings: Any) -> Iterator[ThreadedApp]:
    """Serve a new registry in `data` on a free loopback port; `settings` are ServerSettings'."""
    data.mkdir(parents=True, exist_ok=True)
    used = ServerSettings.from_env({}, data=data, **settings)
    registry = Registry.open(used)
    made = registry.users.first_start()
    server = make_server("127.0.0.1", 0, create_app(registry, used), threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield ThreadedApp(f"http://127.0.0.1:{server.server_port}", made.secret if made else "", registry)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        registry.close()
