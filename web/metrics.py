"""What is measured of each request, for Prometheus.

With several workers each writes its own files in `PROMETHEUS_MULTIPROC_DIR`, and whichever worker is asked for /metrics
adds all of them up.  `prepare_metrics` must set that up before prometheus_client is imported anywhere.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from flask import Flask, Response, g, request

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


def prepare_metrics() -> Path:
    """Give this server's workers a fresh folder to count in.  Call once, before the fork."""
    folder = Path(tempfile.mkdtemp(prefix="lorahub-metrics-"))
    os.environ[_FOLDER] = str(folder)
    return folder


def forget_worker(pid: int) -> None:
    """Let the gauges of a worker that ended disappear; its counts stay."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid)


def measure(app: Flask) -> None:
    """Count and time every request of `app`, by route rather than by path: paths have no end."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

    # With a folder, values go to files, and this registry is only where the metrics are declared.
    declared = CollectorRegistry()
    labels = ("route", "method", "status")
    requests = Counter("lorahub_requests", "Requests answered", labels, registry=declared)
    seconds = Histogram(
        "lorahub_request_seconds", "Time until the answer's head", ("route",), buckets=_BUCKETS, registry=declared
    )
    received = Counter("lorahub_received_bytes", "Bytes of request bodies, as announced", registry=declared)
    sent = Counter("lorahub_sent_bytes", "Bytes of answers, as announced", registry=declared)
    running = Gauge(
        "lorahub_running_requests", "Requests being answered now", registry=declared, multiprocess_mode="livesum"
    )
    app.extensions["lorahub.metrics"] = declared

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()
        running.inc()

    @app.after_request
    def count(response: Response) -> Response:
        route = request.endpoint or "none"
        requests.labels(route, request.method, str(response.status_code)).inc()
        seconds.labels(route).observe(time.perf_counter() - g.get("started", time.perf_counter()))
        received.inc(request.content_length or 0)
        sent.inc(response.content_length or 0)
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        if "started" in g:
            running.dec()


def exposition(app: Flask) -> bytes:
    """Return all workers' metrics in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest, multiprocess

    if not os.environ.get(_FOLDER):
        return bytes(generate_latest(app.extensions["lorahub.metrics"]))
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)
    return bytes(generate_latest(together))
