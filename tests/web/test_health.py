"""Liveness, readiness, metrics."""

from __future__ import annotations

import shutil
from pathlib import Path

from flask import Flask

from hub.settings import ServerSettings
from tests.web.api import Api, InProcess


def test_a_living_process_says_so(app: Flask) -> None:
    answer = InProcess(app).send("GET", "/healthz", {}, None)
    assert (answer.status, answer.json["status"]) == (200, "ok")


def test_it_is_ready_while_the_store_can_be_written(app: Flask, settings: ServerSettings) -> None:
    assert InProcess(app).send("GET", "/readyz", {}, None).status == 200
    shutil.rmtree(Path(settings.store))
    answer = InProcess(app).send("GET", "/readyz", {}, None)
    assert answer.status == 503
    assert InProcess(app).send("GET", "/healthz", {}, None).status == 200


def test_metrics_count_requests_by_route(app: Flask, task: Api, folder: Path) -> None:
    task.push(folder, "task/qa")
    task.get("/adapters/task/qa/versions/v1")
    task.get("/adapters/task/qa/versions/v9", 404)
    text = InProcess(app).send("GET", "/metrics", {}, None).body.decode()
    assert 'lorahub_requests_total{method="GET",route="versions.resolve",status="200"} 1.0' in text
    assert 'lorahub_requests_total{method="GET",route="versions.resolve",status="404"} 1.0' in text
    assert "lorahub_registry_versions 1" in text
    assert "task/qa" not in text
