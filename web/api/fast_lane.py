"""The shortest way to the one answer that is asked for most: which version a ref means.

Every pull and every load begins with it, so it skips the framework: two thirds of its time went into routing, request
objects and hooks.  It takes only the plain case (a GET of an address without percent signs or a query) and only
succeeds: whatever is out of the ordinary is handed to the application, which does it again and says what is wrong.
What it answers is the same, byte for byte and header for header; a test holds the two side by side.

The worker's event loop asks it too (`quick`), for all clients: there it answers nothing that has to wait for a write to
the database, and nothing large.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub.errors import HubError
from hub.refs import AdapterName
from hub.registry.rights.access import ANONYMOUS, Actor
from hub.registry.service import Registry
from hub.settings import ServerSettings

from ..http.identity import CallerKeys, parse_bearer
from ..http.limits import Limits
from ..http.metrics import Metrics
from ..http.security import api_headers
from .represent import version_bytes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROUTE = "versions.resolve"
MAX_QUICK_BYTES = 64 * 1024
"""A larger answer might have to wait for its reader."""

QUICK_ANSWERS = "lorahub.quick_answers"
"""Where the application keeps its QuickAnswers, in `extensions`."""

ADDRESS = r"/api/v1/adapters/([a-z0-9._-]+)/([a-z0-9._-]+)/versions/([A-Za-z0-9._:-]+)"
_ADDRESS = re.compile(ADDRESS + r"\Z")


@dataclass(frozen=True)
class QuickAnswers:
    """What is answered without waiting for anything.

    body: the body of the answer with status 200 to this GET without query, body, and percent signs in its address; None
    where the application has to answer.  headers: of every such answer, with its Content-Length to come.  asks_afar:
    whether the database is another process, which may let us wait.
    """

    body: Callable[[WSGIEnvironment], bytes | None]
    headers: list[tuple[str, str]]
    asks_afar: bool


class FastLane:
    """WSGI middleware around the application.

    next_id: names a request, as the application does.
    """

    def __init__(
        self,
        app: WSGIApplication,
        registry: Registry,
        limits: Limits,
        caller_key: CallerKeys,
        metrics: Metrics,
        settings: ServerSettings,
        next_id: Callable[[], str],
    ) -> None:
        self._app = app
        self._registry = registry
        self._limits = limits
        self._caller_key = caller_key
        self._reads_per_minute = settings.reads_per_minute
        self._metrics = metrics
        self._next_id = next_id
        self.headers = [("Content-Type", "application/json"), *api_headers(settings)]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET" and not environ.get("QUERY_STRING") and "CONTENT_LENGTH" not in environ:
            body = self._answer(environ) if "%" not in environ.get("RAW_URI", "%") else None
            if body is not None:
                start_response("200 OK", [*self.headers, ("Content-Length", str(len(body)))])
                return [body]
        return self._app(environ, start_response)

    def quick(self, environ: WSGIEnvironment, _start: object = None) -> bytes | None:
        """Answer as QuickAnswers promises; shaped like a WSGI application, so that middleware can stand around it."""
        return self._answer(environ, at_once=True)

    def _answer(self, environ: WSGIEnvironment, *, at_once: bool = False) -> bytes | None:
        """Return the answer's body, or None where the application has to say what is wrong."""
        found = _ADDRESS.match(environ["PATH_INFO"])
        if found is None:
            return None
        started = time.perf_counter()
        namespace, name, selector = found.groups()
        try:
            if not self._is_within_limits(environ, at_once):
                return None
            actor = self._actor(environ, at_once)
            body = version_bytes(
                self._registry.versions.resolve(actor, AdapterName.parse(f"{namespace}/{name}").at(selector))
            )
        except HubError:
            return None
        if at_once and len(body) > MAX_QUICK_BYTES:
            return None
        environ["lorahub.request_id"] = self._next_id()
        self._metrics.count(ROUTE, "GET", 200, time.perf_counter() - started, 0, len(body))
        return body

    def _is_within_limits(self, environ: WSGIEnvironment, at_once: bool) -> bool:
        """Spend one request of the caller's; False where that would have to wait.  Raises TooManyRequests."""
        if not self._reads_per_minute:
            return True
        key = "read:" + self._caller_key(environ)
        if at_once:
            return self._limits.take_held(key, self._reads_per_minute, on_credit=True)
        self._limits.take(key, self._reads_per_minute, on_credit=True)
        return True

    def _actor(self, environ: WSGIEnvironment, at_once: bool) -> Actor:
        header = environ.get("HTTP_AUTHORIZATION")
        if header is None:
            return ANONYMOUS
        return self._registry.tokens.authenticate(
            parse_bearer(header), environ.get("REMOTE_ADDR"), may_write=not at_once
        )
