"""The short way answers exactly as the long way does, and only where it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app

from hub.registry.service import Registry
from hub.settings import ServerSettings
from hub.web.api.fast_lane import ROUTE, FastLane
from hub.web.app import create_app
from hub.web.http.bodies import CheckedBodies
from tests.support.adapters import write_adapter
from tests.web.api import Api, InProcess

ADDRESS = "/api/v1/adapters/task/qa/versions/{}"


def both_ways(app: Flask, path: str, headers: dict[str, str]) -> tuple[Any, Any]:
    """Return (status, headers, body) through the whole application, and around its fast lane."""
    lane = app.wsgi_app
    assert isinstance(lane, FastLane)
    answers = []
    for way in (lane, lane._app):
        environ = EnvironBuilder(path=path, headers=headers).get_environ()
        body, status, sent = run_wsgi_app(way, environ)
        answers.append((status, sorted(sent), b"".join(body)))
    return answers[0], answers[1]


@pytest.fixture
def pushed(task: Api, tmp_path: Path) -> Api:
    task.push(write_adapter(tmp_path / "1", seed=1), "task/qa", alias="prod")
    task.push(write_adapter(tmp_path / "2", seed=2), "task/qa")
    return task


def test_both_ways_give_the_same_answer(app: Flask, pushed: Api) -> None:
    digest = pushed.get("/adapters/task/qa/versions/v1").json["digest"]
    for selector in ("v1", "v2", "latest", "prod", f"sha256:{digest}", "v9", "nothing", "sha256:12", "main"):
        for token in (None, pushed.token, "lhub_" + "x" * 43):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            fast, slow = both_ways(app, ADDRESS.format(selector), headers)
            assert fast == slow, (selector, token)


def test_what_changes_is_seen_at_once(app: Flask, pushed: Api) -> None:
    path = "/adapters/task/qa/versions/latest"
    assert pushed.get(path).json["version"] == 2
    pushed.call("POST", "/adapters/task/qa/versions/v2/yank", {"reason": "bad"}, expect=200)
    assert pushed.get(path).json["version"] == 1
    pushed.call("PUT", "/adapters/task/qa/aliases/new", {"version": 1}, expect=200)
    assert "new" in pushed.get(path).json["aliases"]
    assert pushed.get("/adapters/task/qa/versions/v2").json["yanked"]["reason"] == "bad"


def test_what_becomes_private_is_gone_at_once(anonymous: Api, pushed: Api) -> None:
    path = "/adapters/task/qa/versions/v1"
    anonymous.get(path)
    pushed.call("PATCH", "/adapters/task/qa", {"private": True}, expect=200)
    anonymous.get(path, 404)
    pushed.get(path)
    pushed.call("PATCH", "/adapters/task/qa", {"private": False}, expect=200)
    pushed.call("PATCH", "/namespaces/task", {"private": True}, expect=200)
    anonymous.get(path, 404)


def test_the_short_way_is_counted_and_limited(registry: Registry, settings: ServerSettings, pushed: Api) -> None:
    from dataclasses import replace

    app = create_app(registry, replace(settings, reads_per_minute=5))
    api = Api(InProcess(app))
    statuses = [api.call("GET", "/adapters/task/qa/versions/v1").status for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    text = InProcess(app).send("GET", "/metrics", {}, None).body.decode()
    assert f'lorahub_requests_total{{method="GET",route="{ROUTE}",status="200"}} 5.0' in text


def test_anything_unusual_takes_the_long_way(app: Flask, pushed: Api) -> None:
    reached: list[str] = []
    lane = app.wsgi_app
    assert isinstance(lane, FastLane)
    inner = lane._app
    assert isinstance(inner, CheckedBodies)

    def noting(environ: Any, start_response: Any) -> Any:
        reached.append(environ["PATH_INFO"])
        return inner(environ, start_response)

    lane._app = noting
    for path, method in (
        (ADDRESS.format("v1"), "HEAD"),
        (ADDRESS.format("rel%2F1"), "GET"),
        (ADDRESS.format("v1") + "?x=1", "GET"),
        (ADDRESS.format("v1") + "/files/README.md", "GET"),
        ("/api/v1/adapters/task/qa", "GET"),
    ):
        InProcess(app).send(method, path, {}, None)
    assert len(reached) == 5
    InProcess(app).send("GET", ADDRESS.format("v1"), {}, None)
    assert len(reached) == 5
