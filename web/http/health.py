"""Health checks for operators: is the process alive, can it serve, how much does it hold."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify

from hub import __version__

from .identity import registry
from .metrics import exposition

health = Blueprint("health", __name__)


@health.get("/healthz")
def alive() -> Response:
    """The process answers.  Touches neither database nor store: a restart would not mend those."""
    return jsonify(status="ok", version=__version__)


@health.get("/readyz")
def ready() -> Response:
    """Database and store answer; 503 when one doesn't, so that a balancer sends requests elsewhere."""
    registry().check_ready()
    return jsonify(status="ready")


@health.get("/metrics")
def metrics() -> Response:
    body = exposition(current_app._get_current_object()) + registry_gauges()  # type: ignore[attr-defined]
    return Response(body, content_type="text/plain; version=0.0.4; charset=utf-8")


def registry_gauges() -> bytes:
    """Return what the registry holds, as gauges: adapters, versions, blobs, bytes, downloads."""
    lines = []
    for name, value in registry().adapters.statistics().items():
        if isinstance(value, (int, float)):
            metric = f"lorahub_registry_{name}"
            lines += [f"# TYPE {metric} gauge", f"{metric} {value}"]
    return ("\n".join(lines) + "\n").encode()
