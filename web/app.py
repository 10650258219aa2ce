"""The Flask application: the JSON API, the Hugging Face wire, and the catalog, on one registry.

    request -> FastLane (resolve only) -> CheckedBodies -> KeepEncodedSlashes
            -> rate limit -> route: parse -> registry -> represent -> security headers
    plain resolve, in gunicorn's worker: Quick -> FastLane.quick

`create_app` is called once in each worker process, after the fork, with a registry that this process opened.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from hub.registry.service import Registry
from hub.settings import ServerSettings

from .api import register_api
from .api.fast_lane import QUICK_ANSWERS, FastLane, QuickAnswers
from .catalog import routes as catalog
from .hf import api as hf_api
from .hf import signing
from .http.bodies import CheckedBodies
from .http.errors import register_error_handlers
from .http.health import health
from .http.identity import CallerKeys, remember_registry
from .http.jobs import JobBegan, WaitsForJobs, answer_later
from .http.json_bodies import STRANGERS_BYTES, BoundedJson, set_limit
from .http.limits import register_limits
from .http.metrics import measure
from .http.raw_path import CONVERTERS, KeepEncodedSlashes, refuse_nul
from .http.security import protect

_REQUEST_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def create_app(registry: Registry, settings: ServerSettings) -> Flask:
    """Return the whole web application on `registry`."""
    app = Flask("hub.web", static_folder=None)
    app.url_map.converters.update(CONVERTERS)
    app.config["SECRET_KEY"] = registry.secret_key()
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = STRANGERS_BYTES
    app.json = BoundedJson(app)
    app.json.sort_keys = False
    app.config["TRUSTED_PROXIES"] = settings.trusted_proxies
    remember_registry(app, registry, settings)
    csrf = protect(app, settings)
    register_error_handlers(app)
    app.register_error_handler(JobBegan, answer_later)
    next_id = request_names()
    app.before_request(lambda: _name_request(next_id()))
    app.after_request(_tell_request_name)
    app.before_request(refuse_nul)
    metrics = measure(app)
    caller_key = CallerKeys(lambda token: registry.tokens.user_of(token) or signing.signer_of(registry, token))
    limits = register_limits(app, registry.rates.take, settings, caller_key)
    app.before_request(set_limit)
    app.register_blueprint(health)
    without_cookies = (
        *register_api(app),
        *hf_api.install(app, registry, settings),
        *catalog.install(app, registry, settings),
    )
    for blueprint in without_cookies:
        csrf.exempt(blueprint)
    inner = CheckedBodies(KeepEncodedSlashes(WaitsForJobs(app.wsgi_app)))
    lane = FastLane(inner, registry, limits, caller_key, metrics, settings, next_id)
    app.wsgi_app = _behind_proxies(lane, settings)  # type: ignore[method-assign]
    quick = _behind_proxies(lane.quick, settings)
    app.extensions[QUICK_ANSWERS] = QuickAnswers(
        lambda environ: quick(environ, None), lane.headers, asks_afar=not settings.database.startswith("sqlite")
    )
    return app


def _behind_proxies(app: Any, settings: ServerSettings) -> Any:
    """Let `app` see the client as the proxies that we trust describe it."""
    hops = settings.trusted_proxies
    return ProxyFix(app, x_for=hops, x_proto=hops, x_host=hops) if hops else app


def request_names() -> Callable[[], str]:
    """Return what names requests: no two of any process alike, and quick to make."""
    process, numbers = secrets.token_hex(4), itertools.count()
    return lambda: f"{process}{next(numbers):08x}"


def _name_request(name: str) -> None:
    """Give the request an id that the log and the answer share: the client's own, if it sent one."""
    sent = request.headers.get("X-Request-Id") or request.headers.get("X-Amzn-Trace-Id") or ""
    g.request_id = request.environ["lorahub.request_id"] = sent if _REQUEST_NAME.match(sent) else name


def _tell_request_name(response: Response) -> Response:
    """Say the id where clients of the Hugging Face Hub look for it, to print it with an error."""
    if not request.path.startswith("/api/v1/"):
        response.headers["X-Request-Id"] = g.get("request_id", "-")
    return response
