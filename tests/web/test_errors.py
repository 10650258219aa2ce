"""Whatever is wrong with a request, the answer has one shape, a 4xx status, and a sentence that helps."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from flask import Flask

from hub.errors import HubError, StorageFull, error_classes
from hub.web.http.errors import as_hub_error
from tests.web.api import Api, InProcess

PUBLISH = "/adapters/task/qa/versions"


@pytest.fixture
def task(shared: Api) -> Api:
    return shared


@pytest.fixture
def anonymous(shared: Api) -> Api:
    return shared.as_(None)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/adapters/Bad Name/x", 400),
        ("GET", "/api/v1/adapters/task/..", 400),
        ("GET", "/api/v1/adapters/task/none", 404),
        ("POST", "/api/v1/whoami", 405),
        ("GET", "/api/v1/whoami", 401),
        ("GET", "/api/v1/adapters?limit=1000", 400),
        ("GET", "/api/v1/adapters?sort=color", 400),
        ("GET", "/api/v1/adapters?cursor=garbage", 400),
        ("GET", "/api/v1/adapters?metric=nonsense", 400),
        ("GET", "/api/v1/adapters/task/qa/versions/sha256:12", 400),
        ("GET", "/api/v1/audit", 401),
    ],
)
def test_every_error_has_one_shape(anonymous: Api, method: str, path: str, status: int) -> None:
    answer = anonymous.call(method, path)
    assert answer.status == status
    body = answer.json
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert len(body["error"]["message"]) > 20
    assert answer.headers["Content-Type"] == "application/json"


def test_a_wrong_method_is_told_the_right_ones(anonymous: Api) -> None:
    assert "GET" in anonymous.call("POST", "/whoami").headers["Allow"]


def test_fields_that_do_not_fit_are_named(task: Api) -> None:
    answer = task.call("POST", "/tokens", {"name": "x", "scopes": ["fly"], "extra": 1}, expect=400)
    assert "scopes" in answer.json["error"]["message"]
    assert "extra" in answer.json["error"]["message"]


BODIES = {
    "not JSON": b"{",
    "empty": b"",
    "no object": b"[1, 2]",
    "a number": b"7",
    "deep nesting": b'{"manifest":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a huge number": b'{"manifest": {"schema": ' + b"9" * 10_000 + b"}}",
    "not UTF-8": b'{"manifest": "\xff\xfe"}',
    "half a surrogate": b'{"manifest": {}, "message": "\\ud800"}',
    "a NUL": b'{"manifest": {}, "message": "a\\u0000b"}',
    "infinity": b'{"manifest": {"schema": Infinity}}',
    "a wrong manifest": b'{"manifest": {"schema": 2}}',
    "a manifest of wrong types": b'{"manifest": {"schema": 1, "config": [], "files": {}, "tensors": 3}}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_malformed_body_is_the_callers_mistake(task: Api, body: bytes) -> None:
    answer = task.call("POST", PUBLISH, body=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status < 500, answer.body
    assert answer.code in {"invalid_request", "invalid_manifest", "http", "unsafe_file"}


def test_a_body_of_the_wrong_type_is_refused(task: Api) -> None:
    answer = task.call("POST", PUBLISH, body=b"x=1", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert 400 <= answer.status < 500


def test_a_json_body_has_a_limit(task: Api) -> None:
    body = b'{"message": "' + b"x" * (21 * 1024 * 1024) + b'"}'
    assert task.call("POST", PUBLISH, body=body, headers={"Content-Type": "application/json"}).status == 413


def test_what_nobody_foresaw_is_a_500_without_its_secrets(app: Flask) -> None:
    @app.get("/api/v1/fault")
    def fault() -> None:
        raise ValueError("secret internals")

    answer = Api(InProcess(app)).call("GET", "/fault", expect=500)
    assert answer.code == "error"
    assert "secret internals" not in answer.body.decode()
    assert "request id" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("number", "status"), [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EMFILE, 503), (errno.ENFILE, 503)]
)
def test_the_operating_systems_limits_have_statuses_of_their_own(app: Flask, number: int, status: int) -> None:
    @app.get("/api/v1/limit")
    def limit() -> None:
        raise OSError(number, "no more")

    answer = Api(InProcess(app)).call("GET", "/limit", expect=status)
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_every_error_class_survives_the_wire(app: Flask) -> None:
    """What the registry raises, the client raises again: same class, same words, same details."""
    from hub.errors import from_json

    kinds = [kind for kind in error_classes(HubError) if kind.__module__ == "hub.errors"]
    for number, kind in enumerate(kinds):
        app.add_url_rule(f"/api/v1/raise/{number}", f"raise{number}", _raiser(kind))
    api = Api(InProcess(app))
    for number, kind in enumerate(kinds):
        answer = api.call("GET", f"/raise/{number}")
        rebuilt = from_json(answer.status, answer.json)
        assert (type(rebuilt), rebuilt.message, rebuilt.details) == (kind, "what, which, next step.", {"n": 1})
        assert answer.status == kind.status


def _raiser(kind: type[HubError]):  # type: ignore[no-untyped-def]
    def view() -> None:
        raise kind("what, which, next step.", n=1)

    return view


def test_an_error_of_the_disk_is_understood_outside_the_registry_too(app: Flask) -> None:
    with app.test_request_context():
        assert isinstance(as_hub_error(OSError(errno.ENOSPC, "full")), StorageFull)


def test_errors_are_valid_json_for_any_path(anonymous: Api) -> None:
    for path in ("/%00", "/%ff%fe", "/" + "a" * 5000, "/adapters/%F0%9F%92%A5/x", "/adapters/task/qa/versions/%00"):
        answer = anonymous.call("GET", path)
        assert 400 <= answer.status < 500
        json.loads(answer.body)


def test_the_error_page_hook_is_for_browsers_outside_the_api(app: Flask, tmp_path: Path) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    sender = InProcess(app)
    assert sender.send("GET", "/api/v1/nothing", browser, None).headers["Content-Type"] == "application/json"
    assert sender.send("GET", "/metrics/nothing", {"Accept": "*/*"}, None).status == 404


def test_a_number_that_no_database_can_count_to_is_the_callers_mistake(task: Api, folder: Path) -> None:
    task.push(folder, "task/qa")
    huge = 10**19
    for method, path, body in (
        ("DELETE", f"/tokens/{huge}", None),
        ("DELETE", f"/namespaces/task/webhooks/{huge}", None),
        ("PUT", "/adapters/task/qa/aliases/prod", {"version": huge}),
        ("GET", f"/adapters/task/qa/versions/v{huge}", None),
        ("GET", f"/adapters?rank={huge}", None),
        ("PATCH", "/namespaces/task", {"quota_bytes": huge}),
    ):
        assert 400 <= task.call(method, path, body).status < 500, path
