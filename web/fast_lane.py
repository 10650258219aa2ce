"""The shortest way to the one answer that is asked for most: which version a ref means.

Every pull and every load begins with it, so it skips the framework: two thirds of its time went into routing, request
objects and hooks.  It takes only the plain case (a GET of an address without percent signs or a query) and only
succeeds: whatever is out of the ordinary is handed to the application, which does it again and says what is wrong.
What it answers is the same, byte for byte and header for header; a test holds the two side by side.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hub.errors import HubError
from hub.refs import AdapterName
from hub.registry.access import ANONYMOUS, Actor
from hub.registry.service import Registry
from hub.settings import ServerSettings

from .api.represent import version_bytes
from .identity import caller_key, parse_bearer
from .limits import Limits
from .metrics import Metrics
from .security import api_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROUTE = "versions.resolve"
_ADDRESS = re.compile(r"/api/v1/adapters/([a-z0-9._-]+)/([a-z0-9._-]+)/versions/([A-Za-z0-9._:-]+)\Z")


class FastLane:
    """WSGI middleware around the application.

    next_id: names a request, as the application does.
    """

    def __init__(
        self,
        app: WSGIApplication,
        registry: Registry,
        limits: Limits,
        metrics: Metrics,
        settings: ServerSettings,
        next_id: Callable[[], str],
    ) -> None:
        self._app = app
        self._registry = registry
        self._limits = limits
        self._reads_per_minute = settings.reads_per_minute
        self._metrics = metrics
        self._next_id = next_id
        self._headers = [("Content-Type", "application/json"), *api_headers(settings)]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET" and not environ.get("QUERY_STRING") and "CONTENT_LENGTH" not in environ:
            found = _ADDRESS.match(environ["PATH_INFO"])
            if found and "%" not in environ.get("RAW_URI", "%"):
                body = self._try(environ, *found.groups())
                if body is not None:
                    start_response("200 OK", [*self._headers, ("Content-Length", str(len(body)))])
                    return [body]
        return self._app(environ, start_response)

    def _try(self, environ: WSGIEnvironment, namespace: str, name: str, selector: str) -> bytes | None:
        """Return the answer's body, or None where the application has to say what is wrong."""
        started = time.perf_counter()
        try:
            if self._reads_per_minute:
                self._limits.take("read:" + caller_key(environ), self._reads_per_minute, on_credit=True)
            actor = self._actor(environ)
            body = version_bytes(self._registry.resolve(actor, AdapterName.parse(f"{namespace}/{name}").at(selector)))
        except HubError:
            return None
        environ["lorahub.request_id"] = self._next_id()
        self._metrics.count(ROUTE, "GET", 200, time.perf_counter() - started, 0, len(body))
        return body

    def _actor(self, environ: WSGIEnvironment) -> Actor:
        header = environ.get("HTTP_AUTHORIZATION")
        if header is None:
            return ANONYMOUS
        return self._registry.authenticate(parse_bearer(header), environ.get("REMOTE_ADDR"))
