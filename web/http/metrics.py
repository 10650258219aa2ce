"""What is measured of each request, for Prometheus.

With several workers each writes its own files in `PROMETHEUS_MULTIPROC_DIR`, and whichever worker is asked for /metrics
adds all of them up.  `prepare_metrics` must set that up before prometheus_client is imported anywhere.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from pathlib import Path

from flask import Flask, Response, g, request

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
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


class Metrics:
    """One application's counters."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        # With a folder, values go to files, and this registry is only where the metrics are declared.
        self.declared = own = CollectorRegistry()
        requests = Counter("lorahub_requests", "Requests answered", ("route", "method", "status"), registry=own)
        seconds = Histogram(
            "lorahub_request_seconds", "Time until the answer's head", ("route",), buckets=_BUCKETS, registry=own
        )
        self._requests, self._seconds = functools.cache(requests.labels), functools.cache(seconds.labels)
        self._received = Counter("lorahub_received_bytes", "Bytes of request bodies, as announced", registry=own)
        self._sent = Counter("lorahub_sent_bytes", "Bytes of answers, as announced", registry=own)
        self.running = Gauge(
            "lorahub_running_requests", "Requests being answered now", registry=own, multiprocess_mode="livesum"
        )

    def count(self, route: str, method: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Count one answer, by route and known method: paths and invented methods would be unbounded labels."""
        self._requests(route, method if method in _METHODS else "other", str(status)).inc()
        self._seconds(route).observe(seconds)
        if received:
            self._received.inc(received)
        if sent:
            self._sent.inc(sent)


def measure(app: Flask) -> Metrics:
    """Count and time every request of `app`."""
    metrics = Metrics()
    app.extensions["lorahub.metrics"] = metrics

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()
        metrics.running.inc()

    @app.after_request
    def count(response: Response) -> Response:
        spent = time.perf_counter() - g.get("started", time.perf_counter())
        received, sent = request.content_length or 0, response.content_length or 0
        metrics.count(request.endpoint or "none", request.method, response.status_code, spent, received, sent)
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        if "started" in g:
            metrics.running.dec()

    return metrics


def exposition(app: Flask) -> bytes:
    """Return all workers' metrics in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest, multiprocess

    if not os.environ.get(_FOLDER):
        metrics: Metrics = app.extensions["lorahub.metrics"]
        return bytes(generate_latest(metrics.declared))
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)
    return bytes(generate_latest(together))
